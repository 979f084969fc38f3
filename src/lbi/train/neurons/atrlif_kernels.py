"""The adaptive neuron over all steps, compiled for a CPU; ``lbi.train.layers.scan.NeuronModel`` describes the functions.

Arrays and threads as in ``cuba_lif_kernels``. ``neuron`` holds the factors kept per step of current, voltage, threshold and
refractoriness, then threshold, threshold_step and bias. ``traces`` holds spikes, v, w = v − r* − θ* (compared with
the threshold) and θ* (its excess), all before the spike changes θ and r.
"""

# Compiled code is typed by numba, by what it is called with:
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit, prange

from lbi.system.numba_cache import compiled
from lbi.train.neurons.arithmetic import add_recurrent, current, decayed, surrogate, voltage


@compiled(parallel=True)
def forward(a, w_rec_t, neuron, traces):
    """Forward pass in floats; ``w_rec_t``: (n, n) recurrent weights by source, or (0, 0) for none."""
    n_samples, n_steps, n = a.shape
    alpha, beta, keep_theta, keep_r = neuron[0], neuron[1], neuron[2], neuron[3]
    threshold, step, bias = neuron[4], neuron[5], neuron[6]
    s_out, v_out, w_out, theta_out = traces[0], traces[1], traces[2], traces[3]
    recurrent = w_rec_t.shape[0] > 0
    zero, one, two = a.dtype.type(0), a.dtype.type(1), a.dtype.type(2)
    for b in prange(n_samples):
        u = np.zeros(n, a.dtype)
        v = np.zeros(n, a.dtype)
        theta = np.zeros(n, a.dtype)
        r = np.zeros(n, a.dtype)
        fired = np.empty(n + 1, np.int32)
        for t in range(n_steps):
            a_t, s_t, v_t, w_t, theta_t = a[b, t], s_out[b, t], v_out[b, t], w_out[b, t], theta_out[b, t]
            for i in range(n):
                u[i] = alpha[i] * u[i] + a_t[i]
            if recurrent and t > 0:
                add_recurrent(u, w_rec_t, s_out[b, t - 1], fired)
            for i in range(n):
                v[i] = beta[i] * v[i] + (u[i] + bias[i])
                excess = keep_theta[i] * theta[i]
                refractory = keep_r[i] * r[i]
                w = v[i] - refractory - excess
                fires = w >= threshold[i]
                r[i] = refractory + two * (excess + threshold[i]) if fires else refractory
                theta[i] = excess + step[i] if fires else excess
                s_t[i] = one if fires else zero
                v_t[i] = v[i]
                w_t[i] = w
                theta_t[i] = excess


@compiled(parallel=True)
def forward_chip(a, w_rec_t, neuron, traces):
    """Forward pass in the chip's integers, as ``lbi.network.neurons.FixedAtrLif``; ``neuron``: int64, in 4096ths, mantissa units, state units."""
    n_samples, n_steps, n = a.shape
    keep_u, keep_v, keep_theta, keep_r = neuron[0], neuron[1], neuron[2], neuron[3]
    theta_0, theta_step, bias = neuron[4], neuron[5], neuron[6]
    s_out, v_out, w_out, theta_out = traces[0], traces[1], traces[2], traces[3]
    recurrent = w_rec_t.shape[0] > 0
    one, zero, fraction = v_out.dtype.type(1), v_out.dtype.type(0), v_out.dtype.type(1 / 64)
    for b in prange(n_samples):
        u = np.zeros(n, np.int64)
        v = np.zeros(n, np.int64)
        theta = np.zeros(n, np.int64)
        r = np.zeros(n, np.int64)
        total = np.zeros(n, a.dtype)
        fired = np.empty(n + 1, np.int32)
        for t in range(n_steps):
            for i in range(n):
                total[i] = a[b, t, i]
            if recurrent and t > 0:
                add_recurrent(total, w_rec_t, s_out[b, t - 1], fired)
            for i in range(n):
                u[i] = current(u[i], keep_u[i], total[i])
                v[i] = voltage(v[i], keep_v[i], u[i] + bias[i])
                excess = decayed(theta[i], keep_theta[i])
                refractory = decayed(r[i], keep_r[i])
                level = excess + (theta_0[i] << 6)
                fires = v[i] - refractory >= level
                r[i] = refractory + 2 * level if fires else refractory
                theta[i] = excess + (theta_step[i] << 6) if fires else excess
                s_out[b, t, i] = one if fires else zero
                v_out[b, t, i] = v_out.dtype.type(v[i]) * fraction
                w_out[b, t, i] = v_out.dtype.type(v[i] - refractory - excess) * fraction
                theta_out[b, t, i] = v_out.dtype.type(excess) * fraction


@compiled(parallel=True)
def backward(traces, grad_s, grad_v, neuron, slope, kind, grad_a):
    """Backward pass without recurrence; ``lbi.train.neurons.atrlif`` says through which spikes gradients pass."""
    s_out, w_out = traces[0], traces[2]
    n_samples, n_steps, n = w_out.shape
    with_v = grad_v.shape[0] > 0
    slope = w_out.dtype.type(slope)
    alpha, beta, keep_theta, keep_r = neuron[0], neuron[1], neuron[2], neuron[3]
    threshold, step = neuron[4], neuron[5]
    for b in prange(n_samples):
        g_u = np.zeros(n, w_out.dtype)
        g_v = np.zeros(n, w_out.dtype)
        g_theta = np.zeros(n, w_out.dtype)
        g_r = np.zeros(n, w_out.dtype)
        for t in range(n_steps - 1, -1, -1):
            _backward_row(
                s_out[b, t],
                w_out[b, t],
                grad_s[b, t],
                grad_v[b, t] if with_v else g_v,
                with_v,
                alpha,
                beta,
                keep_theta,
                keep_r,
                threshold,
                step,
                slope,
                kind,
                g_u,
                g_v,
                g_theta,
                g_r,
                grad_a[b, t],
            )


@compiled(parallel=True)
def step_backward(traces, grad_s, grad_v, fed_back, neuron, slope, kind, carried, grad_a, t):
    """One step of the backward pass with recurrence; ``carried``: gradients of u, v, θ and r, each (n_samples, n)."""
    s_out, w_out = traces[0], traces[2]
    n_samples, _, n = w_out.shape
    alpha, beta, keep_theta, keep_r = neuron[0], neuron[1], neuron[2], neuron[3]
    threshold, step = neuron[4], neuron[5]
    g_u, g_v, g_theta, g_r = carried[0], carried[1], carried[2], carried[3]
    with_v = grad_v.shape[0] > 0
    slope = w_out.dtype.type(slope)
    n_blocks = min(n_samples, 16)
    for block in prange(n_blocks):
        for b in range(block * n_samples // n_blocks, (block + 1) * n_samples // n_blocks):
            fed = fed_back[b]
            g_s = grad_s[b, t]
            for i in range(n):
                fed[i] += g_s[i]
            _backward_row(
                s_out[b, t],
                w_out[b, t],
                fed,
                grad_v[b, t] if with_v else g_s,
                with_v,
                alpha,
                beta,
                keep_theta,
                keep_r,
                threshold,
                step,
                slope,
                kind,
                g_u[b],
                g_v[b],
                g_theta[b],
                g_r[b],
                grad_a[b, t],
            )


@njit(inline="always")
def _backward_row(
    s_t,
    w_t,
    g_s,
    g_extra,
    with_v,
    alpha,
    beta,
    keep_theta,
    keep_r,
    threshold,
    step,
    slope,
    kind,
    g_u,
    g_v,
    g_theta,
    g_r,
    g_a,
):
    """One step back in one sample: the g (n,) come from step t + 1 and leave for step t − 1.

    g_u, g_v: of this step's u and v · g_theta, g_r: of θ and r as the step before leaves them
    """
    zero, one, two = g_v.dtype.type(0), g_v.dtype.type(1), g_v.dtype.type(2)
    for i in range(w_t.size):
        h = surrogate(w_t[i], threshold[i], slope, kind, zero, one)
        g_w = (g_s[i] + step[i] * g_theta[i]) * h
        g = beta[i] * g_v[i] + g_w
        if with_v:
            g += g_extra[i]
        g_v[i] = g
        g_u[i] = g + alpha[i] * g_u[i]
        g_a[i] = g_u[i]
        g_theta[i] = keep_theta[i] * (g_theta[i] + two * s_t[i] * g_r[i] - g_w)
        g_r[i] = keep_r[i] * (g_r[i] - g_w)


@compiled(parallel=True)
def parameter_gradients(traces, grad_v, grad_a, neuron, grads):
    """Gradients of the four factors and the bias; all other gradients and states follow from grad_a and the traces.

    dL/du = grad_a, dL/dv = grad_a[t] − alpha·grad_a[t + 1], dL/dw = dL/dv − beta·dL/dv[t + 1] − grad_v
    """
    s_out, v_out, w_out, theta_out = traces[0], traces[1], traces[2], traces[3]
    n_samples, n_steps, n = v_out.shape
    alpha, beta, keep_theta, keep_r = neuron[0], neuron[1], neuron[2], neuron[3]
    threshold, step, bias = neuron[4], neuron[5], neuron[6]
    with_v = grad_v.shape[0] > 0
    zero, two = v_out.dtype.type(0), v_out.dtype.type(2)
    for b in prange(n_samples):
        sums = np.zeros((5, n), v_out.dtype)
        later = np.zeros(n, v_out.dtype)
        g_theta = np.zeros(n, v_out.dtype)
        g_r = np.zeros(n, v_out.dtype)
        for t in range(n_steps - 1, -1, -1):
            for i in range(n):
                g_u = grad_a[b, t, i]
                g_v = g_u - alpha[i] * grad_a[b, t + 1, i] if t + 1 < n_steps else g_u
                g_w = g_v - beta[i] * later[i] - (grad_v[b, t, i] if with_v else zero)
                later[i] = g_v
                g_theta[i] += two * s_out[b, t, i] * g_r[i] - g_w
                g_r[i] -= g_w
                sums[4, i] += g_v
                if t > 0:
                    v, s, excess = v_out[b, t - 1, i], s_out[b, t - 1, i], theta_out[b, t - 1, i]
                    v_before = v_out[b, t - 2, i] if t > 1 else zero
                    r = v - w_out[b, t - 1, i] - excess + two * (excess + threshold[i]) * s
                    sums[0, i] += g_u * (v - beta[i] * v_before - bias[i])
                    sums[1, i] += g_v * v
                    sums[2, i] += g_theta[i] * (excess + step[i] * s)
                    sums[3, i] += g_r[i] * r
                g_theta[i] *= keep_theta[i]
                g_r[i] *= keep_r[i]
        grads[:, b] = sums
