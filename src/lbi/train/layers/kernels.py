"""Compiled loops of training on a CPU (numba): packing of spikes, event-driven products, products of dense rows.

Threads claim rows, or columns for weight gradients, so the order of every sum and every bit of the result are
independent of the number of threads. ``float32`` and ``float64``. Neuron scans are in ``neurons/``.

``living`` weights of a matrix (n_out, n_in) are listed by source: ``indptr`` (n_in + 1,) int64, ``targets`` int32 ascending
for each source, ``values``.
"""

# Compiled code is typed by numba, by what it is called with:
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np

from lbi.system.claims import claim
from lbi.system.numba_cache import compiled
from lbi.train.neurons.arithmetic import nonzeros

STRIP = 64
"""Rows or columns that a thread claims at once."""


@compiled(nogil=True)
def count_events(x, counts, turns):
    """counts[r + 1] = number of nonzeros in row r. x: (n_rows, n); counts: (n_rows + 1,) int64."""
    n_rows, n = x.shape
    first = claim(turns) * STRIP
    while first < n_rows:
        for r in range(first, min(first + STRIP, n_rows)):
            total = 0
            for j in range(n):
                total += x[r, j] != 0
            counts[r + 1] = total
        first = claim(turns) * STRIP


@compiled(nogil=True)
def fill_events(x, indptr, indices, turns):
    """Columns of the nonzeros of every row, ascending, at indices[indptr[r]:indptr[r + 1]]."""
    n_rows, n = x.shape
    found = np.empty(n + 1, np.int32)
    first = claim(turns) * STRIP
    while first < n_rows:
        for r in range(first, min(first + STRIP, n_rows)):
            start = indptr[r]
            for m in range(nonzeros(x[r], found)):
                indices[start + m] = found[m]
        first = claim(turns) * STRIP


@compiled(nogil=True)
def event_product(indptr, indices, w_t, out, turns):
    """out[r] = Σ w_t[j] over the events j of row r. w_t: (n_in, n_out); out: (n_rows, n_out)."""
    n_rows, n_out = out.shape
    first = claim(turns) * STRIP
    while first < n_rows:
        for r in range(first, min(first + STRIP, n_rows)):
            acc = out[r]
            for n in range(n_out):
                acc[n] = 0
            for k in range(indptr[r], indptr[r + 1]):
                w = w_t[indices[k]]
                for n in range(n_out):
                    acc[n] += w[n]
        first = claim(turns) * STRIP


@compiled(nogil=True)
def event_weight_gradient(indptr, indices, grad, grad_w_t, n_chunks, turns):
    """grad_w_t[j] = Σ grad[r] over the events j of all rows r; threads claim chunks of columns.

    ``grad`` is (n_rows, n_out), ``grad_w_t`` (n_in, n_out).
    """
    n_rows, n_out = grad.shape
    chunk = claim(turns)
    while chunk < n_chunks:
        low = chunk * n_out // n_chunks
        high = (chunk + 1) * n_out // n_chunks
        grad_w_t[:, low:high] = 0
        for r in range(n_rows):
            g = grad[r, low:high]
            for k in range(indptr[r], indptr[r + 1]):
                acc = grad_w_t[indices[k], low:high]
                for n in range(g.size):
                    acc[n] += g[n]
        chunk = claim(turns)


@compiled(nogil=True)
def count_living(weight, counts, turns):
    """counts[j + 1] = weights of source j that are not 0. weight: (n_out, n_in); counts: (n_in + 1,) int64, 0 at first."""
    n_out, n_in = weight.shape
    first = claim(turns) * STRIP
    while first < n_in:
        last = min(first + STRIP, n_in)
        for n in range(n_out):
            for j in range(first, last):
                counts[j + 1] += weight[n, j] != 0
        first = claim(turns) * STRIP


@compiled(nogil=True)
def fill_living(weight, indptr, targets, values, turns):
    """The living weights of ``weight`` (n_out, n_in) by source."""
    n_out, n_in = weight.shape
    first = claim(turns) * STRIP
    found = np.empty(STRIP + 1, np.int32)
    while first < n_in:
        last = min(first + STRIP, n_in)
        at = indptr[first:last].copy()
        for n in range(n_out):
            for m in range(nonzeros(weight[n, first:last], found)):
                j = found[m]
                targets[at[j]] = n
                values[at[j]] = weight[n, first + j]
                at[j] += 1
        first = claim(turns) * STRIP


@compiled(nogil=True)
def event_living_product(indptr, indices, first_of, targets, values, out, turns):
    """``event_product`` over living weights, which start at ``first_of`` (n_in + 1,) for each source."""
    n_rows, n_out = out.shape
    first = claim(turns) * STRIP
    while first < n_rows:
        for r in range(first, min(first + STRIP, n_rows)):
            acc = out[r]
            for n in range(n_out):
                acc[n] = 0
            for k in range(indptr[r], indptr[r + 1]):
                for m in range(first_of[indices[k]], first_of[indices[k] + 1]):
                    acc[targets[m]] += values[m]
        first = claim(turns) * STRIP


@compiled(nogil=True)
def event_living_gradient(indptr, indices, grad, first_of, targets, grad_values, chunks, turns):
    """``event_weight_gradient`` of living weights; threads claim the sources from chunks[c] to chunks[c + 1]."""
    n_rows = grad.shape[0]
    chunk = claim(turns)
    while chunk < chunks.size - 1:
        low, high = chunks[chunk], chunks[chunk + 1]
        grad_values[first_of[low] : first_of[high]] = 0
        for r in range(n_rows):
            g = grad[r]
            for k in range(indptr[r], indptr[r + 1]):
                j = indices[k]
                if low <= j < high:
                    for m in range(first_of[j], first_of[j + 1]):
                        grad_values[m] += g[targets[m]]
        chunk = claim(turns)


@compiled(nogil=True)
def gather_living(first_of, targets, matrix, values, turns):
    """The entries of ``matrix`` (n_out, n_in) at the living weights."""
    n_in = first_of.size - 1
    first = claim(turns) * STRIP
    while first < n_in:
        for j in range(first, min(first + STRIP, n_in)):
            for m in range(first_of[j], first_of[j + 1]):
                values[m] = matrix[targets[m], j]
        first = claim(turns) * STRIP


@compiled(nogil=True)
def scatter_living(first_of, targets, values, out, turns):
    """The matrix ``out`` (n_out, n_in) from its living weights, 0 elsewhere."""
    n_out, n_in = out.shape
    first = claim(turns) * STRIP
    while first < n_in:
        last = min(first + STRIP, n_in)
        for n in range(n_out):
            for j in range(first, last):
                out[n, j] = 0
        for j in range(first, last):
            for m in range(first_of[j], first_of[j + 1]):
                out[targets[m], j] = values[m]
        first = claim(turns) * STRIP
