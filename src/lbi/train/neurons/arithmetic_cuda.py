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
def feed_back(  # type: ignore[no-untyped-def]
    grad_a,
    weights,
    fed,
    t,
    n_samples,
    n_steps,
    n,
    samples: tl.constexpr,
    steps: tl.constexpr,
    blocks: tl.constexpr,
    block: tl.constexpr,
    chunk: tl.constexpr,
):
    """Write grad_a @ weights (n, n) to ``fed`` for this program's samples and the ``steps`` steps after t.

    grad_a and fed: (n_samples, n_steps, n). All of it is float32 (or float64).
    """
    row = tl.arange(0, samples * steps)[:, None]
    b, arrival = tl.program_id(0) * samples + row // steps, t + 1 + row % steps
    inside, at = (b < n_samples) & (arrival < n_steps), (b * n_steps + arrival).to(tl.int64) * n
    for j in range(blocks):
        i = j * block + tl.arange(0, block)[None, :]
        total = tl.full((samples * steps, block), 0.0, grad_a.dtype.element_ty)
        for first in range(0, n, chunk):
            k = first + tl.arange(0, chunk)
            x = tl.load(grad_a + at + k[None, :], inside & (k[None, :] < n), 0.0)
            w = tl.load(weights + k[:, None] * n + i, (k[:, None] < n) & (i < n), 0.0)
            total = tl.dot(x, w, total, input_precision="ieee", out_dtype=grad_a.dtype.element_ty)
        tl.store(fed + at + i, total, inside & (i < n))


@triton.jit
def fed_to(fed, at, inside, lags, columns, n, steps_left, lagging: tl.constexpr):  # type: ignore[no-untyped-def]
    """The gradient that spikes get through recurrence: what is in ``fed`` for the step at which each arrives, if there is one.

    fed + at: the entries of the spikes' own step; columns: their neurons; steps_left: steps after this one.
    """
    after = 1 + columns * 0
    if lagging:
        after += tl.load(lags + columns, columns < n, 0)
    return tl.load(fed + at + after * n, inside & (after <= steps_left), 0.0)


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
