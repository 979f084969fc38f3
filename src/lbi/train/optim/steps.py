"""The arithmetic of an optimizer step in torch's ``_foreach_`` operations, in place, on any device.

The compiled kernels (``fused_cpu``; ``fused_cuda`` if asked for) give the same bits on a CPU: every
operation is a single IEEE multiplication, addition, division or square root, in the same order in
both; scalars are formed in double precision and rounded once to the tensors' type.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from lbi.train.optim.slot import Group, Slot, State


def adabreg(group: Group, slots: list[Slot]) -> None:
    """AdaBreg's step (see ``optimizers.AdaBreg``) on tensors of one group.

    Args:
        group: options of the parameters.
        slots: one per parameter.
    """
    params, grads, averages, squares, moved = _roles(slots)
    _descend(group, params, _adam_direction(group, slots, grads, averages, squares), moved)
    read_off(group, params, moved)


def linbreg(group: Group, slots: list[Slot]) -> None:
    """LinBreg's step (see ``optimizers.LinBreg``) on tensors of one group.

    Args:
        group: options of the parameters.
        slots: one per parameter.
    """
    params, grads, buffers, moved = _roles(slots)
    _descend(group, params, _sgd_direction(group, grads, buffers), moved)
    read_off(group, params, moved)


def proxsgd(group: Group, slots: list[Slot]) -> None:
    """ProxSGD's step (see ``optimizers.ProxSGD``) on tensors of one group.

    Args:
        group: options of the parameters.
        slots: one per parameter.
    """
    params, grads, buffers, _ = _roles(slots)
    _descend(group, params, _sgd_direction(group, grads, buffers), params)
    if group["reg"] is not None:
        for p in params:
            p.copy_(group["reg"].prox(p, float(group["lr"])))


STEPS: dict[str, Callable[[Group, list[Slot]], None]] = {
    "adabreg": adabreg,
    "linbreg": linbreg,
    "proxsgd": proxsgd,
}


def scalars(group: Group, state: State) -> list[float]:
    """A kernel's scalars for one tensor apart from its prox: lr·decay, then those of the method.

    Args:
        group: options of the parameters.
        state: the parameter's state.

    Returns:
        The scalars in the kernel's order.
    """
    lr = float(group["lr"])
    decay = lr * float(group["weight_decay"])
    if "betas" not in group:
        return [decay, lr, float(group["momentum"])]
    beta1, beta2 = (float(beta) for beta in group["betas"])
    return [decay, beta1, 1 - beta1, beta2, 1 - beta2, float(group["eps"]), *_adam_scalars(group, state)]


def read_off(group: Group, params: list[Tensor], duals: list[Tensor]) -> None:
    """Set θ ← prox(δv), if there is a regularizer.

    Args:
        group: options of the parameters.
        params: θ of each parameter, changed in place.
        duals: v of each parameter.
    """
    if group["reg"] is not None:
        delta = float(group["delta"])
        for p, dual in zip(params, duals, strict=True):
            p.copy_(group["reg"].prox(dual * delta, delta))


def _roles(slots: list[Slot]) -> list[list[Tensor]]:
    return [list(tensors) for tensors in zip(*(slot.tensors for slot in slots), strict=True)]


def _adam_scalars(group: Group, state: State) -> tuple[float, float]:
    """lr/(1−β₁ᵏ) and 1/√(1−β₂ᵏ), k being the tensor's step."""
    beta1, beta2 = (float(beta) for beta in group["betas"])
    return float(group["lr"]) / (1 - beta1 ** state["step"]), 1 / math.sqrt(1 - beta2 ** state["step"])


def _adam_direction(
    group: Group, slots: list[Slot], grads: list[Tensor], averages: list[Tensor], squares: list[Tensor]
) -> list[Tensor]:
    """Update m and s; return alpha·m / (√s·correction + ε)."""
    alphas, corrections = zip(*(_adam_scalars(group, slot.state) for slot in slots), strict=True)
    beta1, beta2 = (float(beta) for beta in group["betas"])
    torch._foreach_mul_(averages, beta1)
    torch._foreach_add_(averages, torch._foreach_mul(grads, 1 - beta1))
    torch._foreach_mul_(squares, beta2)
    grads_squared = list(torch._foreach_mul(grads, grads))
    torch._foreach_mul_(grads_squared, 1 - beta2)
    torch._foreach_add_(squares, grads_squared)
    denominators = _sqrt(squares)
    torch._foreach_mul_(denominators, list(corrections))
    torch._foreach_add_(denominators, float(group["eps"]))
    directions = list(torch._foreach_div(averages, denominators))
    torch._foreach_mul_(directions, list(alphas))
    return directions


def _sqrt(tensors: list[Tensor]) -> list[Tensor]:
    """√x, correctly rounded: numpy's on a CPU, where torch's can be wrong in the last bit."""
    if not (tensors[0].is_cpu and tensors[0].dtype in (torch.float32, torch.float64)):
        return list(torch._foreach_sqrt(tensors))
    roots = [torch.empty_like(x) for x in tensors]
    for x, root in zip(tensors, roots, strict=True):
        np.sqrt(x.numpy(), out=root.numpy())
    return roots


def _sgd_direction(group: Group, grads: list[Tensor], buffers: list[Tensor]) -> list[Tensor]:
    """Update b ← momentum·b + g; return lr·b."""
    if group["momentum"] != 0:
        torch._foreach_mul_(buffers, float(group["momentum"]))
        torch._foreach_add_(buffers, grads)
    return list(torch._foreach_mul(buffers, float(group["lr"])))


def _descend(group: Group, params: list[Tensor], directions: list[Tensor], moved: list[Tensor]) -> None:
    """v ← (v − lr·weight_decay·θ) − direction, v being θ itself without a regularizer."""  # noqa: D403
    if group["weight_decay"] != 0:
        decay = float(group["lr"]) * float(group["weight_decay"])
        torch._foreach_sub_(moved, list(torch._foreach_mul(params, decay)))
    torch._foreach_sub_(moved, directions)
