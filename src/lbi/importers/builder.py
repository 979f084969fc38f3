"""Builder that assembles a ``Network`` layer by layer from other frameworks' neurons and their conventions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_matrix, diags, identity

from lbi.errors import InputError, Problems, Rule
from lbi.importers.signal import Signal, wide
from lbi.importers.terms import Term, union
from lbi.network.csr import CsrMatrix
from lbi.network.graph import INPUT, Network, Population, Projection, Readout
from lbi.network.neurons import CubaLif, Integrator, LifRefractory, Neuron
from lbi.network.pattern import ones
from lbi.network.recognition import recognised

ALWAYS = "always_on"
"""Name of the neuron that spikes in every step; a constant input to a current is a synapse from it."""

MOST_PARTS = 16
"""Maximum number of populations into which a layer is split if its neurons differ in their decays."""

THRESHOLD = Rule("threshold-range", "finite numbers above 0", "train with such a threshold")
DECAY = Rule(
    "decay-range",
    "0 to 1 (lost per step): for a time constant τ and steps of dt that is dt/τ",
    "take a smaller step, or larger time constants",
)
TOO_MANY_DECAYS = Rule(
    "mixed-decays",
    f"up to {MOST_PARTS} in a layer: neurons of one pair are a population on the chip",
    "train with fewer, or round the trained ones before the import, such as to steps of 1/16: value.mul_(16).round_().div_(16)",
)
NO_NEURONS = Rule("no-neurons", "at least one", "add one")
READ_DECAYS = Rule(
    "mixed-decays",
    "one pair of decays in the layer that is read, whose neurons keep their order",
    "train the last layer with one decay for all",
)
EMPTY = Rule("no-neurons", "at least one neuron", "build the layer with outputs")
VOLTAGE_SENT = Rule("no-spikes", "spikes", "end the model with the layer that is read by its voltage")
TWO_STATES = Rule(
    "soft-reset",
    "a reset to 0, or a reset by subtraction of a neuron whose input has no memory of its own",
    "train with a reset to zero, or with a neuron without synaptic current",
)
INSTANT_FEEDBACK = Rule("instant-feedback", "a step later", "give the feedback a delay of a step")

Parts = dict[str, NDArray[np.intp]]
"""Population → its neurons in the layer."""


class Builder:
    """Collector of neuron layers in order of evaluation; ``network()`` returns the result.

    A layer is a population or, if its neurons differ in their decays, one population per pair of decays:
    ``name_1``, ``name_2``, … in order of occurrence. ``parts`` maps layer → population → its neurons. Problems are
    collected and raised by ``network()``.
    """

    def __init__(self, input_shape: Sequence[int]) -> None:
        self.input_shape = tuple(int(size) for size in input_shape)
        self.problems = Problems()
        self.parts: dict[str, Parts] = {}
        self._populations: list[Population] = []
        self._signals: dict[str, Signal] = {}
        self._integrators: set[str] = set()
        self._subtracted: dict[str, NDArray[np.float64]] = {}

    def neurons(
        self,
        where: str,
        name: str,
        signal: Signal,
        *,
        current_decay: ArrayLike,
        voltage_decay: ArrayLike,
        threshold: ArrayLike,
        voltage_bias: ArrayLike = 0.0,
        refractory_period: int = 0,
        subtracted: ArrayLike | None = None,
    ) -> Signal:
        """Add a layer with input ``signal`` and return its spikes; parameters are numbers or arrays of its shape.

        Infinite thresholds make integrators. Finite thresholds may differ (weights and biases are scaled to one).
        A constant in the signal enters the current: as a bias if the current has no memory, otherwise from a
        neuron that spikes in every step.

        A reset by subtraction is a synapse from each neuron to itself. The chip sets the voltage to 0, but leaves the
        current alone: the membrane becomes a current, which a voltage without memory follows, and the synapse takes
        away from it in the next step what the reset would have taken.

        Args:
            where: the layer's place in the model, for messages.
            name: the layer's name.
            signal: its input.
            current_decay: fraction lost per step.
            voltage_decay: fraction lost per step.
            threshold: in weight units.
            voltage_bias: added to the voltage in every step.
            refractory_period: steps without integration after a spike; 0 for none.
            subtracted: what a spike takes from the voltage of the next step; None for a reset to 0.

        Returns:
            The layer's spikes.
        """
        alpha, beta, thresholds, bias = (
            wide(values, signal.shape) for values in (current_decay, voltage_decay, threshold, voltage_bias)
        )
        if not (self._decays(where, "of a current", alpha) & self._decays(where, "of a voltage", beta)):
            return Signal.spikes(name, signal.shape)
        if subtracted is not None and TWO_STATES.check(
            self.problems,
            bool(np.all(alpha == 1.0)) and not np.any(bias) and not refractory_period,
            where,
            "a reset by subtraction of a voltage behind a current with memory",
        ):
            alpha, beta = beta, alpha
        if not EMPTY.check(self.problems, alpha.size > 0, where, f"shape {signal.shape}"):
            return signal
        integrates = bool(np.all(thresholds == np.inf))
        if integrates or not THRESHOLD.check(
            self.problems,
            bool(np.all(np.isfinite(thresholds)) and np.all(thresholds > 0)),
            where,
            f"thresholds {thresholds.min():g} to {thresholds.max():g}",
        ):
            thresholds = np.ones_like(thresholds)
        if integrates:
            self._integrators.add(name)
        one = float(thresholds[0])
        if np.any(thresholds != one):
            signal = signal.scaled((one / thresholds).reshape(signal.shape))
            bias = bias * one / thresholds
        if subtracted is not None and np.any(subtracted):
            self._subtracted[name] = wide(subtracted, signal.shape) * one / thresholds
        forgets = alpha == 1.0
        bias = bias + np.where(forgets, signal.constant, 0.0)
        self._signals[name] = Signal(signal.shape, signal.terms, np.where(forgets, 0.0, signal.constant))
        self.parts[name] = self._parts(name, alpha, beta, where)
        for part, neurons in self.parts[name].items():
            shape = signal.shape if len(self.parts[name]) == 1 else (neurons.size,)
            parameters: dict[str, Any] = {
                "current_decay": alpha[neurons[0]],
                "voltage_decay": beta[neurons[0]],
                "bias": bias[neurons] if np.any(bias[neurons]) else None,
            }
            if not integrates:
                parameters |= {"threshold": one}
            if refractory_period:
                parameters |= {"refractory_period": refractory_period}
            self._populations.append(Population(part, shape, self._neuron(parameters, where)))
        return Signal.spikes(name, signal.shape)

    def _decays(self, where: str, what: str, decays: NDArray[Any]) -> bool:
        """Whether all decays are fractions; a problem is noted otherwise."""
        holds = bool(np.all((decays >= 0) & (decays <= 1)))
        found = f"decays {what}, {decays.min(initial=np.inf):g} to {decays.max(initial=-np.inf):g}"
        return DECAY.check(self.problems, holds, where, found)

    def _parts(self, name: str, alpha: NDArray[Any], beta: NDArray[Any], where: str) -> Parts:
        """The populations of a layer, one per pair of decays."""
        decays, first, pair = np.unique(
            np.stack([alpha, beta]), axis=1, return_index=True, return_inverse=True
        )
        n_parts = decays.shape[1]
        if n_parts == 1 or not TOO_MANY_DECAYS.check(
            self.problems, n_parts <= MOST_PARTS, where, f"{n_parts} different pairs of decays"
        ):
            return {name: np.arange(alpha.size)}
        place = np.argsort(np.argsort(first))[pair.reshape(-1)]
        return {f"{name}_{i + 1}": np.flatnonzero(place == i) for i in range(n_parts)}

    def _neuron(self, parameters: dict[str, Any], where: str) -> Neuron:
        model = (
            LifRefractory
            if "refractory_period" in parameters
            else CubaLif
            if "threshold" in parameters
            else Integrator
        )
        try:
            return model(**parameters)
        except InputError as error:
            self.problems.take(error, inside=where)
            return CubaLif(1.0, 1.0, 1.0)

    def network(self, readout: str | None = None, meta: Mapping[str, Any] | None = None) -> Network:
        """The network of all layers.

        Args:
            readout: the output layer; None for the last.
            meta: plain JSON values for ``Network.meta``. ``parts`` is added for layers in several parts: the part,
                from 1, of each neuron.

        Returns:
            The network.

        Raises:
            InputError: naming everything that cannot be imported.
        """
        NO_NEURONS.check(self.problems, bool(self.parts), "model", "no spiking layer")
        read = readout or next(reversed(self.parts), "")
        READ_DECAYS.check(
            self.problems,
            len(self.parts.get(read, "1")) == 1,
            f"layer {read!r}",
            "its neurons differ in their decays",
        )
        for target, signal in self._signals.items():
            for source in sorted({term.source for term in signal.terms} & self._integrators):
                self.problems.note(
                    VOLTAGE_SENT.broken(f"layer {target!r}", f"receives the voltages of {source!r}")
                )
        self.problems.raise_as(InputError)
        split = {
            layer: _part_numbers(parts, self._signals[layer].n)
            for layer, parts in self.parts.items()
            if len(parts) > 1
        }
        return self.assembled(read, {**(meta or {}), **({"parts": split} if split else {})})

    def assembled(self, read: str, meta: Mapping[str, Any] | None = None) -> Network:
        """The network of the layers so far, with the readout at layer ``read`` (its first part).

        Args:
            read: the layer that is read.
            meta: plain JSON values for ``Network.meta``.

        Returns:
            The network.
        """
        populations = list(self._populations)
        if any(np.any(signal.constant) or self._begins(signal) for signal in self._signals.values()):
            populations.insert(0, Population(ALWAYS, (1,), CubaLif(1.0, 0.5, 0.5, np.ones(1))))
        order = {INPUT: -1} | {population.name: i for i, population in enumerate(populations)}
        shapes = {INPUT: self.input_shape} | {population.name: population.shape for population in populations}
        projections: list[Projection] = []
        for layer, signal in self._signals.items():
            for target, rows in self.parts[layer].items():
                projections += self._into(target, signal.rows(rows), order)
                if layer in self._subtracted:
                    projections.append(_reset(target, self._subtracted[layer][rows]))
        first = next(iter(self.parts[read]))
        projections = [_with_kernels(projection, shapes) for projection in projections]
        readout = Readout.of(next(population for population in populations if population.name == first))
        return Network(self.input_shape, tuple(populations), tuple(projections), readout, dict(meta or {}))

    def _begins(self, signal: Signal) -> bool:
        """Whether a signal has a constant that begins after the first step."""
        return ALWAYS not in self.parts and any(term.source == ALWAYS for term in signal.terms)

    def _into(self, target: str, signal: Signal, order: Mapping[str, int]) -> list[Projection]:
        """The projections into a population."""
        found: dict[str, list[Term]] = {}
        for term in signal.terms:
            parts = self.parts.get(term.source, {term.source: np.arange(term.matrix.shape[1])})
            for source, columns in parts.items():
                part = term if len(parts) == 1 else term.picked(columns=columns)
                found.setdefault(source, []).append(part._replace(source=source))
        always = found.pop(ALWAYS, []) if self._begins(signal) else []
        if np.any(signal.constant):
            always.append(Term(ALWAYS, csr_matrix(signal.constant[:, None]), 0))
        projections = []
        for source in sorted(found, key=order.__getitem__):
            projections += _projections(source, target, found[source], order[source] >= order[target])
        return [*projections, *(_projections(ALWAYS, target, always, False) if always else ())]


def _reset(name: str, subtracted: NDArray[np.float64]) -> Projection:
    """The projection by which each neuron of a population takes from its own current in the step after a spike."""
    own = identity(subtracted.size, format="csr")
    weights = CsrMatrix.from_scipy(diags(-subtracted).tocsr())
    return Projection(f"{name}_reset", name, name, weights, pattern=ones(own))


def _part_numbers(parts: Parts, n: int) -> list[int]:
    """The part, from 1, of each of a layer's n neurons."""
    numbers = np.zeros(n, dtype=int)
    for number, neurons in enumerate(parts.values(), start=1):
        numbers[neurons] = number
    return numbers.tolist()


def _with_kernels(projection: Projection, shapes: Mapping[str, Any]) -> Projection:
    """The projection with its weights as kernels, where they are a convolution's and arrive together."""
    pattern = None if projection.pattern is None else projection.pattern.to_csr()
    if np.ndim(projection.delay):
        return projection
    before, after = shapes[projection.source], shapes[projection.target]
    weights, pattern = recognised(projection.weights.to_csr(), pattern, before, after)
    return replace(projection, weights=weights, pattern=pattern)


def _projections(source: str, target: str, terms: list[Term], back: bool) -> list[Projection]:
    """One projection if no synapse has two delays, otherwise one per delay.

    A ``Term`` counts its delay from the step of the spike; feedback projections already take one step.
    """
    name = f"{source}_to_{target}"
    delays = [term.delay - (1 if back else 0) for term in terms]
    if min(delays) < 0:
        raise InputError(INSTANT_FEEDBACK.broken(f"projection {name!r}", "feeds back within one step"))
    matrices = [CsrMatrix.from_scipy(term.matrix) for term in terms]
    patterns = [None if term.pattern is None else ones(term.pattern) for term in terms]
    if len(terms) == 1:
        return [Projection(name, source, target, matrices[0], delays[0], patterns[0])]
    merged = _with_delays(matrices, delays)
    if merged is not None:
        places = reduce(union, [term.pattern for term in terms])
        return [Projection(name, source, target, *merged, None if places is None else ones(places))]
    return [
        Projection(f"{name}_{delay}", source, target, matrix, delay, pattern)
        for matrix, delay, pattern in zip(matrices, delays, patterns, strict=True)
    ]


def _with_delays(matrices: list[CsrMatrix], delays: list[int]) -> tuple[CsrMatrix, NDArray[np.uint8]] | None:
    """One matrix with a delay per synapse, or None if two share a synapse or a delay is too long."""
    rows = np.concatenate([matrix.row_of() for matrix in matrices]).astype(np.int64)
    columns = np.concatenate([matrix.indices for matrix in matrices])
    place = rows * matrices[0].shape[1] + columns
    order = np.argsort(place, kind="stable")
    if np.any(np.diff(place[order]) == 0) or max(delays) > 255:
        return None
    data = np.concatenate([matrix.data for matrix in matrices])[order]
    late = np.repeat(delays, [matrix.nnz for matrix in matrices])[order]
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=matrices[0].shape[0]))])
    return CsrMatrix(data, columns[order], indptr, matrices[0].shape), late.astype(np.uint8)
