"""Arithmetic that all neuron kernels for CUDA (Triton) share: products with recurrent weights, surrogate derivatives."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def list_arrivals(  # type: ignore[no-untyped-def]
    spikes, row, t, n, lags, found, lagging: tl.constexpr, wide: tl.constexpr
):
    """Write the neurons of a sample whose spikes arrive at step t, in order, to ``found``; returns how many.

    spikes + row: where those of step t − 1 begin; lags: (n,) steps that spikes take beyond one; wide: a power of 2, n or more.
    """
    k = tl.arange(0, wide)
    there, at = (k < n) & (k * 0 + t > 0), spikes + row + k
    if lagging:
        lag = tl.load(lags + k, there, 0)
        there, at = there & (lag < t), at - lag * n
    fired = (tl.load(at, there, 0.0) != 0).to(tl.int32)
    place = tl.cumsum(fired, 0)
    tl.store(found + place - 1, k, fired != 0)
    return tl.sum(fired, 0)


@triton.jit
def sum_rows(matrix, found, count, columns, n, group: tl.constexpr, block: tl.constexpr):  # type: ignore[no-untyped-def]
    """The sum of ``count`` rows of a matrix (n, n), listed in ``found``, in some columns (block,)."""
    total = tl.full((block,), 0.0, matrix.dtype.element_ty)
    for first in range(0, count, group):
        e = first + tl.arange(0, group)
        k = tl.load(found + e, e < count, 0)
        rows = tl.load(
            matrix + k[:, None] * n + columns[None, :], (e < count)[:, None] & (columns < n)[None, :], 0.0
        )
        total += tl.sum(rows, 0)
    return total


@triton.jit
def product(  # type: ignore[no-untyped-def]
    rows,
    at,
    inside,
    matrix,
    columns,
    n,
    samples: tl.constexpr,
    block: tl.constexpr,
    chunk: tl.constexpr,
):
    """Rows @ matrix (n, n) in some columns: (samples, block), all of it in float32 (or float64).

    The first element of each row is at rows + at, (samples, 1), of those ``inside``; columns: (1, block).
    """
    total = tl.full((samples, block), 0.0, rows.dtype.element_ty)
    for first in range(0, n, chunk):
        k = first + tl.arange(0, chunk)
        x = tl.load(rows + at + k[None, :], inside & (k[None, :] < n), 0.0)
        w = tl.load(matrix + k[:, None] * n + columns, (k[:, None] < n) & (columns < n), 0.0)
        total = tl.dot(x, w, total, input_precision="ieee", out_dtype=rows.dtype.element_ty)
    return total


@triton.jit
def surrogate(v, threshold, slope, kind: tl.constexpr):  # type: ignore[no-untyped-def]
    """The surrogate derivative ds/dv; ``kind`` is its place in ``lbi.train.layers.surrogate.SURROGATES``."""
    x = slope * (v - threshold) / threshold
    if kind == 0:
        h = 1.0 / ((1.0 + tl.abs(x)) * (1.0 + tl.abs(x)))
    elif kind == 1:
        h = 1.0 / (1.0 + x * x)
    else:
        h = tl.where(tl.abs(x) < 1.0, 1.0, 0.0)
    return h / threshold


@triton.jit
def at_once(fed, grad_s, inside, lags, columns, n, most):  # type: ignore[no-untyped-def]
    """What is fed back to spikes without a lag; the rest is added where ``grad_s`` has those of lags[k] rows before."""
    lag = tl.load(lags + columns, columns < n, 0)
    before = inside & (lag > 0) & (lag <= most)
    tl.store(grad_s - lag * n, tl.load(grad_s - lag * n, before, 0.0) + fed, before)
    return tl.where(lag > 0, 0.0, fed)
