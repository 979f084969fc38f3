"""Compiled loops of training on a CPU (numba): packing of spikes, event-driven products, products of dense rows.

Threads claim rows, or columns for weight gradients, so the order of every sum and every bit of the result are
independent of the number of threads. ``float32`` and ``float64``. Neuron scans are in ``neurons/``, loops over the weights
that are not 0 in ``living_kernels``.
"""

# Compiled code is typed by numba, by what it is called with:
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit

from lbi.system.claims import claim
from lbi.system.numba_cache import compiled
from lbi.train.layers.bits import BITS, mask_of, n_bits, write_bits
from lbi.train.layers.tiles import SIDE, VECTOR, copy_vectors, sum_tile_2, sum_tile_4, transpose_tile

STRIP = 64
"""Rows or columns that a thread claims at once."""

BLOCK, SOURCES = 256, 512
"""Rows of a block, and sources of a part of a gradient, of event-driven products: a strip of them fits the caches."""


@compiled(nogil=True)
def count_events(x, masks, counts, turns):
    """counts[r + 1] = number of nonzeros in row r of ``x``, and masks of where they are.

    Args:
        x: (n_rows, n), numbers or bool.
        masks: (n_rows, ceil(n / 64)) uint64, written.
        counts: (n_rows + 1,) int64, written but for counts[0].
        turns: counter of ``claim``.
    """
    n_rows, n = x.shape
    first = claim(turns) * STRIP
    while first < n_rows:
        for r in range(first, min(first + STRIP, n_rows)):
            total = np.uint64(0)
            for w in range(masks.shape[1]):
                mask = mask_of(x, r * n + w * BITS, n - w * BITS)
                masks[r, w] = mask
                total += n_bits(mask)
            counts[r + 1] = total
        first = claim(turns) * STRIP


@compiled(nogil=True)
def fill_events(masks, indptr, indices, turns):
    """The columns of the nonzeros of every row, rising.

    Args:
        masks: (n_rows, n_masks) uint64 of ``count_events``.
        indptr: (n_rows + 1,) row pointers of the events.
        indices: columns of the events, written.
        turns: counter of ``claim``.
    """
    n_rows = masks.shape[0]
    first = claim(turns) * STRIP
    while first < n_rows:
        for r in range(first, min(first + STRIP, n_rows)):
            at = indptr[r]
            for w in range(masks.shape[1]):
                at = write_bits(masks[r, w], w * BITS, indices, at)
        first = claim(turns) * STRIP


@njit(inline="always")
def add_rows(x, x_at, x_row, indices, start, stop, out, out_at, add, width):
    """A sum tile for rows of two or four vectors: out = Σ x[indices[k]] over start ≤ k < stop.

    Args:
        x: the rows.
        x_at: element at which row 0 begins.
        x_row: elements from row to row.
        indices: int32 numbers of rows.
        start: the first place in ``indices``.
        stop: the place behind the last.
        out: receives the sum.
        out_at: element at which the sum begins.
        add: 0 to overwrite, 1 to add to what ``out`` holds.
        width: elements of a row.
    """
    if width * x.itemsize == 4 * VECTOR:
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
def sort_events(indptr, indices, n_block, starts, rows, turns):
    """The events by source: of each block of ``n_block`` rows, source by source, the rows in which the source spikes.

    Args:
        indptr: (n_rows + 1,) row pointers of the events.
        indices: columns of the events.
        n_block: rows of a block.
        starts: (n_blocks, n_in + 1) int64, where the rows of each source start, written.
        rows: one integer for each event, counted from the block's first row, written.
        turns: counter of ``claim``.
    """
    n_rows = indptr.size - 1
    n_blocks, n_in = starts.shape[0], starts.shape[1] - 1
    at = np.empty(n_in, np.int64)
    block = claim(turns)
    while block < n_blocks:
        first, last = block * n_block, min((block + 1) * n_block, n_rows)
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
def event_weight_gradient(starts, rows, grad, n_steps, grad_w_t, width, turns):
    """grad_w_t[j] = Σ grad[r] over the rows r in which source j spikes, in order; threads claim parts of the matrix.

    Args:
        starts: see ``sort_events``.
        rows: see ``sort_events``.
        grad: (n_rows, n_out).
        n_steps: 0, or the number of rows of a sample: the sum is then over grad[r + 1], and over 0 where r is a sample's last row.
        grad_w_t: (n_in, n_strips · width), written.
        width: columns of a strip: two or four vectors.
        turns: counter of ``claim``.
    """
    n_rows, n_out = grad.shape
    n_in, n_wide = grad_w_t.shape
    n_parts = (n_in + SOURCES - 1) // SOURCES
    lanes = VECTOR // grad.itemsize
    given = np.zeros(BLOCK * width + lanes, grad.dtype)
    start_at = -given.ctypes.data // grad.itemsize % lanes  # every vector is then one line of the cache
    rows_given = given[start_at : start_at + BLOCK * width].reshape(BLOCK, width)
    piece = claim(turns)
    while piece < n_wide // width * n_parts:
        column, low = piece // n_parts * width, piece % n_parts * SOURCES
        n_columns = min(width, n_out - column)
        for block in range(starts.shape[0]):
            first = block * BLOCK
            later = 1 if n_steps > 0 else 0
            n_block = min(BLOCK, n_rows - first - later)
            if n_columns == width:
                for part in range(0, width, 2 * lanes):
                    at = (first + later) * n_out + column + part
                    copy_vectors(grad, at, n_out, given, start_at + part, width, n_block)
            else:
                for r in range(n_block):
                    for n in range(n_columns):
                        rows_given[r, n] = grad[first + later + r, column + n]
            if later:
                for r in range((first + n_steps) // n_steps * n_steps - first - 1, BLOCK, n_steps):
                    rows_given[r] = 0
            for j in range(low, min(low + SOURCES, n_in)):
                start, stop = starts[block, j], starts[block, j + 1]
                if start < stop or block == 0:
                    add_rows(
                        given, start_at, width, rows, start, stop, grad_w_t, j * n_wide + column, block, width
                    )
        piece = claim(turns)


@compiled(nogil=True)
def by_target(by_source, weight, out, turns):
    """Weights, or their gradient, by target: the transpose of what is sorted by source.

    Args:
        by_source: (n_in, n_out or more).
        weight: (n_out, n_in), where ``out`` is 0 if these are; (0, 0) for no such places.
        out: (n_out, n_in), written.
        turns: counter of ``claim``.
    """
    n_out, n_in = out.shape
    masked = weight.shape[0] > 0
    first = claim(turns) * STRIP
    while first < n_out:
        last = min(first + STRIP, n_out)
        transposed(by_source, 0, n_in, first, last, out, first * n_in, n_in)
        if masked:
            for n in range(first, last):
                for j in range(n_in):
                    out[n, j] = out[n, j] if weight[n, j] != 0 else 0
        first = claim(turns) * STRIP


@compiled(nogil=True)
def panels_of(weight, panels, turns):
    """Weights by source in strips of columns, the last one padded with 0.

    Args:
        weight: (n_out, n_in).
        panels: (n_strips, n_in, width), written.
        turns: counter of ``claim``.
    """
    n_out, n_in = weight.shape
    n_strips, _, width = panels.shape
    s = claim(turns)
    while s < n_strips:
        first, last = s * width, min((s + 1) * width, n_out)
        if last < first + width:
            panels[s] = 0
        transposed(weight, first, last, 0, n_in, panels, s * n_in * width, width)
        s = claim(turns)


@njit
def transposed(x, low, high, first, last, out, out_at, out_row):
    """Write a part of a matrix transposed, x[low:high, first:last].

    Args:
        x: the matrix.
        low: the first row.
        high: the row behind the last.
        first: the first column.
        last: the column behind the last.
        out: receives the part.
        out_at: element at which its first column begins.
        out_row: elements from one column to the next.
    """
    side, n, flat = SIDE // x.itemsize, x.shape[1], out.reshape(-1)
    for i in range(low, high, side):
        whole = min(side, high - i)
        j = first
        while whole == side and j + side <= last:
            transpose_tile(x, i * n + j, n, out, out_at + (j - first) * out_row + i - low, out_row)
            j += side
        for m in range(j, last):
            for k in range(i, i + whole):
                flat[out_at + (m - first) * out_row + k - low] = x[k, m]


@compiled(nogil=True)
def delay_spikes(spikes, delays, out, turns):
    """The spikes of each neuron some steps later, and 0 in the steps before; threads claim samples.

    Args:
        spikes: (n_samples, n_steps, n).
        delays: (n,) steps.
        out: (n_samples, n_steps, n), written.
        turns: counter of ``claim``.
    """
    n_samples, n_steps, n = spikes.shape
    zero = out.dtype.type(0)
    b = claim(turns)
    while b < n_samples:
        for t in range(n_steps):
            for j in range(n):
                out[b, t, j] = spikes[b, t - delays[j], j] if t >= delays[j] else zero
        b = claim(turns)
