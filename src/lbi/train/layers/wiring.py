"""The connection of a layer to the one before it: all to all or a convolution, after a sum over squares of neurons.

Pooling is a sum of spikes, not a layer of neurons, so it is linear and merges with the weights behind it: on the chip a
convolution after pooling is one convolution with each weight repeated over a square, with the same integers. It takes no
neurons and no timestep, and a spike still reaches as many targets as its pooled one would.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from lbi.errors import Problems, Rule
from lbi.limits import MOST_NEURONS
from lbi.train.layers.event_linear import event_linear

Shape = tuple[int, ...]

NUMBERS = Rule(
    "convolution", "an odd kernel, channels, a stride and a pool of at least 1; stride 1 without channels"
)
IMAGE = Rule(
    "convolution",
    "an input of shape (channels, height, width), or an earlier convolution",
    "encode the data set as images, or leave convolutions and pooling out of hidden",
)
SIZE = Rule("convolution", f"1 to {MOST_NEURONS} neurons", "pool less, or use smaller strides")
N_NEURONS = Rule("population-shape", "{n}, channels · height · width of the convolution")


@dataclass(frozen=True)
class Wiring:
    """How a layer is connected to the one before it.

    Attributes:
        channels: Channels of a convolution; 0 for weights from every neuron to every other.
        kernel: Height and width of its kernel, odd; it is padded with kernel // 2 zeros on every side.
        stride: Its stride.
        pool: Spikes are first summed over squares of this height and width; what is left over at the border is not used.
    """

    channels: int = 0
    kernel: int = 1
    stride: int = 1
    pool: int = 1

    @property
    def padding(self) -> int:
        """Zeros on every side, which keep height and width at stride 1."""
        return self.kernel // 2

    @property
    def is_plain(self) -> bool:
        """True for weights from every neuron to every other, without pooling."""
        return not self.channels and self.pool == 1

    def pooled(self, source: Shape) -> Shape:
        """The shape of a source after pooling.

        Args:
            source: Shape of the source.

        Returns:
            (channels, height, width); the source's own shape without convolution and pooling.
        """
        if self.is_plain:
            return source
        channels, height, width = as_image(source)
        return channels, height // self.pool, width // self.pool

    def shape(self, source: Shape, n: int) -> Shape:
        """The shape of a layer.

        Args:
            source: Shape of the source.
            n: Neurons of the layer, of a layer without convolution.

        Returns:
            (channels, height, width) of a convolution; otherwise (n,).
        """
        if not self.channels:
            return (n,)
        _, height, width = self.pooled(source)
        return self.channels, *(-(-size // self.stride) for size in (height, width))

    def weight_shape(self, source: Shape, n: int) -> Shape:
        """The shape of a layer's weights.

        Args:
            source: Shape of the source.
            n: Neurons of the layer, of a layer without convolution.

        Returns:
            Kernels (channels, channels of the source, kernel, kernel); without convolution (n, n_source after
            pooling).
        """
        if not self.channels:
            return n, prod(self.pooled(source))
        return self.channels, self.pooled(source)[0], self.kernel, self.kernel

    def check(self, source: Shape, n: int, where: str, problems: Problems) -> bool:
        """Check this connection of a layer to a source.

        Args:
            source: Shape of the source.
            n: Neurons of the layer.
            where: The layer, for errors.
            problems: Receives what is wrong with the connection.

        Returns:
            True if nothing is wrong.
        """
        numbers = (
            min(self.kernel, self.stride, self.pool) >= 1 and self.channels >= 0 and self.kernel % 2 == 1
        )
        numbers = numbers and (self.channels > 0 or self.stride == self.kernel == 1)
        if not NUMBERS.check(problems, numbers, where, self):
            return False
        if self.is_plain:
            return True
        if not IMAGE.check(problems, len(source) in (2, 3), where, f"behind a layer of shape {source}"):
            return False
        sizes = (*self.pooled(source), *self.shape(source, n))
        if not SIZE.check(
            problems, min(sizes) >= 1 and max(map(prod, (sizes[:3], sizes[3:]))) <= MOST_NEURONS, where, sizes
        ):
            return False
        wanted = prod(self.shape(source, n))
        return not self.channels or N_NEURONS.check(problems, n == wanted, where, f"{n} neurons", n=wanted)

    def arriving(self, spikes: Tensor, weight: Tensor, source: Shape, *, only_living: bool = False) -> Tensor:
        """The synaptic input of spikes.

        Args:
            spikes: (n_samples, n_steps, n_source) of any type.
            weight: Weights of ``weight_shape``.
            source: Shape of the source.
            only_living: Give weights that are 0 no gradient (0); of weights without convolution and pooling
                only.

        Returns:
            (n_samples, n_steps, n) of the weight's type.
        """
        if self.is_plain:
            return event_linear(spikes, weight, only_living=only_living)
        frames = spikes.reshape(-1, *as_image(source)).to(weight.dtype)
        if self.pool > 1:
            frames = _SumPool.apply(frames, self.pool)
        if self.channels:
            out = conv2d(frames, weight, stride=self.stride, padding=self.padding)
        else:
            out = frames.flatten(1) @ weight.T
        return out.reshape(*spikes.shape[:2], -1)


class _SumPool(torch.autograd.Function):
    """Sums over squares of k × k, ``avg_pool2d`` times k²: twice as fast on a CPU, since the sums are of strided slices."""

    @staticmethod
    def forward(ctx: Any, frames: Tensor, k: int) -> Tensor:
        """Sums (…, height // k, width // k) of frames (…, height, width)."""
        height, width = (size // k * k for size in frames.shape[-2:])
        ctx.k, ctx.left_over = k, (frames.shape[-2] - height, frames.shape[-1] - width)
        rows = sum((frames[..., i:width:k] for i in range(1, k)), frames[..., 0:width:k])
        return sum((rows[..., i:height:k, :] for i in range(1, k)), rows[..., 0:height:k, :])

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        """Gradient of the frames: that of each sum for all of its square."""
        k, (below, right) = ctx.k, ctx.left_over
        *outer, height, width = grad.shape
        spread = (
            grad[..., :, None, :, None]
            .expand(*outer, height, k, width, k)
            .reshape(*outer, height * k, width * k)
        )
        return (pad(spread, (0, right, 0, below)) if below or right else spread), None


ALL_TO_ALL = Wiring()
"""Weights from every neuron to every other."""


def as_image(shape: Shape) -> tuple[int, int, int]:
    """A shape as that of an image.

    Args:
        shape: Two sizes, of an image of one channel, or three.

    Returns:
        (channels, height, width).
    """
    channels, height, width = shape if len(shape) == 3 else (1, *shape)
    return channels, height, width
