"""The arithmetic of one optimizer step for one parameter group, in torch's ``_foreach_`` operations.

Every operation here is a single IEEE multiplication, addition, division or square root, in the order
in which the fused kernel (``fused_cpu``) does them, so that both give the same bits on a CPU.
Scalars are formed in double precision and rounded once to the tensors' type.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

Group = dict[str, Any]
State = dict[str, Any]


def adabreg(group: Group, params: list[Tensor], grads: list[Tensor], states: list[State]) -> None:
    """AdaBreg's step (see ``optimizers.AdaBreg``) on tensors of one group, in place."""
    alphas, corrections = adam_scalars(group, states)
    beta1, beta2 = (float(beta) for beta in group["betas"])
    averages = [state["exp_avg"] for state in states]
    squares = [state["exp_avg_sq"] for state in states]
    torch._foreach_mul_(averages, beta1)
    torch._foreach_add_(averages, torch._foreach_mul(grads, 1 - beta1))
    torch._foreach_mul_(squares, beta2)
    grads_squared = torch._foreach_mul(grads, grads)
    torch._foreach_mul_(grads_squared, 1 - beta2)
    torch._foreach_add_(squares, grads_squared)
    denominators = torch._foreach_sqrt(squares)
    torch._foreach_mul_(denominators, corrections)
    torch._foreach_add_(denominators, float(group["eps"]))
    directions = torch._foreach_div(averages, denominators)
    torch._foreach_mul_(directions, alphas)
    _descend(group, params, directions, [state.get("dual") for state in states])


def adam_scalars(group: Group, states: list[State]) -> tuple[list[float], list[float]]:
    """Per tensor: lr/(1−β₁ᵏ) and 1/√(1−β₂ᵏ), k being the tensor's step."""
    beta1, beta2 = group["betas"]
    lr = float(group["lr"])
    alphas = [lr / (1 - beta1 ** state["step"]) for state in states]
    corrections = [1 / math.sqrt(1 - beta2 ** state["step"]) for state in states]
    return alphas, corrections


def linbreg(group: Group, params: list[Tensor], grads: list[Tensor], states: list[State]) -> None:
    """LinBreg's step (see ``optimizers.LinBreg``) on tensors of one group, in place."""
    directions = torch._foreach_mul(_momentum(group, grads, states), float(group["lr"]))
    _descend(group, params, directions, [state.get("dual") for state in states])


def proxsgd(group: Group, params: list[Tensor], grads: list[Tensor], states: list[State]) -> None:
    """ProxSGD's step (see ``optimizers.ProxSGD``) on tensors of one group, in place."""
    lr, reg = float(group["lr"]), group["reg"]
    directions = torch._foreach_mul(_momentum(group, grads, states), lr)
    _descend({**group, "reg": None}, params, directions, [None] * len(params))
    if reg is not None:
        for p in params:
            p.copy_(reg.prox(p, lr))


def _momentum(group: Group, grads: list[Tensor], states: list[State]) -> list[Tensor]:
    if group["momentum"] == 0:
        return grads
    fresh = [i for i, state in enumerate(states) if "momentum_buffer" not in state]
    for i in fresh:
        states[i]["momentum_buffer"] = torch.zeros_like(grads[i])
    buffers = [state["momentum_buffer"] for state in states]
    torch._foreach_mul_(buffers, float(group["momentum"]))
    torch._foreach_add_(buffers, grads)
    return buffers


def _descend(
    group: Group, params: list[Tensor], directions: Sequence[Tensor], duals: list[Tensor | None]
) -> None:
    """Set v ← (v − lr·weight_decay·θ) − direction, θ ← prox(δv); without a regularizer move θ itself."""
    moved = params if group["reg"] is None else [dual for dual in duals if dual is not None]
    if group["weight_decay"] != 0:
        decay = float(group["lr"]) * float(group["weight_decay"])
        torch._foreach_sub_(moved, torch._foreach_mul(params, decay))
    torch._foreach_sub_(moved, list(directions))
    if group["reg"] is not None:
        delta = float(group["delta"])
        for p, dual in zip(params, moved, strict=True):
            p.copy_(group["reg"].prox(dual * delta, delta))
