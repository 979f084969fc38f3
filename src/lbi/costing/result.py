"""An estimate: the cost of a network on a chip, dense beside sparse, with conversion to plain JSON values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.chip.memory import SHARED, ProjectionBits, filled, projection_bits, sizes
from lbi.chip.placement import Placement
from lbi.chip.profile import HardwareProfile
from lbi.costing.checkpoints import check_points
from lbi.costing.cores import CoreLoad, TimeBound
from lbi.costing.provenance import length_notes, reading_notes
from lbi.costing.ranges import Range, hull
from lbi.costing.ratios import ratios
from lbi.costing.recorded_budget import recorded_budget
from lbi.costing.savings import Saving
from lbi.errors import Problem
from lbi.network.fixed import FixedNetwork
from lbi.network.restored import restored


@dataclass(frozen=True, eq=False)
class Series:
    """Means over samples per chip timestep.

    Attributes:
        synops: (n_chip_steps,) synaptic operations fetched.
        energy: price list → (n_chip_steps,) pJ.
    """

    synops: NDArray[np.float64]
    energy: Mapping[str, NDArray[np.float64]]


@dataclass(frozen=True, eq=False)
class CostBreakdown:
    """The cost of one configuration per timestep of a sample.

    Attributes:
        placement: neurons on cores.
        fits: False if no placement exists and ``placement`` is only imagined; what depends on cores is unknown then:
            messages and hops, whose energy is left out, times and static energy.
        events: event → count per timestep; without messages and hops where there is no placement.
        synops_effective: synaptic operations on nonzero weights.
        exact_messages: False if messages are only bounded.
        exact_synops: False if synaptic operations fetched are those of the mean fan-out; energies and times are bounds.
        energy: cost set → pJ.
        parts: price list → part → pJ.
        time: cost set → mean bounds in ns per timestep, of samples that follow one another (``Loads.streamed``).
        slowest_ns: cost set → bounds of the slowest timestep.
        static_by_cost_set: static power → cost set of the time → pJ per timestep.
        scenarios: scenario → pJ per timestep, labelled what-ifs.
        series: the course over the timesteps.
        input_spikes: spikes of the input.
        loads: load ("synops", "updates", "messages") → its use by the cores; empty if not counted per core.
        bounds: cost set → what sets the time; empty if not counted per core.
        savings: shares of the energy that could be saved next, the greatest first.
    """

    placement: Placement
    fits: bool
    events: Mapping[str, float]
    synops_effective: float
    exact_messages: bool
    exact_synops: bool
    energy: Mapping[str, Range]
    parts: Mapping[str, Mapping[str, float]]
    time: Mapping[str, Range]
    slowest_ns: Mapping[str, Range]
    static_by_cost_set: Mapping[str, Mapping[str, Range]]
    scenarios: Mapping[str, Range]
    series: Series
    input_spikes: float
    loads: Mapping[str, CoreLoad]
    bounds: Mapping[str, TimeBound]
    savings: tuple[Saving, ...]

    @property
    def synops_fetched(self) -> float:
        """Stored entries read per timestep, in the formats of this configuration."""
        return self.events["synop_dense"] + self.events["synop_indexed"]

    @property
    def unrolled_bits(self) -> int:
        """Synaptic memory with every convolution stored unrolled, over all cores."""
        return sum(bits.unrolled for bits in self.placement.bits.values())

    @property
    def neuron_updates(self) -> float:
        """Active and inactive updates per timestep: every neuron, every step."""
        return self.events["update_active"] + self.events["update_inactive"]

    @property
    def energy_range(self) -> Range | None:
        """Energy in pJ from the lowest to the highest cost set; None if the chip's energy is not published."""
        return hull(self.energy)

    @property
    def time_range(self) -> Range | None:
        """From the lowest bound of a cost set to the highest, in ns; None without a placement."""
        return hull(self.time)

    @property
    def static(self) -> dict[str, Range]:
        """Static power → pJ per timestep, over the cost sets of the time."""
        hulls = {name: hull(sets) for name, sets in self.static_by_cost_set.items()}
        return {name: found for name, found in hulls.items() if found is not None}

    def to_dict(self, *, dense: bool) -> dict[str, Any]:
        """Plain JSON values. ``synops_per_step``: all synapses (dense), or the nonzero ones (sparse).

        Args:
            dense: whether these are the costs of the dense network.

        Returns:
            The record of ``lbi-estimate --json``.
        """
        energy, time = self.energy_range, self.time_range
        return {
            "synops_per_step": self.synops_fetched if dense else self.synops_effective,
            "neuron_updates_per_step": self.neuron_updates,
            "spikes_per_step": self.events["spike"],
            "synaptic_memory_bits": self.placement.synaptic_bits,
            "unrolled_memory_bits": self.unrolled_bits,
            "n_cores": self.placement.n_cores if self.fits else None,
            "energy_pj_per_step": energy.to_dict() if energy else None,
            "time_ns_per_step": time.to_dict() if time else None,
            "synops_fetched_per_step": self.synops_fetched,
            "synops_effective_per_step": self.synops_effective,
            "active_updates_per_step": self.events["update_active"],
            "inactive_updates_per_step": self.events["update_inactive"],
            "input_spikes_per_step": self.input_spikes,
            "messages_per_step": self.events.get("message_in"),
            "messages_exact": self.exact_messages,
            "hops_per_step": {"ew": self.events["hop_ew"], "ns": self.events["hop_ns"]}
            if self.fits
            else None,
            "messages_off_chip_per_step": self.events.get("message_off_chip"),
            "energy_with_messages": self.fits,
            "n_chips": self.placement.n_chips if self.fits else None,
            "per_core": _per_core(self.placement) if self.fits else None,
            "energy_by_cost_set": _dicts(self.energy),
            "energy_parts_pj": {name: dict(p) for name, p in self.parts.items() if name in self.energy},
            "scenario_parts_pj": {name: dict(p) for name, p in self.parts.items() if name not in self.energy},
            "time_by_cost_set": _dicts(self.time),
            "slowest_step_ns": _dicts(self.slowest_ns),
            "static_pj_per_step": _dicts(self.static),
            "scenarios_pj_per_step": _dicts(self.scenarios),
            "core_loads": {name: load.to_dict() for name, load in self.loads.items()},
            "time_bounds": {name: bound.to_dict() for name, bound in self.bounds.items()},
            "savings": [saving.to_dict() for saving in self.savings],
        }


def _dicts(ranges: Mapping[str, Range]) -> dict[str, dict[str, float]]:
    return {name: r.to_dict() for name, r in ranges.items()}


def _per_core(placement: Placement) -> dict[str, dict[str, float | int | None]]:
    """Resource → maximum over cores, mean, sum, and limit (None if unknown)."""
    return {
        name: {
            "max": int(used.max()),
            "mean": float(used.mean()),
            "total": int(used.sum()),
            "limit": placement.limits[name],
        }
        for name, used in placement.use.items()
    }


@dataclass(frozen=True, eq=False)
class ProjectionFigures:
    """Size, memory and activity of one projection.

    Attributes:
        name: the projection's.
        shape: (n_target, n_source).
        nnz: nonzero synapses; those of kernels unrolled.
        n_positions: weights of the dense layer: of the layer's own pattern (``lbi.network.pattern``).
        bits: synaptic memory on the chip.
        dense_bits: synaptic memory of the dense layer.
        csr_bytes: weights in a computer's memory as CSR arrays.
        dense_bytes: the same as a dense array.
        n: timesteps of all samples.
        events: source spikes offered in them.
        synops: nonzero synapses that those reached.
        synops_dense: weights of the dense layer that they reached.
        synops_fetched: stored synapses that they fetched, zeros of dense rows and shared kernels too.
    """

    name: str
    shape: tuple[int, int]
    nnz: int
    n_positions: int
    bits: ProjectionBits
    dense_bits: int
    csr_bytes: int
    dense_bytes: int
    n: int
    events: int
    synops: int
    synops_dense: int
    synops_fetched: int

    @property
    def density(self) -> float:
        """Nonzero weights / weights of the dense layer."""
        return self.nnz / max(self.n_positions, 1)

    @property
    def events_per_step(self) -> float:
        """Source spikes per timestep."""
        return self.events / self.n

    @property
    def synops_dense_per_step(self) -> float:
        """Synaptic operations per timestep with every weight of the layer's pattern stored."""
        return self.synops_dense / self.n

    @property
    def synops_fetched_per_step(self) -> float:
        """Synaptic operations per timestep as the chip stores the projection."""
        return self.synops_fetched / self.n

    @property
    def synops_effective_per_step(self) -> float:
        """Synaptic operations per timestep on nonzero weights."""
        return self.synops / self.n

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "nnz": self.nnz,
            "n_dense": self.n_positions,
            "density": self.density,
            "format": self.bits.chosen,
            "bits": self.bits.bits,
            "dense_bits": self.dense_bits,
            "indexed_bits": self.bits.indexed,
            "shared_bits": self.bits.shared,
            "unrolled_bits": self.bits.unrolled,
            "host_csr_bytes": self.csr_bytes,
            "host_dense_bytes": self.dense_bytes,
            "events_per_step": self.events_per_step,
            "synops_dense_per_step": self.synops_dense_per_step,
            "synops_fetched_per_step": self.synops_fetched_per_step,
            "synops_effective_per_step": self.synops_effective_per_step,
        }


@dataclass(frozen=True, eq=False, repr=False)
class Estimate:
    """Costs of one network on one chip; ``dense`` and ``sparse`` are costs of the same spikes.

    Attributes:
        fixed: the network.
        profile: the chip.
        n_samples: samples run, 0 without input.
        n_steps: timesteps per sample, 0 without input.
        basis: where the activity came from, in words.
        dense: counts, memory, cores, energy (pJ) and time (ns) with every weight stored.
        sparse: the same for the network as it is.
        projections: the sparse counts, one by one.
        dense_problems: why the dense network cannot be placed, if it cannot.
        exact_dense: True if the dense SynOps were counted per source neuron, not from totals.
    """

    fixed: FixedNetwork
    profile: HardwareProfile
    n_samples: int
    n_steps: int
    basis: str
    dense: CostBreakdown
    sparse: CostBreakdown
    projections: tuple[ProjectionFigures, ...]
    dense_problems: tuple[Problem, ...] = ()
    exact_dense: bool = True

    @property
    def measured(self) -> bool:
        """True if the counts come from input data, False for the worst case."""
        return self.n_samples > 0

    @property
    def n_nonzero(self) -> int:
        """Nonzero synapses of all projections; those of kernels unrolled."""
        return sum(p.nnz for p in self.projections)

    @property
    def n_weights(self) -> int:
        """Weights of the dense network, over all projections."""
        return sum(p.n_positions for p in self.projections)

    @property
    def density(self) -> float:
        """Nonzero weights / weights of the dense network."""
        return self.n_nonzero / max(self.n_weights, 1)

    def __repr__(self) -> str:
        sparse = self.sparse
        return (
            f"Estimate({self.profile.name}, {self.basis}: per timestep {sparse.synops_effective:,.0f} SynOps "
            f"(dense {self.dense.synops_fetched:,.0f}), {sparse.neuron_updates:,.0f} neuron updates; "
            f"{sparse.placement.synaptic_bits:,} bits on {sparse.placement.n_cores} cores)"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as ``lbi-estimate --json`` prints them; energies in pJ, times in ns, per timestep.

        The documented keys of the commands come first: chip, n_samples, n_steps, basis, dense, sparse, ratio.
        """
        profile = self.profile
        dense, sparse = self.dense.to_dict(dense=True), self.sparse.to_dict(dense=False)
        return {
            "chip": profile.name,
            "n_samples": self.n_samples,
            "n_steps": self.n_steps,
            "basis": self.basis,
            "dense": dense,
            "sparse": sparse,
            "ratio": ratios(dense, sparse),
            "measured": self.measured,
            "density": self.density,
            "projections": [projection.to_dict() for projection in self.projections],
            "neurobench": self.neurobench(),
            "memory_layouts": self.memory_layouts(),
            "neuron_state_bits": int(self.fixed.n_neurons * profile.limits.state_per_neuron.number),
            "scenario_labels": {s.name: {"label": s.label, "note": s.note} for s in profile.scenarios},
            "cost_sets": {
                c.name: {"label": c.label, "basis": c.basis, "energy": bool(c.energy)} for c in profile.costs
            },
            "dense_problems": [str(problem) for problem in self.dense_problems],
            "budget": {use.name: use.to_dict() for use in recorded_budget(self.fixed)} or None,
            "checkpoints": [comparison.to_dict() for comparison in check_points(profile)],
            "constants": constants(profile),
            "sources": dict(profile.sources),
            "notes": self.notes(),
        }

    def neurobench(self) -> dict[str, float] | None:
        """NeuroBench's metrics, by its names: SynapticOperations per sample (summed over timesteps), sparsities.

        Its Dense counts all weights in every timestep, with or without a spike of the source. None without input.
        """
        if not self.measured:
            return None
        fraction = self.sparse.events["spike"] / self.fixed.n_neurons
        n, nnz = self.n_weights, self.n_nonzero
        return {
            "Effective_MACs": 0.0,
            "Effective_ACs": sum(p.synops for p in self.projections) / self.n_samples,
            "Dense": float(n * self.n_steps),
            "ConnectionSparsity": round((n - nnz) / n, 4) if n else 0.0,
            "ActivationSparsity": 1.0 - fraction,
        }

    def memory_layouts(self) -> dict[str, dict[str, Any]]:
        """Synaptic bits under every layout of the chip: the one used first, then what-ifs."""
        n_of, dense = sizes(self.fixed), filled(restored(self.fixed))
        n_trained = sizes(dense)
        layouts = {}
        for layout in self.profile.memory:
            bits = [projection_bits(p, n_of, self.profile, layout) for p in self.fixed.projections]
            full = [projection_bits(p, n_trained, self.profile, layout) for p in dense.projections]
            layouts[layout.name] = {
                "label": layout.label,
                "dense_bits": sum(
                    b.dense if p.pattern is None else b.bits
                    for p, b in zip(dense.projections, full, strict=True)
                ),
                "sparse_bits": sum(b.bits for b in bits),
                "unrolled_bits": sum(b.unrolled for b in bits),
                "capacity_bits_per_core": int(layout.capacity.number),
            }
        return layouts

    def _pattern_notes(self) -> list[str]:
        """What dense means where a layer does not have a weight between every two neurons."""
        names = [repr(p.name) for p in self.fixed.projections if p.pattern is not None]
        if not names:
            return []
        found = [
            f"In {', '.join(names)}, dense means the layer's own pattern: every weight of its kernel at every place, "
            "not a weight between every two neurons."
        ]
        if not self.exact_dense:
            found.append(
                "Their dense SynOps are the events times the mean fan-out, and the sparse ones if these are more: no spikes "
                "per neuron were recorded."
            )
        return found

    @property
    def shares_convolutions(self) -> bool:
        """True if the chip stores what the synapses of a convolution share once, dense or sparse."""
        return SHARED in (*self.dense.placement.formats.values(), *self.sparse.placement.formats.values())

    def _sharing_notes(self) -> list[str]:
        """How the chip stores convolutions, and how sure that is."""
        rule = self.profile.layout.shared
        if not self.shares_convolutions or rule is None:
            return []
        return [
            f"Convolutions share their {self.profile.layout.sharing} on each core ({rule.confidence}: {rule.source}); "
            "the unrolled figure is what they take without sharing, on the same cores."
        ]

    def _update_notes(self) -> list[str]:
        """What became of neurons that cannot change the output."""
        sparse, dense = self.sparse.neuron_updates, self.dense.neuron_updates
        if self.fixed.n_neurons == restored(self.fixed).n_neurons:
            return [f"Every neuron is updated in every timestep: {sparse:,.0f} updates in both."]
        return [
            f"Neurons that cannot change the output were removed: {sparse:,.0f} updates per timestep instead of {dense:,.0f}. "
            "Dense has them, but their spikes are not known and not counted there."
        ]

    def notes(self) -> list[str]:
        """Notes on the interpretation of the figures."""
        profile, sparse, dense = self.profile, self.sparse, self.dense
        found = [
            "Dense and sparse costs are of the same spikes. Dense rows are fetched with their zeros.",
            *self._pattern_notes(),
            *self._sharing_notes(),
            *self._update_notes(),
            "Not counted: host and embedded processors, input and output, off-chip links, loading of weights.",
        ]
        if not self.measured:
            found.insert(
                0, "No input data was given: all figures per timestep are the worst case, not an expectation."
            )
        if not profile.has_energy:
            found.append(
                f"No energy per event of {profile.title} is published: energy is null, and the scenarios "
                "are hypothetical."
            )
        if not sparse.exact_messages:
            found.append(
                "Messages and times are bounds: the run recorded no spikes per neuron "
                '(simulate with record=("spikes", "active") and pass the input spikes).'
            )
        if not sparse.exact_synops:
            found.append(
                "SynOps fetched are those of the mean fan-out where kernels are read with their zeros: no spikes per neuron "
                "were recorded. Energies and times are bounds."
            )
        if not dense.fits:
            found.append(
                "The dense network does not fit this chip, so it has no cores, axons, messages and time. Its energy is "
                "without messages and hops, a lower bound (≥), and so is its ratio."
            )
        free = profile.limits.delay_of_full_core
        longest = max((p.max_delay for p in self.fixed.projections), default=0)
        if free is not None and free.limit is not None and longest > free.limit:
            found.append(
                f"Delays of more than {free} (here {longest}) take compartments of a core ({free.source}); how many is not "
                "published and none are counted: cores are a lower bound."
            )
        if sparse.placement.n_chips > 1:
            found.append(
                "The network takes several chips; the cost of chip-to-chip links is not published and not counted."
            )
        if self.fixed.depth and self.measured:
            found.append(
                f"Figures per timestep are means over the {self.n_steps} of a sample, of samples that follow one another: "
                f"every neuron is updated in each. A sample alone takes {self.n_steps + self.fixed.depth} on the chip, "
                f"{self.fixed.depth} of them of pipeline, in which the next one can begin."
            )
        lengths = length_notes(self.fixed, self.n_steps) if self.measured else []
        return [*reading_notes(self.fixed), *(f"Measured on {note}." for note in lengths), *found]


def constants(profile: HardwareProfile) -> list[dict[str, Any]]:
    """Every number of the profile, and of the cost sets that it takes from other chips, with unit, source and confidence.

    Args:
        profile: the chip.

    Returns:
        One record per number, with its name, value, unit, source, confidence and note.
    """
    return [
        {
            "name": name,
            "value": q.value,
            "unit": q.unit,
            "source": q.source,
            "confidence": q.confidence,
            "note": q.note,
        }
        for name, q in profile.quantities()
    ]
