"""What our own code holds in memory, for tests that it does not grow."""

import gc
import tracemalloc
from functools import _lru_cache_wrapper  # pyright: ignore[reportPrivateUsage]
from pathlib import Path

import polyactors
import polysupervisor
from polyactors.protocol._typed import Remembered  # pyright: ignore[reportPrivateUsage]

_OURS = [
    tracemalloc.Filter(True, str(Path(str(package.__file__)).parent / "*"))
    for package in (polyactors, polysupervisor)
]
_VENUE = tracemalloc.Filter(False, str(Path(str(polyactors.__file__)).parent / "venue/*"))


def snapshot() -> tracemalloc.Snapshot:
    """What the lines of our packages have allocated and still hold, the embedded exchange's not.

    Caches are emptied before: they are bounded, and no growth.
    """
    for found in gc.get_objects():
        if isinstance(found, Remembered):
            found.clear()
        elif isinstance(found, _lru_cache_wrapper) and "polyactors." in found.__module__:
            assert found.cache_parameters()["maxsize"] is not None
            found.cache_clear()
    gc.collect()
    return tracemalloc.take_snapshot().filter_traces(_OURS).filter_traces([_VENUE])
