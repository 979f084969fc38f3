"""Description of how the figures of an estimate were obtained."""

from __future__ import annotations

from lbi.costing.result import Estimate


def measured_how(estimate: Estimate) -> list[str]:
    """The steps by which the figures were obtained, as sentences.

    Args:
        estimate: the estimate.

    Returns:
        One or more sentences per step, in order.
    """
    profile = estimate.profile
    steps = [
        "The network was run in integers in the bit-exact simulator, which records all spikes and active neurons."
        if estimate.measured
        else "Nothing was run: every input and every neuron is assumed to spike in every timestep.",
        f"Neurons were placed on cores within the limits of {profile.title}, once with each projection in its "
        "smaller format, once with all weights stored.",
        "Events were counted per sample, timestep and core: synapses fetched, active and inactive updates, spikes, "
        "messages per destination core, hops on the mesh. Counts are exact and do not depend on any constant below.",
    ]
    if profile.has_energy:
        labels = "; ".join(f"{costs.label} ({costs.basis})" for costs in profile.costs if costs.energy)
        steps.append(
            f"Dynamic energy is counts times costs, as a range over {labels}. Static energy is power times time and is listed separately."
        )
    steps.append(
        "Time per timestep is that of the busiest core: at least the larger of synapse time and neuron time, at "
        "most their sum, plus the barrier; low and high over "
        + "; ".join(costs.label for costs in profile.costs)
        + ". Samples follow one another without a pause: the steps in which later neurons end a sample are the first of the next, so that "
        "every neuron is updated in every step. Energy, static energy and time are all means over a sample's own timesteps."
    )
    return steps
