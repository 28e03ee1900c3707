"""Where the time goes: pyinstrument's report if that is installed, else cProfile's."""

import cProfile
import pstats
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

LINES = 60


@contextmanager
def profiled(path: str) -> Generator[None]:
    """Profile the block and write the report to a file; "" for neither."""
    if not path:
        yield
    elif find_spec("pyinstrument") is not None:
        pyinstrument: Any = import_module("pyinstrument")
        sampler = pyinstrument.Profiler(async_mode="disabled")
        sampler.start()
        yield
        sampler.stop()
        Path(path).write_text(sampler.output_text(unicode=True))
    else:
        profile = cProfile.Profile()
        profile.enable()
        yield
        profile.disable()
        with Path(path).open("w") as file:
            pstats.Stats(profile, stream=file).sort_stats("tottime").print_stats(LINES)
