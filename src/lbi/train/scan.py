"""CUBA-LIF over a whole sequence as one differentiable operation: ``cuba_lif`` and what it stands on.

The equations are those of ``lbi.neurons.CubaLif``: recurrence sees the previous step. On a CPU all steps
run in one compiled kernel each way (``kernels``); with recurrence the backward pass takes one matrix product
and one kernel per step. ``scan_reference`` is the same in plain PyTorch: the definition, and what runs on other devices.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from lbi.errors import Problems, UsageError
from lbi.train.surrogate import SURROGATES, Spike

VALUES_PER_THREAD = 1 << 18
"""Neuron-steps (or events times outputs) below which another thread costs more than it brings."""


def cuba_lif(
    a: Tensor,
    current_decay: Tensor | float,
    voltage_decay: Tensor | float,
    threshold: Tensor | float = 1.0,
    *,
    bias: Tensor | None = None,
    recurrent: Tensor | None = None,
    surrogate: str = "fast_sigmoid",
    slope: float = 5.0,
) -> Tensor:
    """Spikes (n_samples, n_steps, n) of CUBA-LIF neurons driven by synaptic input ``a`` of that shape.

    ::

        u[t] = (1 − current_decay)·u[t−1] + a[t] + recurrent @ s[t−1]
        v[t] = (1 − voltage_decay)·v[t−1] + u[t] + bias;   s[t] = v[t] > threshold;   v[t] = 0 where s[t]

    Decays are fractions lost per step in [0, 1], scalars or (n,), and get gradients, as do ``bias`` (n,) and
    ``recurrent`` (n, n), rows post-synaptic. The reset and the threshold pass no gradient. surrogate: see
    ``lbi.train.surrogate``. Raises UsageError naming every argument that does not fit.
    """
    _check(a, recurrent, surrogate, slope)
    n = a.shape[2]
    alpha, beta, level = (
        torch.as_tensor(value, dtype=a.dtype, device=a.device).expand(n).contiguous()
        for value in (1 - current_decay, 1 - voltage_decay, threshold)
    )
    bias = a.new_zeros(n) if bias is None else bias
    return scan(a, recurrent, alpha, beta, level, bias, surrogate, slope)[0]


def scan(
    a: Tensor, recurrent: Tensor | None, alpha: Tensor, beta: Tensor, threshold: Tensor, bias: Tensor,
    surrogate: str, slope: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Spikes and voltages before reset, each like ``a``; alpha, beta (kept per step), threshold, bias: (n,)."""
    if a.device.type == "cpu" and a.dtype in (torch.float32, torch.float64):
        return FusedScan.apply(a, recurrent, alpha, beta, threshold, bias, surrogate, slope)
    return scan_reference(a, recurrent, alpha, beta, threshold, bias, surrogate, slope)


def scan_reference(
    a: Tensor, recurrent: Tensor | None, alpha: Tensor, beta: Tensor, threshold: Tensor, bias: Tensor,
    surrogate: str, slope: float,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """``scan`` in plain PyTorch, step by step, gradients by autograd."""
    u = v = s = torch.zeros_like(a[:, 0])
    spikes, voltages = [], []
    for t in range(a.shape[1]):
        u = alpha * u + a[:, t] + (0.0 if recurrent is None else s @ recurrent.T)
        before_reset = beta * v + u + bias
        s = Spike.apply(before_reset, threshold, surrogate, slope)
        v = before_reset * (1.0 - s.detach())
        spikes.append(s)
        voltages.append(before_reset)
    return torch.stack(spikes, 1), torch.stack(voltages, 1)


class FusedScan(torch.autograd.Function):
    """``scan`` on a CPU: one compiled kernel forward, one backward (with recurrence one per step)."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, recurrent: Tensor | None, *rest: Any) -> tuple[Tensor, Tensor]:
        """Spikes and voltages before reset; see ``scan`` for the arguments."""
        alpha, beta, threshold, bias, surrogate, slope = rest
        kernels = load_kernels(a.numel())
        a = a.contiguous()
        spikes, voltages = torch.empty_like(a), torch.empty_like(a)
        by_source = a.new_empty(0, 0) if recurrent is None else recurrent.T.contiguous()
        kernels.scan_forward(
            *arrays(a, by_source, alpha, beta, threshold, bias), *arrays(voltages, spikes)
        )  # fmt: skip
        return save_scan(ctx, recurrent, alpha, beta, threshold, bias, surrogate, slope, spikes, voltages)

    @staticmethod
    def backward(ctx: Any, grad_s: Tensor | None, grad_v: Tensor | None) -> tuple[Any, ...]:
        """Gradients of a, recurrent, alpha, beta, bias."""
        return scan_gradients(ctx, grad_s, grad_v)


def save_scan(
    ctx: Any, recurrent: Tensor | None, alpha: Tensor, beta: Tensor, threshold: Tensor, bias: Tensor,
    surrogate: str, slope: float, spikes: Tensor, voltages: Tensor,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Keep on ``ctx`` what ``scan_gradients`` needs; returns (spikes, voltages)."""
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(recurrent, alpha, beta, threshold, bias, spikes, voltages)
    ctx.options = (SURROGATES.index(surrogate), float(slope))
    return spikes, voltages


def scan_gradients(ctx: Any, grad_s: Tensor | None, grad_v: Tensor | None) -> tuple[Any, ...]:
    """The backward pass of a scan whose spikes and voltages are saved, for each of ``scan``'s arguments."""
    recurrent, alpha, beta, threshold, bias, spikes, voltages = ctx.saved_tensors
    kernels = load_kernels(spikes.numel())
    kind, slope = ctx.options
    if grad_s is None and grad_v is None:
        return (None,) * 8
    g_s = torch.zeros_like(spikes) if grad_s is None else grad_s.contiguous()
    g_v = spikes.new_empty(0, 0, 0) if grad_v is None else grad_v.contiguous()
    grad_a = torch.empty_like(spikes)
    neuron = (*arrays(alpha, beta, threshold), slope, kind)
    if recurrent is None:
        kernels.scan_backward(*arrays(voltages, g_s, g_v), *neuron, *arrays(grad_a))
    else:
        n_samples, n_steps, n = spikes.shape
        carried = [spikes.new_zeros(n_samples, n) for _ in range(2)]
        fed_back = spikes.new_zeros(n_samples, n)
        outer, inner = arrays(voltages, g_s, g_v, fed_back), arrays(*carried, grad_a)
        weights = recurrent.detach()
        for t in range(n_steps - 1, -1, -1):
            kernels.step_backward(*outer, *neuron, *inner, t)
            if t:
                torch.mm(grad_a[:, t], weights, out=fed_back)
    grad_recurrent = None
    if ctx.needs_input_grad[1]:
        from lbi.train.event_linear import weight_gradient

        n = spikes.shape[2]
        grad_recurrent = weight_gradient(
            spikes[:, :-1].reshape(-1, n), grad_a[:, 1:].reshape(-1, n)
        )  # fmt: skip
    grads: list[Tensor | None] = [None, None, None]
    if any(ctx.needs_input_grad[i] for i in (2, 3, 5)):
        parts = [spikes.new_empty(spikes.shape[0], spikes.shape[2]) for _ in range(3)]
        kernels.parameter_gradients(*arrays(voltages, grad_a, alpha, beta, threshold, bias, *parts))
        grads = [part.sum(0) for part in parts]
    return grad_a, grad_recurrent, grads[0], grads[1], None, grads[2], None, None


def load_kernels(n_values: int) -> Any:
    """The compiled kernels, set to as many threads as torch uses, but no more than ``n_values`` of work keep busy."""
    import numba

    from lbi.train import kernels

    available = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]
    useful = max(1, n_values // VALUES_PER_THREAD)
    numba.set_num_threads(min(torch.get_num_threads(), available, useful))
    return kernels


def arrays(*tensors: Tensor) -> list[np.ndarray]:
    """The tensors as numpy arrays over the same memory."""
    return [tensor.detach().numpy() for tensor in tensors]


def _check(a: Tensor, recurrent: Tensor | None, surrogate: str, slope: float) -> None:
    problems = Problems()
    problems.check(
        a.ndim == 3 and a.is_floating_point(), "input-shape", "a", f"{a.dtype} {tuple(a.shape)}",
        "floats (n_samples, n_steps, n)",
    )  # fmt: skip
    if recurrent is not None and a.ndim == 3:
        n = a.shape[2]
        problems.check(
            tuple(recurrent.shape) == (n, n), "recurrent-shape", "recurrent", f"{tuple(recurrent.shape)}", f"{(n, n)}"
        )  # fmt: skip
    problems.check(
        surrogate in SURROGATES, "unknown-surrogate", "surrogate", repr(surrogate), ", ".join(SURROGATES)
    )
    problems.check(slope > 0, "slope", "slope", f"{slope}", "above 0")
    problems.raise_as(UsageError)
