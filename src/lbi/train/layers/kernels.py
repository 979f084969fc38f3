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
from numba import njit

from lbi.system.claims import claim
from lbi.system.numba_cache import compiled
from lbi.train.layers.tiles import VECTOR, copy_vectors, sum_tile_2, sum_tile_4, sum_tile_8
from lbi.train.neurons.arithmetic import nonzeros

STRIP = 64
"""Rows or columns that a thread claims at once."""

BLOCK, SOURCES = 512, 512
"""Rows of a block, and sources of a part of a gradient, of event-driven products: a strip of them fits the caches."""


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


@njit(inline="always")
def add_rows(x, x_at, x_row, indices, start, stop, out, out_at, add, width):
    """A sum tile for rows of ``width`` elements: two, four or eight vectors."""
    n_vectors = width * x.itemsize // VECTOR
    if n_vectors == 8:
        sum_tile_8(x, x_at, x_row, indices, start, stop, out, out_at, add)
    elif n_vectors == 4:
        sum_tile_4(x, x_at, x_row, indices, start, stop, out, out_at, add)
    else:
        sum_tile_2(x, x_at, x_row, indices, start, stop, out, out_at, add)


@compiled(nogil=True)
def event_product(indptr, indices, panels, out, turns):
    """out[r] = Σ w_t[j] over the events j of row r; threads claim rows of a strip of columns.

    Args:
        indptr: (n_rows + 1,) row pointers of the events.
        indices: columns of the events.
        panels: (n_strips, n_in, width), the weights by source in strips of columns.
        out: (n_rows, n_out), written.
        turns: counter of ``claim``.
    """
    n_rows, n_out = out.shape
    n_strips, n_in, width = panels.shape
    edge = np.empty(width, out.dtype)
    n_blocks = (n_rows + BLOCK - 1) // BLOCK
    piece = claim(turns)
    while piece < n_strips * n_blocks:
        column, first = piece // n_blocks * width, piece % n_blocks * BLOCK
        at = column * n_in
        for r in range(first, min(first + BLOCK, n_rows)):
            if column + width <= n_out:
                add_rows(
                    panels, at, width, indices, indptr[r], indptr[r + 1], out, r * n_out + column, 0, width
                )
            else:
                add_rows(panels, at, width, indices, indptr[r], indptr[r + 1], edge, 0, 0, width)
                for n in range(n_out - column):
                    out[r, column + n] = edge[n]
        piece = claim(turns)


@compiled(nogil=True)
def sort_events(indptr, indices, starts, rows, turns):
    """The events by source: of each block of BLOCK rows, source by source, the rows in which the source spikes.

    Args:
        indptr: (n_rows + 1,) row pointers of the events.
        indices: columns of the events.
        starts: (n_blocks, n_in + 1) int64, where the rows of each source start, written.
        rows: one int32 for each event, counted from the block's first row, written.
        turns: counter of ``claim``.
    """
    n_rows = indptr.size - 1
    n_blocks, n_in = starts.shape[0], starts.shape[1] - 1
    at = np.empty(n_in, np.int64)
    block = claim(turns)
    while block < n_blocks:
        first, last = block * BLOCK, min((block + 1) * BLOCK, n_rows)
        for j in range(n_in + 1):
            starts[block, j] = 0
        for k in range(indptr[first], indptr[last]):
            starts[block, indices[k] + 1] += 1
        starts[block, 0] = indptr[first]
        for j in range(n_in):
            at[j] = starts[block, j]
            starts[block, j + 1] += starts[block, j]
        for r in range(first, last):
            for k in range(indptr[r], indptr[r + 1]):
                j = indices[k]
                rows[at[j]] = r - first
                at[j] += 1
        block = claim(turns)


@compiled(nogil=True)
def event_weight_gradient(starts, rows, grad, grad_w_t, width, turns):
    """grad_w_t[j] = Σ grad[r] over the rows r in which source j spikes, in order; threads claim parts of the matrix.

    Args:
        starts: see ``sort_events``.
        rows: see ``sort_events``.
        grad: (n_rows, n_out).
        grad_w_t: (n_in, n_strips · width), written.
        width: columns of a strip: two, four or eight vectors.
        turns: counter of ``claim``.
    """
    n_rows, n_out = grad.shape
    n_in, n_wide = grad_w_t.shape
    n_parts = (n_in + SOURCES - 1) // SOURCES
    given = np.zeros((BLOCK, width), grad.dtype)
    pair = 2 * VECTOR // grad.itemsize
    piece = claim(turns)
    while piece < n_wide // width * n_parts:
        column, low = piece // n_parts * width, piece % n_parts * SOURCES
        n_columns = min(width, n_out - column)
        for block in range(starts.shape[0]):
            first = block * BLOCK
            n_block = min(BLOCK, n_rows - first)
            if n_columns == width:
                for part in range(0, width, pair):
                    copy_vectors(grad, first * n_out + column + part, n_out, given, part, width, n_block)
            else:
                for r in range(n_block):
                    for n in range(n_columns):
                        given[r, n] = grad[first + r, column + n]
            for j in range(low, min(low + SOURCES, n_in)):
                start, stop = starts[block, j], starts[block, j + 1]
                if start < stop or block == 0:
                    add_rows(given, 0, width, rows, start, stop, grad_w_t, j * n_wide + column, block, width)
        piece = claim(turns)


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
def gather_living(first_of, targets, by_source, values, turns):
    """The entries of a matrix, given by source (n_in, n_out), at the living weights."""
    n_in = first_of.size - 1
    first = claim(turns) * STRIP
    while first < n_in:
        for j in range(first, min(first + STRIP, n_in)):
            for m in range(first_of[j], first_of[j + 1]):
                values[m] = by_source[j, targets[m]]
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
