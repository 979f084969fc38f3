"""Builds a ``Network`` layer by layer from what other frameworks hold: neurons with their own conventions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbi.errors import InputError, Problem, Problems
from lbi.importers.signal import Signal, Term
from lbi.network import INPUT, Network, Population, Projection, Readout
from lbi.neurons import CubaLif, LifRefractory
from lbi.sparse import CsrMatrix

ALWAYS = "always_on"
"""Name of the neuron that spikes in every step: a constant input to a current is its synapse."""


class Builder:
    """Collects populations in their order of evaluation; ``network()`` ends it.

    Raises InputError, at the end, naming everything that could not be taken over.
    """

    def __init__(self, input_shape: Sequence[int]) -> None:
        self.input_shape = tuple(int(size) for size in input_shape)
        self.problems = Problems()
        self._populations: list[Population] = []
        self._signals: dict[str, Signal] = {}

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
    ) -> Signal:
        """Add a population fed by ``signal``; returns its spikes. Parameters: numbers, or arrays of its shape.

        Thresholds may differ from neuron to neuron (weights and biases are scaled to one); decays may not.
        A constant in the signal enters the current: as bias where the current has no memory, else from a
        neuron that spikes in every step.
        """
        alpha = self._one(current_decay, f"{where}, current decay")
        beta = self._one(voltage_decay, f"{where}, voltage decay")
        thresholds = np.broadcast_to(np.asarray(threshold, dtype=np.float64), signal.shape).reshape(-1)
        bias = np.broadcast_to(np.asarray(voltage_bias, dtype=np.float64), signal.shape).reshape(-1)
        if not self.problems.check(
            bool(np.all(np.isfinite(thresholds)) and np.all(thresholds > 0)), "threshold-range", where,
            f"thresholds {thresholds.min():g} to {thresholds.max():g}", "finite numbers above 0",
        ):  # fmt: skip
            thresholds = np.ones_like(thresholds)
        one = float(thresholds[0])
        if np.any(thresholds != one):
            signal = signal.scaled((one / thresholds).reshape(signal.shape))
            bias = bias * one / thresholds
        if alpha == 1.0:
            bias = bias + signal.constant
            signal = Signal(signal.shape, signal.terms, np.zeros(signal.n))
        parameters: dict[str, Any] = {
            "current_decay": alpha,
            "voltage_decay": beta,
            "threshold": one,
            "bias": bias if np.any(bias) else None,
        }
        try:
            neuron: CubaLif = (
                LifRefractory(**parameters, refractory_period=refractory_period)
                if refractory_period
                else CubaLif(**parameters)
            )
        except InputError as error:
            for problem in error.problems:
                self.problems.add(problem.code, f"{where}, {problem.where}", problem.found, problem.allowed)
            neuron = CubaLif(1.0, 1.0, 1.0)
        self._populations.append(Population(name, signal.shape, neuron))
        self._signals[name] = signal
        return Signal.spikes(name, signal.shape)

    def _one(self, values: ArrayLike, where: str) -> float:
        """The single value of a parameter that a population shares."""
        distinct = np.unique(np.asarray(values, dtype=np.float64))
        self.problems.check(
            distinct.size == 1, "mixed-decays", where,
            f"{distinct.size} different values, {distinct.min():g} to {distinct.max():g}",
            "one per layer: a population shares its decays", "train with one decay per layer, or split the layer",
        )  # fmt: skip
        return float(distinct[0])

    def network(self, readout: str | None = None, meta: Mapping[str, Any] | None = None) -> Network:
        """The network; ``readout``: the population that is read (default: the last)."""
        self.problems.check(
            bool(self._populations), "no-neurons", "model", "no spiking layer", "at least one", "add one"
        )
        self.problems.raise_as(InputError)
        populations, signals = list(self._populations), dict(self._signals)
        read = next((p for p in populations if p.name == readout), populations[-1])
        if any(np.any(signal.constant) for signal in signals.values()):
            populations.insert(0, Population(ALWAYS, (1,), CubaLif(1.0, 0.5, 0.5, np.ones(1))))
        order = {INPUT: -1} | {population.name: i for i, population in enumerate(populations)}
        projections = []
        for target, signal in signals.items():
            for source in sorted({term.source for term in signal.terms}, key=order.__getitem__):
                back = order[source] >= order[target]
                terms = [term for term in signal.terms if term.source == source]
                projections += _projections(source, target, terms, back)
            if np.any(signal.constant):
                weights = CsrMatrix.from_dense(signal.constant[:, None])
                projections.append(Projection(f"{ALWAYS}_to_{target}", ALWAYS, target, weights))
        return Network(
            self.input_shape, tuple(populations), tuple(projections),
            Readout.of(read), dict(meta or {}),
        )  # fmt: skip


def _projections(source: str, target: str, terms: list[Term], back: bool) -> list[Projection]:
    """One projection if no synapse has two delays, else one per delay.

    A ``Term`` counts its delay from the step of the spike; a projection that leads back is a step late as such.
    """
    name = f"{source}_to_{target}"
    delays = [term.delay - (1 if back else 0) for term in terms]
    if min(delays) < 0:
        raise InputError(
            Problem("instant-feedback", f"projection {name!r}", "feeds back within one step", "a step later",
                    "give the feedback a delay of a step")
        )  # fmt: skip
    matrices = [CsrMatrix.from_scipy(term.matrix) for term in terms]
    if len(terms) == 1:
        return [Projection(name, source, target, matrices[0], delays[0])]
    merged = _with_delays(matrices, delays)
    if merged is not None:
        return [Projection(name, source, target, *merged)]
    return [
        Projection(f"{name}_{delay}", source, target, matrix, delay)
        for matrix, delay in zip(matrices, delays, strict=True)
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
