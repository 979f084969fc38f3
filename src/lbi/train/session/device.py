"""The device that a run computes on, chosen by name, and its state on the CPU for files."""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor

from lbi.errors import Rule, UsageError

DEVICES = ("auto", "cpu", "cuda")
"""Choices of ``--device``; auto is a GPU if PyTorch can use one (under torchrun, one for each process), else the CPU."""

NO_CUDA = Rule("device", "auto or cpu", "pass --device cpu, or install a driver and a PyTorch with CUDA")
ONE_EACH = Rule(
    "device", "one GPU for each process", "start at most {n} processes per machine, or pass --device cpu"
)


def choose(name: str) -> torch.device:
    """The device of that name for this process.

    Args:
        name: one of ``DEVICES``.

    Returns:
        The CPU, or the GPU with the number of this process on its machine (``LOCAL_RANK`` of torchrun).

    Raises:
        UsageError: if a GPU is asked for, and PyTorch finds none for this process.
    """
    n_gpus = torch.cuda.device_count() if name != "cpu" and torch.cuda.is_available() else 0
    local, n_local = (
        int(os.environ.get(key, default)) for key, default in (("LOCAL_RANK", 0), ("LOCAL_WORLD_SIZE", 1))
    )
    n_local = max(n_local, local + 1)
    if name == "cuda" and n_gpus == 0:
        raise UsageError(
            NO_CUDA.broken("--device", f"cuda, but PyTorch {torch.__version__} finds no GPU here")
        )
    if name == "cuda" and n_gpus < n_local:
        raise UsageError(ONE_EACH.broken("--device", f"{n_local} processes for {n_gpus} GPUs", n=n_gpus))
    if n_gpus < n_local:
        return torch.device("cpu")
    return torch.device("cuda", local)


def on_cpu(state: Any) -> Any:
    """The same state with every tensor on the CPU, as files hold it; a run on the CPU keeps its own tensors.

    Args:
        state: tensors, plain values, and mappings, lists and tuples of them.

    Returns:
        The state, with mappings as dictionaries.
    """
    if isinstance(state, Tensor):
        return state.cpu()
    if isinstance(state, dict):
        return {key: on_cpu(value) for key, value in state.items()}
    if isinstance(state, list):
        return [on_cpu(value) for value in state]
    if type(state) is tuple:
        return tuple(on_cpu(value) for value in state)
    return state
