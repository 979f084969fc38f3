"""The arithmetic of one optimizer step for all parameters, in place.

Two paths give the same bits on a CPU: the fused kernels (``fused_cpu``; ``fused_cuda`` if asked for),
and torch's ``_foreach_`` operations, which work everywhere. Every operation is a single IEEE multiplication, addition,
division or square root, in the same order in both; scalars are formed in double precision and
rounded once to the tensors' type.
"""

from __future__ import annotations

import importlib.util
import math
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lbi.errors import require

Group = dict[str, Any]
State = dict[str, Any]
Work = list[tuple[Group, list[tuple[Tensor, State]]]]
Row = tuple[Group, State, tuple[Any, ...]]  # one parameter: its group, state and tensors, θ first

# What a tensor's step has to do with the numbers that it moves.
PLAIN, DUAL, SHRINK = 0, 1, 2  # θ itself; the dual alone; the dual, then θ entry by entry

_WORTHWHILE = 1 << 15  # weights from which ``fused=None`` loads the compiled kernels


def adabreg(work: Work) -> None:
    """AdaBreg's step (see ``optimizers.AdaBreg``) on tensors of several groups."""
    rows = [
        (group, state, (p, p.grad, state["exp_avg"], state["exp_avg_sq"], state.get("dual", p)))
        for group, members in work
        for p, state in members
    ]
    rest = _fused("adabreg", rows)
    for group, states, (params, grads, averages, squares, moved) in _batches(rest):
        _descend(group, params, _adam_direction(group, states, grads, averages, squares), moved)
        _read_off(group, params, moved)


def linbreg(work: Work) -> None:
    """LinBreg's step (see ``optimizers.LinBreg``) on tensors of several groups."""
    rows = [
        (group, state, (p, p.grad, _buffer(group, p, state), state.get("dual", p)))
        for group, members in work
        for p, state in members
    ]
    for group, _, (params, grads, buffers, moved) in _batches(_fused("linbreg", rows)):
        _descend(group, params, _sgd_direction(group, grads, buffers), moved)
        _read_off(group, params, moved)


def proxsgd(work: Work) -> None:
    """ProxSGD's step (see ``optimizers.ProxSGD``) on tensors of several groups."""
    rows = [
        (group, state, (p, p.grad, _buffer(group, p, state)))
        for group, members in work
        for p, state in members
    ]
    for group, _, (params, grads, buffers) in _batches(rows):
        _descend(group, params, _sgd_direction(group, grads, buffers), params)
        if group["reg"] is not None:
            for p in params:
                p.copy_(group["reg"].prox(p, float(group["lr"])))


def _fused(kind: str, rows: list[Row]) -> list[Row]:
    """Step the parameters that a compiled kernel is to take; return the others."""
    rest: list[Row] = []
    parts: dict[Any, list[Row]] = {}
    automatic = _automatic(rows)
    for row in rows:
        group, _, tensors = row
        engine = _engine(tensors[0], automatic if group["fused"] is None else group["fused"])
        if engine is None or not engine.fusable(tensors):
            rest.append(row)
        else:
            parts.setdefault((tensors[0].device, tensors[0].dtype), []).append(row)
    for members in parts.values():
        engine = _engine(members[0][2][0], True)
        modes, scalars = _plan(members)
        engine.run(kind, [tensors for _, _, tensors in members], modes, scalars)
        for (group, _, tensors), mode in zip(members, modes, strict=True):
            if mode == DUAL:
                _read_off(group, [tensors[0]], [tensors[-1]])
    return rest


def _automatic(rows: list[Row]) -> bool:
    """Whether ``fused=None`` means the CPU's kernels: numba is there, and they are loaded or worth it."""
    if "lbi.train.fused_cpu" in sys.modules:
        return True
    n = sum(row[2][0].numel() for row in rows if row[0]["fused"] is None and row[2][0].is_cpu)
    return n >= _WORTHWHILE and importlib.util.find_spec("numba") is not None


def _engine(p: Tensor, wanted: bool) -> Any:
    """The module whose kernels run where ``p`` lies, or None."""
    if not wanted:
        return None
    if p.is_cpu:
        require("numba", "train")
        from lbi.train import fused_cpu

        return fused_cpu
    if p.is_cuda:
        require("triton", "train")
        from lbi.train import fused_cuda

        return fused_cuda
    return None


def _plan(members: list[Row]) -> tuple[list[int], list[list[float]]]:
    """Per parameter, what the kernel is to do, and its scalars: δ, low, high, scale, decay, the method's."""
    known: dict[tuple[int, Any], tuple[int, list[float]]] = {}
    for group, state, _ in members:
        key = (id(group), state.get("step"))
        if key not in known:
            reg, delta = group["reg"], float(group["delta"])
            shrinkage = None if reg is None else reg.shrinkage(delta)
            if shrinkage is None:
                known[key] = PLAIN if reg is None else DUAL, [0.0] * 4 + _scalars(group, state)
            else:
                threshold, scale = shrinkage
                low = -math.inf if reg.nonneg else -threshold
                known[key] = SHRINK, [delta, low, threshold, scale, *_scalars(group, state)]
    plans = [known[id(group), state.get("step")] for group, state, _ in members]
    return [mode for mode, _ in plans], [scalars for _, scalars in plans]


def _batches(rows: list[Row]) -> Iterator[tuple[Group, list[State], tuple[list[Tensor], ...]]]:
    """Rows to be stepped together: on a CPU one by one, for the caches' sake; elsewhere a whole group."""
    parts: dict[Any, list[Row]] = {}
    for i, row in enumerate(rows):
        p = row[2][0]
        parts.setdefault(i if p.is_cpu else (id(row[0]), p.device, p.dtype), []).append(row)
    for members in parts.values():
        roles = tuple([row[2][role] for row in members] for role in range(len(members[0][2])))
        yield members[0][0], [row[1] for row in members], roles


def _scalars(group: Group, state: State) -> list[float]:
    """What a kernel needs to know of a tensor beside its prox: the decay, then the method's own."""
    lr = float(group["lr"])
    decay = lr * float(group["weight_decay"])
    if "betas" not in group:
        return [decay, lr, float(group["momentum"])]
    beta1, beta2 = (float(beta) for beta in group["betas"])
    return [decay, beta1, 1 - beta1, beta2, 1 - beta2, float(group["eps"]), *_adam_scalars(group, state)]


def _adam_scalars(group: Group, state: State) -> tuple[float, float]:
    """lr/(1−β₁ᵏ) and 1/√(1−β₂ᵏ), k being the tensor's step."""
    beta1, beta2 = group["betas"]
    return float(group["lr"]) / (1 - beta1 ** state["step"]), 1 / math.sqrt(1 - beta2 ** state["step"])


def _adam_direction(
    group: Group, states: list[State], grads: list[Tensor], averages: list[Tensor], squares: list[Tensor]
) -> list[Tensor]:
    """Update m and s; return alpha·m / (√s·correction + ε)."""
    alphas, corrections = zip(*(_adam_scalars(group, state) for state in states), strict=True)
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
    """√x, correctly rounded: on a CPU numpy's, since torch's may be off in the last place there."""
    if not (tensors[0].is_cpu and tensors[0].dtype in (torch.float32, torch.float64)):
        return list(torch._foreach_sqrt(tensors))
    roots = [torch.empty_like(x) for x in tensors]
    for x, root in zip(tensors, roots, strict=True):
        np.sqrt(x.numpy(), out=root.numpy())
    return roots


def _buffer(group: Group, p: Tensor, state: State) -> Tensor:
    """The momentum's buffer, 0 at first; without momentum the gradient stands in for it."""
    assert p.grad is not None
    if group["momentum"] == 0:
        return p.grad
    if "momentum_buffer" not in state:
        state["momentum_buffer"] = torch.zeros_like(p)
    return state["momentum_buffer"]


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


def _read_off(group: Group, params: list[Tensor], duals: list[Tensor]) -> None:
    """θ ← prox(δv), if there is a regularizer."""
    reg, delta = group["reg"], float(group["delta"])
    if reg is not None:
        for p, dual in zip(params, duals, strict=True):
            p.copy_(reg.prox(dual * delta, delta))
