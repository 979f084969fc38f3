"""The leaky integrator over all steps on CUDA (Triton); ``lbi.train.layers.scan_cuda`` describes the functions.

The equations are those of ``integrator_kernels``. ``traces`` are spikes (all 0) and voltages, states u and v; there is no recurrence.
"""

# Triton types its code by what it is called with:
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

N_STATES = 2


@triton.jit(do_not_specialize=["begin", "end"])
def forward(
    a,
    sent,
    came,
    w_by_source,
    lags,
    found,
    neuron,
    states,
    spikes,
    voltages,
    begin,
    end,
    n_samples,
    n_steps,
    n,
    span,
    stepwise: tl.constexpr,
    blockwise: tl.constexpr,
    lagging: tl.constexpr,
    samples: tl.constexpr,
    block: tl.constexpr,
    width: tl.constexpr,
    chunk: tl.constexpr,
    wide: tl.constexpr,
    stages: tl.constexpr,
):
    """All steps of a sample and a block of neurons."""
    i, origin = tl.program_id(1) * block + tl.arange(0, block), tl.program_id(0).to(tl.int64) * n_steps * n
    inside = i < n
    alpha, beta = tl.load(neuron + i, inside, 0.0), tl.load(neuron + n + i, inside, 0.0)
    bias = tl.load(neuron + 2 * n + i, inside, 0.0)
    zero = tl.full((block,), 0.0, a.dtype.element_ty)
    u, v = zero, zero
    for t in tl.range(0, n_steps, num_stages=stages):
        at = origin + t * n + i
        u = alpha * u + tl.load(a + at, inside, 0.0)
        v = beta * v + (u + bias)
        tl.store(voltages + at, v, inside)
        tl.store(spikes + at, zero, inside)


@triton.jit(do_not_specialize=["begin", "end"])
def backward(
    grad_s,
    grad_v,
    recurrent_weights,
    fed,
    lags,
    neuron,
    states,
    spikes,
    voltages,
    grad_a,
    grad_by_step,
    slope,
    begin,
    end,
    n_samples,
    n_steps,
    n,
    span,
    kind: tl.constexpr,
    with_v: tl.constexpr,
    stepwise: tl.constexpr,
    blockwise: tl.constexpr,
    lagging: tl.constexpr,
    samples: tl.constexpr,
    block: tl.constexpr,
    width: tl.constexpr,
    chunk: tl.constexpr,
    stages: tl.constexpr,
):
    """The same from the last step to the first; gradients pass through voltages only."""
    i, origin = tl.program_id(1) * block + tl.arange(0, block), tl.program_id(0).to(tl.int64) * n_steps * n
    inside = i < n
    alpha, beta = tl.load(neuron + i, inside, 0.0), tl.load(neuron + n + i, inside, 0.0)
    zero = tl.full((block,), 0.0, grad_a.dtype.element_ty)
    g_u, g_v = zero, zero
    for back in tl.range(0, n_steps, num_stages=stages):
        at = origin + (n_steps - 1 - back) * n + i
        g_v = beta * g_v
        if with_v:
            g_v += tl.load(grad_v + at, inside, 0.0)
        g_u = g_v + alpha * g_u
        tl.store(grad_a + at, g_u, inside)


@triton.jit
def parameter_gradients(
    grad_v,
    grad_a,
    neuron,
    spikes,
    voltages,
    grads,
    n_samples,
    n_steps,
    n,
    with_v: tl.constexpr,
    block: tl.constexpr,
):
    """Of alpha, beta, bias, per sample; dL/dv = grad_a[t] − alpha·grad_a[t + 1]; u is found from v."""
    b, i = tl.program_id(0), tl.program_id(1) * block + tl.arange(0, block)
    inside = i < n
    alpha, beta = tl.load(neuron + i, inside, 0.0), tl.load(neuron + n + i, inside, 0.0)
    bias = tl.load(neuron + 2 * n + i, inside, 0.0)
    of_alpha, of_beta, of_bias = bias * 0, bias * 0, bias * 0
    u, v_before = bias * 0, bias * 0
    for t in range(n_steps):
        at = (b * n_steps + t).to(tl.int64) * n + i
        g_u = tl.load(grad_a + at, inside, 0.0)
        g_v = g_u - alpha * tl.load(grad_a + at + n, inside & (i * 0 + t + 1 < n_steps), 0.0)
        of_alpha += g_u * u
        of_beta += g_v * v_before
        of_bias += g_v
        v = tl.load(voltages + at, inside, 0.0)
        u = v - beta * v_before - bias
        v_before = v
    to, size = grads + b * n + i, n_samples * n
    tl.store(to, of_alpha, inside)
    tl.store(to + size, of_beta, inside)
    tl.store(to + 2 * size, of_bias, inside)
