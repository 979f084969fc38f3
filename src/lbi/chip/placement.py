"""Placement of a network: neurons on cores, cores on tiles, over as many chips as needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.chip import rules
from lbi.chip.memory import (
    DENSE,
    INDEXED,
    SHARED,
    ProjectionBits,
    bits_on_cores,
    projection_bits,
    sizes,
)
from lbi.chip.mesh import arrange, slot_positions
from lbi.chip.partition import RESOURCES, Chunk, Partition, chunk_of_neurons, pack
from lbi.chip.profile import HardwareProfile
from lbi.errors import FitError, Problems, Rule
from lbi.network.fixed import FixedNetwork
from lbi.network.graph import INPUT

CHIPS = Rule("chips", "{most} chips of {per_chip} cores", "train with a higher sparsity, or fewer neurons")

INDEX = Rule(
    "index-bits",
    "{most:,}, which an index of {bits} bits addresses ({layout})",
    "state limits.compartments_per_core or wider index_bits in the chip's file",
)


@dataclass(frozen=True, eq=False)
class AxonTable:
    """The input axons of one projection, ordered by chunk.

    Attributes:
        sources: (n_axons,) source neuron.
        chunks: (n_axons,) index of the chunk.
        synapses: (n_axons,) synapses that a spike of the source reads on that chunk.
    """

    sources: NDArray[np.int32]
    chunks: NDArray[np.int32]
    synapses: NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Placement:
    """The core of every neuron, the position of every core, and what it holds.

    Attributes:
        chip: name of the chip.
        chunks: runs of neurons, and tiles of feature maps.
        core_of_chunk: (n_chunks,) core of each chunk.
        positions: (n_cores, 3) chip, column, row.
        use: resource → (n_cores,) amount used.
        limits: resource → capacity per core, or None where no limit is known.
        formats: projection → "dense", "indexed" or "shared".
        bits: projection → its memory as placed.
        axons: projection → its input axons. Dense projections are left out: every source reaches every
            chunk.
    """

    chip: str
    chunks: tuple[Chunk, ...]
    core_of_chunk: NDArray[np.int64]
    positions: NDArray[np.int64]
    use: Mapping[str, NDArray[np.int64]]
    limits: Mapping[str, int | None]
    formats: Mapping[str, str]
    bits: Mapping[str, ProjectionBits]
    axons: Mapping[str, AxonTable]

    @property
    def n_cores(self) -> int:
        """Cores that hold neurons."""
        return int(self.positions.shape[0])

    @property
    def n_chips(self) -> int:
        """Chips that hold neurons."""
        return int(self.positions[:, 0].max(initial=-1)) + 1

    @property
    def synaptic_bits(self) -> int:
        """Bits of synaptic memory over all cores."""
        return int(self.use["synaptic_bits"].sum())

    @property
    def utilization(self) -> dict[str, NDArray[np.float64]]:
        """Resource → (n_cores,) share of the limit, for limits that are known."""
        return {name: self.use[name] / limit for name, limit in self.limits.items() if limit is not None}

    def core_of(self, population: str) -> NDArray[np.int32]:
        """(n,) the core of each neuron of a population.

        Args:
            population: the population's name.

        Returns:
            (n,) indices of cores, from 0.
        """
        n = sum(chunk.n for chunk in self.chunks if chunk.population == population)
        return self.core_of_chunk[chunk_of_neurons(self.chunks, population, n)].astype(np.int32)


def place(fixed: FixedNetwork, profile: HardwareProfile, *, dense: bool = False) -> Placement:
    """Place a network on a chip, deterministically: few cores first, then little spike traffic.

    Args:
        fixed: the network.
        profile: the chip.
        dense: the network is ``lbi.chip.memory.filled``: store every weight, full matrices as dense rows.

    Returns:
        The cores of all neurons, with formats, memory and use of each core.

    Raises:
        FitError: naming all limits that are exceeded, each with a fix.
    """
    problems = Problems(() if dense else rules.check(fixed, profile))
    _check_neurons(fixed, profile, problems)
    problems.raise_as(FitError)
    partition = _partition(fixed, profile, dense, problems)
    problems.raise_as(FitError)
    packed = _pack(partition)
    even = partition.balanced()
    if even is not None:
        other = _pack(even)
        if other.n_cores <= packed.n_cores:
            partition, packed = even, other
    chunks, axons, uses, n_cores = packed.chunks, packed.axons, packed.uses, packed.n_cores
    _check_system(n_cores, profile, problems)
    _check_index(partition, chunks, problems)
    problems.raise_as(FitError)
    between = _sum_blocks(packed.traffic, packed.core_of_chunk, n_cores)
    slots = arrange(between, slot_positions(profile, n_cores))
    core_of_chunk = slots[packed.core_of_chunk]
    use = np.zeros((n_cores, len(RESOURCES)), dtype=np.int64)
    np.add.at(use, core_of_chunk, uses)
    _merge_axons(partition, chunks, core_of_chunk, use)
    return Placement(
        chip=profile.name,
        chunks=chunks,
        core_of_chunk=core_of_chunk,
        positions=slot_positions(profile, n_cores),
        use={name: use[:, i] for i, name in enumerate(RESOURCES)},
        limits={
            name: None if np.isinf(limit) else int(limit)
            for name, limit in zip(RESOURCES, partition.limits, strict=True)
        },
        formats=dict(partition.formats),
        bits=_placed_bits(partition, chunks),
        axons=axons,
    )


@dataclass(frozen=True, eq=False)
class _Packed:
    """Chunks on numbered cores that have no position yet."""

    chunks: tuple[Chunk, ...]
    axons: dict[str, AxonTable]
    uses: NDArray[np.int64]
    traffic: Any
    core_of_chunk: NDArray[np.int64]

    @property
    def n_cores(self) -> int:
        return int(self.core_of_chunk.max()) + 1


def _pack(partition: Partition) -> _Packed:
    fixed = partition.fixed
    chunks = tuple(chunk for name in partition.chunks for chunk in partition.chunks[name])
    axons = {
        projection.name: _axon_table(partition, projection.name, chunks)
        for projection in fixed.projections
        if partition.formats[projection.name] != DENSE
    }
    uses = np.array([partition.measure(chunk) for chunk in chunks], dtype=np.int64)
    traffic = _traffic(fixed, chunks, axons)
    kinds, limit = _neuron_profiles(fixed, chunks), partition.profile.limits.neuron_profiles_per_core
    most = np.inf if limit is None or limit.limit is None else limit.limit
    core_of_chunk = _in_order(pack(chunks, uses, partition.limits, traffic, kinds, most))
    return _Packed(chunks, axons, uses, traffic, core_of_chunk)


def _neuron_profiles(fixed: FixedNetwork, chunks: tuple[Chunk, ...]) -> NDArray[np.int64]:
    """(n_chunks,) number of each chunk's profile: equal where decays and refractory periods are."""
    numbers: dict[tuple[tuple[str, int], ...], int] = {}
    of = {}
    for population in fixed.populations:
        fields = (e.name for e in population.neuron.integers if e.chip_format in ("decay", ""))
        profile = tuple((name, int(getattr(population.neuron, name))) for name in fields)
        of[population.name] = numbers.setdefault(profile, len(numbers))
    return np.array([of[chunk.population] for chunk in chunks], dtype=np.int64)


def _partition(fixed: FixedNetwork, profile: HardwareProfile, dense: bool, problems: Problems) -> Partition:
    """The partition with the smallest format per projection; if that does not fit, without dense ones."""
    if dense:
        n_of = sizes(fixed)
        formats = {
            p.name: DENSE if p.pattern is None else projection_bits(p, n_of, profile).chosen
            for p in fixed.projections
        }
        partition = Partition(fixed, profile, formats)
        partition.cut(problems)
        return partition
    n_of = sizes(fixed)
    chosen = {p.name: projection_bits(p, n_of, profile).chosen for p in fixed.projections}
    partition = Partition(fixed, profile, chosen)
    found = Problems()
    partition.cut(found)
    if found and DENSE in chosen.values():
        sparse = {name: kind if kind == SHARED else INDEXED for name, kind in chosen.items()}
        partition = Partition(fixed, profile, sparse)
        found = Problems()
        partition.cut(found)
    for problem in found:
        problems.note(problem)
    return partition


def _axon_table(partition: Partition, name: str, chunks: tuple[Chunk, ...]) -> AxonTable:
    projection = next(p for p in partition.fixed.projections if p.name == name)
    sources, counts, indices = [], [], []
    for index, chunk in enumerate(chunks):
        if chunk.population == projection.target:
            axons = partition.axons(projection, chunk)
            sources.append(axons.sources)
            counts.append(axons.counts)
            indices.append(np.full(axons.sources.size, index, dtype=np.int32))
    return AxonTable(np.concatenate(sources), np.concatenate(indices), np.concatenate(counts))


def _traffic(fixed: FixedNetwork, chunks: tuple[Chunk, ...], axons: Mapping[str, AxonTable]) -> Any:
    """CSR (n_chunks, n_chunks) of axons between chunks, summed over both directions, without the input."""
    from scipy.sparse import csr_matrix

    n = len(chunks)
    traffic = csr_matrix((n, n))
    of = {
        p.name: np.array([i for i, c in enumerate(chunks) if c.population == p.name])
        for p in fixed.populations
    }
    chunk_of = {p.name: chunk_of_neurons(chunks, p.name, p.n) for p in fixed.populations}
    for projection in fixed.projections:
        if projection.source == INPUT:
            continue
        senders, receivers = of[projection.source], of[projection.target]
        if projection.name in axons:
            table = axons[projection.name]
            from_, to = chunk_of[projection.source][table.sources], table.chunks
            weight = np.ones(from_.size)
        else:
            from_, to = np.repeat(senders, receivers.size), np.tile(receivers, senders.size)
            weight = np.array([float(chunks[i].n) for i in from_])
        traffic = traffic + csr_matrix((weight, (from_, to)), shape=(n, n))
    return (traffic + traffic.T).tocsr()


def _in_order(core_of_chunk: NDArray[np.int64]) -> NDArray[np.int64]:
    """Cores renumbered by their first chunk, so that neighbours in the network get neighbouring slots."""
    _, first = np.unique(core_of_chunk, return_index=True)
    rank = np.empty(first.size, dtype=np.int64)
    rank[np.argsort(first, kind="stable")] = np.arange(first.size)
    return rank[core_of_chunk]


def _sum_blocks(traffic: Any, core_of: NDArray[np.int64], n_cores: int) -> Any:
    """CSR (n_cores, n_cores) of traffic between cores; traffic within a core is on the diagonal."""
    from scipy.sparse import csr_matrix

    member = csr_matrix(
        (np.ones(core_of.size), (core_of, np.arange(core_of.size))), shape=(n_cores, core_of.size)
    )
    return (member @ traffic @ member.T).tocsr()


def _check_neurons(fixed: FixedNetwork, profile: HardwareProfile, problems: Problems) -> None:
    """Note that the neurons alone fill more cores than there are, without a partition of them."""
    per_core = profile.limits.compartments_per_core.limit
    if per_core is not None:
        _check_system(-(-fixed.n_neurons // int(per_core)), profile, problems, "at least ")


def _check_system(n_cores: int, profile: HardwareProfile, problems: Problems, least: str = "") -> None:
    per_chip = int(profile.limits.cores_per_chip.number)
    chips, most = -(-n_cores // per_chip), profile.limits.chips_per_system.limit
    found = f"{least}{n_cores} cores, that is {chips} chips"
    CHIPS.check(problems, most is None or chips <= most, "network", found, most=most, per_chip=per_chip)


def _check_index(partition: Partition, chunks: tuple[Chunk, ...], problems: Problems) -> None:
    """Note populations of which a core holds more neurons than an index addresses: only where no limit is known."""
    layout, formats = partition.profile.layout, partition.formats
    most: dict[str, int] = {}
    for chunk in chunks:
        most[chunk.population] = max(chunk.n, most.get(chunk.population, 0))
    indexed = {p.target for p in partition.fixed.projections if formats[p.name] != DENSE}
    bits, addressed = layout.widest_index, 1 << layout.widest_index
    for name, n in most.items():
        where, fits = f"population {name!r}", n <= addressed or name not in indexed
        INDEX.check(
            problems, fits, where, f"{n:,} neurons on a core", most=addressed, bits=bits, layout=layout.label
        )


def _merge_axons(
    partition: Partition, chunks: tuple[Chunk, ...], core_of_chunk: NDArray[np.int64], use: NDArray[np.int64]
) -> None:
    """Deduct, in place, axons that are counted per chunk but shared by chunks on one core."""
    inputs, outputs, memory = (
        RESOURCES.index(name) for name in ("input_axons", "output_axons", "memory_bits")
    )
    entry = int(partition.profile.limits.axon_entry.number)
    on_core: dict[int, list[Chunk]] = {}
    for chunk, core in zip(chunks, core_of_chunk, strict=True):
        on_core.setdefault(int(core), []).append(chunk)
    cores = {
        p.name: core_of_chunk[chunk_of_neurons(chunks, p.name, p.n)] for p in partition.fixed.populations
    }
    for core, members in on_core.items():
        sources = [source for chunk in members for source in partition.incoming[chunk.population]]
        for source in sorted({source for source in sources if sources.count(source) > 1}):
            reached = np.concatenate([partition.reached(source, chunk) for chunk in members])
            values, counts = np.unique(reached, return_counts=True)
            spare = counts - 1
            use[core, [inputs, memory]] -= np.array([1, entry]) * int(spare.sum())
            if source != INPUT:
                from_ = cores[source][values]
                np.subtract.at(use[:, outputs], from_, spare)
                np.subtract.at(use[:, memory], from_, spare * entry)


def _placed_bits(partition: Partition, chunks: tuple[Chunk, ...]) -> dict[str, ProjectionBits]:
    layout = partition.profile.layout
    return {
        p.name: bits_on_cores(
            p,
            [chunk.part for chunk in chunks if chunk.population == p.target],
            layout,
            partition.formats[p.name],
        )
        for p in partition.fixed.projections
    }
