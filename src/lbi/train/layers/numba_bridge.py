"""Bridge from torch to numba kernels: loading of modules, number of threads, tensors as arrays."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

VALUES_PER_THREAD = 1 << 18
"""Neuron-steps (or events times outputs) below which another thread costs more than it gains."""


def load_kernels(n_values: int, module: str = "layers.kernels") -> Any:
    """A module of compiled kernels, with as many threads as torch uses but no more than ``n_values`` keep busy.

    Args:
        n_values: values that a kernel works on.
        module: name of the module.

    Returns:
        The module.
    """
    import numba

    available = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    useful = max(1, n_values // VALUES_PER_THREAD)
    numba.set_num_threads(min(torch.get_num_threads(), available, useful))
    return import_module(f"lbi.train.{module}")


def arrays(*tensors: Tensor) -> list[np.ndarray]:
    """The tensors as numpy arrays that share their memory."""
    return [tensor.detach().numpy() for tensor in tensors]
