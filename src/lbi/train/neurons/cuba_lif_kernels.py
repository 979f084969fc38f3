"""CUBA-LIF over all steps, compiled for a CPU; ``lbi.train.layers.scan.Kernels`` describes the functions.

Arrays are (sample, time, neuron), C-contiguous; states stay in registers and first-level cache. Samples are
distributed over threads, so the order of every sum is independent of their number. ``float32`` and ``float64``; no
fast-math. ``neuron`` holds alpha, beta (kept per step), threshold and bias; ``traces`` spikes and voltages before reset.
"""

# Compiled code is typed by numba, by what it is called with:
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit

from lbi.system.claims import claim
from lbi.system.numba_cache import compiled
from lbi.train.layers.products import feed_back, feedback_memory
from lbi.train.neurons.arithmetic import add_recurrent, current, send_back, through_spikes, under_way, voltage


@compiled(nogil=True, error_model="numpy")
def forward(a, w_rec_t, delays, neuron, traces, turns):
    """w_rec_t: (n, n) recurrent weights by source, or (0, 0) for none; delays: as in ``arithmetic.arrivals``."""
    n_samples, n_steps, n = a.shape
    alpha, beta, threshold, bias = neuron[0], neuron[1], neuron[2], neuron[3]
    s_out, v_out = traces[0], traces[1]
    recurrent = w_rec_t.shape[0] > 0
    zero, one = a.dtype.type(0), a.dtype.type(1)
    b = claim(turns)
    while b < n_samples:
        u = np.zeros(n, a.dtype)
        v = np.zeros(n, a.dtype)
        fired, ring = np.empty(n, np.int32), under_way(delays)
        for t in range(n_steps):
            a_t = a[b, t]
            v_t = v_out[b, t]
            s_t = s_out[b, t]
            for i in range(n):
                u[i] = alpha[i] * u[i] + a_t[i]
            if recurrent:
                add_recurrent(u, w_rec_t, s_out[b], t, delays, fired, ring)
            for i in range(n):  # loops of few arrays become vector code
                v_t[i] = beta[i] * v[i] + (u[i] + bias[i])
            for i in range(n):
                s_t[i] = one if v_t[i] > threshold[i] else zero
            for i in range(n):
                v[i] = zero if v_t[i] > threshold[i] else v_t[i]
        b = claim(turns)


@compiled(nogil=True, error_model="numpy")
def forward_chip(a, w_rec_t, delays, neuron, traces, turns):
    """The same as ``lbi.network.neurons.FixedCubaLif``; neuron: int64, in 4096ths, mantissa units, state units."""
    n_samples, n_steps, n = a.shape
    keep_u, keep_v, vth, bias = neuron[0], neuron[1], neuron[2], neuron[3]
    s_out, v_out = traces[0], traces[1]
    recurrent = w_rec_t.shape[0] > 0
    one, zero, fraction = v_out.dtype.type(1), v_out.dtype.type(0), v_out.dtype.type(1 / 64)
    b = claim(turns)
    while b < n_samples:
        u = np.zeros(n, np.int64)
        v = np.zeros(n, np.int64)
        total = np.zeros(n, a.dtype)
        fired, ring = np.empty(n, np.int32), under_way(delays)
        for t in range(n_steps):
            for i in range(n):
                total[i] = a[b, t, i]
            if recurrent:
                add_recurrent(total, w_rec_t, s_out[b], t, delays, fired, ring)
            for i in range(n):
                u[i] = current(u[i], keep_u[i], total[i])
                value = voltage(v[i], keep_v[i], u[i] + bias[i])
                fires = value > (vth[i] << 6)
                v[i] = 0 if fires else value
                v_out[b, t, i] = v_out.dtype.type(value) * fraction
                s_out[b, t, i] = one if fires else zero
        b = claim(turns)


@compiled(nogil=True, error_model="numpy")
def backward(traces, grad_s, grad_v, neuron, slope, kind, grad_a, turns):
    """Without recurrence. The reset passes no gradient: v after it is v·(1 − s) with s taken as a constant."""
    v_out = traces[1]
    n_samples, n_steps, n = v_out.shape
    alpha, beta, threshold = neuron[0], neuron[1], neuron[2]
    with_v = grad_v.shape[0] > 0
    slope = v_out.dtype.type(slope)
    b = claim(turns)
    while b < n_samples:
        g_v = np.zeros(n, v_out.dtype)
        g_u = np.zeros(n, v_out.dtype)
        for t in range(n_steps - 1, -1, -1):
            _backward_row(
                v_out[b, t],
                grad_s[b, t],
                grad_v[b, t] if with_v else g_v,
                with_v,
                alpha,
                beta,
                threshold,
                slope,
                kind,
                g_u,
                g_v,
                grad_a[b, t],
            )
        b = claim(turns)


@compiled(nogil=True, error_model="numpy")
def backward_recurrent(
    traces, grad_s, grad_v, neuron, slope, kind, panels, first_of, entries, values, delays, grad_a, turns
):
    """With recurrence; ``lbi.train.layers.products`` describes how the recurrent weights are given.

    Threads claim as many samples as a vector has lanes, and compute all steps of them. With delays, ``grad_s`` is added to.
    """
    v_out = traces[1]
    n_samples, n_steps, n = v_out.shape
    alpha, beta, threshold = neuron[0], neuron[1], neuron[2]
    with_v = grad_v.shape[0] > 0
    slope = v_out.dtype.type(slope)
    memory = feedback_memory(v_out, n, panels.shape[0] > 0)
    block = memory[0].shape[0]
    first = claim(turns) * block
    while first < n_samples:
        n_block = min(block, n_samples - first)
        given, fed = memory[0], memory[1]
        given[:], fed[:] = 0, 0
        g_u = np.zeros((n_block, n), v_out.dtype)
        g_v = np.zeros((n_block, n), v_out.dtype)
        for t in range(n_steps - 1, -1, -1):
            for k in range(n_block):
                b = first + k
                g_s, back, g_a = grad_s[b, t], fed[k], grad_a[b, t]
                for i in range(n):
                    back[i] += g_s[i]
                extra = grad_v[b, t] if with_v else g_s
                _backward_row(
                    v_out[b, t], back, extra, with_v, alpha, beta, threshold, slope, kind, g_u[k], g_v[k], g_a
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
def _backward_row(v_t, g_s, g_extra, with_v, alpha, beta, threshold, slope, kind, g_u, g_v, g_a):
    """One step back in one sample: g_u, g_v (n,) come from step t + 1 and leave for step t − 1.

    Loops of few arrays become vector code; ``g_a`` holds g_s · surrogate until the last of them.
    """
    zero = g_v.dtype.type(0)
    through_spikes(v_t, threshold, slope, kind, g_s, g_a)
    for i in range(v_t.size):
        kept = zero if v_t[i] > threshold[i] else beta[i] * g_v[i]
        g_v[i] = kept + g_a[i]
    if with_v:
        for i in range(v_t.size):
            g_v[i] += g_extra[i]
    for i in range(v_t.size):
        g_u[i] = g_v[i] + alpha[i] * g_u[i]
    for i in range(v_t.size):
        g_a[i] = g_u[i]


@compiled(nogil=True, error_model="numpy")
def parameter_gradients(traces, grad_v, grad_a, neuron, grads, turns):
    """Of alpha, beta, bias; dL/du = grad_a, dL/dv = grad_a[t] − alpha·grad_a[t + 1]; u is found from v."""
    v_out = traces[1]
    n_samples, n_steps, n = v_out.shape
    alpha, beta, threshold, bias = neuron[0], neuron[1], neuron[2], neuron[3]
    zero = v_out.dtype.type(0)
    b = claim(turns)
    while b < n_samples:
        sums = np.zeros((3, n), v_out.dtype)
        v_before = np.zeros(n, v_out.dtype)
        u = np.zeros(n, v_out.dtype)
        for t in range(n_steps):
            for i in range(n):
                later = grad_a[b, t + 1, i] if t + 1 < n_steps else zero
                g_v = grad_a[b, t, i] - alpha[i] * later
                sums[0, i] += grad_a[b, t, i] * u[i]
                sums[1, i] += g_v * v_before[i]
                sums[2, i] += g_v
                value = v_out[b, t, i]
                u[i] = value - beta[i] * v_before[i] - bias[i]
                v_before[i] = zero if value > threshold[i] else value
        grads[:, b] = sums
        b = claim(turns)
