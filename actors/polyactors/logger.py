"""The log of the library: structured by structlog, handed to the standard library's `logging`.

A library must not print. Through `logging` the application decides: warnings go to standard
error when it decides nothing, and the command line formats every line itself (logs.py). So what
a program must hear of is a warning, and one that would repeat is an `Outage`.
"""

import logging
from math import inf
from typing import Any

import structlog

REMIND_SECONDS = 300.0
"""How often an outage that lasts is said again."""


def _to_logging(_: object, __: str, event: structlog.typing.EventDict) -> tuple[tuple[str], Any]:
    """The event as the message, its fields as `key=value` behind it."""
    message = str(event.pop("event", ""))
    exc_info = event.pop("exc_info", None)
    fields = " ".join(f"{key}={value!r}" for key, value in event.items())
    return (f"{message} {fields}".rstrip(),), {"exc_info": exc_info}


log: structlog.stdlib.BoundLogger = structlog.wrap_logger(
    logging.getLogger("polyactors"),
    processors=[structlog.stdlib.filter_by_level, _to_logging],
    wrapper_class=structlog.stdlib.BoundLogger,
    cache_logger_on_first_use=True,
)


class Outage:
    """Something that does not answer: a warning at once, then one every REMIND_SECONDS.

    `now` is in seconds on the caller's clock, always the same one. `calm_seconds`: what fails now
    and then is one outage, not many; it ends when nothing has failed for so long.
    """

    def __init__(self, *, calm_seconds: float = 0.0) -> None:
        self._calm_seconds = calm_seconds
        self._failed_seconds = -inf
        self._answered_seconds: float | None = None
        """When it first answered after its last failure."""
        self._began_seconds: float | None = None
        self._warned_seconds: float | None = None

    @property
    def is_told(self) -> bool:
        """Whether a warning has said that it lasts."""
        return self._warned_seconds is not None

    def begin(self, now: float) -> None:
        """From now on it does not answer, which may well pass by itself. Idempotent."""
        if self._began_seconds is None:
            self._began_seconds = now

    def warn(self, now: float, what: str, **details: object) -> bool:
        """It failed, again: say so if that is due. Whether it was."""
        self.begin(now)
        self._failed_seconds = now
        self._answered_seconds = None
        assert self._began_seconds is not None
        if self._warned_seconds is not None and now < self._warned_seconds + REMIND_SECONDS:
            return False
        if self._warned_seconds is not None:
            details["for_seconds"] = round(now - self._began_seconds)
        self._warned_seconds = now
        log.warning(what, **details)
        return True

    def end(self, now: float, what: str, *, since: float | None = None, **details: object) -> None:
        """It answers, and has done so `since` then: say so, to whoever has heard that it did
        not. Idempotent."""
        if self._answered_seconds is None:
            self._answered_seconds = now if since is None else since
        if now < self._failed_seconds + self._calm_seconds:
            return
        if self._began_seconds is not None:
            say = log.warning if self.is_told else log.info
            say(what, after_seconds=round(self._answered_seconds - self._began_seconds), **details)
        self._began_seconds = self._warned_seconds = None
