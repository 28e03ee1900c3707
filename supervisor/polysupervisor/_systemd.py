"""What systemd is told, and wants to hear, of a service of ``Type=notify``.

The protocol is that of sd_notify(3): datagrams of ``NAME=value`` lines to the socket named by
``NOTIFY_SOCKET``. Without that variable nothing of this happens.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

import trio

_log = logging.getLogger("polysupervisor")


class Notifier:
    """Speaks to systemd. A socket that does not take it is logged once, and never hurts."""

    def __init__(self, address: str, watchdog_seconds: float | None) -> None:
        # A leading @ stands for the zero byte of an address that is no file.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._failed = False
        self.watchdog_seconds = watchdog_seconds
        """The silence after which systemd kills the process; ``None``: it does not watch."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Notifier | None:
        """Return one if this process was started by systemd as ``Type=notify``."""
        env = os.environ if environ is None else environ
        address = env.get("NOTIFY_SOCKET", "")
        if not address.startswith(("/", "@")):
            return None
        watched = env.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = env.get("WATCHDOG_USEC", "")
        is_watched = watched and microseconds.isdecimal() and int(microseconds) > 0
        return cls(address, int(microseconds) / 1e6 if is_watched else None)

    def tell(self, *lines: str) -> None:
        """Send the lines without ever waiting."""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                sender.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            if not self._failed:
                _log.warning("systemd cannot be told %s: %s", lines[0], error)
            self._failed = True

    async def keep_alive(self) -> None:
        """Say at half of the time that systemd allows that the event loop runs; for ever."""
        if self.watchdog_seconds is None:
            return
        while True:
            self.tell("WATCHDOG=1")
            await trio.sleep(self.watchdog_seconds / 2)
