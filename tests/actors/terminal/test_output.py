"""Writing to real pipes and terminals."""

import io
import os
import sys
import termios
from collections.abc import Generator
from contextlib import contextmanager
from typing import TextIO

import pytest
import trio

from polyactors.terminal.output import Output
from polyactors.terminal.pipes import silence

MORE_THAN_A_PIPE_HOLDS = "x" * 2**20


@contextmanager
def open_pipe(encoding: str = "utf-8") -> Generator[tuple[int, TextIO], None, None]:
    read_end, write_end = os.pipe()
    with open(write_end, "w", encoding=encoding) as stream:
        try:
            yield read_end, stream
        finally:
            os.close(read_end)


async def test_all_of_it_arrives_and_nothing_stays_in_the_buffer() -> None:
    with open_pipe() as (read_end, stream):
        await Output(stream).write("8910…4242\n")
        assert os.read(read_end, 100) == "8910…4242\n".encode()


async def test_what_the_encoding_cannot_say_becomes_a_question_mark() -> None:
    with open_pipe("ascii") as (read_end, stream):
        await Output(stream).write("a…b")
        assert os.read(read_end, 100) == b"a?b"
    text = io.StringIO()
    await Output(text).write("a…b")
    assert text.getvalue() == "a…b"


async def test_a_reader_who_has_left_is_an_error_until_the_stream_is_silenced() -> None:
    with open_pipe() as (read_end, stream):
        nowhere = os.open(os.devnull, os.O_RDONLY)
        os.dup2(nowhere, read_end)
        os.close(nowhere)
        output = Output(stream)
        with pytest.raises(BrokenPipeError):
            await output.write("said to nobody")
        await output.restore("no error")
        silence(stream)
        await output.write("said to nowhere")


async def test_a_reader_who_does_not_read_holds_up_nobody() -> None:
    with open_pipe() as (read_end, stream):
        with trio.move_on_after(0.05) as scope:
            await Output(stream).write(MORE_THAN_A_PIPE_HOLDS)
        assert scope.cancelled_caught
        # The thread that was left behind writes the rest, so that the pipe can be closed.
        rest = len(MORE_THAN_A_PIPE_HOLDS)
        while rest:
            rest -= len(os.read(read_end, rest))


def test_a_stream_without_a_file_cannot_be_silenced_and_need_not() -> None:
    silence(io.StringIO())


def test_where_there_is_no_terminal_the_size_is_the_usual_one() -> None:
    with open_pipe() as (_, stream):
        assert Output(stream).size() == (80, 24)
    assert Output(io.StringIO()).size() == (80, 24)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_the_size_is_that_of_the_terminal_now() -> None:
    ours, theirs = os.openpty()
    try:
        with open(theirs, "w") as stream:
            output = Output(stream)
            for lines, columns in [(40, 120), (10, 33)]:
                termios.tcsetwinsize(theirs, (lines, columns))
                assert output.size() == (columns, lines)
            termios.tcsetwinsize(theirs, (0, 0))
            assert output.size() == (80, 24)
    finally:
        os.close(ours)
