"""An Estimate as plain JSON values: what ``lbi-estimate --json`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lbi.chip.profile import HardwareProfile, Quantity
from lbi.costing.bill import Bill
from lbi.costing.notes import notes

if TYPE_CHECKING:
    from lbi.costing.estimation import Estimate


def to_dict(estimate: Estimate) -> dict[str, Any]:
    """Contract keys first: chip, n_samples, n_steps, basis, dense, sparse, ratio."""
    profile = estimate.profile
    dense, sparse = bill_dict(estimate.dense, dense=True), bill_dict(estimate.sparse, dense=False)
    return {
        "chip": profile.name,
        "n_samples": estimate.n_samples,
        "n_steps": estimate.n_steps,
        "basis": estimate.basis,
        "dense": dense,
        "sparse": sparse,
        "ratio": ratios(dense, sparse),
        "measured": estimate.measured,
        "density": sum(p.nnz for p in estimate.projections)
        / max(sum(p.shape[0] * p.shape[1] for p in estimate.projections), 1),
        "projections": [
            {
                "name": p.name,
                "shape": list(p.shape),
                "nnz": p.nnz,
                "density": p.density,
                "format": p.bits.chosen,
                "bits": p.bits.bits,
                "dense_bits": p.bits.dense,
                "indexed_bits": p.bits.indexed,
                "host_csr_bytes": p.csr_bytes,
                "host_dense_bytes": p.dense_bytes,
                "events_per_step": p.events_per_step,
                "synops_dense_per_step": p.synops_dense_per_step,
                "synops_effective_per_step": p.synops_effective_per_step,
            }
            for p in estimate.projections
        ],
        "neurobench": neurobench(estimate),
        "memory_layouts": memory_layouts(estimate),
        "neuron_state_bits": int(estimate.fixed.n_neurons * profile.limits.state_per_neuron.number),
        "scenario_labels": {s.name: {"label": s.label, "note": s.note} for s in profile.scenarios},
        "cost_sets": {
            c.name: {"label": c.label, "basis": c.basis, "energy": bool(c.energy)} for c in profile.costs
        },
        "dense_problems": [str(problem) for problem in estimate.dense_problems],
        "constants": constants(profile),
        "sources": dict(profile.sources),
        "notes": notes(estimate),
    }


def neurobench(estimate: Estimate) -> dict[str, float] | None:
    """NeuroBench's metrics, by its names: SynapticOperations per sample (summed over timesteps), sparsities.

    Its Dense counts every weight in every timestep, whether its source spikes or not. Null without input.
    """
    if not estimate.measured:
        return None
    n_weights = sum(p.shape[0] * p.shape[1] for p in estimate.projections)
    nnz = sum(p.nnz for p in estimate.projections)
    fraction = estimate.sparse.events["spike"] / estimate.fixed.n_neurons
    return {
        "Effective_MACs": 0.0,
        "Effective_ACs": sum(p.synops for p in estimate.projections) / estimate.n_samples,
        "Dense": float(n_weights * estimate.n_steps),
        "ConnectionSparsity": round((n_weights - nnz) / n_weights, 4) if n_weights else 0.0,
        "ActivationSparsity": 1.0 - fraction,
    }


def bill_dict(bill: Bill, *, dense: bool) -> dict[str, Any]:
    """One configuration. ``synops_per_step``: all synapses (dense), or the nonzero ones (sparse)."""
    energy, time = bill.energy_band, bill.time_band
    return {
        "synops_per_step": bill.synops_fetched if dense else bill.synops_effective,
        "neuron_updates_per_step": bill.neuron_updates,
        "spikes_per_step": bill.events["spike"],
        "synaptic_memory_bits": bill.placement.synaptic_bits,
        "n_cores": bill.placement.n_cores if bill.fits else None,
        "energy_pj_per_step": energy.to_dict() if energy else None,
        "time_ns_per_step": time.to_dict() if time else None,
        "synops_fetched_per_step": bill.synops_fetched,
        "synops_effective_per_step": bill.synops_effective,
        "active_updates_per_step": bill.events["update_active"],
        "inactive_updates_per_step": bill.events["update_inactive"],
        "input_spikes_per_step": bill.input_spikes,
        "messages_per_step": bill.events["message_in"],
        "messages_exact": bill.exact_messages,
        "hops_per_step": {"ew": bill.events["hop_ew"], "ns": bill.events["hop_ns"]},
        "messages_off_chip_per_step": bill.events["message_off_chip"],
        "n_chips": bill.placement.n_chips if bill.fits else None,
        "per_core": per_core(bill) if bill.fits else None,
        "energy_by_cost_set": {name: band.to_dict() for name, band in bill.energy.items()},
        "energy_parts_pj": {name: dict(parts) for name, parts in bill.parts.items() if name in bill.energy},
        "scenario_parts_pj": {
            name: dict(parts) for name, parts in bill.parts.items() if name not in bill.energy
        },
        "time_by_cost_set": {name: band.to_dict() for name, band in bill.time.items()},
        "slowest_step_ns": {name: band.to_dict() for name, band in bill.slowest_ns.items()},
        "static_pj_per_step": {name: band.to_dict() for name, band in bill.static.items()},
        "scenarios_pj_per_step": {name: band.to_dict() for name, band in bill.scenarios.items()},
    }


def per_core(bill: Bill) -> dict[str, dict[str, float | int | None]]:
    """Resource → what the fullest core uses, the mean, the sum, and the limit (null: none known)."""
    placement = bill.placement
    return {
        name: {
            "max": int(used.max()),
            "mean": float(used.mean()),
            "total": int(used.sum()),
            "limit": placement.limits[name],
        }
        for name, used in placement.use.items()
    }


RATIO_KEYS = (
    "synops_per_step",
    "neuron_updates_per_step",
    "spikes_per_step",
    "synaptic_memory_bits",
    "n_cores",
    "energy_pj_per_step",
    "time_ns_per_step",
)


def ratios(over: dict[str, Any], under: dict[str, Any]) -> dict[str, Any]:
    """``over / under`` key by key; bands give {low, high} of like with like; null where undefined."""
    result: dict[str, Any] = {}
    for key in RATIO_KEYS:
        a, b = over[key], under[key]
        if a is None or b is None:
            result[key] = None
        elif isinstance(a, dict):
            result[key] = {end: _ratio(a[end], b[end]) for end in ("low", "high")}
        else:
            result[key] = _ratio(a, b)
    return result


def _ratio(a: float, b: float) -> float | None:
    return a / b if b else None


def memory_layouts(estimate: Estimate) -> dict[str, Any]:
    """Synaptic bits under every layout of the chip; the first is the one used, the others are scenarios."""
    from lbi.chip.memory import projection_bits, sizes

    profile, n_of = estimate.profile, sizes(estimate.fixed)
    layouts = {}
    for layout in profile.memory:
        bits = [projection_bits(p, n_of, profile, layout) for p in estimate.fixed.projections]
        capacity = layout.capacity.number
        layouts[layout.name] = {
            "label": layout.label,
            "dense_bits": sum(b.dense for b in bits),
            "sparse_bits": sum(b.bits for b in bits),
            "capacity_bits_per_core": int(capacity),
        }
    return layouts


def constants(profile: HardwareProfile) -> list[dict[str, Any]]:
    """Every number of the profile, and of the scenarios' cost sets, with unit, source and confidence."""
    numbers: dict[str, Quantity] = dict(profile.quantities())
    for scenario in profile.scenarios:
        if scenario.costs is not None:
            energy = scenario.costs.energy
            numbers |= {f"scenarios.{scenario.name}.energy.{event}": value for event, value in energy.items()}
    return [
        {
            "name": name,
            "value": q.value,
            "unit": q.unit,
            "source": q.source,
            "confidence": q.confidence,
            "note": q.note,
        }
        for name, q in numbers.items()
    ]
