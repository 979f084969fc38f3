"""Compiled loops of training on a CPU (numba): packing of spikes and event-driven products.

Threads are assigned rows, or columns for weight gradients, so the order of every sum and every bit of the result
are independent of the number of threads. ``float32`` and ``float64``; no fast-math. Neuron scans are in ``neurons/``.
"""

# Compiled code is typed by numba, by what it is called with:
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import prange

from lbi.system.numba_cache import compiled
from lbi.train.neurons.arithmetic import nonzeros


@compiled(parallel=True)
def count_events(x, counts):
    """counts[r + 1] = number of nonzeros in row r. x: (n_rows, n); counts: (n_rows + 1,) int64.

    Args:
        x: (n_rows, n) zeros and nonzeros.
        counts: (n_rows + 1,) int64, written.
    """
    n_rows, n = x.shape
    for r in prange(n_rows):
        total = 0
        for j in range(n):
            total += x[r, j] != 0
        counts[r + 1] = total


@compiled(parallel=True)
def fill_events(x, indptr, indices):
    """Columns of the nonzeros of every row, ascending, at indices[indptr[r]:indptr[r + 1]].

    Args:
        x: (n_rows, n) zeros and nonzeros.
        indptr: (n_rows + 1,) row pointers of the events.
        indices: columns of the events, written.
    """
    n_rows, n = x.shape
    n_blocks = min(n_rows, 256)
    for block in prange(n_blocks):
        found = np.empty(n + 1, np.int32)
        for r in range(block * n_rows // n_blocks, (block + 1) * n_rows // n_blocks):
            start = indptr[r]
            for m in range(nonzeros(x[r], found)):
                indices[start + m] = found[m]


@compiled(parallel=True)
def event_product(indptr, indices, w_t, out):
    """out[r] = Σ w_t[j] over the events j of row r. w_t: (n_in, n_out); out: (n_rows, n_out).

    Args:
        indptr: (n_rows + 1,) row pointers of the events.
        indices: columns of the events.
        w_t: (n_in, n_out) weights by source.
        out: (n_rows, n_out), written.
    """
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

    ``grad`` is (n_rows, n_out), ``grad_w_t`` (n_in, n_out).

    Args:
        indptr: (n_rows + 1,) row pointers of the events.
        indices: columns of the events.
        grad: (n_rows, n_out).
        grad_w_t: (n_in, n_out), written.
        n_chunks: number of chunks of columns.
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
