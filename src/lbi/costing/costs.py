"""Cost models: energy and time of counted events, with one set of constants (``lbi.costing.counts`` counts).

The constants per event are of the kind given by Davies et al., IEEE Micro 38(1), 2018, Table 2. A constant that is
not published counts as 0, and reports state it:

    E = Σ events · energy per event                                                             [pJ]
    T_low  = max over cores max(Σ synapse events · time, Σ neuron events · time) + barrier_low      [ns]
    T_high = max over cores    (Σ synapse events · time + Σ neuron events · time) + barrier_high     [ns]

never less than the chip's ``step_floor``. T_low lets a core's synapses and neurons work at the same time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from lbi.chip.events import NEURON_EVENTS, PARTS, SYNAPSE_EVENTS
from lbi.chip.profile import CostSet, HardwareProfile, Quantity
from lbi.costing.counts import Loads


def energy_parts(costs: CostSet, events: Mapping[str, float]) -> dict[str, float]:
    """Energy in pJ by part, for counts of events.

    Input messages are charged as sent within a tile, because their origin is unknown (docs/hardware.md).

    Args:
        costs: a cost set of the chip.
        events: event → count.

    Returns:
        Part → energy in pJ.
    """
    counted = dict(events)
    from_input = events.get("message_from_input", 0)
    for event in ("message_out", "message_within_tile"):
        counted[event] = counted.get(event, 0) + from_input
    return {
        part: float(
            sum(costs.energy[name].number * counted.get(name, 0) for name in names if name in costs.energy)
        )
        for part, names in PARTS.items()
    }


def energy(costs: CostSet, events: Mapping[str, float]) -> float | None:
    """Energy in pJ for counts of events; None if the set has no energies.

    Args:
        costs: a cost set of the chip.
        events: event → count.

    Returns:
        The sum of all parts in pJ; None if the set has no energies.
    """
    return sum(energy_parts(costs, events).values()) if costs.energy else None


def step_times(costs: CostSet, loads: Loads) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper bound of every timestep, each (n_samples, n_chip_steps) in ns.

    Args:
        costs: a cost set of the chip.
        loads: counts per sample, timestep and core.

    Returns:
        The lower bounds and the upper bounds.
    """

    def part(events: tuple[str, ...]) -> NDArray[np.float64]:
        total = np.zeros(loads.cores["spike"].shape)
        for event in events:
            price = costs.time[event].number
            if price:
                total += price * loads.cores[event]
        return total

    synapses, neurons = part(SYNAPSE_EVENTS), part(NEURON_EVENTS)
    low = np.maximum(synapses, neurons).max(axis=2, initial=0.0) + costs.time["barrier_low"].number
    high = (synapses + neurons).max(axis=2, initial=0.0) + costs.time["barrier_high"].number
    floor = costs.time["step_floor"].number
    return np.maximum(low, floor), np.maximum(high, floor)


def static_pj(power_mw: float, time_ns: float) -> float:
    """Energy in pJ of a power over a time: 1 mW · 1 ns = 1 pJ.

    Args:
        power_mw: power.
        time_ns: time.

    Returns:
        The energy in pJ.
    """
    return power_mw * time_ns


def price_lists(profile: HardwareProfile) -> dict[str, tuple[str, CostSet]]:
    """Name → (label, costs) of the chip's cost sets with energies; if there are none, of its what-if scenarios.

    Args:
        profile: the chip.

    Returns:
        Name → (label, cost set); empty if the chip has neither.
    """
    own = {costs.name: (costs.label, costs) for costs in profile.costs if costs.energy}
    return own or {s.name: (f"what-if: {s.label}", s.costs) for s in profile.scenarios if s.costs is not None}


def price_source(profile: HardwareProfile, of: str, name: str = "") -> str:
    """The cost sets behind a chip's energies or times, and how sure they are.

    Args:
        profile: the chip.
        of: "energy" or "time".
        name: the one cost set or scenario that prices the energy; empty for all cost sets of the chip.

    Returns:
        Their labels; empty if nothing of it is published.
    """
    own = {costs.name: (costs.label, getattr(costs, of).values()) for costs in profile.costs}
    if not name:
        return labelled(own.values())
    priced = {
        s.name: (f"what-if: {s.label}", [s.energy_per_synop] if s.costs is None else s.costs.energy.values())
        for s in profile.scenarios
    }
    return labelled([{**priced, **own}[name]])


def labelled(sets: Iterable[tuple[str, Iterable[Quantity | None]]]) -> str:
    """Labels of sets of prices, each with the confidences of its prices.

    Args:
        sets: label and prices of each; sets without prices are left out.

    Returns:
        The text.
    """
    listed = ((label, [price for price in prices if price is not None]) for label, prices in sets)
    return "; ".join(f"{label} ({_sure(prices)})" for label, prices in listed if prices)


def _sure(prices: Iterable[Quantity]) -> str:
    return ", ".join(dict.fromkeys(price.confidence for price in prices if price.known))
