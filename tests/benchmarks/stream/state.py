"""The books at any moment of a stream: what a late subscription and REST are told."""

import json
from bisect import bisect_left
from collections import defaultdict

from tests.benchmarks.stream import wire
from tests.benchmarks.stream.recording import Recording


class Books:
    """Follows the stream market by market, only as far as it is asked about."""

    def __init__(self, recording: Recording) -> None:
        self._recording = recording
        self._places = {token: place for place, token in enumerate(recording.tokens)}
        self._markets: dict[int, wire.Market] = {}
        self._messages: dict[int, list[int]] | None = None
        self._told: dict[int, int] = {}
        """Of each market, how many of its messages have been followed."""

    def place(self, token: str) -> int | None:
        """Where a token stands among all; None for one that is not there."""
        return self._places.get(token)

    def market(self, number: int, sent: int) -> wire.Market:
        """A market when `sent` messages were sent."""
        return self._follow(number, sent)[0]

    def first_book(self, place: int, sent: int) -> bytes:
        """The book that answers a subscription when `sent` messages were sent."""
        if sent == 0:
            return bytes(self._recording.book(place))
        market, timestamp_ms = self._follow(place // 2, sent)
        return market.first_book(place % 2, timestamp_ms).encode()

    def rest_book(self, place: int, sent: int) -> bytes:
        """The book of REST at that moment."""
        market, timestamp_ms = self._follow(place // 2, sent)
        return market.rest_book(place % 2, timestamp_ms).encode()

    def _follow(self, number: int, sent: int) -> tuple[wire.Market, int]:
        """The market when `sent` messages were sent, and when it changed last."""
        recording = self._recording
        messages = self._messages_of(number)
        until, since = bisect_left(messages, sent), self._told.get(number, 0)
        market = self._markets.get(number)
        if market is None or until < since:
            books = [json.loads(bytes(recording.book(2 * number + token))) for token in (0, 1)]
            market = self._markets[number] = wire.Market.from_books(books)
            since = 0
        for message in messages[since:until]:
            frame = bytes(recording.frame(message))
            market.apply(json.loads(frame[frame.index(b"{") :]))
        self._told[number] = until
        timestamp_ms = wire.EPOCH_MS - 1
        if until:
            timestamp_ms = wire.EPOCH_MS + recording.dues_us[messages[until - 1]]
        return market, timestamp_ms

    def _messages_of(self, number: int) -> list[int]:
        if self._messages is None:
            self._messages = defaultdict(list)
            for message, market in enumerate(self._recording.markets):
                self._messages[market].append(message)
        return self._messages.get(number, [])
