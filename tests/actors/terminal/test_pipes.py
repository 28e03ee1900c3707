"""Standard output and error: full, closed, or read by nobody."""

import errno
import io
import os
import sys

import pytest

from polyactors.errors import UsageError
from polyactors.terminal.pipes import (
    complain,
    flush,
    is_closed,
    need_standard_output,
    open_missing,
    say,
    silence,
    takes_more,
)


class Failing(io.StringIO):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, os.strerror(self.number))

    def flush(self) -> None:
        raise OSError(self.number, os.strerror(self.number))


def test_it_says_a_line_and_complains_on_the_other_stream(
    capsys: pytest.CaptureFixture[str],
) -> None:
    say("a line")
    complain("a complaint")
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == ("a line\n", "a complaint\n")


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOSPC, "cannot write to standard output: No space left on device; redirect it"),
        (errno.EIO, "cannot write to standard output: Input/output error; redirect it"),
        (errno.EBADF, "standard output is closed; redirect it"),
    ],
)
def test_what_cannot_be_said_is_the_users_mistake(
    number: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", Failing(number))
    with pytest.raises(UsageError, match=sentence):
        say("a line")
    with pytest.raises(UsageError, match=sentence):
        flush()


def test_a_reader_who_has_gone_is_no_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", Failing(errno.EPIPE))
    with pytest.raises(BrokenPipeError):
        say("a line")


def test_nobody_is_told_that_standard_error_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", Failing(errno.ENOSPC))
    complain("a complaint")


def test_a_stream_that_nothing_can_be_written_to_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    number = os.open(os.devnull, os.O_RDONLY)
    with open(number, "w", encoding="utf-8") as stream:
        assert is_closed(stream)
        monkeypatch.setattr("sys.stdout", stream)
        with pytest.raises(UsageError, match="standard output is closed"):
            need_standard_output()
        monkeypatch.undo()
        silence(stream)
        assert not is_closed(stream)
    assert not is_closed(io.StringIO())


def test_closed_streams_are_opened_so_that_nothing_takes_their_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("stdin", "stdout", "stderr"):
        monkeypatch.setattr(sys, name, None)
    open_missing()
    streams = sys.stdin, sys.stdout, sys.stderr
    try:
        assert streams[0].read() == ""
        assert is_closed(streams[1])
        complain("said to nobody")
    finally:
        monkeypatch.undo()
        for stream in streams:
            stream.close()


def test_a_full_pipe_takes_no_more() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with open(writing, "wb", buffering=0) as pipe:
        assert takes_more(pipe, 0.0)
        while pipe.write(b"x" * 2**16):
            pass
        assert not takes_more(pipe, 0.0)
    os.close(reading)
    assert takes_more(io.StringIO(), 0.0)
