"""The books that a client keeps, with nothing of ours but the oracle of the first ones."""

from decimal import Decimal
from typing import Any

from polyactors.venue import Venue

BUY, SELL = "BUY", "SELL"


class Replica:
    """Books as a client keeps them: two dictionaries of texts a token, fed by the wire alone."""

    def __init__(self, venue: Venue) -> None:
        self.sides: dict[str, dict[str, dict[str, str]]] = {}
        for token, book in venue.books().items():
            self.take_book(token, book)

    def take_book(self, token: str, book: Any) -> None:
        self.sides[token] = {
            side: {level["price"]: level["size"] for level in book[key]}
            for side, key in ((BUY, "bids"), (SELL, "asks"))
        }

    def take(self, message: dict[str, Any]) -> None:
        if message["event_type"] == "book":
            self.take_book(message["asset_id"], message)
        for entry in message.get("price_changes", ()):
            side = self.sides[entry["asset_id"]][entry["side"]]
            side.pop(entry["price"], None)
            if entry["size"] != "0":
                side[entry["price"]] = entry["size"]

    def levels(self, token: str) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
        bids, asks = (
            [
                {"price": price, "size": size}
                for price, size in sorted(
                    self.sides[token][side].items(),
                    key=lambda level: Decimal(level[0]),
                    reverse=side == SELL,
                )
            ]
            for side in (BUY, SELL)
        )
        return bids, asks

    def top(self, token: str) -> tuple[str, str]:
        bids, asks = self.levels(token)
        return bids[-1]["price"] if bids else "0", asks[-1]["price"] if asks else "1"
