"""The log of the library: structured by structlog, handed to the standard library's `logging`.

A library must not print. Through `logging` the application decides: warnings go to standard
error when it decides nothing, and the command line formats every line itself (logs.py).
"""

import logging
from typing import Any

import structlog


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
