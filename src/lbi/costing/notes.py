"""What a reader must know to use an estimate's figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lbi.costing.estimation import Estimate


def notes(estimate: Estimate) -> list[str]:
    """What a reader must know to use the figures."""
    profile, sparse, dense = estimate.profile, estimate.sparse, estimate.dense
    found = [
        "Dense and sparse price the same spikes. Dense fetches every weight of a row, zeros too.",
        f"Neuron updates do not shrink with sparsity: {sparse.neuron_updates:,.0f} per timestep in both.",
        "Not counted: host and embedded processors, input and output, off-chip links, loading of weights.",
    ]
    if not estimate.measured:
        found.insert(
            0, "No input data was given: all figures per timestep are the worst case, not an expectation."
        )
    if not profile.has_energy:
        found.append(
            f"No energy per event of {profile.title} is published: energy is null, and the scenarios "
            "are labelled what-ifs."
        )
    if not sparse.exact_messages:
        found.append(
            "Messages and times are bounds: the run recorded no spikes per neuron "
            '(simulate with record=("spikes", "active") and pass the input spikes).'
        )
    if not dense.fits:
        found.append("The dense network does not fit this chip at all: no cores and no time for it.")
    if sparse.placement.n_chips > 1:
        found.append("More than one chip: the cost of chip-to-chip links is not published and not counted.")
    if estimate.fixed.depth and estimate.measured:
        found.append(
            f"On the chip a sample takes {estimate.n_steps + estimate.fixed.depth} timesteps: "
            f"its own {estimate.n_steps} and {estimate.fixed.depth} of pipeline; updates are counted for its own."
        )
    return found


def measured_how(estimate: Estimate) -> list[str]:
    """How the figures came about, step by step."""
    profile = estimate.profile
    steps = [
        "The network's integers ran in the bit-exact simulator, which keeps every neuron's spikes and active flags."
        if estimate.measured
        else "Nothing was run: every input and every neuron is taken to spike in every timestep.",
        f"Neurons were placed on cores within the limits of {profile.title}, once with each projection in its "
        "cheaper format, once with all weights stored.",
        "Events were counted per sample, timestep and core: synapses fetched, active and inactive updates, spikes, "
        "messages per destination core, hops on the mesh. Counts are exact and do not depend on any constant below.",
    ]
    if profile.has_energy:
        labels = "; ".join(f"{costs.label} ({costs.basis})" for costs in profile.costs if costs.energy)
        steps.append(
            f"Dynamic energy is counts times costs, a band over {labels}. Static energy is power times time, a line of its own."
        )
    steps.append(
        "Time per timestep is the busiest core's: at least the larger of its synapses' and its neurons' time, at "
        "most their sum, and the barrier; low and high over "
        + "; ".join(costs.label for costs in profile.costs)
        + "."
    )
    return steps
