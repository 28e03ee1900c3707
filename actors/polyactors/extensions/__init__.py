"""Actors of users: what they may ask for, how they are loaded, and how they live.

policy.py     what is decided about an actor: its mailbox, its supervision, its limits
takes.py      what an actor takes, read from the signature of its `handle`
spec.py       one actor as it is to run: name, class or function, options, policy
loading.py    specs from `module:Class`, entry points and tables of the configuration
mailbox.py    what waits for an actor, bounded
hands.py      what an actor is given: `ActorContext`
failures.py   how an actor fails, told with its own line in front
extension.py  one actor over all its incarnations: supervised like ours, never trusted
roster.py     all of them, of one service
"""
