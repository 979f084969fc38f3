"""Settings of the OpenMP runtimes of torch and the compiled kernels."""

from __future__ import annotations

import os

SPIN_COUNT = "1000"
"""Iterations that a waiting thread of GNU's OpenMP runtime spins before it sleeps; its own default is 300,000."""


def bound_spinning() -> None:
    """Let waiting OpenMP threads sleep early, unless the user set ``GOMP_SPINCOUNT`` or ``OMP_WAIT_POLICY``.

    torch and numba each load a copy of the runtime. Threads of one that spin while the other computes cost
    little on an idle machine but multiply the run time on a busy one. The runtimes read the variable
    when they are loaded, so this only has an effect before ``import torch``.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)
