"""Whether the exchange still hashes its books as we do.

The formula has changed four times since 2024, without notice. When it does again, every fresh
book will seem wrong at once; resynchronising all of them for ever would help nobody. A book of
the stream can be wrong because something was lost. REST's book states all that is hashed in one
answer: when those of many markets are wrong in a row, with no hash right among them, the formula
is wrong and not the books.
"""

WRONG_BOOKS_MIN = 8
WRONG_MARKETS_MIN = 4


class FormulaWatch:
    """Judges the formula by REST's books of all markets."""

    def __init__(self) -> None:
        self._books = 0
        self._markets: set[str] = set()
        """Of the wrong books in a row; no more than WRONG_MARKETS_MIN are kept."""

    @property
    def is_doubtful(self) -> bool:
        """A wrong hash proves nothing any more, until one is right again."""
        return self._books >= WRONG_BOOKS_MIN and len(self._markets) >= WRONG_MARKETS_MIN

    def note_wrong(self, market: str) -> None:
        """A book of REST did not hash to what REST says."""
        self._books += 1
        if len(self._markets) < WRONG_MARKETS_MIN:
            self._markets.add(market)

    def note_right(self) -> None:
        """Any book was right: the formula holds."""
        self._books = 0
        self._markets.clear()
