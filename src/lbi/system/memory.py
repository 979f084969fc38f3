"""The memory that is left."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from lbi.system import cgroups

MEMINFO = Path("/proc/meminfo")
"""What the kernel says of the machine's memory."""

LIMITS = (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes"))
"""Files of a control group with its limit and its use, of version 2 and 1."""


def available() -> int | None:
    """Bytes that new data can take: the machine's or, if less, what the process's control groups leave; None if neither is known.

    Returns:
        The bytes; on Linux the machine's are what the kernel says, elsewhere all of its memory.
    """
    left = [n for folder in cgroups.folders("memory") if (n := _left(folder)) is not None]
    machine = _machine()
    return min(left if machine is None else [machine, *left], default=None)


def _machine() -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in MEMINFO.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    with suppress(AttributeError, OSError, ValueError):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return None


def _left(group: Path) -> int | None:
    """What one control group leaves, counting cached files that it can drop; None without a limit."""
    for limit, used in LIMITS:
        with suppress(OSError, ValueError):  # no limit: "max", or no such file
            most, now = (int((group / name).read_text()) for name in (limit, used))
            return max(0, most - now + _droppable(group))
    return None


def _droppable(group: Path) -> int:
    """Bytes of files in the group's cache that are not in use."""
    with suppress(OSError, ValueError, IndexError):
        for line in (group / "memory.stat").read_text().splitlines():
            name, number = line.split()
            if name in ("inactive_file", "total_inactive_file"):
                return int(number)
    return 0
