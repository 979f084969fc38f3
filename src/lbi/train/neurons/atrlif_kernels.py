"""The adaptive neuron over all steps, compiled for a CPU; ``lbi.train.layers.scan.Kernels`` describes the functions.

Arrays and threads as in ``cuba_lif_kernels``. ``neuron`` holds the factors kept per step of current, voltage, threshold and
refractoriness, then threshold, threshold_step and bias. ``traces`` holds spikes, v, w = v − r* − θ* (compared with
the threshold) and θ* (its excess), all before the spike changes θ and r.
"""

# Compiled code is typed by numba, by what it is called with:
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit

from lbi.system.choice import chosen
from lbi.system.claims import claim
from lbi.system.numba_cache import compiled
from lbi.train.layers.products import feed_back, feedback_memory
from lbi.train.neurons.arithmetic import (
    add_recurrent,
    current,
    decayed,
    send_back,
    surrogate,
    under_way,
    voltage,
)


@compiled(nogil=True, error_model="numpy")
def forward(a, w_rec_t, delays, neuron, traces, turns):
    """w_rec_t: (n, n) recurrent weights by source, or (0, 0) for none; delays: as in ``arithmetic.arrivals``."""
    n_samples, n_steps, n = a.shape
    alpha, beta, keep_theta, keep_r = neuron[0], neuron[1], neuron[2], neuron[3]
    threshold, step, bias = neuron[4], neuron[5], neuron[6]
    s_out, v_out, w_out, theta_out = traces[0], traces[1], traces[2], traces[3]
    recurrent = w_rec_t.shape[0] > 0
    zero, one, two = a.dtype.type(0), a.dtype.type(1), a.dtype.type(2)
    b = claim(turns)
    while b < n_samples:
        u = np.zeros(n, a.dtype)
        v = np.zeros(n, a.dtype)
        theta = np.zeros(n, a.dtype)
        r = np.zeros(n, a.dtype)
        fired, ring = np.empty(n, np.int32), under_way(delays)
        for t in range(n_steps):
            a_t, s_t, v_t, w_t, theta_t = a[b, t], s_out[b, t], v_out[b, t], w_out[b, t], theta_out[b, t]
            for i in range(n):
                u[i] = alpha[i] * u[i] + a_t[i]
            if recurrent:
                add_recurrent(u, w_rec_t, s_out[b], t, delays, fired, ring)
            for i in range(n):
                v[i] = beta[i] * v[i] + (u[i] + bias[i])
                excess = keep_theta[i] * theta[i]
                refractory = keep_r[i] * r[i]
                w = v[i] - refractory - excess
                fires = w >= threshold[i]
                r[i] = chosen(fires, refractory + two * (excess + threshold[i]), refractory)
                theta[i] = chosen(fires, excess + step[i], excess)
                s_t[i] = one if fires else zero
                v_t[i] = v[i]
                w_t[i] = w
                theta_t[i] = excess
        b = claim(turns)


@compiled(nogil=True, error_model="numpy")
def forward_chip(a, w_rec_t, delays, neuron, traces, turns):
    """The same as ``lbi.network.neurons.FixedAtrLif``; neuron: int64, in 4096ths, mantissa units, state units."""
    n_samples, n_steps, n = a.shape
    keep_u, keep_v, keep_theta, keep_r = neuron[0], neuron[1], neuron[2], neuron[3]
    theta_0, theta_step, bias = neuron[4], neuron[5], neuron[6]
    s_out, v_out, w_out, theta_out = traces[0], traces[1], traces[2], traces[3]
    recurrent = w_rec_t.shape[0] > 0
    one, zero, fraction = v_out.dtype.type(1), v_out.dtype.type(0), v_out.dtype.type(1 / 64)
    b = claim(turns)
    while b < n_samples:
        u = np.zeros(n, np.int64)
        v = np.zeros(n, np.int64)
        theta = np.zeros(n, np.int64)
        r = np.zeros(n, np.int64)
        total = np.zeros(n, a.dtype)
        fired, ring = np.empty(n, np.int32), under_way(delays)
        for t in range(n_steps):
            for i in range(n):
                total[i] = a[b, t, i]
            if recurrent:
                add_recurrent(total, w_rec_t, s_out[b], t, delays, fired, ring)
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
        b = claim(turns)


@compiled(nogil=True, error_model="numpy")
def backward(traces, grad_s, grad_v, neuron, slope, kind, grad_a, turns):
    """Backward pass without recurrence; ``lbi.train.neurons.atrlif`` says through which spikes gradients pass."""
    s_out, w_out = traces[0], traces[2]
    n_samples, n_steps, n = w_out.shape
    with_v = grad_v.shape[0] > 0
    slope = w_out.dtype.type(slope)
    alpha, beta, keep_theta, keep_r = neuron[0], neuron[1], neuron[2], neuron[3]
    threshold, step = neuron[4], neuron[5]
    b = claim(turns)
    while b < n_samples:
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
        b = claim(turns)


@compiled(nogil=True, error_model="numpy")
def backward_recurrent(
    traces, grad_s, grad_v, neuron, slope, kind, panels, first_of, entries, values, delays, grad_a, turns
):
    """With recurrence, as ``cuba_lif_kernels.backward_recurrent``."""
    s_out, w_out = traces[0], traces[2]
    n_samples, n_steps, n = w_out.shape
    alpha, beta, keep_theta, keep_r = neuron[0], neuron[1], neuron[2], neuron[3]
    threshold, step = neuron[4], neuron[5]
    with_v = grad_v.shape[0] > 0
    slope = w_out.dtype.type(slope)
    memory = feedback_memory(w_out, n, panels.shape[0] > 0)
    block = memory[0].shape[0]
    first = claim(turns) * block
    while first < n_samples:
        n_block = min(block, n_samples - first)
        given, fed = memory[0], memory[1]
        given[:], fed[:] = 0, 0
        carried = np.zeros((4, n_block, n), w_out.dtype)
        for t in range(n_steps - 1, -1, -1):
            for k in range(n_block):
                b = first + k
                g_s, back, g_a = grad_s[b, t], fed[k], grad_a[b, t]
                for i in range(n):
                    back[i] += g_s[i]
                _backward_row(
                    s_out[b, t],
                    w_out[b, t],
                    back,
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
                    carried[0, k],
                    carried[1, k],
                    carried[2, k],
                    carried[3, k],
                    g_a,
                )
                copied = given[k]
                for i in range(n):
                    copied[i] = g_a[i]
            if t > 0:
                feed_back(n_block, panels, first_of, entries, values, memory)
                if delays.size > 0:
                    for k in range(n_block):
                        send_back(fed[k], grad_s[first + k], t, delays)
        first = claim(turns) * block


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


@compiled(nogil=True, error_model="numpy")
def parameter_gradients(traces, grad_v, grad_a, neuron, grads, turns):
    """Gradients of the four factors and the bias; all other gradients and states follow from grad_a and the traces.

    dL/du = grad_a, dL/dv = grad_a[t] − alpha·grad_a[t + 1], dL/dw = dL/dv − beta·dL/dv[t + 1] − grad_v
    """
    s_out, v_out, w_out, theta_out = traces[0], traces[1], traces[2], traces[3]
    n_samples, n_steps, n = v_out.shape
    alpha, beta, keep_theta, keep_r = neuron[0], neuron[1], neuron[2], neuron[3]
    threshold, step, bias = neuron[4], neuron[5], neuron[6]
    with_v = grad_v.shape[0] > 0
    zero, two = v_out.dtype.type(0), v_out.dtype.type(2)
    b = claim(turns)
    while b < n_samples:
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
        b = claim(turns)
