"""Synaptic memory in bits: the size of each axon's row of synapses in a dense or an indexed format.

On a core, every input axon owns a row. With ``n`` synapses of ``b`` bits, blocks of ``B`` synapses, a
header of ``H`` bits per block, and rows padded to words of ``W`` bits:

    row(n, b) = ⌊n / B⌋ · ceil_W(B·b + H) + [n mod B > 0] · ceil_W((n mod B)·b + H),     row(0, b) = 0
    dense   bits of a core = Σ over axons  row(N, w + d)              zeros stored, N targets on the core
    indexed bits of a core = Σ over axons  row(nnz_j, w + d + i)      i = the least index width, 2^i ≥ N

w: weight bits, d: delay bits (only where a projection has delays). Source: nengo-loihi
``nengo_loihi/block.py::Synapse.bits_per_axon`` for the rows; the index rule is the smallest field of
its ``INDEX_BITS_MAP`` that addresses the core's targets. A dense format also stores the index bits
``dense_index`` where a layout has them.

The rows of a convolution that are equal but for their place may be stored once, if a layout's ``shared`` says so:

    rows    bits of a core = Σ over its distinct rows  row(nnz_r, w + d + i)
    kernels bits of a core = Σ over input channels     row(k_c, w + d)       k_c places of the kernels onto the core

Without such a rule a convolution is stored like other weights, *unrolled*. Sources: nengo-loihi
``nengo_loihi/block.py::Synapse`` (its input axons map to shared weights, with a first compartment of their own) for rows,
compile logs of lava-dl for kernels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbi.chip.profile import BY_KERNELS, BY_ROWS, HardwareProfile, MemoryLayout
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.csr import Weights
from lbi.network.fixed import FixedNetwork, FixedProjection, SignMode
from lbi.network.graph import INPUT
from lbi.network.parts import Part, Run
from lbi.network.pattern import n_positions

DENSE, INDEXED, SHARED = "dense", "indexed", "shared"
"""The storage formats of a projection."""


@dataclass(frozen=True)
class RowFormat:
    """The parameters that determine the row sizes of one projection under one layout.

    Attributes:
        bits_per_synapse: weight and delay bits, without an index.
        header: bits per block.
        word: bits to which blocks are padded.
        block: synapses that share a header; None for the whole row.
        index_bits: available index widths, rising.
        dense_index: index bits that dense rows store too.
    """

    bits_per_synapse: int
    header: int
    word: int
    block: int | None
    index_bits: tuple[int, ...]
    dense_index: int

    def row_bits(self, n: ArrayLike, bits: int) -> NDArray[np.int64]:
        """``row(n, bits)`` element-wise: padded bits of rows of ``n`` synapses of ``bits`` bits.

        Args:
            n: synapses of each row.
            bits: bits of a synapse.

        Returns:
            Bits of each row, of the shape of ``n``; 0 for rows without synapses.
        """
        n = np.asarray(n, dtype=np.int64)
        if self.block is None:
            return np.where(n > 0, self._padded(n * bits + self.header), 0)
        full, rest = np.divmod(n, self.block)
        whole = self._padded(np.int64(self.block * bits + self.header))
        return full * whole + np.where(rest > 0, self._padded(rest * bits + self.header), 0)

    def _padded(self, bits: Any) -> Any:
        return -(-bits // self.word) * self.word

    def dense_bits(self, n_axons: int, n_targets: int) -> int:
        """Bits of a core's ``n_axons`` dense rows over ``n_targets``.

        Args:
            n_axons: rows.
            n_targets: neurons on the core.

        Returns:
            Bits of all rows together, padding included.
        """
        return n_axons * int(self.row_bits(n_targets, self.bits_per_synapse + self.dense_index))

    def index_width(self, n_targets: int) -> int:
        """Bits of the index into ``n_targets``: the least width that addresses them, else the widest.

        Args:
            n_targets: neurons on the core.

        Returns:
            Bits of one index.
        """
        return next((width for width in self.index_bits if 1 << width >= n_targets), self.index_bits[-1])

    def indexed_bits(
        self, synapses_per_axon: ArrayLike, n_targets: int, times: NDArray[np.int64] | int = 1
    ) -> int:
        """Bits of a core's indexed rows, one per axon; rows without synapses cost nothing.

        Args:
            synapses_per_axon: synapses of each row.
            n_targets: neurons on the core.
            times: how many rows there are of each.

        Returns:
            Bits of all rows together, padding included.
        """
        bits = self.bits_per_synapse + self.index_width(n_targets)
        return int((self.row_bits(synapses_per_axon, bits) * times).sum())


@dataclass(frozen=True)
class ProjectionBits:
    """Synaptic memory of one projection in bits, summed over its cores.

    Attributes:
        dense: with every weight, in rows.
        indexed: with the nonzero weights, in rows with indices.
        chosen: the format.
        shared: with the rows of a convolution shared; None where the chip has no rule for that.
    """

    dense: int
    indexed: int
    chosen: str
    shared: int | None = None

    @property
    def bits(self) -> int:
        """Bits in the chosen format."""
        return {DENSE: self.dense, INDEXED: self.indexed, SHARED: self.shared or 0}[self.chosen]

    @property
    def unrolled(self) -> int:
        """Bits in the chosen format, for a shared convolution in the smaller of the others."""
        return min(self.dense, self.indexed) if self.chosen == SHARED else self.bits


def row_format(projection: FixedProjection, layout: MemoryLayout) -> RowFormat:
    """The row format of a projection under a layout; weight bits are rounded up to an available width.

    Args:
        projection: the projection.
        layout: a memory layout of the chip.

    Returns:
        The format with the layout's sizes in bits and the projection's width of a weight.
    """
    widths = [int(width) for width in layout.weight_bits.numbers]
    weight = next((width for width in widths if width >= projection.num_weight_bits), widths[-1])
    delay = int(layout.delay.number) if projection.max_delay > 0 else 0
    return RowFormat(
        bits_per_synapse=weight + delay,
        header=int(layout.header.number),
        word=int(layout.word.number),
        block=layout.block.limit,
        index_bits=tuple(int(width) for width in layout.index_bits.numbers),
        dense_index=int(layout.dense_index.number),
    )


def projection_bits(
    projection: FixedProjection,
    population_sizes: Mapping[str, int],
    profile: HardwareProfile,
    layout: MemoryLayout | None = None,
) -> ProjectionBits:
    """Bits of a projection in each format if its target fills one core after the other.

    A core takes no more neurons than the layout's index addresses. The smallest format is chosen, indexed on a tie;
    dense only if its rows fit the input axons of a core.

    Args:
        projection: the projection.
        population_sizes: population → neurons, with the input.
        profile: the chip.
        layout: memory layout; None for the profile's first.

    Returns:
        Bits of all formats, and the chosen one.
    """
    n_target, n_source = population_sizes[projection.target], projection.weights.shape[1]
    layout = layout or profile.layout
    per_core = min(profile.limits.compartments_per_core.limit or n_target, 1 << layout.widest_index)
    parts = [Run(start, min(start + per_core, n_target)) for start in range(0, n_target, per_core)]
    axons = profile.limits.input_axons_per_core.limit
    can_be_dense = axons is None or n_source <= axons
    found = bits_on_cores(projection, parts, layout, INDEXED)
    options = {INDEXED: found.indexed}
    if can_be_dense:
        options[DENSE] = found.dense
    if found.shared is not None:
        options[SHARED] = found.shared
    return replace(found, chosen=min(options, key=lambda name: options[name]))


def bits_on_cores(
    projection: FixedProjection, parts: Iterable[Part], layout: MemoryLayout, chosen: str
) -> ProjectionBits:
    """Bits of a projection in each format, for the parts of its target that the cores hold.

    Args:
        projection: the projection.
        parts: the neurons of each core.
        layout: memory layout.
        chosen: the format it is stored in.

    Returns:
        Bits over all cores in each format; None for the shared format where it does not apply.
    """
    rows, n_source = row_format(projection, layout), projection.weights.shape[1]
    dense = indexed = shared = 0
    for part in parts:
        dense += rows.dense_bits(n_source, part.n)
        indexed += rows.indexed_bits(projection.weights.synapses_per_source(part)[1], part.n)
        if can_share(projection, layout):
            shared += shared_bits(projection, part, layout)
    return ProjectionBits(dense, indexed, chosen, shared if can_share(projection, layout) else None)


def can_share(projection: FixedProjection, layout: MemoryLayout) -> bool:
    """Test for a projection of which a layout stores once what its synapses share.

    Args:
        projection: the projection.
        layout: memory layout.

    Returns:
        True for a convolution in kernels on a layout with sharing.
    """
    return bool(layout.sharing) and isinstance(projection.weights, ConvolutionWeights)


def shared_bits(projection: FixedProjection, part: Part, layout: MemoryLayout) -> int:
    """Bits of a convolution on the core of some of its outputs, with its rows or kernels shared.

    Args:
        projection: a projection that ``can_share``.
        part: the outputs on the core; what is not a box of the feature map shares rows box by box.
        layout: memory layout.

    Returns:
        Bits of all rows together, padding included.
    """
    weights, rows = projection.weights, row_format(projection, layout)
    assert isinstance(weights, ConvolutionWeights)
    boxes = part.boxes(weights.output_shape)
    if layout.sharing == BY_ROWS:
        counts = [weights.window(box).distinct_rows() for box in boxes]
        return rows.indexed_bits(np.concatenate([np.zeros(0, dtype=np.int64), *counts]), part.n)
    assert layout.sharing == BY_KERNELS
    channels = np.unique(np.concatenate([np.arange(*box.channels) for box in boxes])) if boxes else []
    n_out, per_group, height, width = weights.kernel.shape
    of_group = n_out // weights.convolution.groups
    per_input = np.repeat(np.bincount(np.asarray(channels, dtype=np.int64) // of_group), per_group)
    return int(rows.row_bits(per_input * height * width, rows.bits_per_synapse).sum())


def entries(projection: FixedProjection, kind: str, layout: MemoryLayout) -> Weights:
    """The weights of which a spike reads its synapses, in a format: with shared kernels also their zeros.

    Args:
        projection: the projection.
        kind: indexed or shared.
        layout: memory layout.

    Returns:
        Weights that are nonzero where an entry is read.
    """
    if kind == SHARED and layout.sharing == BY_KERNELS:
        return projection.weights.pattern() or projection.weights
    return projection.weights


def filled(fixed: FixedNetwork) -> FixedNetwork:
    """The dense network, for placing and pricing: every weight of every projection's pattern is nonzero.

    Projections without a pattern stay as they are, since their dense rows do not depend on what is stored. The weights
    of the others are one mantissa, of the fewest bits that theirs take.

    Args:
        fixed: the network.

    Returns:
        The network with every position of its patterns stored.
    """
    if all(projection.pattern is None for projection in fixed.projections):
        return fixed
    return replace(fixed, projections=tuple(map(_filled, fixed.projections)))


def _filled(projection: FixedProjection) -> FixedProjection:
    pattern, mode = projection.pattern, projection.sign_mode
    if pattern is None:
        return projection
    step = 1 << mode.n_cut(projection.num_weight_bits)
    value = step if mode is SignMode.EXCITATORY else -step  # 256 is a mantissa below 0 only
    weights, _ = pattern.with_data(np.full(pattern.n_parameters, value, dtype=np.int16))
    return replace(projection, weights=weights, delay=projection.max_delay)


def sizes(fixed: FixedNetwork) -> dict[str, int]:
    """Population → number of neurons, with the input's channels.

    Args:
        fixed: the network.

    Returns:
        ``"input"`` and every population → its number of channels or neurons.
    """
    return {INPUT: fixed.n_in} | {population.name: population.n for population in fixed.populations}


@dataclass(frozen=True)
class HostBytes:
    """Bytes of one projection's weights in a computer's memory."""

    csr: int
    dense: int


def host_bytes(projection: FixedProjection, value_bytes: int = 1, index_bytes: int = 4) -> HostBytes:
    """CSR (values, column indices, row pointers of ``index_bytes``) beside a dense array, in bytes.

    The dense array holds the weights of the pattern; a convolution's are counted at every place of its kernel.

    Args:
        projection: the projection.
        value_bytes: bytes of a value.
        index_bytes: bytes of an index.

    Returns:
        Bytes as CSR and as a dense array.
    """
    weights = projection.weights
    csr = weights.nnz * (value_bytes + index_bytes) + (weights.shape[0] + 1) * index_bytes
    return HostBytes(csr=csr, dense=n_positions(projection) * value_bytes)
