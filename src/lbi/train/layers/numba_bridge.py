"""Bridge from torch to numba kernels: loading of modules, number of threads, tensors as arrays."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lbi.system import threads
from lbi.system.cores import available_cores

VALUES_PER_THREAD = 1 << 18
"""Neuron-steps (or events times outputs) below which another thread costs more than it gains."""

_own: int | None = None


def take_threads() -> None:
    """Give torch's threads to the kernels: torch's own operations run on one thread from now on.

    Two pools of threads wait for each other on a busy machine. In training with this package the kernels do
    all large operations, so torch needs no threads of its own.
    """
    global _own
    if _own is None:
        _own = torch.get_num_threads()
        torch.set_num_threads(1)


def n_threads(n_useful: int) -> int:
    """Threads for work that keeps ``n_useful`` of them busy.

    Args:
        n_useful: at most this many.

    Returns:
        At least 1; not more than torch uses, nor than can run at once (``lbi.system.cores.available_cores``).
    """
    if n_useful <= 1:
        return 1
    return max(1, min(n_useful, _own or torch.get_num_threads(), available_cores()))


def load_kernels(module: str = "layers.kernels") -> Any:
    """A module of compiled kernels.

    Args:
        module: its name below ``lbi.train``.

    Returns:
        The imported module.
    """
    return import_module(f"lbi.train.{module}")


def run(kernel: Callable[..., object], n_values: int, *arguments: Any) -> None:
    """Call a kernel on as many threads as its work keeps busy.

    Args:
        kernel: a compiled function that takes ``arguments`` and the counter of ``lbi.system.claims``.
        n_values: values that the kernel processes, a measure of its time.
        *arguments: arrays and numbers.
    """
    turns = np.zeros(1, np.int64)
    threads.share(lambda: kernel(*arguments, turns), n_threads(n_values // VALUES_PER_THREAD))


def arrays(*tensors: Tensor) -> list[np.ndarray]:
    """The tensors as numpy arrays that share their memory.

    Args:
        *tensors: tensors on the CPU; gradients are left behind.

    Returns:
        One array per tensor.
    """
    return [tensor.detach().numpy() for tensor in tensors]
