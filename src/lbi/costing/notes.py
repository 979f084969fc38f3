"""What a reader must know to use an estimate's figures."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lbi.estimate import Estimate


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
