"""Arithmetic that all neuron kernels for CUDA (Triton) share: products with recurrent weights, surrogate derivatives."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def list_arrivals(  # type: ignore[no-untyped-def]
    spikes, t, n, lags, found, lagging: tl.constexpr, wide: tl.constexpr
):
    """Write the neurons of a sample whose spikes arrive at a step, in order.

    Args:
        spikes: (n_steps, n), those of the sample.
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
    there, sent = (k < n) & (k * 0 + t > 0), k * 0 + t - 1
    if lagging:
        sent -= tl.load(lags + k, there, 0).to(tl.int32)
        there &= sent >= 0
    fired = (tl.load(spikes + sent * n + k, there, 0.0) != 0).to(tl.int32)
    place = tl.cumsum(fired, 0)
    tl.store(found + place - 1, k, fired != 0)
    return tl.sum(fired, 0)


@triton.jit
def sum_rows(  # type: ignore[no-untyped-def]
    matrix, found, count, columns, n, group: tl.constexpr, samples: tl.constexpr, block: tl.constexpr
):
    """The sum of some rows of a matrix, in some columns.

    Args:
        matrix: (n, n).
        found: numbers of the rows.
        count: number of rows.
        columns: (1, block) numbers of columns.
        n: size of the matrix.
        group: rows read at once.
        samples: 1.
        block: number of columns.

    Returns:
        (1, block); 0 for columns beyond n.
    """
    total = tl.full((samples, block), 0.0, matrix.dtype.element_ty)
    for first in range(0, count, group):
        e = first + tl.arange(0, group)
        k = tl.load(found + e, e < count, 0)
        rows = tl.load(matrix + k[:, None] * n + columns, (e < count)[:, None] & (columns < n), 0.0)
        total += tl.sum(rows, 0)[None, :]
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
    block: tl.constexpr,
    width: tl.constexpr,
    chunk: tl.constexpr,
):
    """Write grad_a @ weights to ``fed`` for all samples of a program and the step after t, in float32.

    Args:
        grad_a: (samples, n_steps, n) gradient of the synaptic input.
        weights: (n, n), rows post-synaptic.
        fed: (samples, n_steps, n), written.
        t: the step.
        n_samples: samples that exist.
        n_steps: number of steps.
        n: number of neurons.
        samples: samples of a program.
        block: neurons of a program: all.
        width: neurons computed at once.
        chunk: neurons summed over at once.
    """
    b = tl.arange(0, samples)[:, None]
    inside, at = (b < n_samples) & (b * 0 + t + 1 < n_steps), (b * n_steps + t + 1) * n
    for j in range(0, block, width):
        i = j + tl.arange(0, width)[None, :]
        total = tl.full((samples, width), 0.0, fed.dtype.element_ty)
        for first in range(0, n, chunk):
            k = first + tl.arange(0, chunk)
            x = tl.load(grad_a + at + k[None, :], inside & (k[None, :] < n), 0.0)
            w = tl.load(weights + k[:, None] * n + i, (k[:, None] < n) & (i < n), 0.0)
            total = tl.dot(x, w, total, input_precision="ieee", out_dtype=fed.dtype.element_ty)
        tl.store(fed + at + i, total, inside & (i < n))


@triton.jit
def arrival_lag(lags, columns, n, lagging: tl.constexpr):  # type: ignore[no-untyped-def]
    """The steps after which a spike arrives.

    Args:
        lags: (n,) steps that spikes take beyond one.
        columns: numbers of neurons.
        n: number of neurons.
        lagging: False if all lags are 0.

    Returns:
        One number of steps per neuron, 1 or more.
    """
    after = 1 + columns * 0
    if lagging:
        after += tl.load(lags + columns, columns < n, 0).to(tl.int32)
    return after


@triton.jit
def surrogate(v, threshold, per_threshold, slope, kind: tl.constexpr):  # type: ignore[no-untyped-def]
    """The surrogate derivative ds/dv.

    Args:
        v: what is compared with the threshold.
        threshold: the threshold.
        per_threshold: 1 / threshold.
        slope: the surrogate's slope.
        kind: its place in ``lbi.train.layers.surrogate.SURROGATES``.

    Returns:
        One derivative per voltage.
    """
    x = slope * (v - threshold) * per_threshold
    if kind == 0:
        h = 1.0 / ((1.0 + tl.abs(x)) * (1.0 + tl.abs(x)))
    elif kind == 1:
        h = 1.0 / (1.0 + x * x)
    else:
        h = tl.where(tl.abs(x) < 1.0, 1.0, 0.0)
    return h * per_threshold
