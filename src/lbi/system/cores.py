"""The number of cores that this process may use."""

from __future__ import annotations

import math
import os
from functools import cache
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")


def available_cores() -> int:
    """The smallest of: CPU affinity, the container's CPU limit, ``OMP_NUM_THREADS``.

    Returns:
        At least 1. Limits that the system does not tell are not applied (macOS has no affinity).
    """
    limits = [_affinity(), _cgroup_limit()]
    wanted = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if wanted.isdecimal() and int(wanted) > 0:
        limits.append(int(wanted))
    return max(1, min(limits))


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@cache
def _cgroup_limit() -> int:
    """Cores of CPU time per period that a Linux container may use, rounded up; very many without a limit."""
    try:
        quota, period = (CGROUP / "cpu.max").read_text().split()  # version 2
    except (OSError, ValueError):
        try:
            quota = (CGROUP / "cpu/cpu.cfs_quota_us").read_text().strip()  # version 1
            period = (CGROUP / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return 1 << 30
    if not quota.isdecimal() or not period.isdecimal() or int(quota) == 0 or int(period) == 0:
        return 1 << 30  # "max" and -1: no limit
    return math.ceil(int(quota) / int(period))
