"""Exact removal of neurons that cannot change the output, from a network in chip integers.

A chip updates every neuron in every timestep, whether anything depends on it or not, and sparse training leaves many
that nothing depends on. A neuron is removed if it

- is *silent*: no input can lift it over its threshold (``lbi.simulation.bounds.may_fire``);
- is *unreachable*: no way of synapses leads from it, over neurons that may fire, to the readout;
- is *constant*: it fires in every timestep from the first on, and all that it sends can be added to its targets'
  biases exactly: it arrives in the same step (lag 0), exponents shift left (a sum shifted right rounds as a whole), the
  targets' currents have no memory and cannot wrap, and the new biases are values of the chip's format.

Spikes and voltages of all neurons that stay are the same in every timestep, for every input; so are currents, except
for a constant sender's share, which moves into the bias. Of feature maps, whole channels are removed, if every neuron in them
could be, and kernels lose their slices (``lbi.quantization.units``). The readout population stays whole, and so does a
population at either end of a matrix with a pattern (an unrolled convolution), whose geometry would be lost. A population
of which nothing would stay keeps its first neuron or channel, without synapses, so that the graph and its names stay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.csr import CsrMatrix
from lbi.network.fixed import FixedNetwork, FixedPopulation, FixedProjection, check_fixed
from lbi.network.fixedpoint import ACTIVATION_SHIFT, DECAY_BITS, IntFormat, NumberFormats
from lbi.network.graph import INPUT
from lbi.network.kept import Kept
from lbi.network.neurons.parameters import BIAS
from lbi.quantization.units import Masks, Units, in_kernels, units
from lbi.simulation.bounds import bounds_given, fires_always, may_fire

REASONS = ("silent", "unreachable", "constant")
"""Why a neuron is removed; its code is the place in this list and one."""


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
        """Reason → number of neurons removed from a population for it.

        Args:
            population: Its name.

        Returns:
            A number for each of ``REASONS``; 0 for those that removed nothing.
        """
        codes = self.reasons[population]
        return {reason: int(np.count_nonzero(codes == i)) for i, reason in enumerate(REASONS, start=1)}


def compact(fixed: FixedNetwork) -> FixedNetwork:
    """The network without the neurons that cannot change its output; outputs are the same spike for spike.

    Args:
        fixed: The network.

    Returns:
        A network whose populations' ``kept`` tell which neurons stayed; the same object if all do.
    """
    check_fixed(fixed)
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
    while True:
        together = units(current)
        codes, biases = _one_pass(current, together, mantissa, exponent)
        stays = together.staying({name: found == 0 for name, found in codes.items()})
        if not any(np.any(found) for found in codes.values()) or _is_bare(current, codes, stays):
            return Compaction(current, reasons)
        for name, found in codes.items():
            reasons[name][reasons[name] == 0] = np.where(stays[name], 0, found)
        current = _without(current, codes, stays, biases, together)


def _is_bare(fixed: FixedNetwork, codes: Mapping[str, NDArray[np.int8]], stays: Masks) -> bool:
    """True if all neurons stay, and those that stay for their population's sake alone have no synapses already."""
    if not all(np.all(mask) for mask in stays.values()):
        return False
    gone = {name: found != 0 for name, found in codes.items()}
    return not any(
        np.any(p.weights.reaching(gone[p.target]))
        or (p.source != INPUT and np.any(p.weights.sum_rows(np.ones(p.weights.n_parameters), gone[p.source])))
        for p in fixed.projections
    )


def _one_pass(
    fixed: FixedNetwork, together: Units, mantissa: IntFormat, exponent: IntFormat
) -> tuple[dict[str, NDArray[np.int8]], dict[str, dict[str, Any]]]:
    """Codes of the neurons to remove (0: stays), and the new bias fields of populations that constants move into."""
    firing = may_fire(fixed)
    needed = _needed(fixed, together, firing)
    constant, biases = _constant(fixed, together, firing, needed, mantissa, exponent)
    codes = {}
    for population in fixed.populations:
        name = population.name
        found = np.zeros(population.n, dtype=np.int8)
        found[~needed[name]] = 1 + REASONS.index("unreachable")
        found[~needed[name] & ~firing[name]] = 1 + REASONS.index("silent")
        found[constant[name]] = 1 + REASONS.index("constant")
        codes[name] = found
    return codes, biases


def _needed(fixed: FixedNetwork, together: Units, firing: Masks) -> dict[str, NDArray[np.bool_]]:
    """Population → (n,) neurons that may fire and lead to a population that stays whole, and all that stay with them."""
    needed = together.together({p.name: np.zeros(p.n, dtype=np.bool_) for p in fixed.populations})
    while True:
        before = sum(int(np.count_nonzero(mask)) for mask in needed.values())
        for projection in fixed.projections:
            if projection.source != INPUT:
                sources = projection.weights.reaching(needed[projection.target])
                needed[projection.source] |= sources & firing[projection.source]
        needed = together.together(needed)
        if sum(int(np.count_nonzero(mask)) for mask in needed.values()) == before:
            return needed


def _constant(
    fixed: FixedNetwork,
    together: Units,
    firing: Masks,
    needed: Masks,
    mantissa: IntFormat,
    exponent: IntFormat,
) -> tuple[dict[str, NDArray[np.bool_]], dict[str, dict[str, Any]]]:
    """Constant senders whose share moves into their targets' biases exactly, and these biases' new fields."""
    bounds = bounds_given(fixed, firing)
    constant = {p.name: fires_always(p, bounds[p.name]) & needed[p.name] for p in fixed.populations}
    memoryless = {p.name: _takes_constants(p) & ~bounds[p.name].may_wrap for p in fixed.populations}
    for projection in fixed.projections:
        if projection.source != INPUT and np.any(constant[projection.source]):
            target, weights = projection.target, projection.weights
            shifts_right = projection.weight_exp < 0
            constant[projection.source] &= ~weights.reaching(
                needed[target] & (shifts_right | ~memoryless[target])
            )
            late = np.broadcast_to(fixed.lag(projection) != 0, (weights.n_parameters,))
            constant[projection.source] &= weights.sum_columns(late, needed[target]) == 0
    while True:
        rest = together.together({name: needed[name] & ~constant[name] for name in constant})
        constant = {name: constant[name] & ~rest[name] for name in constant}
        biases, full = _moved(fixed, constant, needed, mantissa, exponent)
        if not full:
            return constant, biases
        for projection in fixed.projections:  # a bias that no format holds: their senders stay
            if projection.target in full and projection.source != INPUT:
                constant[projection.source] &= projection.weights.fan_out() == 0


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
        weights = projection.weights
        sums = weights.sum_rows(weights.data.astype(np.int64), constant[projection.source]).astype(np.int64)
        share = np.where(needed[projection.target], sums, 0)
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
    together: Units,
) -> FixedNetwork:
    """The network with the neurons that stay, without synapses of those that have a code."""
    populations = []
    for population in fixed.populations:
        name = population.name
        moved = replace(population, neuron=replace(population.neuron, **biases.get(name, {})))
        populations.append(_fewer(moved, stays[name], codes[name] == 0, together.sizes[name]))
    projections = tuple(_cut(projection, codes, stays) for projection in fixed.projections)
    return replace(fixed, populations=tuple(populations), projections=projections)


def _fewer(
    population: FixedPopulation, stays: NDArray[np.bool_], live: NDArray[np.bool_], size: int
) -> FixedPopulation:
    """The population with the neurons that stay; those that stay for its sake alone lose their biases."""
    arrays = {name: (values * live)[stays] for name, values in population.neuron.arrays().items()}
    neuron = replace(population.neuron, **arrays)
    if np.all(stays):
        return replace(population, neuron=neuron)
    places = np.flatnonzero(stays)
    kept = population.kept
    trained = population.shape if kept is None else kept.shape
    kept = Kept(trained, places if kept is None else kept.indices[places])
    maps = len(population.shape) == 3 and prod(population.shape[1:]) == size
    shape = (places.size // size, *population.shape[1:]) if maps else (places.size,)
    return replace(population, shape=shape, neuron=neuron, kept=kept)


def _cut(
    projection: FixedProjection,
    codes: Mapping[str, NDArray[np.int8]],
    stays: Masks,
) -> FixedProjection:
    """The projection between the neurons that stay, without synapses of those that have a code."""
    n_source = projection.weights.shape[1]
    everything = np.ones(n_source, dtype=np.bool_)
    source = projection.source
    rows, columns = stays[projection.target], everything if source == INPUT else stays[source]
    live_rows = codes[projection.target] == 0
    live_columns = everything if source == INPUT else codes[source] == 0
    if all(map(np.all, (rows, columns, live_rows, live_columns))):
        return projection
    kernels = in_kernels(projection)
    if kernels is not None:
        steps = [
            kernels.shape[k] // channels
            for k, channels in enumerate((kernels.kernel.shape[0], kernels.input_shape[0]))
        ]
        outs, live_outs = rows[:: steps[0]], live_rows[:: steps[0]]
        ins, live_ins = columns[:: steps[1]], live_columns[:: steps[1]]
        assert isinstance(projection.pattern, ConvolutionWeights)
        return replace(
            projection,
            weights=kernels.restricted(live_outs, live_ins).of_channels(outs, ins),
            pattern=projection.pattern.of_channels(outs, ins),
        )
    weights = projection.weights.to_csr()
    of_rows, of_columns = weights.row_of(), weights.indices
    live = live_rows[of_rows] & live_columns[of_columns]
    counts = np.bincount((np.cumsum(rows) - 1)[of_rows[live]], minlength=np.count_nonzero(rows))
    indptr = np.concatenate([[0], np.cumsum(counts)])
    new = (np.cumsum(columns) - 1)[of_columns[live]]
    shape = (int(np.count_nonzero(rows)), int(np.count_nonzero(columns)))
    delay = projection.delay
    return replace(
        projection,
        weights=CsrMatrix(weights.data[live], new, indptr, shape),
        delay=delay[live] if isinstance(delay, np.ndarray) and delay.ndim else delay,
    )
