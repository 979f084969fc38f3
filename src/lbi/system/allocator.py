"""Freed memory that the process keeps for the next large array (GNU's C library only).

A training step frees and allocates the same gigabytes over and over. By default the allocator returns them to the system each
time, and every page is mapped and cleared again: half of the processor time of a step over 784 steps. Kept, they take up to
half as much memory again, since what is left between them may fit none of the next ones.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

from lbi.system import memory

_TRIM_THRESHOLD, _MMAP_MAX = -1, -4  # malloc.h
SETTINGS = (
    "GLIBC_TUNABLES",
    "MALLOC_MMAP_MAX_",
    "MALLOC_MMAP_THRESHOLD_",
    "MALLOC_TOP_PAD_",
    "MALLOC_TRIM_THRESHOLD_",
)
"""Environment variables by which a user sets the allocator; with any of them it is left as it is."""

LEAST_FREE = 8 << 30
"""Bytes of free memory from which freed memory is kept."""


def _allocator() -> Any:
    """The C library if it has the GNU allocator's functions and nobody has set it up."""
    if not sys.platform.startswith("linux") or any(name in os.environ for name in SETTINGS):
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "mallopt") and hasattr(library, "malloc_trim") else None


def keep_freed_memory() -> None:
    """Let the process keep what it frees, if memory is ample: no array gets a mapping of its own, and the heap is not trimmed."""
    allocator, free = _allocator(), memory.available()
    if allocator is not None and free is not None and free >= LEAST_FREE:
        allocator.mallopt(_MMAP_MAX, 0)
        allocator.mallopt(_TRIM_THRESHOLD, -1)


def return_freed_memory() -> None:
    """Return the freed memory that is kept now to the system."""
    allocator = _allocator()
    if allocator is not None:
        allocator.malloc_trim(0)
