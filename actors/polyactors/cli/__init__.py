"""The command line: values to a command, errors to exit codes.

Nothing is imported before `main` runs, so that Ctrl-C never meets a half-imported program, and
nothing heavy before a command does, so that `--help` comes at once.
"""

import sys
from collections.abc import Iterator, Sequence
from typing import cast

EXIT_CLEAN = 0
"""Done, stopped by a first signal, or the reader of standard output has gone."""
EXIT_USAGE = 2
"""A mistake of the user's, or a standard output that cannot be written."""
EXIT_DESYNC = 3
"""A replay found a book that was wrong."""
EXIT_EVENTS_MISSING = 74
"""EX_IOERR of sysexits.h: everything worked but the disk."""
EXIT_INTERRUPTED = 130
"""A second signal cut the stop short, or one a replay: it has no result then."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code; a user's mistake is one line on standard error."""
    try:
        return _run(sys.argv[1:], for_good=True) if argv is None else _run(argv, for_good=False)
    except BaseException as error:
        return _explain(error)


def _run(argv: Sequence[str], *, for_good: bool) -> int:
    from polyactors import stops
    from polyactors.cli.arguments import parse
    from polyactors.terminal import pipes

    pipes.open_missing()
    try:
        name, values = parse(argv)
    except SystemExit as request:  # --help and --version
        return request.code if isinstance(request.code, int) else EXIT_CLEAN
    with stops.holding(for_good=for_good):
        from polyactors import commands  # only now: it brings Trio and all the rest

        code = commands.COMMANDS[name](values)
        pipes.flush()
    return code


def _explain(error: BaseException) -> int:
    """Exit code of an error that ended a command; what is no user's mistake goes on."""
    causes = list(_leaves(error))
    if any(isinstance(cause, KeyboardInterrupt) for cause in causes):
        return EXIT_INTERRUPTED
    from polyactors.errors import UsageError
    from polyactors.terminal.pipes import complain, silence
    from polyactors.terminal.text import printable

    if all(isinstance(cause, BrokenPipeError) for cause in causes):
        silence(sys.stdout)
        return EXIT_CLEAN
    if all(isinstance(cause, UsageError) for cause in causes):
        complain(f"polyactors: {printable(str(causes[0]))}")
        return EXIT_USAGE
    raise error


def _leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        group = cast("BaseExceptionGroup[BaseException]", error)
        for member in group.exceptions:
            yield from _leaves(member)
    else:
        yield error
