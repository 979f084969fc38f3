"""Products with spikes, ``spikes @ weight.T``, and their gradients, over the spikes that occur and the living weights.

With 5 % of the inputs set, adding the columns of spiking inputs is several times faster than the dense product;
if few weights are left too, only these are added. Which product is used depends only on spikes and weights, so
results are reproducible. All of it runs in the kernels' threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lbi.errors import Problems, Rule, UsageError
from lbi.train.layers.living import Living, as_factor, living_of
from lbi.train.layers.numba_bridge import arrays, load_kernels, run

MAX_RATE = 0.4
"""Fraction of set inputs up to which events are used with dense weights (the measured break-even is a little above)."""

MIN_OUTPUTS = 8
"""Output size below which rows fill too little of a vector register and the dense product is used."""

PRODUCT_COST, GRADIENT_COST = 12.0, 9.0
"""Time of one spike at one living weight, in times of one at a dense weight (which vectors add), in a product and a gradient."""

FEWEST_ACROSS = 64
"""Columns of dense rows from which their product over living weights pays: with fewer, turning the rows across vectors takes longer."""

MOST_ROWS = 7168
"""Rows of a block of products and gradients of living weights: a target's numbers of a block fit the first-level cache."""

SHAPES = Rule(
    "input-shape", "(n_samples, n_steps, {n_in})", "give one channel for each column of the weights"
)

Events = tuple[Tensor, Tensor]
"""Set columns of each row: indptr (n_rows + 1,) int64 and indices int32."""

BySource = tuple[np.ndarray, np.ndarray, int]
"""The same by source: starts and rows of ``lbi.train.layers.kernels.sort_events``, and the rows of a block."""


def event_linear(spikes: Tensor, weight: Tensor, *, only_living: bool = False) -> Tensor:
    """``spikes @ weight.T`` for spikes (n_samples, n_steps, n_in) of 0 and 1, any dtype, and weight (n_out, n_in).

    Args:
        spikes: the spikes.
        weight: the weights.
        only_living: give weights that are 0 no gradient (0).

    Returns:
        (n_samples, n_steps, n_out), differentiable once in weight, and in spikes if they are floats.

    Raises:
        UsageError: if the spikes are not those of the weight's sources.
    """
    problems, n_in = Problems(), weight.shape[-1]
    fits = spikes.ndim == 3 and spikes.shape[2] == n_in and weight.ndim == 2
    SHAPES.check(problems, fits, "spikes", tuple(spikes.shape), n_in=n_in)
    problems.raise_as(UsageError)
    if weight.device.type != "cpu" or weight.dtype not in (torch.float32, torch.float64):
        return spikes.to(weight.dtype) @ weight.T
    return _EventLinear.apply(spikes, weight, only_living)


class _EventLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, spikes: Tensor, weight: Tensor, only_living: bool) -> Tensor:
        rows = spikes.reshape(-1, spikes.shape[-1])
        living = living_of(weight)
        events = pack(rows, weight.shape[0], living)
        dense = None if events is not None else rows.to(weight.dtype).contiguous()
        ctx.living, ctx.only_living, ctx.by_source = living, only_living, None
        ctx.save_for_backward(weight, dense, *(events or ()))
        listed = few(living, PRODUCT_COST)
        if events is not None and listed is not None:
            ctx.by_source = by_source(events, weight.shape[1])
            out = living_product(ctx.by_source, rows.shape[0], listed)
        else:
            out = product(dense, events, weight)
        return out.reshape(*spikes.shape[:-1], weight.shape[0])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        weight, dense, *packed = ctx.saved_tensors
        rows = grad.reshape(-1, grad.shape[-1]).contiguous()
        grad_spikes = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_spikes = row_product(rows, weight, ctx.living).reshape(*grad.shape[:-1], weight.shape[1])
        if ctx.needs_input_grad[1]:
            events = (packed[0], packed[1]) if packed else None
            living = ctx.living if ctx.only_living else None
            grad_weight = gradient(dense, events, rows, weight.shape[1], living, listed=ctx.by_source)
        return grad_spikes, grad_weight, None


def pack(rows: Tensor, n_out: int, living: Living | None = None) -> Events | None:
    """The events of rows of 0 and 1, unless a dense product with them is faster.

    Args:
        rows: (n_rows, n_in) on a CPU.
        n_out: columns of the product.
        living: the living weights, whose density lowers the cost of an event; None to count with all weights.

    Returns:
        The events; None if a dense product is faster.
    """
    if n_out < MIN_OUTPUTS:
        return None
    kernels = load_kernels()
    (x,) = arrays(rows.contiguous())
    indptr = torch.zeros(rows.shape[0] + 1, dtype=torch.int64)
    masks = np.empty((rows.shape[0], -(-rows.shape[1] // kernels.BITS)), np.uint64)
    run(kernels.count_events, rows.numel(), x, masks, indptr.numpy())
    torch.cumsum(indptr, 0, out=indptr)
    n_events = int(indptr[-1])
    cost = 1.0 if living is None else min(1.0, PRODUCT_COST * living.density)
    if n_events * cost > MAX_RATE * rows.numel():
        return None
    indices = torch.empty(n_events, dtype=torch.int32)
    run(kernels.fill_events, rows.numel(), masks, *arrays(indptr, indices))
    return indptr, indices


def few(living: Living | None, cost: float) -> Living | None:
    """The living weights if adding them one by one, at ``cost`` times that of a dense weight, is faster than adding all.

    Args:
        living: the living weights, or None.
        cost: time of one living weight, in times of a dense one.

    Returns:
        ``living``, or None if adding all is at least as fast.
    """
    return None if living is None or cost * living.density >= 1 else living


def by_source(events: Events, n_in: int) -> BySource:
    """The events of rows (n_rows, n_in) by source, in blocks of at most MOST_ROWS rows.

    Args:
        events: set columns of each row.
        n_in: number of sources.

    Returns:
        Starts (n_blocks, n_in + 1) int64, rows within their block (n_events,) uint16, and the rows of a
        block.
    """
    n_rows = events[0].shape[0] - 1
    n_block = -(-n_rows // -(-n_rows // MOST_ROWS)) if n_rows else 1
    starts = np.empty((-(-n_rows // n_block), n_in + 1), np.int64)
    rows = np.empty(events[1].numel(), np.uint16)
    run(load_kernels().sort_events, 4 * rows.size, *arrays(*events), n_block, starts, rows)
    return starts, rows, n_block


def product(dense: Tensor | None, events: Events | None, weight: Tensor) -> Tensor:
    """``rows @ weight.T`` (n_rows, n_out), from events or from dense rows (n_rows, n_in).

    Args:
        dense: (n_rows, n_in) rows on a CPU, used without events; None with them.
        events: set columns of each row; None to use the dense rows.
        weight: (n_out, n_in).

    Returns:
        (n_rows, n_out) of the weight's type.
    """
    if events is None:
        assert dense is not None
        return row_product(dense, weight.T, None)
    kernels, n_out = load_kernels(), weight.shape[0]
    out = weight.new_empty(events[0].shape[0] - 1, n_out)
    width = _width(weight, n_out)
    strips = weight.new_empty(-(-n_out // width), weight.shape[1], width)
    run(kernels.panels_of, weight.numel(), *arrays(weight.contiguous(), strips))
    run(kernels.event_product, events[1].numel() * n_out // 16, *arrays(*events, strips, out))
    return out


def living_product(listed: BySource, n_rows: int, living: Living) -> Tensor:
    """``product`` over living weights: the same bits.

    Args:
        listed: the events by source.
        n_rows: number of rows.
        living: the living weights of a matrix (n_out, n_in).

    Returns:
        (n_rows, n_out) of the matrix's type.
    """
    n_out = living.matrix.shape[0]
    out = living.matrix.new_empty(n_rows, n_out)
    kernel = load_kernels("layers.living_kernels").living_product
    n_values = int(listed[1].size * n_out * living.density)
    run(kernel, n_values, *listed, living.masks, *arrays(living.matrix, out))
    return out


def row_product(rows: Tensor, matrix: Tensor, living: Living | None) -> Tensor:
    """``rows @ matrix``, over the matrix's living entries if they are given and n_k is large.

    Args:
        rows: (n_rows, n_k), dense, on a CPU.
        matrix: (n_k, n).
        living: the matrix's living entries, those of a layer's weights; None to add all.

    Returns:
        (n_rows, n) of the rows' type.
    """
    if rows.shape[1] < FEWEST_ACROSS:
        living = None
    out = rows.new_empty(rows.shape[0], matrix.shape[1])
    n_values = int(out.numel() * rows.shape[1] * (0.1 if living is None else living.density / 4))
    factor = arrays(*as_factor(matrix.detach(), living))
    run(load_kernels("layers.products").product, n_values, *arrays(rows), *factor, *arrays(out))
    return out


def recurrent_gradient(spikes: Tensor, grad: Tensor, living: Living | None = None) -> Tensor:
    """The gradient (n, n) of recurrent weights, which carry the spikes of one step to the next; 0 for all but ``living`` ones if given.

    Args:
        spikes: (n_samples, n_steps, n).
        grad: gradient of the synaptic input, (n_samples, n_steps, n).
        living: the living weights, or None for all.

    Returns:
        Σ over steps of grad[:, t + 1].T @ spikes[:, t].
    """
    n_samples, n_steps, n = spikes.shape
    if n_samples == 0 or n_steps < 2:
        return grad.new_zeros(n, n)
    events = pack(spikes.reshape(-1, n), n, living)
    if events is not None:
        return gradient(None, events, grad.reshape(-1, n), n, living, n_steps)
    earlier, later = spikes[:, :-1].reshape(-1, n), grad[:, 1:].reshape(-1, n)
    return gradient(earlier, None, later, n, living)


def gradient(
    dense: Tensor | None,
    events: Events | None,
    grad: Tensor,
    n_in: int,
    living: Living | None,
    n_steps: int = 0,
    listed: BySource | None = None,
) -> Tensor:
    """The gradient of weights, ``grad.T @ rows``, from events or from dense rows.

    Args:
        dense: (n_rows, n_in) rows on a CPU, used without events; None with them.
        events: set columns of each row; None to use the dense rows.
        grad: (n_rows, n_out) gradient of the product.
        n_in: number of sources.
        living: the living weights, the only ones with a gradient other than 0; None for all.
        n_steps: rows per sample if every event is paired with the gradient of the row after its own, and
            events in a sample's last row count for nothing; 0 to pair it with that of its own.
        listed: the events by source if they are at hand; None to sort them where needed.

    Returns:
        (n_out, n_in) of the gradient's type.
    """
    n_out = grad.shape[1]
    if events is None:
        assert dense is not None
        out = grad.new_empty(n_out, n_in)
        n_values = grad.numel() * n_in // 16
        run(load_kernels("layers.products").weight_gradient, n_values, *arrays(grad, dense, out))
        return out if living is None else out.mul_(living.matrix != 0)
    out = grad.new_empty(n_out, n_in)
    chosen = few(living, GRADIENT_COST)
    if chosen is not None:
        kernel = load_kernels("layers.living_kernels").living_gradient
        n_values = int(events[1].numel() * n_out * chosen.density)
        starts, rows, n_block = listed or by_source(events, n_in)
        run(kernel, n_values, starts, rows, n_block, *arrays(grad), n_steps, chosen.masks, *arrays(out))
        return out
    n_values = events[1].numel() * n_out // 16
    of_sources = _event_gradient(events, grad, n_in, n_values, n_steps)
    matrix = grad.new_empty(0, 0) if living is None else living.matrix
    run(load_kernels().by_target, out.numel(), *arrays(of_sources, matrix, out))
    return out


def _event_gradient(events: Events, grad: Tensor, n_in: int, n_values: int, n_steps: int) -> Tensor:
    """The gradient of all weights by source, (n_in, ≥ n_out), padded to whole strips of columns."""
    kernels, (n_rows, n_out) = load_kernels(), grad.shape
    starts = torch.empty(-(-n_rows // kernels.BLOCK), n_in + 1, dtype=torch.int64)
    rows = torch.empty_like(events[1])
    run(kernels.sort_events, 4 * rows.numel(), *arrays(*events), kernels.BLOCK, *arrays(starts, rows))
    width = _width(grad, n_out)
    out = grad.new_empty(n_in, -(-n_out // width) * width)
    run(kernels.event_weight_gradient, n_values, *arrays(starts, rows, grad), n_steps, *arrays(out), width)
    return out


def _width(like: Tensor, n_out: int) -> int:
    """Columns of a strip, two vectors or four, so that n_out columns fill it well."""
    lanes = 64 // like.element_size()
    return lanes * (2 if n_out <= 2 * lanes else 4)
