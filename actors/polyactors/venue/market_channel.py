"""One client of the market channel (PROTOCOL.md section 1), in the manners of `session`.

The books of a frame's new tokens come as one array, at once; later messages come singly.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any

from polyactors.venue import wire
from polyactors.venue.distortion import Distortion
from polyactors.venue.session import Client, Session, object_of, texts_of

WS_PATH = "/ws/market"
"""The path of the channel."""


class MarketSession(Session):
    """The session of one client.

    `dump` gives the first books of new tokens (None for nothing to say). `distortion` is what
    faults do to the messages.
    """

    def __init__(
        self,
        client: Client,
        *,
        dump: Callable[[Iterable[str]], wire.WireEvent | None],
        distortion: Distortion,
    ) -> None:
        super().__init__(client, distortion=distortion)
        self.custom = False
        """Whether it asked for the custom events."""
        self._tokens: dict[str, None] = {}
        self._dump = dump

    @property
    def tokens(self) -> Collection[str]:
        """What it subscribed to, in order; unknown ids too."""
        return self._tokens.keys()

    def publish(self, events: Iterable[wire.WireEvent]) -> None:
        """Queue what concerns this session of one engine step; never blocks."""
        if not self.is_subscribed:
            return
        cut = (event.for_session(self._tokens, custom=self.custom) for event in events)
        self.send_data([event for event in cut if event is not None])

    def subscribe_first(self, message: str | bytes) -> bool:
        """Take the typed subscription in; False when the frame is none."""
        frame = object_of(message)
        kind, tokens = frame.get("type"), texts_of(frame.get("assets_ids"))
        if not isinstance(kind, str) or kind.lower() != "market" or tokens is None:
            return False
        self._set_custom(frame)
        self._add(tokens, wants_dump=frame.get("initial_dump") is not False)
        return True

    def answer(self, message: str | bytes) -> None:
        """Do an operation, or say that it is none."""
        frame = object_of(message)
        operation, tokens = frame.get("operation"), texts_of(frame.get("assets_ids"))
        if "type" in frame or tokens is None:
            self.send(wire.INVALID_OPERATION)
        elif operation == "subscribe":
            # Before duplicates are refused: so the flag can be changed (py-sdk's comment).
            self._set_custom(frame)
            if not self._add(tokens, wants_dump=True):
                self.send(wire.NO_NEW_ASSETS)
        elif operation == "unsubscribe":
            for token in tokens:
                self._tokens.pop(token, None)
        else:
            self.send(wire.INVALID_OPERATION)

    def _set_custom(self, frame: dict[str, Any]) -> None:
        flag = frame.get("custom_feature_enabled")
        if isinstance(flag, bool):
            self.custom = flag

    def _add(self, tokens: list[str], *, wants_dump: bool) -> bool:
        new = [token for token in dict.fromkeys(tokens) if token not in self._tokens]
        self._tokens.update(dict.fromkeys(new))
        books = self._dump(new) if new and wants_dump else None
        if books is not None:
            self.send_data([books])
        return bool(new)
