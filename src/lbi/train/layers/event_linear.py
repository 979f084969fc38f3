"""Event-driven products with spikes: ``spikes @ weight.T`` and its gradients.

With 5 % of the inputs set, adding the columns of spiking inputs is several times faster than the dense product;
above ``MAX_RATE`` the dense product is faster and is used. The choice depends only on the data, so
results are reproducible.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lbi.train.layers.numba_bridge import arrays, load_kernels

MAX_RATE = 0.2
"""Fraction of set inputs up to which events are used (the measured break-even is about 0.25)."""

MIN_OUTPUTS = 32
"""Output size below which rows do not fill vector registers and the dense product is used."""

Events = tuple[Tensor, Tensor]
"""Set columns of each row: indptr (n_rows + 1,) int64 and indices int32."""


def event_linear(spikes: Tensor, weight: Tensor) -> Tensor:
    """``spikes @ weight.T`` for spikes (n_samples, n_steps, n_in) of 0 and 1, any type, and weight (n_out, n_in).

    The result (n_samples, n_steps, n_out) is differentiable in weight, and in spikes if they are floats.

    Args:
        spikes: (n_samples, n_steps, n_in).
        weight: (n_out, n_in).

    Returns:
        (n_samples, n_steps, n_out).
    """
    if weight.device.type != "cpu":
        return spikes.to(weight.dtype) @ weight.T
    return _EventLinear.apply(spikes, weight)


class _EventLinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, spikes: Tensor, weight: Tensor) -> Tensor:
        rows = spikes.reshape(-1, spikes.shape[-1])
        events = pack(rows, weight.shape[0])
        dense = None if events is not None else rows.to(weight.dtype)
        ctx.save_for_backward(weight, dense, *(events or ()))
        return product(dense, events, weight).reshape(*spikes.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        weight, dense, *events = ctx.saved_tensors
        grad_spikes = grad @ weight if ctx.needs_input_grad[0] else None
        grad_weight = None
        if ctx.needs_input_grad[1]:
            rows = grad.reshape(-1, grad.shape[-1]).contiguous()
            if dense is None:
                grad_weight = _event_gradient((events[0], events[1]), rows, weight.shape[1])
            else:
                grad_weight = rows.T @ dense
        return grad_spikes, grad_weight


def pack(rows: Tensor, n_out: int) -> Events | None:
    """The events of rows (n_rows, n_in), or None if a dense product with n_out columns is faster.

    Args:
        rows: (n_rows, n_in).
        n_out: columns of the product.

    Returns:
        Row pointers and columns of the nonzeros.
    """
    if n_out < MIN_OUTPUTS:
        return None
    kernels = load_kernels(rows.numel())
    (x,) = arrays(rows.contiguous())
    indptr = torch.zeros(rows.shape[0] + 1, dtype=torch.int64)
    kernels.count_events(x, indptr.numpy())
    torch.cumsum(indptr, 0, out=indptr)
    n_events = int(indptr[-1])
    if n_events > MAX_RATE * rows.numel():
        return None
    indices = torch.empty(n_events, dtype=torch.int32)
    kernels.fill_events(x, *arrays(indptr, indices))
    return indptr, indices


def product(dense: Tensor | None, events: Events | None, weight: Tensor) -> Tensor:
    """The product (n_rows, n_out), from events or from dense rows.

    Args:
        dense: (n_rows, n_in).
        events: the result of ``pack``.
        weight: (n_out, n_in).

    Returns:
        (n_rows, n_out).
    """
    if events is None:
        assert dense is not None
        return dense @ weight.T
    out = weight.new_empty(events[0].shape[0] - 1, weight.shape[0])
    load_kernels(events[1].numel() * weight.shape[0] // 8).event_product(
        *arrays(*events, weight.T.contiguous(), out)
    )
    return out


def weight_gradient(spikes: Tensor, grad: Tensor) -> Tensor:
    """``grad.T @ spikes`` (n_out, n_in) for spikes (n_rows, n_in) and grad (n_rows, n_out).

    Args:
        spikes: (n_rows, n_in).
        grad: (n_rows, n_out).

    Returns:
        (n_out, n_in).
    """
    events = pack(spikes, grad.shape[1])
    if events is None:
        return grad.T @ spikes
    return _event_gradient(events, grad.contiguous(), spikes.shape[1])


def _event_gradient(events: Events, grad: Tensor, n_in: int) -> Tensor:
    by_source = grad.new_empty(n_in, grad.shape[1])
    n_chunks = max(1, grad.shape[1] // 64)
    load_kernels(events[1].numel() * grad.shape[1] // 8).event_weight_gradient(
        *arrays(*events, grad, by_source), n_chunks
    )
    return by_source.T
