"""Exact removal of neurons that cannot change the output, from a network in chip integers.

A chip updates every neuron in every timestep, whether anything depends on it or not, and sparse training leaves many
that nothing depends on. A neuron is removed if it

- is *silent*: no input can lift it over its threshold (``lbi.simulation.bounds.may_fire``);
- is *unreachable*: no way of synapses leads from it, over neurons that may fire, to the readout;
- is *constant*: it fires in every timestep from the first on, and all that it sends can be added to its targets'
  biases exactly: it arrives in the same step (lag 0), exponents shift left (a sum shifted right rounds as a whole), the
  targets' currents have no memory and cannot wrap, and the new biases are values of the chip's format.

Spikes and voltages of all neurons that stay are the same in every timestep, for every input; so are currents, except
for a constant sender's share, which moves into the bias. The readout population stays whole, and so does a population at either
end of a projection with a pattern (a convolution), whose geometry would be lost. A population of which nothing would
stay keeps its first neuron, without synapses, so that the graph and its names stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.network.csr import CsrMatrix
from lbi.network.fixed import FixedNetwork, FixedPopulation, FixedProjection
from lbi.network.fixedpoint import ACTIVATION_SHIFT, DECAY_BITS, IntFormat, NumberFormats
from lbi.network.graph import INPUT
from lbi.network.kept import Kept
from lbi.network.neurons.parameters import BIAS
from lbi.simulation.bounds import bounds_given, fires_always, may_fire

REASONS = ("silent", "unreachable", "constant")
"""Why a neuron is removed; its code is the place in this list and one."""

MOST_UNROLLED = 1 << 24
"""Synapses of convolutions up to which they are unrolled to find removable neurons; larger networks stay as they are."""

Masks = Mapping[str, NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class Compaction:
    """A compacted network, and what was removed.

    Attributes:
        network: without the removed neurons.
        reasons: population → (n,) int8 of the network before: 0 for neurons that stay, else the code of ``REASONS``.
    """

    network: FixedNetwork
    reasons: Mapping[str, NDArray[np.int8]]

    @property
    def n_removed(self) -> int:
        """Neurons removed over all populations."""
        return sum(int(np.count_nonzero(codes)) for codes in self.reasons.values())

    def removed(self, population: str) -> dict[str, int]:
        """Reason → number of neurons removed from a population for it."""
        codes = self.reasons[population]
        return {reason: int(np.count_nonzero(codes == i)) for i, reason in enumerate(REASONS, start=1)}


def compact(fixed: FixedNetwork) -> FixedNetwork:
    """The network without the neurons that cannot change its output; outputs are the same spike for spike.

    Args:
        fixed: The network.

    Returns:
        A network whose populations' ``kept`` tell which neurons stayed; the same object if all do.
    """
    return compaction(fixed).network


def compaction(fixed: FixedNetwork, formats: NumberFormats | None = None) -> Compaction:
    """The compacted network with the reason for every neuron removed.

    Args:
        fixed: The network.
        formats: Formats that new biases must fit; None for all that Lava computes with.

    Returns:
        The result; removing constant senders can make others removable, so this is repeated until nothing is.
    """
    mantissa, exponent = (IntFormat(entry.low, entry.high) for entry in BIAS)
    if formats is not None:
        mantissa, exponent = formats.bias_mantissa, formats.bias_exponent
    reasons = {p.name: np.zeros(p.n, dtype=np.int8) for p in fixed.populations}
    current = fixed
    while (
        sum(p.weights.nnz for p in fixed.projections if p.weights.nnz > p.weights.n_parameters)
        <= MOST_UNROLLED
    ):
        codes, biases = _one_pass(current, mantissa, exponent)
        stays = {name: _stays(found) for name, found in codes.items()}
        if not any(np.any(found) for found in codes.values()) or _is_bare(current, codes, stays):
            return Compaction(current, reasons)
        for name, found in codes.items():
            reasons[name][reasons[name] == 0] = np.where(stays[name], 0, found)
        current = _without(current, codes, stays, biases)
    return Compaction(current, reasons)


def _stays(codes: NDArray[np.int8]) -> NDArray[np.bool_]:
    """(n,) True for neurons that stay; where none would, the first one."""
    stays = codes == 0
    if not np.any(stays):
        stays[:1] = True
    return stays


def _is_bare(fixed: FixedNetwork, codes: Mapping[str, NDArray[np.int8]], stays: Masks) -> bool:
    """True if all neurons stay, and those that stay for their population's sake alone have no synapses already."""
    if not all(np.all(mask) for mask in stays.values()):
        return False
    gone = {name for name, found in codes.items() if np.any(found)}
    return not any(p.weights.nnz for p in fixed.projections if gone & {p.source, p.target})


def _one_pass(
    fixed: FixedNetwork, mantissa: IntFormat, exponent: IntFormat
) -> tuple[dict[str, NDArray[np.int8]], dict[str, dict[str, Any]]]:
    """Codes of the neurons to remove (0: stays), and the new bias fields of populations that constants move into."""
    whole = {fixed.readout.population}
    for projection in fixed.projections:
        if projection.pattern is not None:
            whole |= {projection.source, projection.target}
    firing = may_fire(fixed)
    needed = _needed(fixed, whole, firing)
    constant, biases = _constant(fixed, whole, firing, needed, mantissa, exponent)
    codes = {}
    for population in fixed.populations:
        name = population.name
        found = np.zeros(population.n, dtype=np.int8)
        if name not in whole:
            found[~needed[name]] = 1 + REASONS.index("unreachable")
            found[~firing[name]] = 1 + REASONS.index("silent")
            found[constant[name]] = 1 + REASONS.index("constant")
        codes[name] = found
    return codes, biases


def _needed(fixed: FixedNetwork, whole: set[str], firing: Masks) -> dict[str, NDArray[np.bool_]]:
    """Population → (n,) neurons that may fire and lead to a population that stays whole; all of these populations."""
    needed = {p.name: np.full(p.n, p.name in whole) for p in fixed.populations}
    while True:
        before = sum(int(np.count_nonzero(mask)) for mask in needed.values())
        for projection in fixed.projections:
            if projection.source != INPUT:
                weights = projection.weights.to_csr()
                sources = weights.indices[needed[projection.target][weights.row_of()]]
                needed[projection.source][sources[firing[projection.source][sources]]] = True
        if sum(int(np.count_nonzero(mask)) for mask in needed.values()) == before:
            return needed


def _constant(
    fixed: FixedNetwork,
    whole: set[str],
    firing: Masks,
    needed: Masks,
    mantissa: IntFormat,
    exponent: IntFormat,
) -> tuple[dict[str, NDArray[np.bool_]], dict[str, dict[str, Any]]]:
    """Constant senders whose share moves into their targets' biases exactly, and these biases' new fields."""
    bounds = bounds_given(fixed, firing)
    constant = {
        p.name: fires_always(p, bounds[p.name]) & needed[p.name] & (p.name not in whole)
        for p in fixed.populations
    }
    memoryless = {p.name: _takes_constants(p) & ~bounds[p.name].may_wrap for p in fixed.populations}
    for projection in fixed.projections:
        if projection.source != INPUT:
            weights = projection.weights.to_csr()
            takes = memoryless[projection.target][weights.row_of()]
            takes &= (fixed.lag(projection) == 0) & (projection.weight_exp >= 0)
            blocked = ~takes & needed[projection.target][weights.row_of()]
            constant[projection.source][weights.indices[blocked]] = False
    while True:
        biases, full = _moved(fixed, constant, needed, mantissa, exponent)
        if not full:
            return constant, biases
        for projection in fixed.projections:  # a bias that no format holds: their senders stay
            if projection.target in full and projection.source != INPUT:
                constant[projection.source][projection.weights.to_csr().indices] = False


def _takes_constants(population: FixedPopulation) -> bool:
    leaks = population.neuron.leaks()
    return leaks is not None and leaks.current == 1 << DECAY_BITS


def _moved(
    fixed: FixedNetwork, constant: Masks, needed: Masks, mantissa: IntFormat, exponent: IntFormat
) -> tuple[dict[str, dict[str, Any]], set[str]]:
    """The new bias fields of each target of constant senders, and the targets whose biases no format holds."""
    added: dict[str, NDArray[np.int64]] = {}
    for projection in fixed.projections:
        if projection.source == INPUT or not np.any(constant[projection.source]):
            continue
        weights = projection.weights.to_csr()
        rows = weights.row_of()
        moved = constant[projection.source][weights.indices] & needed[projection.target][rows]
        share = np.zeros(weights.shape[0], dtype=np.int64)
        np.add.at(share, rows[moved], weights.data[moved].astype(np.int64))
        if np.any(share):
            share <<= projection.weight_exp + ACTIVATION_SHIFT
            added[projection.target] = added.get(projection.target, 0) + share
    biases: dict[str, dict[str, Any]] = {}
    full = set()
    for name, share in added.items():
        fields = _as_bias(fixed.population(name).neuron.bias + share, mantissa, exponent)
        if fields is None:
            full.add(name)
        else:
            biases[name] = fields
    return biases, full


def _as_bias(bias: NDArray[np.int64], mantissa: IntFormat, exponent: IntFormat) -> dict[str, Any] | None:
    """Mantissas and exponent that are exactly these biases (n,), in state units; None if there are none."""
    for bits in range(exponent.minimum, exponent.maximum + 1):
        if not np.any(bias % (1 << bits)) and np.all(mantissa.holds(bias >> bits)):
            return {"bias_mant": (bias >> bits).astype(np.int32), "bias_exp": bits}
    return None


def _without(
    fixed: FixedNetwork,
    codes: Mapping[str, NDArray[np.int8]],
    stays: Masks,
    biases: Mapping[str, Mapping[str, Any]],
) -> FixedNetwork:
    """The network with the neurons that stay, without synapses of those that have a code."""
    populations = []
    for population in fixed.populations:
        name = population.name
        moved = replace(population, neuron=replace(population.neuron, **biases.get(name, {})))
        populations.append(_fewer(moved, stays[name], np.any(codes[name] == 0)))
    projections = tuple(_cut(projection, codes, stays) for projection in fixed.projections)
    return replace(fixed, populations=tuple(populations), projections=projections)


def _fewer(population: FixedPopulation, stays: NDArray[np.bool_], alive: np.bool_) -> FixedPopulation:
    arrays = population.neuron.arrays()
    arrays = {name: values[stays] * (1 if alive else 0) for name, values in arrays.items()}
    neuron = replace(population.neuron, **arrays)
    if np.all(stays):
        return replace(population, neuron=neuron)
    places = np.flatnonzero(stays)
    kept = population.kept
    shape = population.shape if kept is None else kept.shape
    kept = Kept(shape, places if kept is None else kept.indices[places])
    return replace(population, shape=(places.size,), neuron=neuron, kept=kept)


def _cut(projection: FixedProjection, codes: Mapping[str, NDArray[np.int8]], stays: Masks) -> FixedProjection:
    weights = projection.weights.to_csr()
    rows, columns = weights.row_of(), weights.indices
    live = codes[projection.target][rows] == 0
    row_at, n_rows = _renumbered(stays[projection.target])
    column_at, n_columns = np.arange(weights.shape[1]), weights.shape[1]
    if projection.source != INPUT:
        live = live & (codes[projection.source][columns] == 0)
        column_at, n_columns = _renumbered(stays[projection.source])
    if np.all(live) and (n_rows, n_columns) == weights.shape:
        return projection
    counts = np.bincount(row_at[rows[live]], minlength=n_rows)
    indptr = np.concatenate([[0], np.cumsum(counts)])
    delay = projection.delay
    return replace(
        projection,
        weights=CsrMatrix(weights.data[live], column_at[columns[live]], indptr, (n_rows, n_columns)),
        delay=delay[live] if isinstance(delay, np.ndarray) and delay.ndim else delay,
    )


def _renumbered(stays: NDArray[np.bool_]) -> tuple[NDArray[np.int64], int]:
    """(n,) the new number of each neuron that stays, and how many there are."""
    return np.cumsum(stays) - 1, int(np.count_nonzero(stays))
