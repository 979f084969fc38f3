"""Arithmetic that all neuron kernels for CUDA (Triton) share: products with recurrent weights, surrogate derivatives."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def list_arrivals(  # type: ignore[no-untyped-def]
    spikes, row, t, n, lags, found, lagging: tl.constexpr, wide: tl.constexpr
):
    """Write the neurons of a sample whose spikes arrive at a step, in order.

    Args:
        spikes: those of all samples and steps, of which ``spikes + row`` are those of step t − 1.
        row: see ``spikes``.
        t: the step.
        n: number of neurons.
        lags: (n,) steps that spikes take beyond one.
        found: (n,), receives the neurons.
        lagging: False if all lags are 0.
        wide: a power of 2, n or more.

    Returns:
        The number of neurons.
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
    """The sum of some rows of a matrix, in some columns.

    Args:
        matrix: (n, n).
        found: numbers of the rows.
        count: number of rows.
        columns: (block,) numbers of columns.
        n: size of the matrix.
        group: rows read at once.
        block: number of columns.

    Returns:
        (block,); 0 for columns beyond n.
    """
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
    """Write grad_a @ weights to ``fed`` for this program's samples and the ``steps`` steps after t.

    All of it is float32 (or float64).

    Args:
        grad_a: (n_samples, n_steps, n) gradient of the synaptic input.
        weights: (n, n), rows post-synaptic.
        fed: (n_samples, n_steps, n), written.
        t: the step.
        n_samples: number of samples.
        n_steps: number of steps.
        n: number of neurons.
        samples: samples of a program.
        steps: steps at once.
        blocks: number of blocks of neurons.
        block: neurons of a block.
        chunk: neurons summed over at once.
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
    """The gradient that spikes get through recurrence, at the step at which each arrives.

    Args:
        fed: as ``feed_back`` writes it.
        at: the entries of the spikes' own step.
        inside: True for entries that exist.
        lags: (n,) steps that spikes take beyond one.
        columns: the entries' neurons.
        n: number of neurons.
        steps_left: steps after this one.
        lagging: False if all lags are 0.

    Returns:
        One gradient per entry, 0 for spikes that do not arrive.
    """
    after = 1 + columns * 0
    if lagging:
        after += tl.load(lags + columns, columns < n, 0)
    return tl.load(fed + at + after * n, inside & (after <= steps_left), 0.0)


@triton.jit
def surrogate(v, threshold, slope, kind: tl.constexpr):  # type: ignore[no-untyped-def]
    """The surrogate derivative ds/dv.

    Args:
        v: what is compared with the threshold.
        threshold: the threshold.
        slope: the surrogate's slope.
        kind: its place in ``lbi.train.layers.surrogate.SURROGATES``.

    Returns:
        One derivative per voltage.
    """
    x = slope * (v - threshold) / threshold
    if kind == 0:
        h = 1.0 / ((1.0 + tl.abs(x)) * (1.0 + tl.abs(x)))
    elif kind == 1:
        h = 1.0 / (1.0 + x * x)
    else:
        h = tl.where(tl.abs(x) < 1.0, 1.0, 0.0)
    return h / threshold
