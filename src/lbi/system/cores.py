"""The number of cores that this process may use."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path

from lbi.system import cgroups

LIMITS = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")
"""Environment variables that limit the number of threads."""


def available_cores() -> int:
    """The smallest of: CPU affinity, the container's CPU limit (rounded up), ``OMP_NUM_THREADS``, ``NUMBA_NUM_THREADS``.

    Returns:
        At least 1. Limits that the system does not tell are not applied (macOS has no affinity).
    """
    limits = [_usable()]
    for name in LIMITS:
        wanted = os.environ.get(name, "").split(",")[0].strip()  # OMP_NUM_THREADS lists nested levels
        if wanted.isdecimal() and int(wanted) > 0:
            limits.append(int(wanted))
    return max(1, math.ceil(min(limits)))


def whole_cores() -> int:
    """Processes of one thread that run at full speed side by side: CPU affinity, or the container's CPU limit if that is less.

    Returns:
        At least 1.
    """
    return max(1, math.floor(_usable()))


def _usable() -> float:
    own = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(own, cgroup_cpus())


@cache
def cgroup_cpus() -> float:
    """CPUs that the process's control groups allow, of version 1 and 2.

    Returns:
        The smallest quota divided by period over each group and those above it; infinite without a limit.
    """
    return min((_quota(folder) for folder in cgroups.folders("cpu")), default=math.inf)


def _quota(group: Path) -> float:
    """CPUs that one control group allows."""
    try:
        if (group / "cpu.max").exists():
            quota, period = (group / "cpu.max").read_text().split()[:2]
        else:
            quota = (group / "cpu.cfs_quota_us").read_text()
            period = (group / "cpu.cfs_period_us").read_text()
        return float(quota) / float(period) if float(quota) > 0 else math.inf
    except (OSError, ValueError, ZeroDivisionError):  # no limit: "max", or no such file
        return math.inf
