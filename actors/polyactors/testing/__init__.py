"""What users test with: any book there can be, and a stage for actors of their own.

`book_histories` and its parts are Hypothesis strategies (books.py), and need `hypothesis`. `stage`
runs a service with an actor against the embedded exchange, without sockets (stage.py).
"""

from polyactors.testing.books import (
    CHANGES_MAX,
    LEVELS_MAX,
    STEPS_MAX,
    TICK_SIZE,
    BookHistory,
    BookStep,
    apply_event,
    book_histories,
    interleavings,
    levels,
    order_books,
    prices,
    sizes,
)
from polyactors.testing.stage import Stage, stage

__all__ = [
    "CHANGES_MAX",
    "LEVELS_MAX",
    "STEPS_MAX",
    "TICK_SIZE",
    "BookHistory",
    "BookStep",
    "Stage",
    "apply_event",
    "book_histories",
    "interleavings",
    "levels",
    "order_books",
    "prices",
    "sizes",
    "stage",
]
