"""Bounds of currents and voltages for any input, computed from the weights: neurons that cannot wrap or saturate.

If every source of a neuron's positive synapses spikes in every step, its input is A per step, and the current
stays at or below ``U = (A << 6) · 4096 / (du + 1)``: from ``u ≤ U`` follows ``u · (4096 − (du + 1)) / 4096 +
(A << 6) ≤ U``. The same holds for negative synapses, since decay truncates toward zero, and for voltages. It holds for
every neuron model of the form ``u ← trunc0(u · (4096 − lost) / 4096) + (a << 6)``, ``v ← trunc0(v · (4096 − lost) / 4096) + u +
bias``; ``leaks`` of its integer record states what is lost, and above which value a voltage is reset to 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lbi.network.fixed import FixedNetwork, FixedPopulation, FixedProjection
from lbi.network.fixedpoint import ACTIVATION_SHIFT, DECAY_BITS, STATE_LIMIT

_UNITY = 1 << DECAY_BITS


@dataclass(frozen=True, eq=False)
class StateBound:
    """Bounds of a population's states; infinite where nothing is proved.

    Attributes:
        current: (lowest, highest), each (n,) float64, before wrapping and clipping, in state units.
        voltage: (lowest, highest), each (n,) float64, before wrapping and clipping, in state units.
    """

    current: tuple[NDArray[np.float64], NDArray[np.float64]]
    voltage: tuple[NDArray[np.float64], NDArray[np.float64]]

    @property
    def may_wrap(self) -> NDArray[np.bool_]:
        """(n,) True for neurons whose current may leave 24 bits: above 2^23, or at −2^23 and below, it wraps."""
        return (self.current[1] > STATE_LIMIT) | (self.current[0] <= -STATE_LIMIT)

    @property
    def may_clip(self) -> NDArray[np.bool_]:
        """(n,) True for neurons whose voltage may exceed ±(2^23 − 1)."""
        return (self.voltage[1] >= STATE_LIMIT) | (self.voltage[0] <= -STATE_LIMIT)


def state_bounds(fixed: FixedNetwork, n_steps: int | None = None) -> dict[str, StateBound]:
    """Bounds of every population's current and voltage for samples of ``n_steps`` steps; None for any length.

    Args:
        fixed: the network.
        n_steps: timesteps of a sample.

    Returns:
        Population → bounds, in state units.
    """
    return bounds_given(fixed, {}, n_steps)


def bounds_given(
    fixed: FixedNetwork, firing: Mapping[str, NDArray[np.bool_]], n_steps: int | None = None
) -> dict[str, StateBound]:
    """Bounds of states if only some neurons ever spike.

    Args:
        fixed: The network.
        firing: Population → (n,) False for neurons that never spike; a population left out may spike.
        n_steps: Length of the samples; None for any.

    Returns:
        Population → its bounds.
    """
    low = {population.name: np.zeros(population.n) for population in fixed.populations}
    high = {population.name: np.zeros(population.n) for population in fixed.populations}
    silent = {p.name for p in fixed.populations if not p.neuron.spikes}
    for projection in fixed.projections:
        if projection.source not in silent:
            senders = firing.get(projection.source)
            low[projection.target] += _extreme_input(projection, -1, senders)
            high[projection.target] += _extreme_input(projection, 1, senders)
    return {p.name: _bound(p, low[p.name], high[p.name], n_steps) for p in fixed.populations}


def may_fire(fixed: FixedNetwork) -> dict[str, NDArray[np.bool_]]:
    """Neurons that some input might make spike; all others are silent for every input.

    At first no neuron is assumed to spike. Those that the input and their biases can lift over the threshold
    are added, then those that these can, until nothing changes: by induction over time, no other neuron spikes.

    Args:
        fixed: The network.

    Returns:
        Population → (n,) bools.
    """
    firing = {p.name: np.zeros(p.n, dtype=np.bool_) for p in fixed.populations}
    while True:
        bounds = bounds_given(fixed, firing)
        found = {p.name: _exceeds(p, bounds[p.name]) for p in fixed.populations}
        if all(np.array_equal(found[name], firing[name]) for name in firing):
            return firing
        firing = found


def fires_always(population: FixedPopulation, bound: StateBound) -> NDArray[np.bool_]:
    """The neurons that spike in every timestep, for every input within the bound.

    Args:
        population: the population.
        bound: lowest and highest current and voltage of its neurons.

    Returns:
        (n,) True for those that do; all False for models that do not tell their threshold and reset.
    """
    leaks = population.neuron.leaks()
    never = np.zeros(population.n, dtype=np.bool_)
    if (
        not population.neuron.spikes
        or leaks is None
        or leaks.fires_above is None
        or leaks.reset_above is None
    ):
        return never
    if leaks.reset_above > leaks.fires_above:
        return never
    # Every voltage so far was reset to 0, so the next one is at least the lowest current and the bias.
    lowest = np.where(bound.may_wrap, -np.inf, bound.current[0] + population.neuron.bias)
    return lowest > leaks.fires_above


def _exceeds(population: FixedPopulation, bound: StateBound) -> NDArray[np.bool_]:
    """(n,) True where a neuron's voltage, without a spike so far, may cause one."""
    leaks = population.neuron.leaks()
    if not population.neuron.spikes:
        return np.zeros(population.n, dtype=np.bool_)
    if leaks is None or leaks.silent_up_to is None:
        return np.ones(population.n, dtype=np.bool_)
    gain = np.maximum(np.where(bound.may_wrap, np.inf, bound.current[1] + population.neuron.bias), 0)
    return _sustained(gain, leaks.voltage, None) > leaks.silent_up_to


def _extreme_input(
    projection: FixedProjection, sign: int, senders: NDArray[np.bool_] | None
) -> NDArray[np.float64]:
    """(n_target,) sum of a projection if spikes reach exactly the synapses of one sign, shifted per delay."""
    weights = projection.weights
    total = np.zeros(weights.shape[0])
    if senders is not None:
        if not np.any(senders):
            return total
        senders = None if np.all(senders) else senders
    data = weights.data.astype(np.int64)
    chosen = np.where(np.sign(data) == sign, data, 0)
    exponent = projection.weight_exp
    delays = np.broadcast_to(projection.delay, data.shape) if exponent < 0 else np.zeros(data.shape)
    for delay in np.unique(delays):
        sums = weights.sum_rows(np.where(delays == delay, chosen, 0), senders).astype(np.int64)
        total += sums << exponent if exponent > 0 else sums >> -exponent
    return total


def _bound(
    population: FixedPopulation, low: NDArray[np.float64], high: NDArray[np.float64], n_steps: int | None
) -> StateBound:
    neuron = population.neuron
    unit = 1 << ACTIVATION_SHIFT
    leaks = neuron.leaks()
    if leaks is None:
        unknown = np.full(population.n, np.inf)
        return StateBound((-unknown, unknown), (-unknown, unknown))
    current = (
        _sustained(low * unit, leaks.current, n_steps),
        _sustained(high * unit, leaks.current, n_steps),
    )
    # A current that wraps can have any value of 24 bits, or more if 32 bits overflow.
    wraps = (current[1] > STATE_LIMIT) | (current[0] <= -STATE_LIMIT)
    step_low = np.minimum(np.where(wraps, -np.inf, current[0] + neuron.bias), 0)
    step_high = np.maximum(np.where(wraps, np.inf, current[1] + neuron.bias), 0)
    if leaks.reset_above is None:
        highest = _sustained(step_high, leaks.voltage, n_steps)
    else:
        highest = leaks.reset_above * (_UNITY - leaks.voltage) / _UNITY + step_high
    return StateBound(current, (_sustained(step_low, leaks.voltage, n_steps), highest))


def _sustained(step: NDArray[np.float64], decay: int, n_steps: int | None) -> NDArray[np.float64]:
    """The bound of a state that gains ``step`` and loses decay/4096 in every step."""
    with np.errstate(divide="ignore", invalid="ignore"):
        forever = np.where(step == 0, 0.0, step * _UNITY / decay if decay else np.sign(step) * np.inf)
    if n_steps is None:
        return forever
    for_now = step * n_steps
    return np.where(np.abs(for_now) < np.abs(forever), for_now, forever)
