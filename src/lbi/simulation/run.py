"""The bit-exact, event-driven simulation of an integer network: Lava's arithmetic, without Lava.

Cost per timestep: the update of every neuron, plus the stored synapses that spikes reach.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbi.errors import InputError, LbiWarning, Problems, Rule
from lbi.network.activity import Activity, PopulationActivity, ProjectionActivity
from lbi.network.fixed import FixedNetwork, FixedPopulation, check_fixed
from lbi.network.spikes import SPIKES_WIDTH, SpikeEvents, check_spikes
from lbi.simulation.layout import SimulationPlan, is_compiled, plan_of
from lbi.simulation.oracle import RECORDED
from lbi.simulation.records import Inputs, Outputs
from lbi.simulation.slow import run_slowly
from lbi.system.cores import available_cores

N_THREADS = Rule("n-threads", "at least 1, or None")
RECORDED_POPULATION = Rule("record-population", "{allowed}")

UPDATE_NS, THREAD_NS = 0.6, 200_000
"""Measured time in ns of one neuron's update, and the work that is worth a thread of its own."""

FLAGS = ("spikes", "active")
"""Variables that every population can record, besides its neuron's ``state_variables``."""


class SaturationWarning(LbiWarning):
    """Warning that a current wrapped or a voltage saturated: the integers left the range assumed in training.

    ``lbi.simulation.bounds.state_bounds`` computes from the weights which neurons cannot.
    """


def simulate(
    fixed: FixedNetwork,
    spikes: ArrayLike | SpikeEvents,
    *,
    record: Iterable[str | tuple[str, str]] = (),
    n_threads: int | None = None,
    on_done: Callable[[int], None] | None = None,
) -> Activity:
    """The activity of a network for given input, equal to Lava's fixed-point models in spikes and states.

    Every sample starts from rest. Steps are in each population's own time (see ``FixedNetwork``), so outputs are aligned
    to the input. A SaturationWarning says where currents wrapped or voltages saturated.

    A network with a neuron model that has no compiled kernel runs by the models' slow steps: the same spikes and states, on
    one thread, without counts or warnings of saturation.

    Args:
        fixed: the network.
        spikes: (n_samples, n_steps, n_in) zeros and ones, or with the axes of ``fixed.input_shape``; or SpikeEvents.
        record: variables to record: "spikes", "active" or a state variable, for all populations that have it; or
            (population, variable) pairs. "u" and "v" are the states after the step, including a spike's reset.
        n_threads: number of threads over which samples are distributed; None for one per core that the process may use
            (``lbi.system.cores.available_cores``), and fewer for little work.
        on_done: called with the number of samples completed since the last call.

    Returns:
        Outputs, counts and recorded variables.

    Raises:
        InputError: naming everything that is wrong with the spikes and the names to record.
    """
    check_fixed(fixed)
    problems = Problems()
    pairs = _pairs(fixed, record, problems)
    N_THREADS.check(problems, n_threads is None or n_threads >= 1, "n_threads", n_threads)
    try:
        inputs, n_samples = _inputs(spikes, fixed.input_shape)
    except InputError as error:
        problems.take(error)
    problems.raise_as(InputError)
    if not is_compiled(fixed):
        return run_slowly(fixed, inputs, n_samples, pairs, on_done)
    plan = plan_of(fixed)
    read = {"spikes", "v"} if fixed.readout.of_membrane else {"spikes"}
    outputs = _outputs(
        plan, n_samples, inputs.n_steps, pairs | {(fixed.readout.population, name) for name in read}
    )
    _run(plan, inputs, outputs, n_threads, on_done)
    activity = _activity(fixed, plan, outputs, pairs)
    _warn(plan, outputs)
    return activity


def _variables(population: FixedPopulation) -> tuple[str, ...]:
    return (*FLAGS, *population.neuron.state_variables)


def _pairs(
    fixed: FixedNetwork, record: Iterable[str | tuple[str, str]], problems: Problems
) -> set[tuple[str, str]]:
    """(population, variable) of everything to record."""
    known = {population.name: _variables(population) for population in fixed.populations}
    pairs: set[tuple[str, str]] = set()
    for wanted in (record,) if isinstance(record, str) else record:
        if isinstance(wanted, str):
            found = {(name, wanted) for name, variables in known.items() if wanted in variables}
            names = ", ".join(sorted({variable for variables in known.values() for variable in variables}))
            RECORDED.check(problems, bool(found), "record", repr(wanted), allowed=names)
        else:
            name, variable = wanted
            found = {(name, variable)} if variable in known.get(name, ()) else set()
            if RECORDED_POPULATION.check(
                problems, name in known, "record", repr(name), allowed=", ".join(known)
            ):
                RECORDED.check(
                    problems,
                    bool(found),
                    f"record, population {name!r}",
                    repr(variable),
                    allowed=", ".join(known[name]),
                )
        pairs |= found
    return pairs


def _inputs(spikes: ArrayLike | SpikeEvents, input_shape: tuple[int, ...]) -> tuple[Inputs, int]:
    """The spikes in the kernels' form, and the number of samples, which events without steps do not imply."""
    n_in = prod(input_shape)
    no_spikes, no_pointers = np.zeros((0, 0, 0), dtype=np.uint8), np.zeros(1, dtype=np.int64)
    if isinstance(spikes, SpikeEvents):
        problems = Problems()
        n_samples, n_steps, width = spikes.shape
        SPIKES_WIDTH.check(problems, width == n_in, "events", f"{width} channels", n_in=n_in)
        problems.raise_as(InputError)
        return Inputs(False, n_steps, no_spikes, *spikes.by_step()), n_samples
    array = np.asarray(spikes)
    if array.dtype == np.bool_:
        array = array.view(np.uint8)
    usual = array.dtype == np.uint8 and array.ndim == 3 and array.shape[2] == n_in
    if not usual or array.max(initial=0) > 1:
        array = check_spikes(array, input_shape)
    array = np.require(array, requirements=("C", "W"))  # read-only arrays are another numba type
    return Inputs(True, array.shape[1], array, no_pointers, np.zeros(0, dtype=np.int32)), array.shape[0]


def _run(
    plan: SimulationPlan,
    inputs: Inputs,
    outputs: Outputs,
    n_threads: int | None,
    on_done: Callable[[int], None] | None,
) -> None:
    """Fill ``outputs``, samples in parallel."""
    from lbi.simulation.kernels import run, scratch_for

    layout, n_samples = plan.layout, outputs.n_events.shape[1]
    n_workers = min(n_threads or _useful_threads(plan, n_samples * inputs.n_steps), n_samples)
    n_parts = min(8 * n_workers, n_samples)  # in parts, so that Ctrl-C is heard between them
    bounds = [n_samples * part // n_parts for part in range(n_parts + 1)] if n_parts else []

    def run_part(begin: int, end: int) -> int:
        try:
            scratch = plan.idle.pop()  # another thread may take the last one
        except IndexError:
            scratch = scratch_for(layout)
        run(layout, inputs, outputs, scratch, begin, end)
        plan.idle.append(scratch)
        return end - begin

    if n_workers <= 1:
        for begin, end in pairwise(bounds):
            done = run_part(begin, end)
            if on_done is not None:
                on_done(done)
        return
    pool = ThreadPoolExecutor(n_workers)
    try:
        for running in [pool.submit(run_part, begin, end) for begin, end in pairwise(bounds)]:
            done = running.result()
            if on_done is not None:
                on_done(done)
    finally:
        pool.shutdown(cancel_futures=True)


def _useful_threads(plan: SimulationPlan, n_steps: int) -> int:
    """Available cores, or fewer if updates of neurons alone would keep each busy for less than ``THREAD_NS``."""
    return max(1, min(available_cores(), int(n_steps * int(plan.layout.start[-1]) * UPDATE_NS / THREAD_NS)))


def _outputs(plan: SimulationPlan, n_samples: int, n_steps: int, pairs: set[tuple[str, str]]) -> Outputs:
    n_populations, n_projections = len(plan.populations), len(plan.projections)
    where = np.full((n_populations, 6), -1, dtype=np.int64)
    sizes = [0, 0]  # of the flags, of the states
    for p, population in enumerate(plan.populations):
        for k, variable in enumerate(_variables(population)):
            if (population.name, variable) in pairs:
                where[p, k] = sizes[k >= len(FLAGS)]
                sizes[k >= len(FLAGS)] += n_samples * n_steps * population.n
    return Outputs(
        n_events=np.zeros((n_populations + 1, n_samples, n_steps), dtype=np.int64),
        n_active=np.zeros((n_populations, n_samples, n_steps), dtype=np.int64),
        n_synops=np.zeros((n_projections, n_samples, n_steps), dtype=np.int64),
        saturated=np.zeros((n_populations, n_samples, 4), dtype=np.int64),
        flags=np.empty(sizes[0], dtype=np.uint8),
        states=np.empty(sizes[1], dtype=np.int32),
        where=where,
    )


def _activity(
    fixed: FixedNetwork, plan: SimulationPlan, outputs: Outputs, pairs: set[tuple[str, str]]
) -> Activity:
    recorded: dict[tuple[str, str], NDArray[Any]] = {}
    populations: dict[str, PopulationActivity] = {}
    totals, where = outputs.saturated.sum(axis=1).tolist(), outputs.where.tolist()
    for p, population in enumerate(plan.populations):
        shape = (*outputs.n_events.shape[1:], population.n)
        for k, variable in enumerate(_variables(population)):
            begin = where[p][k]
            if begin >= 0:
                kept: NDArray[Any] = outputs.flags if k < len(FLAGS) else outputs.states
                recorded[population.name, variable] = kept[begin : begin + prod(shape)].reshape(shape)
        populations[population.name] = PopulationActivity(
            outputs.n_events[p + 1], outputs.n_active[p], totals[p][0], totals[p][2]
        )
    projections = {
        projection.name: ProjectionActivity(outputs.n_events[source], outputs.n_synops[q])
        for q, (source, projection) in enumerate(zip(plan.source, plan.projections, strict=True))
    }
    return Activity(
        output_spikes=recorded[fixed.readout.population, "spikes"],
        input_spikes=outputs.n_events[0],
        populations={population.name: populations[population.name] for population in fixed.populations},
        projections={projection.name: projections[projection.name] for projection in fixed.projections},
        recorded={pair: recorded[pair] for pair in sorted(pairs)},
        output_membrane=recorded[fixed.readout.population, "v"] if fixed.readout.of_membrane else None,
    )


def _warn(plan: SimulationPlan, outputs: Outputs) -> None:
    if not outputs.saturated.any():
        return
    found = []
    for p, population in enumerate(plan.populations):
        for column, what in ((0, "current wrapped"), (2, "voltage saturated")):
            times = outputs.saturated[p, :, column]
            if times.any():
                sample = int(np.flatnonzero(times)[0])
                step = int(outputs.saturated[p, sample, column + 1])
                found.append(
                    f"population {population.name!r}: the {what} {int(times.sum())} times, "
                    f"first in sample {sample}, step {step}"
                )
    warnings.warn("; ".join(found), SaturationWarning, stacklevel=3)
