"""The memory that is left."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def available() -> int | None:
    """Bytes that new data can take: on Linux what the kernel says, elsewhere all of the machine's; None if neither is known."""
    with suppress(OSError, ValueError, IndexError):
        for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None
