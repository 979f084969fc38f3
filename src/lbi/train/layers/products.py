"""Compiled products of dense rows with a weight matrix, dense or by its living weights, and dense weight gradients.

``panels`` (n_panels, n_k, ·) hold a matrix (n_k, n) in strips of columns of PANEL bytes, the last one filled up with 0;
without panels (0, 0, 0) the matrix is given by its living entries, listed for each column: ``first_of`` (n + 1,),
``entries`` (the row of each), ``values``. Threads claim rows, or columns of a gradient.
"""

# Compiled code is typed by numba, by what it is called with:
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit

from lbi.system.claims import claim
from lbi.system.numba_cache import compiled
from lbi.train.layers.tiles import (
    PANEL,
    ROWS,
    SIDE,
    VECTOR,
    copy_panel,
    copy_rows,
    dense_tile,
    living_tile_1,
    living_tile_2,
    transpose_tile,
)

DEPTH, OUTPUTS, SOURCES = 128, 64, 128
"""Rows, outputs and sources of a block of a weight gradient: its factors fit the caches."""


@njit(inline="always")
def lanes_of(x):
    """Elements of a vector.

    Args:
        x: an array of the elements' type.

    Returns:
        Their number.
    """
    return VECTOR // x.itemsize


@njit
def lined_up(n_rows, n_columns, like):
    """Working memory that starts at a line of the cache, so that no vector lies across two of them.

    Args:
        n_rows: number of rows.
        n_columns: number of columns.
        like: an array of the same type.

    Returns:
        (n_rows, n_columns) zeros.
    """
    lanes, n = lanes_of(like), n_rows * n_columns
    memory = np.zeros(n + lanes, like.dtype)
    first = -memory.ctypes.data // like.itemsize % lanes
    return memory[first : first + n].reshape(n_rows, n_columns)


@njit
def dense_rows(rows, first, last, panels, out, spare, edge):
    """The product of some rows with the matrix in ``panels``.

    Args:
        rows: (n_rows, n_k).
        first: the first row.
        last: the row behind the last.
        panels: (n_strips, n_k, width) the matrix in strips; (0, 0, 0) if it is given by its living entries.
        out: (n_rows, n), rows ``first`` to ``last`` − 1 of which are written.
        spare: (ROWS, n_k) working memory.
        edge: (ROWS, width of a strip) working memory.
    """
    n_panels, n_k, width = panels.shape
    n = out.shape[1]
    for r in range(first, last, ROWS):
        n_rows = min(ROWS, last - r)
        if n_rows < ROWS:
            spare[:n_rows] = rows[r : r + n_rows]
        for p in range(n_panels):
            n_columns = min(width, n - p * width)
            whole = n_rows == ROWS and n_columns == width
            b_at = p * n_k * width
            if whole:
                dense_tile(rows, r * n_k, n_k, 1, panels, b_at, width, out, r * n + p * width, n, n_k, 0)
            else:
                if n_rows < ROWS:
                    dense_tile(spare, 0, n_k, 1, panels, b_at, width, edge, 0, width, n_k, 0)
                else:
                    dense_tile(rows, r * n_k, n_k, 1, panels, b_at, width, edge, 0, width, n_k, 0)
                for i in range(n_rows):
                    for j in range(n_columns):
                        out[r + i, p * width + j] = edge[i, j]


@njit
def transpose(x, x_at, x_row, n_rows, n_columns, out, out_at, out_row):
    """out[j, i] = x[i, j] for whole square blocks.

    Args:
        x: the matrix, in an array.
        x_at: element at which it begins.
        x_row: elements from row to row.
        n_rows: rows i, a multiple of a block's.
        n_columns: columns j, of which those of whole blocks are done.
        out: receives the transpose.
        out_at: element at which it begins.
        out_row: elements from row to row.

    Returns:
        The number of columns done.
    """
    side = SIDE // x.itemsize
    for j in range(0, n_columns - side + 1, side):
        for i in range(0, n_rows, side):
            transpose_tile(x, x_at + i * x_row + j, x_row, out, out_at + j * out_row + i, out_row)
    return n_columns // side * side


@compiled(nogil=True)
def product(rows, panels, first_of, entries, values, out, turns):
    """The product of rows with the matrix.

    Args:
        rows: (n_rows, n_k).
        panels: (n_strips, n_k, width) the matrix in strips; (0, 0, 0) if it is given by its living entries.
        first_of: (n + 1,) where the entries of each column start.
        entries: row of each living entry.
        values: the living entries.
        out: (n_rows, n), written.
        turns: counter of ``claim``.
    """
    n_rows, n_k = rows.shape
    lanes = lanes_of(rows)
    dense = panels.shape[0] > 0
    strip = (4 if dense else 2) * lanes  # rows across the lanes: few enough for the second-level cache
    n_spare = n_k if dense else 0
    spare = np.zeros((ROWS, n_spare), rows.dtype)
    edge = np.zeros((ROWS, PANEL // rows.itemsize), rows.dtype)
    n_across = 0 if dense else strip
    across = lined_up(n_k, n_across, rows)
    below = lined_up((out.shape[1] + lanes - 1) // lanes * lanes, n_across, rows)
    first = claim(turns) * strip
    while first < n_rows:
        last = min(first + strip, n_rows)
        if dense:
            dense_rows(rows, first, last, panels, out, spare, edge)
        else:
            living_rows(rows, first, last, first_of, entries, values, out, across, below)
        first = claim(turns) * strip


@njit
def living_rows(rows, first, last, first_of, entries, values, out, across, below):
    """``dense_rows`` over living entries, for up to two vectors of rows, which lie across the vectors' lanes.

    Args:
        rows: (n_rows, n_k).
        first: the first row.
        last: the row behind the last.
        first_of: (n + 1,) where the entries of each column start.
        entries: row of each living entry.
        values: the living entries.
        out: (n_rows, n), rows ``first`` to ``last`` − 1 of which are written.
        across: (n_k, two vectors) working memory.
        below: (n or more, two vectors) working memory.
    """
    n_k, n = rows.shape[1], out.shape[1]
    side, strip = SIDE // rows.itemsize, across.shape[1]
    whole = (last - first) // side * side
    done = transpose(rows, first * n_k, n_k, whole, n_k, across, 0, strip) if whole else 0
    for i in range(last - first):
        for j in range(done if i < whole else 0, n_k):
            across[j, i] = rows[first + i, j]
    for j in range(n):
        living_tile_2(values, entries, first_of[j], first_of[j + 1], across, strip, below, j * strip)
    done = n // side * side
    transpose(below, 0, strip, done, whole, out, first * n, n)
    for i in range(last - first):
        for j in range(done if i < whole else 0, n):
            out[first + i, j] = below[j, i]


@njit
def feedback_memory(like, n, dense):
    """Working memory of ``feed_back``.

    Args:
        like: an array of the same type.
        n: number of neurons.
        dense: True for a matrix in panels.

    Returns:
        The gradient given and the one fed back, both (lanes, n or more), then four arrays for products.
    """
    lanes = lanes_of(like)
    wide = (n + lanes - 1) // lanes * lanes
    n_across = 0 if dense else wide
    return (
        lined_up(lanes, n if dense else wide, like),
        lined_up(lanes, n if dense else wide, like),
        np.zeros((ROWS, n if dense else 0), like.dtype),
        np.zeros((ROWS, PANEL // like.itemsize), like.dtype),
        lined_up(n_across, lanes, like),
        lined_up(n_across, lanes, like),
    )


@njit
def feed_back(n_rows, panels, first_of, entries, values, memory):
    """The gradient fed back to samples: the one given @ the matrix, both in ``memory``.

    Args:
        n_rows: number of samples, at most the lanes of a vector.
        panels: (n_strips, n_k, width) the matrix in strips; (0, 0, 0) if it is given by its living entries.
        first_of: (n + 1,) where the entries of each column start.
        entries: row of each living entry.
        values: the living entries.
        memory: that of ``feedback_memory``.
    """
    given, fed, spare, edge, across, below = memory
    if panels.shape[0] > 0:
        dense_rows(given, 0, n_rows, panels, fed, spare, edge)
        return
    wide, lanes = across.shape
    transpose(given, 0, wide, lanes, wide, across, 0, lanes)
    for j in range(first_of.size - 1):
        living_tile_1(values, entries, first_of[j], first_of[j + 1], across, lanes, below, j * lanes)
    transpose(below, 0, lanes, wide, lanes, fed, 0, wide)


@njit
def pack_left(x, low, n_k, first, n_columns, out):
    """``pack_right`` in strips of ROWS columns.

    Args:
        x: a matrix.
        low: the first row.
        n_k: number of rows, at most DEPTH.
        first: the first column.
        n_columns: number of columns.
        out: (n_strips, DEPTH, ROWS), written.
    """
    n = x.shape[1]
    for c in range((n_columns + ROWS - 1) // ROWS):
        start = first + c * ROWS
        if start + ROWS <= first + n_columns:
            copy_rows(x, low * n + start, n, out, c * DEPTH * ROWS, ROWS, n_k)
        else:
            for k in range(n_k):
                for j in range(ROWS):
                    out[c, k, j] = x[low + k, start + j] if start + j < first + n_columns else 0


@njit
def pack_right(x, low, n_k, first, n_columns, out, width):
    """Strips of columns of a part of a matrix, the last one filled up with 0.

    Args:
        x: a matrix.
        low: the first row.
        n_k: number of rows, at most DEPTH.
        first: the first column.
        n_columns: number of columns.
        out: (n_strips, DEPTH, width), written: out[c, k, :] = x[low + k, first + c·width :][:width].
        width: columns of a strip.
    """
    n = x.shape[1]
    for c in range((n_columns + width - 1) // width):
        start = first + c * width
        if start + width <= first + n_columns:
            copy_panel(x, low * n + start, n, out, c * DEPTH * width, width, n_k)
        else:
            for k in range(n_k):
                for j in range(width):
                    out[c, k, j] = x[low + k, start + j] if start + j < first + n_columns else 0


@compiled(nogil=True)
def weight_gradient(grad, x, out, turns):
    """The gradient gradᵀ @ x of weights, in blocks.

    Args:
        grad: (n_rows, n_out).
        x: (n_rows, n_in).
        out: (n_out, n_in), written.
        turns: counter of ``claim``.
    """
    n_rows, n_out = grad.shape
    n_in = x.shape[1]
    width = PANEL // x.itemsize
    left = np.empty((OUTPUTS // ROWS, DEPTH, ROWS), x.dtype)
    right = np.empty((SOURCES // width, DEPTH, width), x.dtype)
    edge = np.empty((ROWS, width), x.dtype)
    n_across = (n_in + SOURCES - 1) // SOURCES
    n_blocks = (n_out + OUTPUTS - 1) // OUTPUTS * n_across
    block = claim(turns)
    while block < n_blocks:
        first, column = block // n_across * OUTPUTS, block % n_across * SOURCES
        n_down, n_columns = min(OUTPUTS, n_out - first), min(SOURCES, n_in - column)
        for low in range(0, n_rows, DEPTH):
            n_k = min(DEPTH, n_rows - low)
            pack_left(grad, low, n_k, first, n_down, left)
            pack_right(x, low, n_k, column, n_columns, right, width)
            for n in range(0, n_down, ROWS):
                for j in range(0, n_columns, width):
                    at = (first + n) * n_in + column + j
                    if n + ROWS <= n_down and j + width <= n_columns:
                        dense_tile(left, n * DEPTH, 1, ROWS, right, j * DEPTH, width, out, at, n_in, n_k, low)
                        continue
                    dense_tile(left, n * DEPTH, 1, ROWS, right, j * DEPTH, width, edge, 0, width, n_k, 0)
                    for i in range(min(ROWS, n_down - n)):
                        for c in range(min(width, n_columns - j)):
                            before = out[first + n + i, column + j + c] if low > 0 else edge.dtype.type(0)
                            out[first + n + i, column + j + c] = before + edge[i, c]
        block = claim(turns)
