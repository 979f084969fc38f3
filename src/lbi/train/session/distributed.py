"""Data-parallel training under ``torchrun``: one global batch, distributed over processes.

Every process draws the same order and augmentation and takes its share of each batch; gradients are summed
(torch.distributed: nccl on GPUs, gloo on CPUs), and all processes take the same optimizer step. Without torchrun nothing happens.
"""

from __future__ import annotations

import os

import torch
from torch import distributed, nn


def start(device: torch.device) -> None:
    """Join the process group of ``torchrun``, if there is one; every process has a device of its own.

    Args:
        device: where this process trains.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    if _launched() and not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")


def _launched() -> bool:
    return "RANK" in os.environ and "MASTER_ADDR" in os.environ


def is_first() -> bool:
    """True for the process that writes files; known before ``start``, too."""
    return not _launched() or os.environ["RANK"] == "0"


def stop() -> None:
    """Leave the process group."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()


def rank() -> int:
    """Number of this process; process 0 writes files and prints."""
    return distributed.get_rank() if distributed.is_available() and distributed.is_initialized() else 0


def n_processes() -> int:
    """Number of processes."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def share(n: int) -> slice:
    """The slice of a batch of ``n`` samples that this process takes.

    Args:
        n: samples of the batch.

    Returns:
        The slice; those of all processes together cover the batch once.
    """
    return slice(rank() * n // n_processes(), (rank() + 1) * n // n_processes())


def add_up(module: nn.Module, *scalars: torch.Tensor) -> None:
    """Sum the gradients of all parameters, and the scalars, over all processes, in place.

    Args:
        module: the model.
        *scalars: 0-d tensors.
    """
    if n_processes() == 1:
        return
    with torch.no_grad():
        parts = [p.grad if p.grad is not None else torch.zeros_like(p) for p in module.parameters()]
        flat = torch.cat([part.reshape(-1).double() for part in (*parts, *scalars)])
        distributed.all_reduce(flat)
        start_at = 0
        for part in (*parts, *scalars):
            part.copy_(flat[start_at : start_at + part.numel()].reshape(part.shape))
            start_at += part.numel()
        for parameter, part in zip(module.parameters(), parts, strict=True):
            parameter.grad = part
