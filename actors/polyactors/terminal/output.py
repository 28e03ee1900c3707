"""Writing to a terminal or a pipe without ever holding up the service."""

import errno
import os
from typing import TextIO

import trio

RESTORE_SECONDS_MAX = 1.0
"""A terminal that takes nothing for so long is not put back in order."""
SIZE_UNKNOWN = (80, 24)
"""Columns and lines where there is no terminal to ask."""
GONE = (errno.EPIPE, errno.EIO, errno.ENXIO)
"""Nobody reads any more: a closed pipe, a terminal that hung up."""


class Output:
    """A text stream, written in a thread: one that nobody reads (or Ctrl-S) stops only itself.

    It writes past the stream's own buffer, since a thread that is left behind while it holds
    the lock of that buffer would break the interpreter's exit.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        try:
            self._fd: int | None = stream.fileno()
        except OSError:  # no real file: a test's
            self._fd = None

    async def write(self, text: str) -> None:
        """Write all of it. Raises OSError. Cancellation: at once, the rest may or may not go."""
        await trio.to_thread.run_sync(self._write, text, abandon_on_cancel=True)

    async def restore(self, text: str) -> None:
        """The last words, also when cancelled: tried for RESTORE_SECONDS_MAX, and no error."""
        with trio.move_on_after(RESTORE_SECONDS_MAX, shield=True):
            try:
                await self.write(text)
            except OSError:
                return  # the terminal is gone, and with it what was to be put in order

    def size(self) -> tuple[int, int]:
        """Columns and lines, now."""
        try:
            size = os.get_terminal_size(-1 if self._fd is None else self._fd)
        except OSError:
            return SIZE_UNKNOWN
        # Some terminals do not know their size, and say 0.
        return (size.columns, size.lines) if size.columns and size.lines else SIZE_UNKNOWN

    def _write(self, text: str) -> None:
        encoding = self._stream.encoding or "utf-8"
        data = text.encode(encoding, errors="replace")
        if self._fd is None:
            self._stream.write(data.decode(encoding))
            self._stream.flush()
            return
        while data:
            data = data[os.write(self._fd, data) :]
