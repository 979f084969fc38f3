"""CUBA-LIF over all steps on CUDA (Triton); ``lbi.train.layers.scan_cuda`` describes the functions.

The equations are those of ``cuba_lif_kernels``. ``traces`` are spikes and voltages before reset, states are u and v.
"""

# Triton types its code by what it is called with:
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

from lbi.train.neurons.arithmetic_cuda import fed_to, feed_back, list_arrivals, sum_rows, surrogate

N_STATES = 2


@triton.jit
def forward(
    a,
    w_by_source,
    lags,
    found,
    neuron,
    spikes,
    voltages,
    u_of,
    v_of,
    n_steps,
    n,
    recurrent: tl.constexpr,
    lagging: tl.constexpr,
    blocks: tl.constexpr,
    block: tl.constexpr,
    group: tl.constexpr,
    wide: tl.constexpr,
):
    """All steps of a sample: of all neurons with recurrence, otherwise of one block of them."""
    b = tl.program_id(0)
    for t in range(n_steps):
        row = (b * n_steps + t).to(tl.int64) * n
        if recurrent:
            count = list_arrivals(spikes, row - n, t, n, lags, found + b * n, lagging, wide)
            tl.debug_barrier()
        for j in range(blocks):
            i = (tl.program_id(1) + j) * block + tl.arange(0, block)
            inside = i < n
            alpha, beta = tl.load(neuron + i, inside, 0.0), tl.load(neuron + n + i, inside, 0.0)
            threshold, bias = (
                tl.load(neuron + 2 * n + i, inside, 1.0),
                tl.load(neuron + 3 * n + i, inside, 0.0),
            )
            u, v = tl.load(u_of + b * n + i, inside, 0.0), tl.load(v_of + b * n + i, inside, 0.0)
            arriving = tl.load(a + row + i, inside, 0.0)
            if recurrent:
                arriving += sum_rows(w_by_source, found + b * n, count, i, n, group, block)
            u = alpha * u + arriving
            v = beta * v + (u + bias)
            fires = v > threshold
            tl.store(voltages + row + i, v, inside)
            tl.store(spikes + row + i, fires.to(v.dtype), inside)
            tl.store(u_of + b * n + i, u, inside)
            tl.store(v_of + b * n + i, tl.where(fires, 0.0, v), inside)
        tl.debug_barrier()


@triton.jit
def backward(
    grad_s,
    grad_v,
    recurrent_weights,
    fed,
    lags,
    neuron,
    spikes,
    voltages,
    grad_u_of,
    grad_v_of,
    grad_a,
    slope,
    n_samples,
    n_steps,
    n,
    kind: tl.constexpr,
    with_v: tl.constexpr,
    recurrent: tl.constexpr,
    lagging: tl.constexpr,
    blocks: tl.constexpr,
    samples: tl.constexpr,
    steps: tl.constexpr,
    block: tl.constexpr,
    chunk: tl.constexpr,
):
    """The same from the last step to the first."""
    b = tl.program_id(0) * samples + tl.arange(0, samples)[:, None]
    for back in range(n_steps):
        t = n_steps - 1 - back
        row = (b * n_steps + t).to(tl.int64) * n
        if recurrent:  # noqa: SIM102 - known when compiled; the other is not
            if back % steps == 0:
                feed_back(
                    grad_a,
                    recurrent_weights,
                    fed,
                    t,
                    n_samples,
                    n_steps,
                    n,
                    samples,
                    steps,
                    blocks,
                    block,
                    chunk,
                )
                tl.debug_barrier()
        for j in range(blocks):
            i = (tl.program_id(1) + j) * block + tl.arange(0, block)[None, :]
            inside = (b < n_samples) & (i < n)
            alpha, beta = tl.load(neuron + i, i < n, 0.0), tl.load(neuron + n + i, i < n, 0.0)
            threshold = tl.load(neuron + 2 * n + i, i < n, 1.0)
            g_u = tl.load(grad_u_of + b * n + i, inside, 0.0)
            g_v = tl.load(grad_v_of + b * n + i, inside, 0.0)
            v, g_s = tl.load(voltages + row + i, inside, 0.0), tl.load(grad_s + row + i, inside, 0.0)
            if recurrent:
                g_s += fed_to(fed, row + i, inside, lags, i, n, back, lagging)
            g_v = tl.where(v > threshold, 0.0, beta * g_v) + g_s * surrogate(v, threshold, slope, kind)
            if with_v:
                g_v += tl.load(grad_v + row + i, inside, 0.0)
            g_u = g_v + alpha * g_u
            tl.store(grad_a + row + i, g_u, inside)
            tl.store(grad_u_of + b * n + i, g_u, inside)
            tl.store(grad_v_of + b * n + i, g_v, inside)
        tl.debug_barrier()


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
    threshold, bias = tl.load(neuron + 2 * n + i, inside, 1.0), tl.load(neuron + 3 * n + i, inside, 0.0)
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
        v_before = tl.where(v > threshold, 0.0, v)
    to, size = grads + b * n + i, n_samples * n
    tl.store(to, of_alpha, inside)
    tl.store(to + size, of_beta, inside)
    tl.store(to + 2 * size, of_bias, inside)
