"""CUBA-LIF over all steps on CUDA (Triton): one fused kernel per direction; with recurrence, one kernel per step.

The equations are those of ``cuba_lif_kernels``. A program processes a block of neurons of one sample over time, with
its states in registers. Checked in Triton's interpreter on a CPU only; it has not run on a GPU yet.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from lbi.train.layers.surrogate import SURROGATES

_BLOCK = 128  # neurons per program


@triton.jit
def _forward(  # type: ignore[no-untyped-def]
    a, fed, state, neuron, spikes, voltages, start, stop, n_steps, n, block: tl.constexpr
):
    """Steps start to stop; fed (n_samples, n) is added to the first; state: u, v, each (n_samples, n), in and out."""
    b = tl.program_id(0)
    i = tl.program_id(1) * block + tl.arange(0, block)
    inside = i < n
    alpha, beta = tl.load(neuron + i, inside), tl.load(neuron + n + i, inside)
    threshold, bias = tl.load(neuron + 2 * n + i, inside), tl.load(neuron + 3 * n + i, inside)
    u_at = state + b * n + i
    v_at = u_at + tl.num_programs(0) * n
    u, v = tl.load(u_at, inside), tl.load(v_at, inside)
    for t in range(start, stop):
        at = (b * n_steps + t).to(tl.int64) * n + i
        # i * 0 makes the comparison a block: Triton 3.9's interpreter takes no mask from a scalar.
        u = alpha * u + tl.load(a + at, inside) + tl.load(fed + b * n + i, inside & (i * 0 + t == start), 0.0)
        v = beta * v + (u + bias)
        fires = v > threshold
        tl.store(voltages + at, v, inside)
        tl.store(spikes + at, fires.to(v.dtype), inside)
        v = tl.where(fires, 0.0, v)
    tl.store(u_at, u, inside)
    tl.store(v_at, v, inside)


@triton.jit
def _backward(  # type: ignore[no-untyped-def]
    voltages,
    grad_s,
    grad_v,
    fed,
    carried,
    neuron,
    grad_a,
    slope,
    start,
    stop,
    n_steps,
    n,
    kind: tl.constexpr,
    block: tl.constexpr,
):
    """Steps stop − 1 down to start; fed joins grad_s in the first; carried: gradients of u, v, in and out."""
    b = tl.program_id(0)
    i = tl.program_id(1) * block + tl.arange(0, block)
    inside = i < n
    alpha, beta = tl.load(neuron + i, inside), tl.load(neuron + n + i, inside)
    threshold = tl.load(neuron + 2 * n + i, inside, 1.0)
    u_at = carried + b * n + i
    v_at = u_at + tl.num_programs(0) * n
    g_u, g_v = tl.load(u_at, inside), tl.load(v_at, inside)
    for back in range(stop - start):
        at = (b * n_steps + stop - 1 - back).to(tl.int64) * n + i
        v = tl.load(voltages + at, inside)
        x = slope * (v - threshold) / threshold
        if kind == 0:
            h = 1.0 / ((1.0 + tl.abs(x)) * (1.0 + tl.abs(x)))
        elif kind == 1:
            h = 1.0 / (1.0 + x * x)
        else:
            h = tl.where(tl.abs(x) < 1.0, 1.0, 0.0)
        kept = tl.where(v > threshold, 0.0, beta * g_v)
        g_s = tl.load(grad_s + at, inside) + tl.load(fed + b * n + i, inside & (back == 0), 0.0)
        g_v = kept + g_s * (h / threshold) + tl.load(grad_v + at, inside)
        g_u = g_v + alpha * g_u
        tl.store(grad_a + at, g_u, inside)
    tl.store(u_at, g_u, inside)
    tl.store(v_at, g_v, inside)


class CudaScan(torch.autograd.Function):
    """``lbi.train.layers.scan.scan`` of CUBA-LIF."""

    @staticmethod
    def forward(
        ctx: Any, surrogate: str, slope: float, a: Tensor, recurrent: Tensor | None, *neuron: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Spikes and voltages before reset."""
        a, parameters = a.contiguous(), torch.stack(neuron)
        n_samples, n_steps, n = a.shape
        spikes, voltages = torch.empty_like(a), torch.empty_like(a)
        state, fed = a.new_zeros(2, n_samples, n), a.new_zeros(n_samples, n)
        for start, stop in _spans(n_steps, recurrent):
            if start and recurrent is not None:
                torch.mm(spikes[:, start - 1], recurrent.T, out=fed)
            _launch(_forward, a, a, fed, state, parameters, spikes, voltages, start, stop, n_steps, n)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(recurrent, parameters, spikes, voltages)
        ctx.options = (SURROGATES.index(surrogate), float(slope))
        return spikes, voltages

    @staticmethod
    def backward(ctx: Any, grad_s: Tensor | None, grad_v: Tensor | None) -> tuple[Any, ...]:
        """Gradients of a, recurrent, alpha, beta and bias."""
        recurrent, parameters, spikes, voltages = ctx.saved_tensors
        kind, slope = ctx.options
        n_samples, n_steps, n = spikes.shape
        grad_s, grad_v = (
            torch.zeros_like(spikes) if grad is None else grad.contiguous() for grad in (grad_s, grad_v)
        )
        grad_a = torch.empty_like(spikes)
        carried, fed = spikes.new_zeros(2, n_samples, n), spikes.new_zeros(n_samples, n)
        for start, stop in reversed(_spans(n_steps, recurrent)):
            if stop < n_steps and recurrent is not None:
                torch.mm(grad_a[:, stop], recurrent, out=fed)
            _launch(
                _backward,
                spikes,
                voltages,
                grad_s,
                grad_v,
                fed,
                carried,
                parameters,
                grad_a,
                slope,
                start,
                stop,
                n_steps,
                n,
                kind=kind,
            )
        grad_recurrent = None
        if ctx.needs_input_grad[3]:
            grad_recurrent = grad_a[:, 1:].reshape(-1, n).T @ spikes[:, :-1].reshape(-1, n)
        alpha, beta, bias = _parameter_gradients(parameters, voltages, grad_a)
        return None, None, grad_a, grad_recurrent, alpha, beta, None, bias


def _spans(n_steps: int, recurrent: Tensor | None) -> list[tuple[int, int]]:
    """Steps of each launch: all at once, or with recurrence one by one."""
    return [(0, n_steps)] if recurrent is None else [(t, t + 1) for t in range(n_steps)]


def _launch(kernel: Any, like: Tensor, *arguments: Any, **constants: Any) -> None:
    n_samples, _, n = like.shape
    with torch.cuda.device(like.device) if like.is_cuda else nullcontext():
        kernel[(n_samples, triton.cdiv(n, _BLOCK))](*arguments, **constants, block=_BLOCK)


def _parameter_gradients(parameters: Tensor, v: Tensor, grad_a: Tensor) -> list[Tensor]:
    """Gradients of alpha, beta and bias: dL/dv = grad_a[t] − alpha·grad_a[t + 1]; u is found from v."""
    alpha, beta, threshold, bias = parameters
    g_v = grad_a.clone()
    g_v[:, :-1] -= alpha * grad_a[:, 1:]
    v_before, u_before = torch.zeros_like(v), torch.zeros_like(v)
    v_before[:, 1:] = torch.where(v > threshold, 0.0, v)[:, :-1]
    u_before[:, 1:] = (v - beta * v_before - bias)[:, :-1]
    return [part.sum((0, 1)) for part in (grad_a * u_before, g_v * v_before, g_v)]
