"""The adaptive neuron over all steps on CUDA (Triton); ``lbi.train.layers.scan_cuda`` describes the functions.

The equations are those of ``atrlif_kernels``. ``traces`` are spikes, v, w and θ*, states are u, v, θ and r.
"""

# Triton types its code by what it is called with:
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import triton
import triton.language as tl

from lbi.train.neurons.arithmetic_cuda import fed_to, feed_back, list_arrivals, sum_rows, surrogate

N_STATES = 4


@triton.jit
def forward(
    a,
    w_by_source,
    lags,
    found,
    neuron,
    spikes,
    voltages,
    levels,
    excesses,
    u_of,
    v_of,
    theta_of,
    r_of,
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
            inside, state = i < n, b * n + i
            alpha, beta = tl.load(neuron + i, inside, 0.0), tl.load(neuron + n + i, inside, 0.0)
            keep_theta = tl.load(neuron + 2 * n + i, inside, 0.0)
            keep_r = tl.load(neuron + 3 * n + i, inside, 0.0)
            threshold, step = (
                tl.load(neuron + 4 * n + i, inside, 1.0),
                tl.load(neuron + 5 * n + i, inside, 0.0),
            )
            bias = tl.load(neuron + 6 * n + i, inside, 0.0)
            arriving = tl.load(a + row + i, inside, 0.0)
            if recurrent:
                arriving += sum_rows(w_by_source, found + b * n, count, i, n, group, block)
            u = alpha * tl.load(u_of + state, inside, 0.0) + arriving
            v = beta * tl.load(v_of + state, inside, 0.0) + (u + bias)
            excess = keep_theta * tl.load(theta_of + state, inside, 0.0)
            refractory = keep_r * tl.load(r_of + state, inside, 0.0)
            w = v - refractory - excess
            fires = w >= threshold
            tl.store(spikes + row + i, fires.to(v.dtype), inside)
            tl.store(voltages + row + i, v, inside)
            tl.store(levels + row + i, w, inside)
            tl.store(excesses + row + i, excess, inside)
            tl.store(u_of + state, u, inside)
            tl.store(v_of + state, v, inside)
            tl.store(theta_of + state, tl.where(fires, excess + step, excess), inside)
            risen = refractory + 2.0 * (excess + threshold)
            tl.store(r_of + state, tl.where(fires, risen, refractory), inside)
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
    levels,
    excesses,
    grad_u_of,
    grad_v_of,
    grad_theta_of,
    grad_r_of,
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
    """The same from the last step to the first; ``lbi.train.neurons.atrlif`` says through which spikes gradients pass."""
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
            inside, state = (b < n_samples) & (i < n), b * n + i
            alpha, beta = tl.load(neuron + i, i < n, 0.0), tl.load(neuron + n + i, i < n, 0.0)
            keep_theta = tl.load(neuron + 2 * n + i, i < n, 0.0)
            keep_r = tl.load(neuron + 3 * n + i, i < n, 0.0)
            threshold, step = tl.load(neuron + 4 * n + i, i < n, 1.0), tl.load(neuron + 5 * n + i, i < n, 0.0)
            g_theta = tl.load(grad_theta_of + state, inside, 0.0)
            g_r = tl.load(grad_r_of + state, inside, 0.0)
            g_s = tl.load(grad_s + row + i, inside, 0.0)
            if recurrent:
                g_s += fed_to(fed, row + i, inside, lags, i, n, back, lagging)
            w, s = tl.load(levels + row + i, inside, 0.0), tl.load(spikes + row + i, inside, 0.0)
            g_w = (g_s + step * g_theta) * surrogate(w, threshold, slope, kind)
            g_v = beta * tl.load(grad_v_of + state, inside, 0.0) + g_w
            if with_v:
                g_v += tl.load(grad_v + row + i, inside, 0.0)
            g_u = g_v + alpha * tl.load(grad_u_of + state, inside, 0.0)
            tl.store(grad_a + row + i, g_u, inside)
            tl.store(grad_u_of + state, g_u, inside)
            tl.store(grad_v_of + state, g_v, inside)
            tl.store(grad_theta_of + state, keep_theta * (g_theta + 2.0 * s * g_r - g_w), inside)
            tl.store(grad_r_of + state, keep_r * (g_r - g_w), inside)
        tl.debug_barrier()


@triton.jit
def parameter_gradients(
    grad_v,
    grad_a,
    neuron,
    spikes,
    voltages,
    levels,
    excesses,
    grads,
    n_samples,
    n_steps,
    n,
    with_v: tl.constexpr,
    block: tl.constexpr,
):
    """Of the four factors and the bias, per sample, as ``atrlif_kernels.parameter_gradients`` finds them."""
    b, i = tl.program_id(0), tl.program_id(1) * block + tl.arange(0, block)
    inside = i < n
    alpha, beta = tl.load(neuron + i, inside, 0.0), tl.load(neuron + n + i, inside, 0.0)
    keep_theta, keep_r = tl.load(neuron + 2 * n + i, inside, 0.0), tl.load(neuron + 3 * n + i, inside, 0.0)
    threshold, step = tl.load(neuron + 4 * n + i, inside, 1.0), tl.load(neuron + 5 * n + i, inside, 0.0)
    bias = tl.load(neuron + 6 * n + i, inside, 0.0)
    of_alpha, of_beta, of_theta, of_r, of_bias = bias * 0, bias * 0, bias * 0, bias * 0, bias * 0
    later, g_theta, g_r, g_next = bias * 0, bias * 0, bias * 0, bias * 0
    for back in range(n_steps):
        t = n_steps - 1 - back
        at = (b * n_steps + t).to(tl.int64) * n + i
        before, second = inside & (i * 0 + t > 0), inside & (i * 0 + t > 1)
        g_u = tl.load(grad_a + at, inside, 0.0)
        g_v = g_u - alpha * g_next
        g_w = g_v - beta * later
        if with_v:
            g_w -= tl.load(grad_v + at, inside, 0.0)
        g_next, later = g_u, g_v
        g_theta += 2.0 * tl.load(spikes + at, inside, 0.0) * g_r - g_w
        g_r -= g_w
        of_bias += g_v
        v, s = tl.load(voltages + at - n, before, 0.0), tl.load(spikes + at - n, before, 0.0)
        w, excess = tl.load(levels + at - n, before, 0.0), tl.load(excesses + at - n, before, 0.0)
        u = tl.where(before, v - beta * tl.load(voltages + at - 2 * n, second, 0.0) - bias, 0.0)
        of_alpha += g_u * u
        of_beta += g_v * v
        of_theta += g_theta * (excess + step * s)
        of_r += g_r * (v - w - excess + 2.0 * (excess + threshold) * s)
        g_theta *= keep_theta
        g_r *= keep_r
    to, size = grads + b * n + i, n_samples * n
    tl.store(to, of_alpha, inside)
    tl.store(to + size, of_beta, inside)
    tl.store(to + 2 * size, of_theta, inside)
    tl.store(to + 3 * size, of_r, inside)
    tl.store(to + 4 * size, of_bias, inside)
