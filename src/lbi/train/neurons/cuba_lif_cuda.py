"""CUBA-LIF over all steps on CUDA (Triton); ``lbi.train.layers.scan_cuda`` describes the functions.

The equations are those of ``cuba_lif_kernels``. ``traces`` are spikes and voltages before reset, states are u and v.
"""

# Triton types its code by what it is called with:
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

from lbi.train.neurons.arithmetic_cuda import arrival_lag, feed_back, list_arrivals, sum_rows, surrogate

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
    """Steps from ``begin`` to ``end`` of some samples and a block of neurons."""
    first_sample = tl.program_id(0).to(tl.int64) * samples
    origin, size = first_sample * n_steps * n, n_samples * n + first_sample * 0
    sent, came = sent + first_sample * n, came + first_sample * 2 * n
    states, n_samples = states + first_sample * n, n_samples - tl.program_id(0) * samples
    a = a + origin
    spikes, voltages = spikes + origin, voltages + origin
    b, i = tl.arange(0, samples)[:, None], tl.program_id(1) * block + tl.arange(0, block)[None, :]
    inside, start, state = (b < n_samples) & (i < n), b * n_steps * n + i, b * n + i
    alpha, beta = tl.load(neuron + i, i < n, 0.0), tl.load(neuron + n + i, i < n, 0.0)
    threshold = tl.load(neuron + 2 * n + i, i < n, 1.0)
    bias = tl.load(neuron + 3 * n + i, i < n, 0.0)
    after = arrival_lag(lags, i, n, lagging)
    zero = tl.full((samples, block), 0.0, a.dtype.element_ty)
    known = inside & (i * 0 + begin > 0)
    u = tl.load(states + state, known, 0.0)
    v = tl.load(states + size + state, known, 0.0)
    for first in range(begin, end, span):
        brought = zero
        if stepwise:
            listed = found + first_sample * wide
            count = list_arrivals(spikes, first, n, lags, listed, lagging, wide)
            tl.debug_barrier()
            brought = sum_rows(w_by_source, listed, count, i, n, chunk, samples, block)
        for t in tl.range(first, tl.minimum(first + span, end), num_stages=stages):
            at = start + t * n
            arriving = tl.load(a + at, inside, 0.0) + brought
            if blockwise:
                row = came + (t - begin) * 2 * size + b * 2 * n + i
                arriving += tl.load(row, inside, 0.0) + tl.load(row + n, inside, 0.0)
            u = alpha * u + arriving
            v = beta * v + (u + bias)
            fires = v > threshold
            tl.store(voltages + at, v, inside)
            tl.store(spikes + at, fires.to(v.dtype), inside)
            v = tl.where(fires, 0.0, v)
            if blockwise:
                arrival = t + after
                tl.store(sent + arrival * size + state, fires.to(v.dtype), inside & (arrival < n_steps))
        tl.debug_barrier()
    going_on = inside & (i * 0 + end < n_steps)
    tl.store(states + state, u, going_on)
    tl.store(states + size + state, v, going_on)


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
    """The same from the last step to the first."""
    first_sample = tl.program_id(0).to(tl.int64) * samples
    origin, size = first_sample * n_steps * n, n_samples * n + first_sample * 0
    states, n_samples = states + first_sample * n, n_samples - tl.program_id(0) * samples
    grad_s, grad_v = grad_s + origin, grad_v + origin
    grad_a, grad_by_step = grad_a + origin, grad_by_step + first_sample * n
    fed = fed + (first_sample * n if blockwise else origin)
    step_size = size if blockwise else n
    spikes, voltages = spikes + origin, voltages + origin
    b, i = tl.arange(0, samples)[:, None], tl.program_id(1) * block + tl.arange(0, block)[None, :]
    inside, start, state = (b < n_samples) & (i < n), b * n_steps * n + i, b * n + i
    alpha, beta = tl.load(neuron + i, i < n, 0.0), tl.load(neuron + n + i, i < n, 0.0)
    threshold = tl.load(neuron + 2 * n + i, i < n, 1.0)
    per_threshold, after = 1.0 / threshold, arrival_lag(lags, i, n, lagging)
    known = inside & (i * 0 + begin > 0)
    g_u = tl.load(states + state, known, 0.0)
    g_v = tl.load(states + size + state, known, 0.0)
    for first in range(begin, end, span):
        if stepwise:
            feed_back(
                grad_a,
                recurrent_weights,
                fed,
                n_steps - 1 - first,
                n_samples,
                n_steps,
                n,
                samples,
                block,
                width,
                chunk,
            )
            tl.debug_barrier()
        for back in tl.range(first, tl.minimum(first + span, end), num_stages=stages):
            t = n_steps - 1 - back
            at = start + t * n
            v, g_s = tl.load(voltages + at, inside, 0.0), tl.load(grad_s + at, inside, 0.0)
            if stepwise or blockwise:
                arrived = (t + after) * step_size + (state if blockwise else start)
                g_s += tl.load(fed + arrived, inside & (after <= back), 0.0)
            h = surrogate(v, threshold, per_threshold, slope, kind)
            g_v = tl.where(v > threshold, 0.0, beta * g_v) + g_s * h
            if with_v:
                g_v += tl.load(grad_v + at, inside, 0.0)
            g_u = g_v + alpha * g_u
            tl.store(grad_a + at, g_u, inside)
            if blockwise:
                tl.store(grad_by_step + t * size + state, g_u, inside)
        tl.debug_barrier()
    going_on = inside & (i * 0 + end < n_steps)
    tl.store(states + state, g_u, going_on)
    tl.store(states + size + state, g_v, going_on)


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
