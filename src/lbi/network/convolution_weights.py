"""Weights stored as the kernels of a 2-D convolution, which many synapses share.

Positions are numbered in C order of (channels, height, width), as in torch. Memory is that of the kernels; synapses
exist only where a kernel's nonzero lies inside the input. Sum and average pooling are convolutions with one group per
channel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbi.errors import InputError, Problems, Rule
from lbi.limits import MOST_NEURONS
from lbi.network.convolution import Convolution
from lbi.network.csr import CsrMatrix, Weights
from lbi.network.parts import Box, Part
from lbi.network.values import read_only
from lbi.network.window import Window

KERNEL = Rule(
    "convolution-kernel",
    "(n_out, n_in / groups, height, width) of at least 1 each, for an input (n_in, height, width) of up to"
    f" {MOST_NEURONS} neurons",
)
KERNEL_VALUES = Rule("not-finite", "finite integers or floats")
MOST_POSITIONS = 1 << 24
AXIS = Rule("convolution", f"up to {MOST_POSITIONS} output positions times kernel size along an axis")
MOST_SYNAPSES = 1 << 27
UNROLLED = Rule(
    "unrolled-size",
    f"up to {MOST_SYNAPSES} synapses",
    "keep it a convolution: use a target or backend that takes kernels",
)

_BLOCK = 1 << 22
"""Positions times weights that are unrolled at a time."""


@dataclass(frozen=True, eq=False)
class ConvolutionWeights(Weights):
    """A convolution's weights (n_target, n_source) in the form of its kernels.

    ``out[k, y, x] = Σ kernel[k, c, i, j] · in[c, y · stride + i · dilation − padding, …]``; zeros of a kernel are no
    synapses. Borders of zeros and strides that leave inputs out are taken into account in every count.

    Attributes:
        convolution: kernels, stride, padding, dilation and groups.
        input_shape: (channels, height, width) of the source.

    Raises:
        InputError: naming everything that is inconsistent.
    """

    convolution: Convolution
    input_shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        kernel = read_only(self.convolution.kernel)
        stride, padding, dilation = ((int(steps[0]), int(steps[1])) for steps in self.convolution[1:4])
        own = Convolution(kernel, stride, padding, dilation, int(self.convolution.groups))
        object.__setattr__(self, "convolution", own)
        object.__setattr__(self, "input_shape", tuple(int(size) for size in self.input_shape))
        self._check()

    def _check(self) -> None:
        problems = Problems()
        kernel, groups, shape = self.kernel, self.convolution.groups, self.input_shape
        found = f"{kernel.shape} in {groups} groups for {shape}"
        matching = (
            kernel.ndim == 4
            and len(shape) == 3
            and min(*kernel.shape, *shape, groups) >= 1
            and kernel.shape[0] % groups == 0
            and kernel.shape[1] * groups == shape[0]
            and prod(shape) <= MOST_NEURONS
        )
        KERNEL.check(problems, matching, "kernel", found)
        finite = kernel.dtype.kind in "iuf" and bool(np.all(np.isfinite(kernel)))
        KERNEL_VALUES.check(problems, finite, "kernel", f"type {kernel.dtype}, or NaN or infinite values")
        problems.raise_as(InputError)
        self.convolution.check(shape)
        sizes = self.output_shape
        longest = max(max(sizes[1 + k], shape[1 + k]) * kernel.shape[2 + k] for k in range(2))
        AXIS.check(problems, longest <= MOST_POSITIONS, "convolution", f"{longest}")
        problems.raise_as(InputError)

    @property
    def kernel(self) -> NDArray[Any]:
        """(n_out, n_in / groups, height, width), read-only."""
        return self.convolution.kernel

    @cached_property
    def output_shape(self) -> tuple[int, int, int]:
        """(channels, height, width) of the target."""
        return self.convolution.output_shape(self.input_shape)

    @cached_property
    def shape(self) -> tuple[int, int]:
        """(n_target, n_source)."""
        return prod(self.output_shape), prod(self.input_shape)

    @cached_property
    def data(self) -> NDArray[Any]:
        """(n_parameters,) nonzero values of the kernels in C order."""
        data = self.kernel[self.kernel != 0]
        data.flags.writeable = False
        return data

    @cached_property
    def nnz(self) -> int:
        """Number of synapses: a nonzero of a kernel counts at every position where it lies inside the input."""
        return int(self.fan_in().sum())

    def fan_in(self) -> NDArray[np.int64]:
        """(n_target,) synapses per row."""
        return self.sum_rows(np.ones(self.n_parameters)).astype(np.int64)

    def fan_out(self) -> NDArray[np.int64]:
        """(n_source,) synapses per column."""
        return self.sum_columns(np.ones(self.n_parameters)).astype(np.int64)

    def sum_rows(self, values: ArrayLike, sources: ArrayLike | None = None) -> NDArray[np.float64]:
        """(n_target,) sum over each row's synapses of the value that stands in place of its weight.

        Args:
            values: (n_parameters,) in the order of ``data``.
            sources: (n_source,) True for the columns that count; None for all.

        Returns:
            The sums; exact for integers below 2^53.
        """
        kernel = self._kernel_of(values)
        if sources is None:
            down, across = (self._inside(axis).astype(np.float64) for axis in range(2))
            return np.matmul(down, kernel.sum(axis=1) @ across.T).reshape(-1)
        grouped, before, after = self._grouped(kernel)
        maps, sums = np.asarray(sources, dtype=np.float64).reshape(before), np.zeros(after)
        for i, j, outs, ins in self._taps(kernel):
            chosen = maps[:, :, ins[0][:, None], ins[1]]
            found = grouped[..., i, j] @ chosen.reshape(*before[:2], -1)
            sums[:, :, outs[0][:, None], outs[1]] += found.reshape(*after[:2], *chosen.shape[2:])
        return sums.reshape(-1)

    def sum_columns(self, values: ArrayLike, targets: ArrayLike | None = None) -> NDArray[np.float64]:
        """(n_source,) sum over each column's synapses of the value that stands in place of its weight.

        Args:
            values: (n_parameters,) in the order of ``data``.
            targets: (n_target,) True for the rows that count; None for all.

        Returns:
            The sums; exact for integers below 2^53.
        """
        kernel = self._kernel_of(values)
        grouped, before, after = self._grouped(kernel)
        if targets is None:
            down, across = (self._reached(axis, self._inside(axis)) for axis in range(2))
            taps = grouped.sum(axis=1).reshape(-1, *kernel.shape[2:])
            return np.matmul(down, taps @ across.T).reshape(-1)
        maps, sums = np.asarray(targets, dtype=np.float64).reshape(after), np.zeros(before)
        for i, j, outs, ins in self._taps(kernel):
            chosen = maps[:, :, outs[0][:, None], outs[1]]
            found = grouped[..., i, j].swapaxes(1, 2) @ chosen.reshape(*after[:2], -1)
            sums[:, :, ins[0][:, None], ins[1]] += found.reshape(*before[:2], *chosen.shape[2:])
        return sums.reshape(-1)

    def _kernel_of(self, values: ArrayLike) -> NDArray[np.float64]:
        """The kernels with these values (n_parameters,) in place of their nonzero weights."""
        kernel = np.zeros(self.kernel.shape, dtype=np.float64)
        kernel[self.kernel != 0] = values
        return kernel

    def _grouped(
        self, kernel: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], tuple[int, int, int, int], tuple[int, int, int, int]]:
        """Kernels as (groups, outputs of a group, inputs of a group, height, width), and the maps as groups of channels."""
        groups = self.convolution.groups
        n_out, per_group, *size = kernel.shape
        grouped = kernel.reshape(groups, n_out // groups, per_group, *size)
        (_, *before), (_, *after) = self.input_shape, self.output_shape
        return (
            grouped,
            (groups, per_group, before[0], before[1]),
            (groups, n_out // groups, after[0], after[1]),
        )

    def _taps(
        self, kernel: NDArray[np.float64]
    ) -> Iterator[tuple[int, int, list[NDArray[np.intp]], list[NDArray[np.int64]]]]:
        """Each tap with a weight, and per axis the output positions where it is inside, and the input positions there."""
        sources, inside = ([of(axis) for axis in range(2)] for of in (self._source, self._inside))
        for i, j in zip(*np.nonzero(kernel.any(axis=(0, 1))), strict=True):
            outs = [np.flatnonzero(inside[axis][:, tap]) for axis, tap in enumerate((i, j))]
            ins = [sources[axis][outs[axis], tap] for axis, tap in enumerate((i, j))]
            yield int(i), int(j), outs, ins

    def _source(self, axis: int) -> NDArray[np.int64]:
        """(positions, kernel size) input position under each tap of each output position along one axis."""
        return self.convolution.sources(axis, np.arange(self.output_shape[1 + axis]))

    def _inside(self, axis: int) -> NDArray[np.bool_]:
        """(positions, kernel size) True where a tap lies inside the input."""
        source = self._source(axis)
        return (source >= 0) & (source < self.input_shape[1 + axis])

    def _reached(self, axis: int, inside: NDArray[Any]) -> NDArray[np.float64]:
        """(input size, kernel size) 1 where an input lies under that tap of some output position."""
        reached = np.zeros((self.input_shape[1 + axis], self.kernel.shape[2 + axis]))
        out, tap = np.nonzero(inside)
        reached[self._source(axis)[out, tap], tap] = 1
        return reached

    def columns(self, start: int, stop: int) -> NDArray[np.int32]:
        """The sources of all synapses of rows ``start`` to ``stop`` − 1, row after row.

        Args:
            start: first row.
            stop: one past the last row.

        Returns:
            Column indices, rising within a row.
        """
        parts = [columns for columns, _, _ in self._blocks(start, stop)]
        return np.concatenate([np.zeros(0, dtype=np.int32), *parts])

    def _blocks(
        self, start: int, stop: int
    ) -> Iterator[tuple[NDArray[np.int32], NDArray[Any], NDArray[np.int64]]]:
        """Columns and weights of the synapses of consecutive rows, and the number of synapses of each row."""
        n_out, per_group, _, _ = self.kernel.shape
        _, height, width = self.input_shape
        _, out_height, out_width = self.output_shape
        places = out_height * out_width
        sources, inside = ([of(axis) for axis in range(2)] for of in (self._source, self._inside))
        row = start
        while row < stop:
            k, first = divmod(row, places)
            channel, i, j = np.nonzero(self.kernel[k])
            n = min(stop - row, places - first, max(1, _BLOCK // max(channel.size, 1)))
            y, x = np.divmod(np.arange(first, first + n), out_width)
            exists = inside[0][y][:, i] & inside[1][x][:, j]
            plane = (k // (n_out // self.convolution.groups) * per_group + channel) * height
            columns = (sources[0][y][:, i] + plane) * width + sources[1][x][:, j]
            weights = np.broadcast_to(self.kernel[k][channel, i, j], exists.shape)
            yield columns[exists].astype(np.int32), weights[exists], exists.sum(axis=1)
            row += n

    @cached_property
    def cumulated(self) -> NDArray[np.int64]:
        """(groups, n_out / groups + 1, n_in / groups, height, width) nonzero weights of a group's first output channels."""
        n_out, per_group, height, width = self.kernel.shape
        groups = self.convolution.groups
        nonzero = (self.kernel != 0).reshape(groups, n_out // groups, per_group, height, width)
        return np.pad(np.cumsum(nonzero, axis=1, dtype=np.int64), ((0, 0), (1, 0), (0, 0), (0, 0), (0, 0)))

    def window(self, box: Box) -> Window:
        """The inputs under the kernel of the outputs in a box.

        Args:
            box: a box of the target's neurons.

        Returns:
            The window, which counts synapses into the box.
        """
        return Window(self.convolution, self.input_shape, self.cumulated, box)

    def synapses_per_source(self, part: Part) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Sources (rising) with synapses onto a part of the target, and the number of synapses of each.

        Args:
            part: some target neurons.

        Returns:
            The sources and their numbers of synapses, both int32.
        """
        found = [self.window(box).synapses() for box in part.boxes(self.output_shape)]
        if len(found) == 1:
            return found[0]
        counts = np.zeros(self.shape[1], dtype=np.int32)
        for sources, n in found:
            counts[sources] += n
        sources = np.flatnonzero(counts)
        return sources.astype(np.int32), counts[sources]

    def with_data(self, data: ArrayLike) -> tuple[ConvolutionWeights, NDArray[np.intp]]:
        """The same convolution with new nonzero values, and the positions of those that are not zero.

        Args:
            data: (n_parameters,) values.

        Returns:
            The weights and the positions.
        """
        values = np.asarray(data)
        kernel = np.zeros(self.kernel.shape, dtype=values.dtype)
        kernel[self.kernel != 0] = values
        return ConvolutionWeights(self.convolution._replace(kernel=kernel), self.input_shape), np.flatnonzero(
            values
        )

    def pattern(self) -> ConvolutionWeights:
        """Int8 ones in all places of the kernels."""
        ones = np.ones(self.kernel.shape, dtype=np.int8)
        return ConvolutionWeights(self.convolution._replace(kernel=ones), self.input_shape)

    def restricted(self, outs: NDArray[np.bool_], ins: NDArray[np.bool_]) -> ConvolutionWeights:
        """The same convolution with zeros in all kernels but those between some channels.

        Args:
            outs: (n_out,) output channels.
            ins: (n_in,) input channels.

        Returns:
            New weights of the same shape; kernels between other channels are 0.
        """
        chosen = outs[:, None] & ins[self.convolution.channels()]
        kernel = np.where(chosen[:, :, None, None], self.kernel, 0).astype(self.kernel.dtype)
        return ConvolutionWeights(self.convolution._replace(kernel=kernel), self.input_shape)

    def of_channels(self, outs: NDArray[np.bool_], ins: NDArray[np.bool_]) -> ConvolutionWeights:
        """The convolution between some channels alone.

        Args:
            outs: (n_out,) output channels; with groups, all or none of a group.
            ins: (n_in,) input channels; with groups, those of the same groups.

        Returns:
            New weights with the chosen channels only.
        """
        groups, kernel = self.convolution.groups, self.kernel[outs]
        if groups == 1:
            kernel = kernel[:, ins]
        else:
            groups = int(np.count_nonzero(ins)) // kernel.shape[1]
        shape = (int(np.count_nonzero(ins)), *self.input_shape[1:])
        return ConvolutionWeights(self.convolution._replace(kernel=kernel, groups=groups), shape)

    def fits(self, before: tuple[int, ...], after: tuple[int, ...]) -> bool:
        """Test for weights between a source and a target of given shapes, (channels, height, width).

        Args:
            before: shape of the source.
            after: shape of the target.

        Returns:
            True if both shapes are those of the weights.
        """
        return self.input_shape == before and self.output_shape == after

    def has_geometry_of(self, other: ConvolutionWeights) -> bool:
        """Test for weights of which only the kernels' values may differ.

        Args:
            other: the other weights.

        Returns:
            True for the same shapes, stride, padding, dilation and groups.
        """
        steps = self.convolution[1:] == other.convolution[1:]
        return steps and self.input_shape == other.input_shape and self.kernel.shape == other.kernel.shape

    def to_csr(self) -> CsrMatrix:
        """The same weights as CSR, made on first use and kept.

        Raises:
            InputError: for more synapses than a computer's memory is likely to hold.
        """
        return self._csr

    @cached_property
    def _csr(self) -> CsrMatrix:
        if self.nnz > MOST_SYNAPSES:
            raise InputError(UNROLLED.broken(f"convolution {self.kernel.shape}", f"{self.nnz} synapses"))
        blocks = list(self._blocks(0, self.shape[0]))
        columns, data, counts = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
        indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        return CsrMatrix(data, columns, indptr, self.shape)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ConvolutionWeights):
            return NotImplemented
        return self.has_geometry_of(other) and np.array_equal(self.kernel, other.kernel)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        sizes = "×".join(map(str, self.kernel.shape))
        return (
            f"ConvolutionWeights({sizes} on {self.input_shape}, {self.n_parameters} nonzero, nnz={self.nnz})"
        )
