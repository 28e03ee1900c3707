"""Actors that come along: to be used as they are, and to be read and copied.

They know nothing that a user's own cannot: all that they import of us is public.
"""
