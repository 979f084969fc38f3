"""Surrogate derivatives of the spike function, shared by the fused kernels and the plain reference.

The forward pass fires at v > threshold (adaptive neurons: v ≥ threshold); the backward pass uses, with x = slope · (v − threshold) / threshold,

    ds/dv = h(x) / threshold,    h(0) = 1

fast_sigmoid  h = 1 / (1 + |x|)²       Zenke, Ganguli, Neural Comput. 30(6), 2018, DOI 10.1162/neco_a_01086
arctan        h = 1 / (1 + x²)         Fang et al., ICCV 2021, arXiv:2007.05785
boxcar        h = 1 where |x| < 1      Esser et al., PNAS 113(41), 2016, arXiv:1603.08270 (their hat: triangular)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

SURROGATES = ("fast_sigmoid", "arctan", "boxcar")
"""Names of the surrogates; kernels identify them by position."""


def derivative(v: Tensor, threshold: Tensor | float, surrogate: str, slope: float) -> Tensor:
    """The surrogate derivative ds/dv, same shape as v.

    Args:
        v: voltages.
        threshold: a number, or one per neuron.
        surrogate: name of the surrogate gradient.
        slope: its slope.

    Returns:
        ds/dv, of the shape and type of v.
    """
    x = slope * (v - threshold) / threshold
    if surrogate == "fast_sigmoid":
        h = 1.0 / (1.0 + x.abs()) ** 2
    elif surrogate == "arctan":
        h = 1.0 / (1.0 + x * x)
    else:
        h = (x.abs() < 1.0).to(v.dtype)
    return h / threshold


class Spike(torch.autograd.Function):
    """Spike function s = 1 where v > threshold, else 0, with ``derivative`` as gradient of v and none of the threshold."""

    @staticmethod
    def forward(
        ctx: Any,
        v: Tensor,
        threshold: Tensor | float,
        surrogate: str,
        slope: float,
        at_threshold: bool = False,
    ) -> Tensor:
        """Spikes, same shape and type as v; at_threshold: fire at v = threshold too.

        Args:
            ctx: autograd's context.
            v: voltages.
            threshold: a number, or one per neuron.
            surrogate: name of the surrogate gradient.
            slope: its slope.
            at_threshold: whether a neuron also fires at v = threshold.

        Returns:
            Zeros and ones.
        """
        ctx.save_for_backward(v)
        ctx.options = (threshold, surrogate, slope)
        return (v >= threshold if at_threshold else v > threshold).to(v.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Gradient of v.

        Args:
            ctx: autograd's context.
            grad: gradient of the spikes.

        Returns:
            Gradients of the arguments; None for all but v.
        """
        (v,) = ctx.saved_tensors
        threshold, surrogate, slope = ctx.options
        return grad * derivative(v, threshold, surrogate, slope), None, None, None, None
