"""The compiled loops of training on a CPU (numba): packing spikes, event-driven products, neuron scans.

Arrays are (sample, time, neuron), C-contiguous; state lives in registers and first-level cache. Threads
share the samples (scans) or the columns (weight gradients), so every sum has one order whatever the number
of threads, and results repeat bit for bit. ``float32`` and ``float64`` alike; no fast-math.
"""

# Compiled code is typed by numba, by what it is called with:
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit, prange

from lbi.compiled import compiled


@compiled(parallel=True)
def count_events(x, counts):
    """counts[r + 1] = number of nonzeros in row r. x: (n_rows, n); counts: (n_rows + 1,) int64."""
    n_rows, n = x.shape
    for r in prange(n_rows):
        total = 0
        for j in range(n):
            total += x[r, j] != 0
        counts[r + 1] = total


@compiled(parallel=True)
def fill_events(x, indptr, indices):
    """Columns of the nonzeros of every row, ascending, at indices[indptr[r]:indptr[r + 1]]."""
    n_rows, n = x.shape
    n_blocks = min(n_rows, 256)
    for block in prange(n_blocks):
        found = np.empty(n + 1, np.int32)
        for r in range(block * n_rows // n_blocks, (block + 1) * n_rows // n_blocks):
            row = x[r]
            k = 0
            for j in range(n):
                found[k] = j
                k += np.int64(row[j] != 0)
            start = indptr[r]
            for m in range(k):
                indices[start + m] = found[m]


@compiled(parallel=True)
def event_product(indptr, indices, w_t, out):
    """out[r] = Σ w_t[j] over the events j of row r. w_t: (n_in, n_out); out: (n_rows, n_out)."""
    n_rows, n_out = out.shape
    n_blocks = min(n_rows, 256)
    for block in prange(n_blocks):
        for r in range(block * n_rows // n_blocks, (block + 1) * n_rows // n_blocks):
            acc = out[r]
            for n in range(n_out):
                acc[n] = 0
            for k in range(indptr[r], indptr[r + 1]):
                w = w_t[indices[k]]
                for n in range(n_out):
                    acc[n] += w[n]


@compiled(parallel=True)
def event_weight_gradient(indptr, indices, grad, grad_w_t, n_chunks):
    """grad_w_t[j] = Σ grad[r] over the events j of all rows r; threads take chunks of columns.

    grad: (n_rows, n_out); grad_w_t: (n_in, n_out)
    """
    n_rows, n_out = grad.shape
    for chunk in prange(n_chunks):
        low = chunk * n_out // n_chunks
        high = (chunk + 1) * n_out // n_chunks
        grad_w_t[:, low:high] = 0
        for r in range(n_rows):
            g = grad[r, low:high]
            for k in range(indptr[r], indptr[r + 1]):
                acc = grad_w_t[indices[k], low:high]
                for n in range(g.size):
                    acc[n] += g[n]


@compiled(parallel=True)
def scan_forward(a, w_rec_t, alpha, beta, threshold, bias, v_out, s_out):
    """CUBA-LIF over all steps; w_rec_t: (n, n) recurrent weights by source, or (0, 0) for none.

    alpha, beta: (n,) kept per step · threshold, bias: (n,) · v_out: voltages before reset · s_out: spikes
    """
    n_samples, n_steps, n = a.shape
    recurrent = w_rec_t.shape[0] > 0
    zero, one = a.dtype.type(0), a.dtype.type(1)
    for b in prange(n_samples):
        u = np.zeros(n, a.dtype)
        v = np.zeros(n, a.dtype)
        fired = np.empty(n + 1, np.int32)
        n_fired = 0
        for t in range(n_steps):
            a_t = a[b, t]
            v_t = v_out[b, t]
            s_t = s_out[b, t]
            for i in range(n):
                u[i] = alpha[i] * u[i] + a_t[i]
            for k in range(n_fired):
                w = w_rec_t[fired[k]]
                for i in range(n):
                    u[i] += w[i]
            for i in range(n):
                value = beta[i] * v[i] + (u[i] + bias[i])
                fires = value > threshold[i]
                v_t[i] = value
                s_t[i] = one if fires else zero
                v[i] = zero if fires else value
            if recurrent:
                n_fired = 0
                for i in range(n):
                    fired[n_fired] = i
                    n_fired += np.int64(s_t[i] != 0)


@njit(inline="always")
def _surrogate(v, threshold, slope, kind, zero, one):
    x = slope * (v - threshold) / threshold
    if kind == 0:
        h = one / ((one + abs(x)) * (one + abs(x)))
    elif kind == 1:
        h = one / (one + x * x)
    else:
        h = one if abs(x) < one else zero
    return h / threshold


@compiled(parallel=True)
def scan_backward(v_out, grad_s, grad_v, alpha, beta, threshold, slope, kind, grad_a):
    """Gradient of the input from those of spikes and voltages (grad_v may be (0, 0, 0) for none); no recurrence.

    The reset passes no gradient: v after it is v·(1 − s) with s taken as a constant.
    """
    n_samples, n_steps, n = v_out.shape
    with_v = grad_v.shape[0] > 0
    slope = v_out.dtype.type(slope)
    for b in prange(n_samples):
        g_v = np.zeros(n, v_out.dtype)
        g_u = np.zeros(n, v_out.dtype)
        for t in range(n_steps - 1, -1, -1):
            _backward_row(
                v_out[b, t], grad_s[b, t], grad_v[b, t] if with_v else g_v, with_v,
                alpha, beta, threshold, slope, kind, g_u, g_v, grad_a[b, t],
            )  # fmt: skip


@compiled(parallel=True)
def step_backward(v_out, grad_s, grad_v, fed_back, alpha, beta, threshold, slope, kind, g_u, g_v, grad_a, t):
    """One step of ``scan_backward`` with a recurrent gradient; g_u, g_v: (n_samples, n) carried, in place.

    fed_back: (n_samples, n) gradient that step t's spikes get through the recurrent weights from step t + 1
    """
    n_samples, _, n = v_out.shape
    with_v = grad_v.shape[0] > 0
    slope = v_out.dtype.type(slope)
    n_blocks = min(n_samples, 16)
    for block in prange(n_blocks):
        for b in range(block * n_samples // n_blocks, (block + 1) * n_samples // n_blocks):
            fed = fed_back[b]
            g_s = grad_s[b, t]
            for i in range(n):
                fed[i] += g_s[i]
            _backward_row(
                v_out[b, t], fed, grad_v[b, t] if with_v else g_s, with_v,
                alpha, beta, threshold, slope, kind, g_u[b], g_v[b], grad_a[b, t],
            )  # fmt: skip


@njit(inline="always")
def _backward_row(v_t, g_s, g_extra, with_v, alpha, beta, threshold, slope, kind, g_u, g_v, g_a):
    """One step back in one sample: g_u, g_v (n,) come from step t + 1 and leave for step t − 1."""
    zero, one = g_v.dtype.type(0), g_v.dtype.type(1)
    for i in range(v_t.size):
        v = v_t[i]
        kept = zero if v > threshold[i] else beta[i] * g_v[i]
        g = kept + g_s[i] * _surrogate(v, threshold[i], slope, kind, zero, one)
        if with_v:
            g += g_extra[i]
        g_v[i] = g
        g_u[i] = g + alpha[i] * g_u[i]
        g_a[i] = g_u[i]


@compiled(parallel=True)
def parameter_gradients(v_out, grad_a, alpha, beta, threshold, bias, grad_alpha, grad_beta, grad_bias):
    """Gradients of alpha, beta, bias, each (n_samples, n), to be summed over samples.

    dL/du = grad_a, dL/dv = grad_a[t] − alpha·grad_a[t + 1]; u[t] = v*[t] − beta·v[t − 1] − bias is not stored.
    """
    n_samples, n_steps, n = v_out.shape
    zero = v_out.dtype.type(0)
    for b in prange(n_samples):
        g_alpha = np.zeros(n, v_out.dtype)
        g_beta = np.zeros(n, v_out.dtype)
        g_bias = np.zeros(n, v_out.dtype)
        v_before = np.zeros(n, v_out.dtype)
        u = np.zeros(n, v_out.dtype)
        for t in range(n_steps):
            for i in range(n):
                later = grad_a[b, t + 1, i] if t + 1 < n_steps else zero
                g_v = grad_a[b, t, i] - alpha[i] * later
                g_alpha[i] += grad_a[b, t, i] * u[i]
                g_beta[i] += g_v * v_before[i]
                g_bias[i] += g_v
                value = v_out[b, t, i]
                u[i] = value - beta[i] * v_before[i] - bias[i]
                v_before[i] = zero if value > threshold[i] else value
        grad_alpha[b] = g_alpha
        grad_beta[b] = g_beta
        grad_bias[b] = g_bias


@njit(inline="always")
def _decayed(state, keep):
    """trunc0(state · keep / 4096): the magnitude is shifted, the sign kept."""
    product = state * keep
    return product >> 12 if product >= 0 else -((-product) >> 12)


@compiled(parallel=True)
def scan_forward_chip(a, w_rec_t, keep_u, keep_v, vth, bias, v_out, s_out):
    """``scan_forward`` in the chip's integers (lbi.fixedpoint: decay, wrap24, clip24), same memory layout.

    a, w_rec_t: whole numbers of mantissa units, held exactly as floats · keep_u, keep_v: (n,) int64, 4096 − decay
    vth: (n,) int64 mantissa units · bias: (n,) int64 state units · v_out: voltages in mantissa units (state / 64, exact)
    """
    n_samples, n_steps, n = a.shape
    recurrent = w_rec_t.shape[0] > 0
    one, zero, fraction = v_out.dtype.type(1), v_out.dtype.type(0), v_out.dtype.type(1 / 64)
    limit = np.int64(1 << 23)
    for b in prange(n_samples):
        u = np.zeros(n, np.int64)
        v = np.zeros(n, np.int64)
        total = np.zeros(n, a.dtype)
        fired = np.empty(n + 1, np.int32)
        n_fired = 0
        for t in range(n_steps):
            for i in range(n):
                total[i] = a[b, t, i]
            for k in range(n_fired):
                w = w_rec_t[fired[k]]
                for i in range(n):
                    total[i] += w[i]
            for i in range(n):
                current = _decayed(u[i], keep_u[i]) + (np.int64(total[i]) << 6)
                if current > limit:
                    current -= 2 * limit
                elif current <= -limit:
                    current += 2 * limit
                value = min(max(_decayed(v[i], keep_v[i]) + current + bias[i], 1 - limit), limit - 1)
                fires = value > (vth[i] << 6)
                u[i] = current
                v[i] = 0 if fires else value
                v_out[b, t, i] = v_out.dtype.type(value) * fraction
                s_out[b, t, i] = one if fires else zero
            if recurrent:
                n_fired = 0
                for i in range(n):
                    fired[n_fired] = i
                    n_fired += np.int64(s_out[b, t, i] != zero)
