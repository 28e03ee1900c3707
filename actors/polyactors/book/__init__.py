"""The order book: exact numbers, levels, integrity, trust. Pure: values in, values out.

No I/O, no clock, no randomness, no logging: what this package says follows from its arguments
alone, so that properties of it can be tested exhaustively.
"""
