"""The leaky integrator over all steps, compiled for a CPU; ``lbi.train.layers.scan.Kernels`` describes the functions.

Arrays and threads as in ``cuba_lif_kernels``; there is no recurrence. ``neuron`` holds alpha, beta (kept per step)
and bias; ``traces`` spikes (all 0) and voltages.
"""

# Compiled code is typed by numba, by what it is called with:
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from lbi.system.claims import claim
from lbi.system.numba_cache import compiled
from lbi.train.neurons.arithmetic import current, voltage


@compiled(nogil=True, error_model="numpy")
def forward(a, w_rec_t, delays, neuron, traces, turns):
    """Forward pass; ``w_rec_t`` and ``delays`` are not used."""
    n_samples, n_steps, n = a.shape
    alpha, beta, bias = neuron[0], neuron[1], neuron[2]
    s_out, v_out = traces[0], traces[1]
    zero = a.dtype.type(0)
    b = claim(turns)
    while b < n_samples:
        u = np.zeros(n, a.dtype)
        v = np.zeros(n, a.dtype)
        for t in range(n_steps):
            for i in range(n):
                u[i] = alpha[i] * u[i] + a[b, t, i]
                v[i] = beta[i] * v[i] + (u[i] + bias[i])
                s_out[b, t, i] = zero
                v_out[b, t, i] = v[i]
        b = claim(turns)


@compiled(nogil=True, error_model="numpy")
def forward_chip(a, w_rec_t, delays, neuron, traces, turns):
    """The same as ``lbi.network.neurons.FixedIntegrator``; neuron: int64, in 4096ths and state units."""
    n_samples, n_steps, n = a.shape
    keep_u, keep_v, bias = neuron[0], neuron[1], neuron[2]
    s_out, v_out = traces[0], traces[1]
    zero, fraction = v_out.dtype.type(0), v_out.dtype.type(1 / 64)
    b = claim(turns)
    while b < n_samples:
        u = np.zeros(n, np.int64)
        v = np.zeros(n, np.int64)
        for t in range(n_steps):
            for i in range(n):
                u[i] = current(u[i], keep_u[i], a[b, t, i])
                v[i] = voltage(v[i], keep_v[i], u[i] + bias[i])
                s_out[b, t, i] = zero
                v_out[b, t, i] = v_out.dtype.type(v[i]) * fraction
        b = claim(turns)


@compiled(nogil=True, error_model="numpy")
def backward(traces, grad_s, grad_v, neuron, slope, kind, grad_a, turns):
    """Backward pass; gradients pass through voltages only."""
    n_samples, n_steps, n = grad_a.shape
    alpha, beta = neuron[0], neuron[1]
    with_v = grad_v.shape[0] > 0
    zero = grad_a.dtype.type(0)
    b = claim(turns)
    while b < n_samples:
        g_u = np.zeros(n, grad_a.dtype)
        g_v = np.zeros(n, grad_a.dtype)
        for t in range(n_steps - 1, -1, -1):
            for i in range(n):
                g_v[i] = beta[i] * g_v[i] + (grad_v[b, t, i] if with_v else zero)
                g_u[i] = g_v[i] + alpha[i] * g_u[i]
                grad_a[b, t, i] = g_u[i]
        b = claim(turns)


@compiled(nogil=True, error_model="numpy")
def parameter_gradients(traces, grad_v, grad_a, neuron, grads, turns):
    """Of alpha, beta, bias; dL/du = grad_a, dL/dv = grad_a[t] − alpha·grad_a[t + 1]; u is found from v."""
    v_out = traces[1]
    n_samples, n_steps, n = v_out.shape
    alpha, beta, bias = neuron[0], neuron[1], neuron[2]
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
                u[i] = v_out[b, t, i] - beta[i] * v_before[i] - bias[i]
                v_before[i] = v_out[b, t, i]
        grads[:, b] = sums
        b = claim(turns)
