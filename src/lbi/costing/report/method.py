"""How an estimate's figures came about, in words."""

from __future__ import annotations

from lbi.costing.result import Estimate


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
