"""The books at any moment of a stream: what a late subscription and REST are told."""

import json
from bisect import bisect_left

from tests.benchmarks.stream import wire
from tests.benchmarks.stream.recording import Recording

_FEED_ALONE = b'"tick_size":"0.001","event_type":"book",'
_REST_ALONE = b'"min_order_size":"5","tick_size":"0.001","neg_risk":false,'
"""What stands in a book of REST where the channel's book has what is above."""
_CONDITION = slice(len('{"market":"'), len('{"market":"0x') + 64)


class Books:
    """Follows the stream market by market, only as far as it is asked about."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._places = {token: place for place, token in enumerate(recording.tokens)}
        self._markets: dict[int, wire.Market] = {}
        self._messages: dict[int, list[int]] = {}
        for message, market in enumerate(recording.markets):
            self._messages.setdefault(market, []).append(message)
        self._told: dict[int, int] = {}
        """Of each market, how many of its messages have been followed."""

    def place(self, token: str) -> int | None:
        """Where a token stands among all; None for one that is not there."""
        return self._places.get(token)

    def conditions(self) -> list[str]:
        """The condition of each market."""
        firsts = range(0, len(self._recording.tokens), 2)
        return [bytes(self._recording.book(place)[_CONDITION]).decode() for place in firsts]

    def left(self, number: int, sent: int) -> list[int]:
        """The messages about a market from the one on that is `sent`."""
        messages = self._messages.get(number, [])
        return messages[bisect_left(messages, sent) :]

    def trade(self, number: int, timestamp_ms: int) -> bytes:
        """A trade in a market, which changes no book."""
        return self._opened(number).trade(timestamp_ms).encode()

    def first_book(self, place: int, sent: int) -> bytes:
        """The book that answers a subscription when `sent` messages were sent."""
        if sent == 0:
            return bytes(self._recording.book(place))
        market, timestamp_ms = self._follow(place // 2, sent)
        return market.first_book(place % 2, timestamp_ms).encode()

    def rest_book(self, place: int, sent: int) -> bytes:
        """The book of REST at that moment."""
        if sent == 0:  # thousands are asked for at the start: no time to make them anew
            head, _, tail = bytes(self._recording.book(place)).rpartition(_FEED_ALONE)
            return head + _REST_ALONE + tail
        market, timestamp_ms = self._follow(place // 2, sent)
        return market.rest_book(place % 2, timestamp_ms).encode()

    def _follow(self, number: int, sent: int) -> tuple[wire.Market, int]:
        """The market when `sent` messages were sent, and when it changed last."""
        recording = self._recording
        messages = self._messages.get(number, [])
        until, since = bisect_left(messages, sent), self._told.get(number, 0)
        market = self._markets.get(number)
        if market is None or until < since:
            market = self._markets[number] = self._opened(number)
            since = 0
        for message in messages[since:until]:
            market.apply(json.loads(bytes(recording.payload(message))))
        self._told[number] = until
        timestamp_ms = wire.EPOCH_MS - 1
        if until:
            timestamp_ms = wire.EPOCH_MS + recording.dues_us[messages[until - 1]]
        return market, timestamp_ms

    def _opened(self, number: int) -> wire.Market:
        books = [self._recording.book(place) for place in (2 * number, 2 * number + 1)]
        return wire.Market.from_books(json.loads(bytes(book)) for book in books)
