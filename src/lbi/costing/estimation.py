"""Cost of a network on a chip, dense beside sparse, from the same spikes.

*Sparse* stores each projection in the smaller of the chip's formats. *Dense* is the same network with
all weights stored and fetched, including zeros: its cost without sparsity. A layer's weights are those of
its own pattern (``lbi.network.pattern``): of a linear layer the full matrix, in dense rows; of a convolution
its kernel at every place, in the smaller format. Spikes are the same in both. If neurons were removed from the network
(``lbi.quantization.compaction``), dense is the network with them, as trained: it updates and stores them, but
their spikes are not known any more and not counted, which makes dense a little too cheap.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbi.chip.load import load_profile
from lbi.chip.memory import DENSE, filled, host_bytes, projection_bits, sizes
from lbi.chip.partition import RESOURCES, Chunk
from lbi.chip.placement import AxonTable, Placement, place
from lbi.chip.profile import HardwareProfile
from lbi.costing.breakdown import Counter, to_breakdown
from lbi.costing.counts import Batch, PlacedNetwork, dense_synops, split
from lbi.costing.result import Estimate, ProjectionFigures
from lbi.costing.totals import extremes
from lbi.errors import FitError, InputError, Problem, Problems, Rule, UsageError
from lbi.network.activity import Activity
from lbi.network.fixed import FixedNetwork, FixedProjection, check_fixed
from lbi.network.graph import INPUT
from lbi.network.parts import Run
from lbi.network.pattern import n_positions
from lbi.network.restored import restored, spread
from lbi.network.spikes import SpikeEvents, check_spikes

WORST_CASE = "worst case: no input data; every input and every neuron spikes in every timestep"

ACTIVITY = Rule(
    "argument", "an Activity", "lbi.simulate(fixed, spikes) makes one; or pass spikes=… in its place"
)
OTHER_RUN = Rule(
    "activity-network",
    "those of the network that is estimated",
    "simulate that very network, compacted or not",
)
OTHER_SPIKES = Rule(
    "activity-spikes", "the run's own input", "pass the spikes that the activity was recorded with"
)
EMPTY = Rule(
    "no-activity", "at least one sample and one step", "pass some samples, or none for the worst case"
)
SPIKES_SHAPE = Rule(
    "spikes-shape", "{shape}, the run's", "pass the spikes that the activity was recorded with"
)

OnActivity = Callable[[int, Activity], None]


def estimate(
    fixed: FixedNetwork,
    activity: Activity | None = None,
    chip: str | Path | HardwareProfile | None = None,
    *,
    spikes: ArrayLike | SpikeEvents | None = None,
    basis: str = "",
    on_activity: OnActivity | None = None,
) -> Estimate:
    """Estimate a network's cost on ``chip``: energies in pJ and times in ns, as ranges.

    Args:
        fixed: the network.
        activity: a run of the network, best with ``record=("spikes", "active")``. Together with
            ``spikes``, counts per core are exact; otherwise totals are exact, and messages and times per
            step are bounds from the counts per population.
        chip: name, TOML file or profile; None for the chip that the network was quantized for.
        spikes: its input, (n_samples, n_steps, n_in) or events; without ``activity``, the network is simulated
            here, some samples at a time. Without either, the result is static figures and the worst case,
            as ``basis`` states.
        basis: description of the activity's origin, for reports.
        on_activity: called with (first sample, activity) for every part of the run.

    Returns:
        Costs of the dense and of the sparse network for the same spikes.

    Raises:
        FitError: if the sparse network does not fit the chip.
        InputError: for unusable spikes, or others than those of the activity.
        UsageError: for the activity of another network.
    """
    _check_arguments(fixed, activity)
    profile = chip if isinstance(chip, HardwareProfile) else load_profile(chip or fixed.chip)
    sparse_place = place(fixed, profile)
    full = filled(restored(fixed))
    dense_place, problems = _place_dense(full, profile)
    placed = ((full, dense_place), (fixed, sparse_place))
    counters = [Counter(PlacedNetwork(network, placement), profile) for network, placement in placed]
    if activity is None and spikes is None:
        _add_worst_case(counters)
        run, basis = _Run.worst_case(fixed), WORST_CASE
        n_samples = n_steps = 0
    else:
        run = _Run(fixed)
        _count_runs(run, counters, _runs(fixed, activity, spikes), on_activity)
        n_samples, n_steps = run.n_samples, run.n_steps
        basis = basis or f"measured: {n_samples} samples of {n_steps} timesteps"
    dense, sparse = (
        to_breakdown(counter, placed=counter is counters[1] or not problems) for counter in counters
    )
    return Estimate(
        fixed=fixed,
        profile=profile,
        n_samples=n_samples,
        n_steps=n_steps,
        basis=basis,
        dense=replace(dense, synops_effective=sparse.synops_effective),
        sparse=sparse,
        dense_problems=problems,
        projections=run.figures(sparse_place, dense_place, counters[1].fetched),
        exact_dense=run.exact_dense,
    )


def _check_arguments(fixed: Any, activity: object) -> None:
    """Raise UsageError for arguments of another type, and for the run of another network."""
    check_fixed(fixed)
    if activity is None:
        return
    if not isinstance(activity, Activity):
        raise UsageError(ACTIVITY.broken("activity", f"a {type(activity).__name__}"))
    problems = Problems()
    EMPTY.check(
        problems,
        activity.n_samples * activity.n_steps > 0,
        "activity",
        f"{activity.n_samples} samples of {activity.n_steps} steps",
    )
    own = {p.name: p.n for p in fixed.populations}
    fits = set(activity.populations) == set(own)
    fits = fits and set(activity.projections) == {p.name for p in fixed.projections}
    fits = fits and all(int(a.active.max(initial=0)) <= own[name] for name, a in activity.populations.items())
    fits = fits and all(
        values.shape[2] == own.get(name, values.shape[2]) for (name, _), values in activity.recorded.items()
    )
    OTHER_RUN.check(problems, fits, "activity", "populations, projections or sizes of another network")
    problems.raise_as(UsageError)
    for p in fixed.projections:
        where = f"activity, projection {p.name!r}"
        OTHER_RUN.check(problems, _reached(p, activity), where, "synaptic operations of other weights")
    problems.raise_as(UsageError)


def _reached(projection: FixedProjection, activity: Activity) -> bool:
    """True if the spikes of a run reach as many of the projection's synapses as the run says."""
    counts, source = activity.projections[projection.name], projection.source
    spikes = activity.input_spikes if source == INPUT else activity.populations[source].spikes
    fan_out = projection.weights.fan_out()
    if not np.array_equal(counts.events, spikes) or int(spikes.max(initial=0)) > fan_out.size:
        return False
    recorded = activity.recorded.get((source, "spikes"))
    if recorded is not None:
        return np.array_equal(counts.synops, recorded @ fan_out)
    least, most = extremes(fan_out, spikes)
    return bool(np.all((least <= counts.synops) & (counts.synops <= most)))


def _count_runs(run: _Run, counters: list[Counter], parts: Any, on_activity: OnActivity | None) -> None:
    """Count all parts of a run, for the dense and the sparse network."""
    dense, sparse = counters
    for start, part, batch in parts:
        run.add(part)
        if on_activity is not None:
            on_activity(start, part)
        whole, uncertain = _with_all_weights(run, part)
        _count(dense, whole, None if batch is None else _spread(run.fixed, batch), uncertain)
        _count(sparse, part, batch)


def _count(
    counter: Counter, part: Activity, batch: Batch | None, uncertain: frozenset[str] = frozenset()
) -> None:
    """Add a part of a run: by every neuron's spikes, or without a batch by the totals."""
    if batch is None:
        counter.add_totals(part, uncertain)
        return
    for piece in split(batch, counter.network.placement.n_cores):
        counter.add(piece)


def _with_all_weights(run: _Run, activity: Activity) -> tuple[Activity, frozenset[str]]:
    """The activity of the dense network: as many spikes, and all weights of each pattern that they reach.

    Beside it the projections whose weights are those of the mean fan-out.
    """
    counts, uncertain = {}, set()
    for p in run.trained.projections:
        if p.pattern is not None:
            synops, exact = dense_synops(p, activity, run.kept.get(p.source))
            counts[p.name] = replace(activity.projections[p.name], synops=synops)
            uncertain |= set() if exact else {p.name}
    return replace(activity, projections={**activity.projections, **counts}), frozenset(uncertain)


class _Run:
    """Sums of the counts per projection over the parts of a run."""

    def __init__(self, fixed: FixedNetwork) -> None:
        self.fixed = fixed
        self.trained = restored(fixed)
        self.kept = {p.name: p.kept for p in fixed.populations}
        self.n_samples = self.n_steps = 0
        self.events = {projection.name: 0 for projection in fixed.projections}
        self.synops = {projection.name: 0 for projection in fixed.projections}
        self.synops_dense = {projection.name: 0 for projection in fixed.projections}
        self.exact_dense = True

    @classmethod
    def worst_case(cls, fixed: FixedNetwork) -> _Run:
        run = cls(fixed)
        run.n_samples = run.n_steps = 1
        run.events = {p.name: p.weights.shape[1] for p in fixed.projections}
        run.synops = {p.name: p.weights.nnz for p in fixed.projections}
        run.synops_dense = {p.name: n_positions(p) for p in run.trained.projections}
        return run

    def add(self, activity: Activity) -> None:
        self.n_samples += activity.n_samples
        self.n_steps = activity.n_steps
        for projection in self.trained.projections:
            name, counts = projection.name, activity.projections[projection.name]
            self.events[name] += int(counts.events.sum())
            self.synops[name] += int(counts.synops.sum())
            dense, exact = dense_synops(projection, activity, self.kept.get(projection.source))
            self.synops_dense[name] += int(dense.sum())
            self.exact_dense &= exact

    def figures(
        self, placement: Placement, dense_placement: Placement, fetched: dict[str, int]
    ) -> tuple[ProjectionFigures, ...]:
        return tuple(
            self._figures_of(projection, trained, placement, dense_placement, fetched[projection.name])
            for projection, trained in zip(self.fixed.projections, self.trained.projections, strict=True)
        )

    def _figures_of(
        self,
        projection: FixedProjection,
        trained: FixedProjection,
        placement: Placement,
        dense_placement: Placement,
        fetched: int,
    ) -> ProjectionFigures:
        name, host = projection.name, host_bytes(projection)
        bits, dense_bits = placement.bits[name], dense_placement.bits[name]
        if projection.pattern is not None:
            dense = dense_bits.bits
        else:
            dense = (bits if trained is projection else dense_bits).dense
        return ProjectionFigures(
            name=name,
            shape=projection.weights.shape,
            nnz=projection.weights.nnz,
            n_positions=n_positions(trained),
            bits=bits,
            dense_bits=dense,
            csr_bytes=host.csr,
            dense_bytes=host_bytes(trained).dense,
            n=max(self.n_samples * self.n_steps, 1),
            events=self.events[name],
            synops=self.synops[name],
            synops_dense=self.synops_dense[name],
            synops_fetched=fetched,
        )


def _runs(
    fixed: FixedNetwork, activity: Activity | None, spikes: ArrayLike | SpikeEvents | None
) -> Any:  # Iterator[tuple[int, Activity, Batch | None]]
    """(first sample, activity, batch with every neuron's spikes or None) of each part of the run."""
    if activity is not None:
        batch = _batch(fixed, activity, spikes)
        yield 0, activity if batch is None else _with_input(activity, batch.spikes[INPUT]), batch
        return
    from lbi.simulation.run import simulate

    inputs = check_spikes(spikes, fixed.input_shape)  # type: ignore[arg-type]
    if not inputs.shape[0] * inputs.shape[1]:
        raise InputError(EMPTY.broken("spikes", f"{inputs.shape[0]} samples of {inputs.shape[1]} steps"))
    per_sample = 3 * inputs.shape[1] * (fixed.n_neurons + fixed.n_in)
    n = max(1, int(300e6 // max(per_sample, 1)))
    for start in range(0, inputs.shape[0], n):
        part = inputs[start : start + n]
        run = simulate(fixed, part, record=("spikes", "active"))
        yield start, _with_input(run, part), _batch(fixed, run, part)


def _with_input(activity: Activity, spikes: NDArray[np.uint8]) -> Activity:
    """The activity with its input recorded beside the populations."""
    return replace(activity, recorded={**activity.recorded, (INPUT, "spikes"): spikes})


def _batch(fixed: FixedNetwork, activity: Activity, spikes: ArrayLike | SpikeEvents | None) -> Batch | None:
    names = [population.name for population in fixed.populations]
    recorded = all((name, kind) in activity.recorded for name in names for kind in ("spikes", "active"))
    if spikes is None:
        return None
    inputs = check_spikes(spikes, fixed.input_shape)
    if inputs.shape[:2] != (activity.n_samples, activity.n_steps):
        shape = (activity.n_samples, activity.n_steps, fixed.n_in)
        raise InputError(SPIKES_SHAPE.broken("spikes", inputs.shape, shape=shape))
    per_step = inputs.sum(axis=2, dtype=np.int64)
    n_other = int(np.count_nonzero(per_step != activity.input_spikes))
    if n_other:
        raise InputError(OTHER_SPIKES.broken("spikes", f"other numbers of spikes in {n_other} steps"))
    if not recorded:
        return None
    return Batch(
        {INPUT: inputs} | {name: activity.recorded[name, "spikes"] for name in names},
        {name: activity.recorded[name, "active"] for name in names},
        {INPUT: 0} | {population.name: population.latency for population in fixed.populations},
    )


def _spread(fixed: FixedNetwork, batch: Batch) -> Batch:
    """The batch with a place for every neuron as trained; of those that were removed no spikes are known."""
    kept = {p.name: p.kept for p in fixed.populations}
    return Batch(
        {name: spread(values, kept.get(name)) for name, values in batch.spikes.items()},
        {name: spread(values, kept.get(name)) for name, values in batch.active.items()},
        batch.latency,
    )


def _add_worst_case(counters: list[Counter]) -> None:
    for counter in counters:
        ones: dict[str, NDArray[np.uint8]] = {
            name: np.ones((1, 1, n), dtype=np.uint8) for name, n in sizes(counter.network.fixed).items()
        }
        counter.add(Batch(ones, ones, dict.fromkeys(ones, 0)))


def _place_dense(fixed: FixedNetwork, profile: HardwareProfile) -> tuple[Placement, tuple[Problem, ...]]:
    """The placement of the dense network; if it does not fit, one hypothetical core that holds everything."""
    try:
        return place(fixed, profile, dense=True), ()
    except FitError as error:
        problems = error.problems
    n_of = sizes(fixed)
    bits = {p.name: projection_bits(p, n_of, profile) for p in fixed.projections}
    bits = {
        p.name: replace(bits[p.name], chosen=DENSE) if p.pattern is None else bits[p.name]
        for p in fixed.projections
    }
    place_of = {population.name: i for i, population in enumerate(fixed.populations)}
    placement = Placement(
        chip=profile.name,
        chunks=tuple(Chunk(population.name, Run(0, population.n)) for population in fixed.populations),
        core_of_chunk=np.zeros(len(fixed.populations), dtype=np.int64),
        positions=np.zeros((1, 3), dtype=np.int64),
        use={name: np.zeros(1, dtype=np.int64) for name in RESOURCES}
        | {"synaptic_bits": np.array([sum(b.bits for b in bits.values())])},
        limits=dict.fromkeys(RESOURCES),
        formats={name: found.chosen for name, found in bits.items()},
        bits=bits,
        axons={
            p.name: _one_table(p, place_of[p.target])
            for p in fixed.projections
            if bits[p.name].chosen != DENSE
        },
    )
    return placement, problems


def _one_table(projection: FixedProjection, chunk: int) -> AxonTable:
    """The axons of a projection whose target is one chunk."""
    fan_out = projection.weights.fan_out()
    sources = np.flatnonzero(fan_out)
    return AxonTable(
        sources.astype(np.int32),
        np.full(sources.size, chunk, dtype=np.int32),
        fan_out[sources].astype(np.int32),
    )
