"""Memory that is freed and allocated again is not mapped again, unless the user set the allocator up."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lbi.system.allocator import SETTINGS, _allocator

FAULTS = """
import resource, sys
from lbi.system import memory
from lbi.system.allocator import LEAST_FREE, keep_freed_memory, return_freed_memory

memory.available = lambda: LEAST_FREE - (sys.argv[2] == "short")

SIZE = 1 << 26  # a variable: Python computes constants once

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

if sys.argv[1] == "keep":
    keep_freed_memory()
b"x" * SIZE
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(8):
    b"x" * SIZE
faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
kept = resident()
return_freed_memory()
print(faults * resource.getpagesize() >> 20, kept - resident() >> 20)
"""


def megabytes(mode: str, free: str = "ample", **variables: str) -> list[int]:
    """MiB that were mapped again in eight rounds, and MiB returned at the end."""
    own = {name: value for name, value in os.environ.items() if name not in SETTINGS}
    ran = subprocess.run(
        [sys.executable, "-c", FAULTS, mode, free],
        capture_output=True,
        text=True,
        check=True,
        env={**own, **variables},
    )
    return [int(number) for number in ran.stdout.split()]


@pytest.mark.skipif(_allocator() is None, reason="the GNU allocator as it comes")
def test_freed_memory_is_used_again_and_returned_at_the_end():
    mapped, returned = megabytes("keep")
    assert mapped < 64
    assert returned >= 60
    assert megabytes("keep", MALLOC_TRIM_THRESHOLD_="131072")[0] > 400  # the user's own settings stay
    assert megabytes("keep", "short")[0] > 400
    assert megabytes("leave")[0] > 400
