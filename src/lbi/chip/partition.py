"""Partition of populations into chunks that fit a core, and packing of chunks onto few cores.

A *chunk* is a run of consecutive neurons of one population, or a tile of a feature map. Its core holds its rows of synapses
of every projection into the population. The resources of a chunk grow with every neuron, so each run is the longest
that fits, found by interpolation search. The target of a convolution is cut into tiles (``lbi.chip.tiles``) instead where
that takes fewer chunks, or as many with fewer input axons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lbi.chip.box_rows import BoxRows
from lbi.chip.memory import BY_ROWS, DENSE, SHARED, RowFormat, entries, row_format, shared_bits
from lbi.chip.profile import HardwareProfile
from lbi.chip.tiles import can_grow_to_fit, fewest_tiles
from lbi.errors import Problems, Rule
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.fixed import FixedNetwork, FixedProjection
from lbi.network.graph import INPUT
from lbi.network.parts import Box, MapShape, Part, Run

RESOURCES = ("compartments", "synaptic_bits", "input_axons", "output_axons", "memory_bits")
"""Resources of a core; ``memory_bits`` is the total of synapses, state and axon tables."""

PER_CORE = {
    name: Rule(f"{name.replace('_', '-')}-per-core", "{limit} per core of {chip}", fix)
    for name, fix in (
        ("compartments", "a chip with larger cores"),
        ("synaptic_bits", "a higher sparsity, or fewer weight bits"),
        ("input_axons", "a higher sparsity, or fewer inputs to the population"),
        ("output_axons", "a higher sparsity, or smaller target populations"),
        ("memory_bits", "a higher sparsity"),
    )
}
"""Resource → the rule that a neuron breaks which no core can hold."""

EVEN_UP_TO = 16
"""Populations with more chunks are not balanced: balancing gains at most one chunk in this many."""

_COMPARTMENTS, _BITS, _INPUTS, _OUTPUTS, _MEMORY = range(5)


@dataclass(frozen=True)
class Chunk:
    """Neurons of a population on one core: a run of them, or a tile of its feature map."""

    population: str
    part: Part

    @property
    def n(self) -> int:
        """Number of neurons."""
        return self.part.n


def chunk_of_neurons(chunks: Sequence[Chunk], population: str, n: int) -> NDArray[np.int32]:
    """(n,) the index of the chunk that holds each neuron of a population.

    Args:
        chunks: chunks of any populations.
        population: the population's name.
        n: its number of neurons.

    Returns:
        (n,) indices into ``chunks``; −1 for neurons in none.
    """
    found = np.full(n, -1, dtype=np.int32)
    for index, chunk in enumerate(chunks):
        if chunk.population == population:
            found[chunk.part.neurons] = index
    return found


def core_limits(profile: HardwareProfile) -> NDArray[np.float64]:
    """(5,) capacity of a core per resource; infinity where no limit is known.

    Args:
        profile: the chip.

    Returns:
        Compartments, synaptic bits, input axons, output axons, memory bits.
    """
    limits = profile.limits
    quantities = (
        limits.compartments_per_core,
        profile.layout.capacity,
        limits.input_axons_per_core,
        limits.output_axons_per_core,
        limits.core_memory,
    )
    return np.array([np.inf if quantity.limit is None else quantity.limit for quantity in quantities])


class Axons(NamedTuple):
    """The rows of an indexed or shared projection on a chunk's core: bits, sources (rising), synapses per source."""

    bits: int
    sources: NDArray[np.int32]
    counts: NDArray[np.int32]


class Partition:
    """The chunks of a network for one choice of formats.

    Args:
        fixed: the network.
        profile: the chip.
        formats: projection → "dense", "indexed" or "shared".
    """

    def __init__(self, fixed: FixedNetwork, profile: HardwareProfile, formats: Mapping[str, str]) -> None:
        self.fixed = fixed
        self.profile = profile
        self.formats = formats
        self.limits = core_limits(profile)
        self._limits: list[float] = self.limits.tolist()
        self.rows = {p.name: row_format(p, profile.layout) for p in fixed.projections}
        self.entries = {p.name: entries(p, formats[p.name], profile.layout) for p in fixed.projections}
        self.incoming: dict[str, dict[str, list[FixedProjection]]] = {p.name: {} for p in fixed.populations}
        for projection in fixed.projections:
            self.incoming[projection.target].setdefault(projection.source, []).append(projection)
        self.outputs = {p.name: np.zeros(p.n, dtype=np.int64) for p in fixed.populations}
        self.chunks: dict[str, list[Chunk]] = {}
        self._box_rows = {
            p.name: BoxRows(p, formats[p.name], profile.layout)
            for p in fixed.projections
            if isinstance(p.weights, ConvolutionWeights) and formats[p.name] != DENSE
        }
        # Chunks are measured repeatedly (cut, packed, traced), each time with a pass over their synapses.
        self._trials: dict[tuple[str, Part], Axons] = {}
        self._kept: dict[tuple[str, Part], Axons] = {}

    def measure(self, chunk: Chunk) -> NDArray[np.int64]:
        """(5,) resources that a chunk uses; output axons count the destinations known so far.

        Args:
            chunk: neurons of one population.

        Returns:
            Compartments, synaptic bits, input axons, output axons, memory bits.
        """
        return np.array(self._use(chunk), dtype=np.int64)

    def _use(self, chunk: Chunk, *, at_least: bool = False) -> list[int]:
        """As ``measure``; or less, where several projections of a source reach as many inputs at least as any of them."""
        n = chunk.n
        use = [n, 0, 0, self._output_axons(chunk), 0]
        for projections in self.incoming[chunk.population].values():
            found = [self._bits_and_sources(projection, chunk) for projection in projections]
            use[_BITS] += sum(bits for bits, _ in found)
            if at_least or len(found) == 1:
                use[_INPUTS] += max(n_sources for _, n_sources in found)
            else:
                use[_INPUTS] += _union([self._rows(projection, chunk)[1] for projection in projections]).size
        limits = self.profile.limits
        state, entry = limits.state_per_neuron.number, limits.axon_entry.number
        use[_MEMORY] = use[_BITS] + int(n * state + (use[_INPUTS] + use[_OUTPUTS]) * entry)
        return use

    def _output_axons(self, chunk: Chunk) -> int:
        outputs, part = self.outputs[chunk.population], chunk.part
        if isinstance(part, Box):
            spans = (part.channels, part.rows, part.columns)
            return int(outputs.reshape(part.shape)[tuple(slice(*span) for span in spans)].sum())
        return int(outputs[part.neurons].sum())

    def _bits_and_sources(self, projection: FixedProjection, chunk: Chunk) -> tuple[int, int]:
        """Bits of a projection's rows on a chunk's core, and how many sources have a row there."""
        rows = self._box_rows.get(projection.name)
        if rows is not None and isinstance(chunk.part, Box) and chunk.part.shape == rows.shape:
            return rows.measure(chunk.part)
        bits, sources = self._rows(projection, chunk)
        return bits, sources.size

    def _rows(self, projection: FixedProjection, chunk: Chunk) -> tuple[int, NDArray[Any]]:
        """Bits of a projection's rows on a chunk's core, and the sources that have a row there."""
        rows: RowFormat = self.rows[projection.name]
        if self.formats[projection.name] == DENSE:
            sources = np.arange(projection.weights.shape[1])
            return rows.dense_bits(sources.size, chunk.n), sources
        axons = self.axons(projection, chunk)
        return axons.bits, axons.sources

    def axons(self, projection: FixedProjection, chunk: Chunk) -> Axons:
        """The rows of an indexed or shared projection on a chunk's core.

        Args:
            projection: a projection into the chunk's population.
            chunk: neurons of one population.

        Returns:
            Their bits, the sources with a row, and the synapses of each row.
        """
        key = (projection.name, chunk.part)
        found = self._kept.get(key) or self._trials.get(key)
        if found is None:
            sources, counts = self.entries[projection.name].synapses_per_source(chunk.part)
            if self.formats[projection.name] == SHARED:
                bits = shared_bits(projection, chunk.part, self.profile.layout)
            else:
                bits = self.rows[projection.name].indexed_bits(counts, chunk.n)
            found = self._trials[key] = Axons(bits, sources, counts)
        return found

    def _keep(self, *chunks: Chunk) -> None:
        """Keep the measurements of chosen chunks and drop those of all other trials."""
        for chunk in chunks:
            for projection in self._into(chunk.population):
                if self.formats[projection.name] != DENSE:
                    self._kept[projection.name, chunk.part] = self.axons(projection, chunk)
        self._trials.clear()

    def _drop(self, *chunks: Chunk) -> None:
        """Drop the measurements of chunks that were not chosen."""
        for chunk in chunks:
            for projection in self._into(chunk.population):
                self._kept.pop((projection.name, chunk.part), None)

    def _into(self, name: str) -> list[FixedProjection]:
        return [projection for group in self.incoming[name].values() for projection in group]

    def reached(self, source: str, chunk: Chunk) -> NDArray[Any]:
        """Neurons of ``source`` with an axon into a chunk, rising, over all projections between them.

        Args:
            source: a population or ``"input"``.
            chunk: neurons of one population.

        Returns:
            Indices of neurons of ``source``, without repetition.
        """
        projections = self.incoming[chunk.population].get(source, ())
        return _union([self._rows(projection, chunk)[1] for projection in projections])

    def share(self, chunk: Chunk) -> float:
        """The largest fraction of a core's resources that a chunk uses; up to 1 it fits.

        Args:
            chunk: neurons of one population.

        Returns:
            The fraction; above 1 if the chunk does not fit.
        """
        return float((self.measure(chunk) / self.limits).max())

    def fits(self, chunk: Chunk) -> bool:
        """Test for a chunk that one core can hold.

        Args:
            chunk: neurons of one population.

        Returns:
            True if no resource of a core is exceeded.
        """
        if chunk.n > self._limits[_COMPARTMENTS] or not self._within_limits(self._use(chunk, at_least=True)):
            return False
        several = any(len(group) > 1 for group in self.incoming[chunk.population].values())
        return not several or self._within_limits(self._use(chunk))

    def _within_limits(self, use: list[int]) -> bool:
        return all(used <= limit for used, limit in zip(use, self._limits, strict=True))

    def cut(self, problems: Problems) -> None:
        """Find chunks for all populations; neurons that fit no core are noted in ``problems``.

        A neuron's output axons depend on how its targets are cut. So cutting is repeated with the larger
        number of destinations until nothing changes; the number only grows, so this terminates.

        Args:
            problems: receives neurons that fit no core.
        """
        todo = list(self.outputs)
        while todo and not problems:
            for name in todo:
                self._drop(*self.chunks.get(name, ()))
                self.chunks[name] = self._cut_population(name, problems)
            for name, outputs in self._destinations().items():
                self.outputs[name] = np.maximum(self.outputs[name], outputs)
            todo = [name for name, chunks in self.chunks.items() if not all(map(self.fits, chunks))]
        self.outputs = self._destinations()

    def balanced(self) -> Partition | None:
        """The partition with equal chunks per population where they fit; None if that changes nothing.

        A timestep lasts as long as its busiest core, so equal chunks are faster than full ones and a remainder.
        """
        few = {
            name: chunks
            for name, chunks in self.chunks.items()
            if 1 < len(chunks) <= EVEN_UP_TO and isinstance(chunks[0].part, Run)
        }
        even = self.chunks | {name: _even(name, chunks) for name, chunks in few.items()}
        if even == self.chunks:
            return None
        for _ in range(3):
            other = Partition(self.fixed, self.profile, self.formats)
            other.chunks = even
            other.outputs = other._destinations()
            failed = [name for name, chunks in even.items() if not all(map(other.fits, chunks))]
            if not failed:
                return other if even != self.chunks else None
            even = even | {name: self.chunks[name] for name in failed}
        return None

    def _cut_population(self, name: str, problems: Problems) -> list[Chunk]:
        """The population in runs, or in tiles where that takes fewer chunks, or as many with fewer input axons."""
        whole, shape = Chunk(name, Run(0, self.outputs[name].size)), self._map_shape(name)
        tiles = None if shape is None or self.fits(whole) else self._cut_into_tiles(name, shape)
        if tiles is None:
            return self._cut_into_runs(name, problems, None)
        found = Problems()
        bound = (len(tiles), self._input_axons(tiles))
        runs = self._cut_into_runs(name, found, bound)
        if sum(chunk.n for chunk in runs) == whole.n and (len(runs), self._input_axons(runs)) <= bound:
            return runs
        self._drop(*runs)
        self._keep(*tiles)
        return tiles

    def _may_fit(self, chunk: Chunk) -> bool:
        """False if neither the chunk nor a larger one with all its neurons fits: all resources grow, except shared rows."""
        use = self._use(chunk, at_least=True)
        if self.profile.layout.sharing == BY_ROWS:
            shared = (p for p in self._into(chunk.population) if self.formats[p.name] == SHARED)
            bits = sum(self._bits_and_sources(projection, chunk)[0] for projection in shared)
            use[_BITS] -= bits
            use[_MEMORY] -= bits
        return self._within_limits(use)

    def _input_axons(self, chunks: Sequence[Chunk]) -> int:
        return sum(self._use(chunk)[_INPUTS] for chunk in chunks)

    def _map_shape(self, name: str) -> MapShape | None:
        """(channels, height, width) of a population that a convolution leads to; None for others."""
        for projection in self._into(name):
            if isinstance(projection.weights, ConvolutionWeights):
                return projection.weights.output_shape
        return None

    def _cut_into_tiles(self, name: str, shape: MapShape) -> list[Chunk] | None:
        def fits(box: Box) -> bool:
            found = self.fits(Chunk(name, box))
            self._trials.clear()
            return found

        def may_fit(box: Box) -> bool:
            return self._may_fit(Chunk(name, box))

        def axons(box: Box) -> int:
            return self._use(Chunk(name, box))[_INPUTS]

        # The neuron in the middle reads as many inputs as any: where it fits no core, no grid does.
        if not can_grow_to_fit((shape[0] // 2, shape[1] // 2, shape[2] // 2), shape, fits, may_fit):
            return None
        tiles = fewest_tiles(shape, self.limits[_COMPARTMENTS], fits, axons)
        return None if tiles is None else [Chunk(name, box) for box in tiles]

    def _cut_into_runs(self, name: str, problems: Problems, most: tuple[int, int] | None) -> list[Chunk]:
        """The longest runs that fit, one after the other; unfinished where they pass ``most`` chunks or input axons."""
        n = self.outputs[name].size
        chunks: list[Chunk] = []
        start, length, axons = 0, int(min(n, self.limits[_COMPARTMENTS])), 0
        while start < n and (most is None or (len(chunks) < most[0] and axons <= most[1])):
            stop = self._longest(name, start, n, length)
            if stop == start:
                self._report(name, start, problems)
                return chunks
            chunks.append(Chunk(name, Run(start, stop)))
            if most is not None:
                axons += self._input_axons(chunks[-1:])
            self._keep(chunks[-1])
            start, length = stop, stop - start
        return chunks

    def _longest(self, name: str, start: int, n: int, guess: int) -> int:
        """The largest ``stop`` for which [start, stop) fits; ``start`` if not even one neuron does.

        Extrapolates to a full core from the last trial's usage; every third trial halves the interval.
        """
        good = start
        bad = 1 + int(min(n, start + self.limits[_COMPARTMENTS]))
        trial = min(start + max(guess, 1), bad - 1)
        for attempt in range(2 * n.bit_length() + 8):
            if bad - good <= 1:
                break
            share = self.share(Chunk(name, Run(start, trial)))
            if share <= 1.0:
                good = trial
            else:
                bad = trial
            aim = start + int((trial - start) / max(share, 1e-9))
            if attempt % 3 == 2:
                aim = (good + bad) // 2
            trial = min(max(aim, good + 1), bad - 1)
        return good

    def _report(self, population: str, neuron: int, problems: Problems) -> None:
        """Note all limits that a single neuron exceeds."""
        where = f"population {population!r}, neuron {neuron}"
        used = self.measure(Chunk(population, Run(neuron, neuron + 1)))
        for name, use, limit in zip(RESOURCES, used, self.limits, strict=True):
            if use > limit:
                found, chip = f"{use} {name.replace('_', ' ')} for this neuron alone", self.profile.name
                problems.note(PER_CORE[name].broken(where, found, limit=f"{limit:.0f}", chip=chip))

    def _destinations(self) -> dict[str, NDArray[np.int64]]:
        """Population → (n,) output axons per neuron, one per chunk reached."""
        outputs = {name: np.zeros(values.size, dtype=np.int64) for name, values in self.outputs.items()}
        for name, chunks in self.chunks.items():
            for source in self.incoming[name]:
                for chunk in chunks if source != INPUT else ():
                    outputs[source][self.reached(source, chunk)] += 1
        return outputs


def _even(name: str, chunks: Sequence[Chunk]) -> list[Chunk]:
    """The same neurons in the same number of chunks, with sizes that differ by at most one."""
    n = sum(chunk.n for chunk in chunks)
    bounds = [n * i // len(chunks) for i in range(len(chunks) + 1)]
    return [Chunk(name, Run(start, stop)) for start, stop in pairwise(bounds)]


def _union(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Distinct values of rising arrays, rising."""
    if len(parts) == 1:
        return parts[0]
    return np.unique(np.concatenate(parts)) if parts else np.zeros(0, dtype=np.int64)


def pack(
    chunks: Sequence[Chunk],
    uses: NDArray[np.int64],
    limits: NDArray[np.float64],
    traffic: Any,
    kinds: NDArray[np.int64],
    most_kinds: float,
) -> NDArray[np.int64]:
    """The core of each chunk, by first-fit decreasing: onto the open core with most traffic, else a new one.

    Two chunks of one population never share a core. Axons that chunks on a core could share are not deducted.

    Args:
        chunks: the chunks.
        uses: (n_chunks, 5) resources of each chunk.
        limits: (5,) capacity of a core.
        traffic: CSR (n_chunks, n_chunks), symmetric, axons between chunks.
        kinds: (n_chunks,) number of each chunk's neuron profile.
        most_kinds: different profiles that a core holds at most.

    Returns:
        (n_chunks,) core of each chunk.
    """
    share = (uses / limits).max(axis=1) if len(chunks) else np.zeros(0)
    order = np.lexsort((np.arange(len(chunks)), -share))
    names = {name: i for i, name in enumerate(dict.fromkeys(chunk.population for chunk in chunks))}
    population = np.array([names[chunk.population] for chunk in chunks], dtype=np.int64)
    core_of = np.full(len(chunks), -1, dtype=np.int64)
    used = np.zeros_like(uses)
    holds = np.zeros((len(chunks), len(names)), dtype=bool)
    held_kinds = np.zeros((len(chunks), int(kinds.max(initial=-1)) + 1), dtype=bool)
    n_cores = 0
    for index in order:
        open_ = slice(0, n_cores)
        fits = np.all(used[open_] + uses[index] <= limits, axis=1) & ~holds[open_, population[index]]
        fits &= held_kinds[open_, kinds[index]] | (held_kinds[open_].sum(axis=1) < most_kinds)
        if fits.any():
            row = slice(traffic.indptr[index], traffic.indptr[index + 1])
            cores, axons = core_of[traffic.indices[row]], traffic.data[row]
            affinity = np.bincount(cores[cores >= 0], axons[cores >= 0], minlength=n_cores)
            core = int(np.argmax(np.where(fits, affinity, -1.0)))
        else:
            core, n_cores = n_cores, n_cores + 1
        core_of[index] = core
        used[core] += uses[index]
        holds[core, population[index]] = True
        held_kinds[core, kinds[index]] = True
    return core_of
