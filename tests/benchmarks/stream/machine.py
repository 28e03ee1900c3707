"""What was measured on."""

import os
import platform
from importlib.metadata import version
from pathlib import Path

OURS = ("trio", "trio-websocket", "msgspec", "attrs", "cattrs")


def machine() -> list[str]:
    """Lines that describe it; nothing in them names a place or a person."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    packages = ", ".join(f"{name} {version(name)}" for name in OURS)
    return [
        f"{_cpu()}, {os.cpu_count()} cores, {memory:.0f} GiB",
        f"{platform.system()} {platform.release().split('-')[0]}",
        f"{platform.python_implementation()} {platform.python_version()}, {packages}",
    ]


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
