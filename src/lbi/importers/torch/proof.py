"""Verification of an import: the model's own forward and the imported network on the same random spikes.

Three things are compared, all in float64. *Runs*: the spikes of every population at every step. *Neurons*: the output of each
neuron module for random currents, in case the model does not make it spike. *Wiring*: the currents into each module.
Of neurons that the model's own code computes, the voltages are compared in place of the second and the third, also while
random spikes take the place of all their own: what a silent model does with spikes shows only so.
Spikes must be equal. A voltage within ``ROUNDING`` of the threshold is no evidence: two orders of summing the same
float64 numbers differ by some 2^-53 per term, 1e-11 of the sum for 100,000 terms; such a sample counts up to there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lbi.errors import InputError, Problems, Rule
from lbi.importers.builder import ALWAYS, Builder
from lbi.importers.signal import Signal
from lbi.importers.torch import pooling, returned
from lbi.importers.torch.attempt import FAILS
from lbi.importers.torch.group import Group, NotThisWay
from lbi.importers.torch.layer import Layer, array
from lbi.importers.torch.output import Output
from lbi.importers.torch.recording import STEP_COUNT, Recorded, record
from lbi.importers.torch.running import Sites
from lbi.importers.torch.tracing import Tracing
from lbi.importers.torch.ways import Way, random_input
from lbi.importers.torch.weighted import Sums
from lbi.network.graph import INPUT, Network
from lbi.simulation import oracle

ROUNDING = 1e-9
"""Relative change of the largest voltage or current that the order of summation can cause."""

RATES = (0.4, 0.05, 0.8, 0.2, 1.0, 0.1, 0.6, 0.02)
"""Spikes per step and channel, one rate per sample."""

N_STEPS, FEWEST_STEPS, FEWEST_SAMPLES = 40, 10, 3

LONG_STEPS, LONG_RATE = 160, 0.3
"""Steps of one more sample, and its spikes per step and channel: a reset or a delay after N_STEPS shows there."""

MOST_PRODUCTS = 3e8
"""Limit of weights × steps × samples of a verification, about one second, above minimum steps and samples."""

NOT_AS_IT_RUNS = Rule(
    "not-as-it-runs",
    "what the network read from it does: u ← (1−a)u + input; v ← (1−b)v + u; a spike and v ← 0 above the threshold",
    "use the framework's plain layers and neurons, and reset their states between samples only; what a hook, a class of"
    " one's own, a changed state or a random number does is not in them",
)
NOT_ALIKE = Rule(
    "not-proven",
    "a sample whose voltages do not end on a threshold within rounding",
    "move the threshold by a thousandth: weights in round numbers meet it exactly",
)


def prove(
    model: nn.Module,
    places: Sites,
    tracing: Tracing,
    way: Way,
    read: tuple[Network, Output | Sums | None],
    drive: Drive,
) -> None:
    """Compare the model with the imported network.

    Args:
        model: the copy that was traced.
        places: its neuron modules.
        tracing: its trace.
        way: its calling convention.
        read: the network, and what the model's output holds; None in place of the latter for an output that is not read.
        drive: the random currents, with the numbers of samples and steps to compare.

    Raises:
        InputError: naming the first difference in steps, spikes, currents or output; or if every sample meets a threshold within rounding early on.
        NotThisWay: if the model's own code fails on these samples and steps, or runs other neurons or samples than in the trace.
    """
    network = read[0]
    rates = torch.tensor(RATES[: drive.n_samples])
    spikes = random_input(network.input_shape, rates, drive.n_steps, 1, way.static)
    theirs = record(model, places, tracing, way, spikes, drive.currents, forced=True)
    check_taken(tracing, theirs, drive.n_steps)
    drive.compare(theirs)
    _compare_wiring(tracing, theirs, spikes)
    _compare_forced(tracing, theirs, spikes)
    if tracing.written.populations and isinstance(read[1], Sums):
        compare_sums(tracing, read[1], theirs, spikes)
    theirs = record(model, places, tracing, way, spikes, seed=2)
    _compare_all(tracing, read, theirs, spikes)
    if drive.longer:
        _compare_longer(model, places, tracing, way, read, drive.longer)


def _compare_all(
    tracing: Tracing, read: tuple[Network, Output | Sums | None], theirs: Recorded, spikes: Tensor
) -> None:
    """Compare populations and output of a run."""
    network, output = read
    if isinstance(output, Sums):
        added = compare_sums(tracing, output, theirs, spikes)
        _compare_runs(tracing, network, theirs, spikes, (output, output.voltages(added)))
        return
    _compare_runs(tracing, network, theirs, spikes)
    if output is not None and not output.state:  # a state is the zeros of neurons that never spike
        returned.compare(
            output, theirs.outputs[output.group.name] / _gain(output.group), theirs.results, ROUNDING
        )


def compare_sums(tracing: Tracing, sums: Sums, theirs: Recorded, spikes: Tensor) -> NDArray[Any]:
    """Compare weighted sums that a model returns with those of its spikes.

    Args:
        tracing: the trace.
        sums: what the output holds.
        theirs: what was recorded of the model.
        spikes: its input, (samples, steps, …).

    Returns:
        What each step adds, (samples, steps, n).

    Raises:
        InputError: as ``returned.compare``.
    """
    added = pooling.arriving(sums.signal, _sources(tracing, theirs, spikes))
    returned.compare(sums, sums.values(added), theirs.results, ROUNDING)
    return added


def _compare_longer(
    model: nn.Module,
    places: Sites,
    tracing: Tracing,
    way: Way,
    read: tuple[Network, Output | Sums | None],
    n_steps: int,
) -> None:
    """Compare one sample of many steps, where late effects show; a model whose own code fails on so many steps is not compared."""
    spikes = random_input(read[0].input_shape, torch.tensor([LONG_RATE]), n_steps, 2, way.static)
    try:
        theirs = record(model, places, tracing, way, spikes, seed=3)
    except NotThisWay as refusal:
        if refusal.problem.code != FAILS.code:
            raise
        return
    check_taken(tracing, theirs, n_steps)
    _compare_wiring(tracing, theirs, spikes)
    _compare_all(tracing, read, theirs, spikes)


def check_taken(tracing: Tracing, theirs: Recorded, n_steps: int) -> None:
    """Check that all modules took the steps that they were given.

    Args:
        tracing: the trace.
        theirs: what was recorded of the model.
        n_steps: steps of its input.

    Raises:
        InputError: naming the modules that took another number of steps.
    """
    problems = Problems()
    for group in tracing.groups:
        taken = theirs.outputs[group.name].shape[1]
        STEP_COUNT.check(problems, taken == n_steps, group.where, f"takes {taken} steps of {n_steps}")
    problems.raise_as(InputError)


def longer(network: Network) -> int:
    """Steps of one more, longer sample of the verification of a model that runs with any number of steps.

    Args:
        network: the imported network.

    Returns:
        ``LONG_STEPS``, or fewer for a large network; 0 where they would be no more than ``N_STEPS``.
    """
    steps = int(min(MOST_PRODUCTS / _products(network), LONG_STEPS))
    return steps if steps > N_STEPS else 0


def _products(network: Network) -> int:
    """Weights and neurons, about the work of a step."""
    return sum(p.weights.nnz for p in network.projections) + sum(p.n for p in network.populations)


def extent(network: Network, n_steps: int, *, free: bool) -> tuple[int, int]:
    """Samples and steps of a verification, fewer for large networks.

    Args:
        network: the imported network.
        n_steps: steps of the trace; the model may need as many.
        free: True if the model runs with other numbers of steps.

    Returns:
        Numbers of samples and steps.
    """
    products = _products(network)
    affordable = int(np.clip(MOST_PRODUCTS / products / len(RATES), FEWEST_STEPS, N_STEPS))
    steps = max(n_steps, affordable) if free else n_steps
    return int(np.clip(MOST_PRODUCTS / products / steps, FEWEST_SAMPLES, len(RATES))), steps


class Drive:
    """Random currents for every neuron module, and the expected output of its equations."""

    def __init__(self, tracing: Tracing, n_samples: int, n_steps: int, longer: int = 0) -> None:
        self.n_samples, self.n_steps, self.longer = n_samples, n_steps, longer
        self._expected: dict[str, tuple[NDArray[Any], Group]] = {}
        self.currents: dict[str, Tensor] = {}
        self._margins: dict[str, NDArray[Any]] = {}
        rng = np.random.default_rng(0)
        for group in tracing.groups:
            if not group.called:
                continue
            n = int(np.prod(group.in_shape))
            gains = rng.uniform(0.2, 1.6, group.in_shape) * self._unit(tracing, group)
            network, layer = self._alone(tracing, group, gains)
            spikes = (rng.random((n_samples, n_steps, n)) < 0.4).astype(np.uint8)
            self.currents[group.name] = torch.from_numpy(spikes * gains.reshape(-1))
            ours, margin, _ = simulated(network, layer, spikes)
            self._expected[group.name], self._margins[group.name] = (
                (ours[group.name], group),
                margin[group.name],
            )

    @staticmethod
    def _alone(tracing: Tracing, group: Group, gains: Any) -> tuple[Network, Builder]:
        builder = Builder(group.in_shape)
        layer = Layer(builder, group.where, group.name, group.shape, tracing.through)
        signal = Signal.spikes(INPUT, group.in_shape).scaled(gains)
        group.site.neurons.read(group.site.module, signal, layer)
        return builder.assembled(group.name), builder

    def _unit(self, tracing: Tracing, group: Group) -> float:
        """A current that drives a neuron of the group close to its threshold."""
        network, _ = self._alone(tracing, group, 1.0)
        driving = [p for p in network.projections if p.source == INPUT]
        weights = max(float(np.abs(p.weights.data).max(initial=0)) for p in driving)
        thresholds = [float(getattr(p.neuron, "threshold", None) or 1.0) for p in network.populations]
        unit = thresholds[-1] / weights if weights else 1.0
        n_in = float(np.prod(group.in_shape))
        return unit / max(1.0, n_in**0.5 / 4) if group.in_shape != group.shape else unit

    def compare(self, theirs: Recorded) -> None:
        """Compare the outputs of the driven modules with those of their equations.

        Args:
            theirs: recorded outputs of the modules.

        Raises:
            InputError: naming the first step and neuron that differ, of the first module with a difference.
        """
        for name, (ours, group) in self._expected.items():
            found = theirs.outputs[name] / _gain(group)
            cut = first_differences(found, ours, self._margins[name])
            if cut is not None:
                raise _difference(group, found, ours, cut, "driven with random currents, ")


def simulated(
    network: Network, builder: Builder | dict[str, Any], spikes: NDArray[np.uint8]
) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[Any]], dict[str, NDArray[Any]]]:
    """Spikes of the simulated network by layer, and distances of the voltages before reset from the threshold.

    Args:
        network: the network.
        builder: the builder of its layers, or layer → population → its neurons in the layer.
        spikes: (samples, steps, n_in), 0 and 1.

    Returns:
        Layer → spikes (samples, steps, n), or an integrator's voltages; layer → distances relative to the largest voltage, of the
        same shape, infinite for integrators; layer → signed ones, as multiples of the threshold.
    """
    parts = builder.parts if isinstance(builder, Builder) else builder
    recorded = oracle.simulate(network, spikes, record=("spikes", "u", "v")).recorded
    found, margins, distances = {}, {}, {}
    for layer, members in parts.items():
        n = sum(map(len, members.values()))
        found[layer] = np.empty((*spikes.shape[:2], n))
        margins[layer] = np.full((*spikes.shape[:2], n), np.inf)
        distances[layer] = np.full((*spikes.shape[:2], n), np.inf)
        for part, chosen in members.items():
            neuron: Any = network.population(part).neuron
            threshold = getattr(neuron, "threshold", None)
            found[layer][..., chosen] = recorded[part, "v" if threshold is None else "spikes"]
            if threshold is not None:
                u, v = recorded[part, "u"], recorded[part, "v"]
                before = np.concatenate([np.zeros_like(v[:, :1]), v[:, :-1]], axis=1)
                reached = (
                    before * (1.0 - neuron.voltage_decay) + u + (0.0 if neuron.bias is None else neuron.bias)
                )
                scale = max(threshold, float(np.abs(reached).max(initial=0)))
                margins[layer][..., chosen] = np.abs(reached - threshold) / scale
                distances[layer][..., chosen] = (reached - threshold) / threshold
    return found, margins, distances


def first_differences(
    theirs: NDArray[Any], ours: NDArray[Any], margin: NDArray[Any]
) -> tuple[int, int, int] | None:
    """(sample, step, neuron) of the first difference that rounding does not explain; None if there is none.

    Args:
        theirs: (samples, steps, n) of the model.
        ours: the same of the network.
        margin: distances of the voltages from the threshold, relative.

    Returns:
        The positions.
    """
    off = _far(theirs, ours) if np.isinf(margin).all() else theirs != ours  # voltages, or spikes
    for step in np.flatnonzero(off.any(axis=(0, 2))):
        for sample in np.flatnonzero(off[:, step].any(axis=1)):
            neurons = np.flatnonzero(off[sample, step])
            if np.any(margin[sample, step, neurons] > ROUNDING):
                return int(sample), int(step), int(neurons[margin[sample, step, neurons] > ROUNDING][0])
            off[sample] = False
    return None


def _compare_wiring(tracing: Tracing, theirs: Recorded, spikes: Tensor) -> None:
    """Raise InputError for the first module whose current differs from that of its projections."""
    sources = _sources(tracing, theirs, spikes)
    for group in tracing.groups:
        if not group.called:
            continue
        signal, found = group.inputs[-1], theirs.currents[group.name]
        expected = pooling.arriving(signal, sources)
        off = _far(expected, found)
        if off.any():
            step = int(np.flatnonzero(off.any(axis=(0, 2)))[0])
            neuron = int(np.flatnonzero(off[:, step].any(axis=0))[0])
            text = f"at step {step} a current into neuron {neuron} differs ({np.count_nonzero(off)} of {off.size} do)"
            raise InputError(NOT_AS_IT_RUNS.broken(group.where, text))


def _sources(tracing: Tracing, theirs: Recorded, spikes: Tensor) -> dict[str, NDArray[Any]]:
    """Name → spikes (samples, steps, n) of the input, of all modules and of what pools them, in a recorded run."""
    sources = {group.name: theirs.outputs[group.name] / _gain(group) for group in tracing.groups}
    sources[INPUT] = spikes.reshape(*spikes.shape[:2], -1).numpy()
    sources.setdefault(ALWAYS, np.ones((*spikes.shape[:2], 1)))
    for pool in tracing.shadow.pools:
        sources[pool.name] = pooling.spikes_of(pool, sources)
    return sources


def _compare_runs(
    tracing: Tracing,
    network: Network,
    theirs: Recorded,
    spikes: Tensor,
    sums: tuple[Sums, NDArray[Any]] | None = None,
) -> None:
    """Raise InputError for the first step, layer and neuron at which the runs differ; ``sums`` are to be the readout's voltages."""
    n_samples, n_steps = spikes.shape[:2]
    flat = spikes.reshape(n_samples, n_steps, -1).numpy().astype(np.uint8)
    layers = _layers(tracing, network)
    found = {group.name: theirs.outputs[group.name] / _gain(group) for group in tracing.groups}
    groups: dict[str, Group | Sums] = {group.name: group for group in tracing.groups}
    if sums is not None:
        entry, values = sums
        layers[entry.name] = {entry.name: np.arange(entry.signal.n)}
        found[entry.name], groups[entry.name] = values, entry
    ours, margins, distances = simulated(network, layers, flat)
    valid = np.full(n_samples, n_steps)
    while True:
        firsts = []
        for order, (name, _group) in enumerate(groups.items()):
            off = (
                found[name] != ours[name]
                if np.isfinite(margins[name]).any()
                else _far(found[name], ours[name])
            )
            off &= (np.arange(n_steps) < valid[:, None])[..., None]
            if off.any():
                step = int(np.flatnonzero(off.any(axis=(0, 2)))[0])
                firsts.append((step, order, name, off))
        if not firsts:
            break
        step, _, name, off = min(firsts, key=lambda first: first[:2])
        for sample in np.flatnonzero(off[:, step].any(axis=1)):
            neurons = np.flatnonzero(off[sample, step])
            far = margins[name][sample, step, neurons] > ROUNDING
            if far.any():
                place = (int(sample), step, int(neurons[far][0]))
                raise _difference(groups[name], found[name], ours[name], place, "")
            valid[sample] = step
    _compare_voltages(tracing, network, theirs, distances, valid)
    if not np.any(valid >= min(n_steps, FEWEST_STEPS)):
        raise InputError(
            NOT_ALIKE.broken("model", f"all samples meet a threshold exactly by step {valid.max()}")
        )


def _compare_forced(tracing: Tracing, theirs: Recorded, spikes: Tensor) -> None:
    """Raise InputError for the first hand-written neurons whose voltages are not what random spikes in place of all their own make them."""
    sources = _sources(tracing, theirs, spikes)
    for population in tracing.written.populations:
        group, equations = population.group, population.equations
        ours = equations.voltages(pooling.arriving(group.inputs[-1], sources), theirs.outputs[group.name])
        found = population.distances(theirs.currents[group.name])
        off = _far(found, ours / equations.threshold - 1.0)
        if off.any():
            step = int(np.flatnonzero(off.any(axis=(0, 2)))[0])
            neuron = int(np.flatnonzero(off[:, step].any(axis=0))[0])
            text = f"where all spike at random, the voltage of neuron {neuron} differs at step {step}"
            raise InputError(NOT_AS_IT_RUNS.broken(group.where, text))


def _compare_voltages(
    tracing: Tracing,
    network: Network,
    theirs: Recorded,
    distances: dict[str, NDArray[Any]],
    valid: NDArray[np.intp],
) -> None:
    """Raise InputError for the first hand-written neurons whose voltages differ, ``valid`` steps of each sample, in case they never spike."""
    layers = _layers(tracing, network)
    for population in tracing.written.populations:
        group = population.group
        found, ours = population.distances(theirs.currents[group.name]), distances[group.name]
        counted = np.broadcast_to((np.arange(ours.shape[1]) < valid[:, None])[..., None], ours.shape).copy()
        first: Any = network.population(next(iter(layers[group.name]))).neuron
        if getattr(first, "refractory_period", 0):  # it holds the voltage then
            counted[:, 1:] &= theirs.outputs[group.name][:, :-1] == 0
        off = _far(np.where(counted, found, 0.0), np.where(counted, ours, 0.0))
        if off.any():
            sample, step, neuron = (int(at[0]) for at in np.nonzero(off))
            text = f"the voltage of neuron {neuron} differs at step {step} of sample {sample}"
            raise InputError(NOT_AS_IT_RUNS.broken(group.where, text))


def _far(theirs: NDArray[Any], ours: NDArray[Any]) -> NDArray[np.bool_]:
    """Where two arrays differ by more than rounding; NaN differs from all."""
    far: NDArray[np.bool_] = ~(
        np.abs(theirs - ours) <= ROUNDING * max(1.0, float(np.abs(ours).max(initial=0)))
    )
    return far


def _layers(tracing: Tracing, network: Network) -> dict[str, dict[str, NDArray[np.intp]]]:
    """Layer → population → its neurons, from the parts in the network's meta."""
    parts = network.meta.get("parts", {})
    return {
        group.name: {
            f"{group.name}_{number}": np.flatnonzero(np.asarray(parts[group.name]) == number)
            for number in range(1, max(parts[group.name]) + 1)
        }
        if group.name in parts
        else {group.name: np.arange(int(np.prod(group.shape)))}
        for group in tracing.groups
    }


def _gain(group: Group) -> Any:
    gain = array(group.site.neurons.gain(group.site.module))
    return 1.0 if group.integrates else np.broadcast_to(gain, group.shape).reshape(-1)


def _difference(
    group: Group | Sums, theirs: NDArray[Any], ours: NDArray[Any], place: tuple[int, int, int], how: str
) -> InputError:
    sample, step, neuron = place
    n = int(np.count_nonzero(_far(theirs, ours)))
    said = "spikes" if theirs[place] else "does not spike"
    if group.integrates:
        said = f"has voltage {theirs[place]:g} instead of {ours[place]:g}"
    text = f"{how}neuron {neuron} {said} at step {step} of sample {sample} (in all {n} of {ours.size} values differ)"
    return InputError(NOT_AS_IT_RUNS.broken(group.where, text))
