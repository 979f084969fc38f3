"""The float network, as training produced it: populations of neurons and sparse projections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Problems
from lbi.network.csr import CsrMatrix
from lbi.network.neurons import Neuron
from lbi.network.pattern import check_pattern, n_positions

INPUT = "input"
"""Name of the spike source that feeds a network."""

READOUTS = ("spike_count", "membrane_max", "membrane_mean")
"""Ways to turn an output population's activity into a class; only integrators are read by membrane."""


@dataclass(frozen=True)
class Population:
    """A named group of neurons that share one neuron model (``lbi.network.neurons``).

    Attributes:
        name: unique in its network.
        shape: for display and files; neurons are numbered in C order.
        neuron: the model's parameters.
    """

    name: str
    shape: tuple[int, ...]
    neuron: Neuron

    @property
    def n(self) -> int:
        """Number of neurons."""
        return prod(self.shape)


@dataclass(frozen=True)
class Projection:
    """Synapses from ``source`` (a population or ``"input"``) to ``target``, possibly itself.

    Attributes:
        name: unique in its network.
        source: a population or ``"input"``.
        target: a population.
        weights: CSR (n_target, n_source), float.
        delay: extra timesteps, one int for all synapses or (nnz,).
        pattern: ones where the layer has weights, zeros among them (``lbi.network.pattern``); None: everywhere.
    """

    name: str
    source: str
    target: str
    weights: CsrMatrix
    delay: int | NDArray[np.uint8] = 0
    pattern: CsrMatrix | None = None

    @property
    def max_delay(self) -> int:
        """The longest extra delay of all synapses, in timesteps."""
        return int(np.max(self.delay, initial=0))


@dataclass(frozen=True)
class Readout:
    """The rule that turns output into a class: the neuron with the largest score, the lowest index on ties.

    Attributes:
        population: the output population.
        kind: the score: ``spike_count``, the number of spikes; ``membrane_max``, the maximum of the voltage over
            the sample; ``membrane_mean``, its sum.
    """

    population: str
    kind: str = "spike_count"

    @classmethod
    def of(cls, population: Any) -> Readout:
        """The usual readout of a population: ``spike_count``, or ``membrane_mean`` of integrators."""
        kind = "spike_count" if population.neuron.spikes else "membrane_mean"
        return cls(population.name, kind)

    @property
    def of_membrane(self) -> bool:
        """True if voltages are read instead of spikes."""
        return self.kind != "spike_count"

    def classify(self, output: NDArray[Any]) -> NDArray[np.int64]:
        """Classes (n_samples,) from ``Activity.output``: spikes or voltages (n_samples, n_steps, n_out)."""
        if self.kind == "membrane_max":
            return output.max(axis=1).argmax(axis=1)
        return output.sum(axis=1, dtype=output.dtype if output.dtype.kind == "f" else np.int64).argmax(axis=1)


@dataclass(frozen=True)
class Network:
    """A float spiking network; the order of ``populations`` is the order of evaluation in a timestep.

    At step t a population sees the spikes of step t of the input and of populations before it, and the
    spikes of step t−1 of itself and of populations after it (plus the projection's delay).

    Attributes:
        input_shape: shape of the input; channels are numbered in C order.
        populations: in order of evaluation.
        projections: in any order.
        readout: how output becomes a class.
        meta: plain JSON values that accompany the network (data set, encoding, training summary).

    Raises:
        InputError: naming everything that is inconsistent.
    """

    input_shape: tuple[int, ...]
    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    readout: Readout
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_graph(self)

    @property
    def n_in(self) -> int:
        """Number of input channels."""
        return prod(self.input_shape)

    @property
    def n_weights(self) -> int:
        """Number of the dense network's weights over all projections (``lbi.network.pattern``)."""
        return sum(n_positions(projection) for projection in self.projections)

    @property
    def n_active(self) -> int:
        """Number of stored synapses over all projections."""
        return sum(projection.weights.nnz for projection in self.projections)

    def population(self, name: str) -> Population:
        """The population of that name; it must exist."""
        return next(population for population in self.populations if population.name == name)

    def is_forward(self, projection: Projection) -> bool:
        """True if the source is evaluated before the target in a timestep; if not, its spikes arrive a step later."""
        order = {population.name: i for i, population in enumerate(self.populations)}
        return projection.source == INPUT or order[projection.source] < order[projection.target]

    def lag(self, projection: Projection) -> NDArray[np.int64]:
        """Steps after which the projection's spikes arrive: () for all synapses, or (nnz,)."""
        return np.asarray(projection.delay, dtype=np.int64) + (0 if self.is_forward(projection) else 1)

    def evaluation_order(self) -> tuple[str, ...]:
        """Population names in the order of evaluation within a timestep."""
        return tuple(population.name for population in self.populations)


def check_graph(network: Any) -> None:
    """Check the graph of a Network or FixedNetwork.

    Args:
        network: the network.

    Raises:
        InputError: naming all inconsistencies.
    """
    problems = Problems()
    problems.check(network.n_in > 0, "input-shape", "input", f"{network.input_shape}", "at least one channel")
    problems.check(bool(network.populations), "no-population", "network", "no population", "at least one")
    sizes = {INPUT: network.n_in}
    for population in network.populations:
        _check_population(population, sizes, problems.check)
        sizes[population.name] = population.n
    seen: set[str] = set()
    for projection in network.projections:
        _check_projection(projection, sizes, seen, problems.check)
        check_pattern(projection, f"projection {projection.name!r}", problems)
        seen.add(projection.name)
    _check_readout(network, problems.check)
    problems.raise_as(InputError)


def _check_population(population: Any, sizes: Mapping[str, int], check: Callable[..., bool]) -> None:
    name = population.name
    where = f"population {name!r}"
    check(is_name(name), "name", where, repr(name), "letters, digits, '_', '-', '.'")
    check(name not in sizes, "name-taken", where, "a second of that name", "one each; 'input' is reserved")
    check(population.n > 0, "population-shape", where, f"{population.shape}", "at least one neuron")
    for parameter in ("bias", "bias_mant"):
        value = getattr(population.neuron, parameter, None)
        if value is not None:
            check(
                value.shape == (population.n,),
                "bias-shape",
                f"{where}, {parameter}",
                f"{value.shape}",
                f"{(population.n,)}",
            )


def _check_projection(
    projection: Any, sizes: Mapping[str, int], seen: set[str], check: Callable[..., bool]
) -> None:
    where = f"projection {projection.name!r}"
    check(is_name(projection.name), "name", where, repr(projection.name), "letters, digits, '_', '-', '.'")
    check(projection.name not in seen, "name-taken", where, "a second of that name", "one each")
    ends = [(projection.source, "source"), (projection.target, "target")]
    known = all(
        check(end in sizes, "unknown-population", f"{where}, {role}", repr(end), ", ".join(map(repr, sizes)))
        for end, role in ends
    )
    check(projection.target != INPUT, "input-target", where, "leads into the input", "a population")
    if known:
        expected = (sizes[projection.target], sizes[projection.source])
        check(
            projection.weights.shape == expected,
            "weights-shape",
            where,
            f"{projection.weights.shape}",
            f"(n_target, n_source) = {expected}",
        )
    delay = np.asarray(projection.delay)
    check(
        delay.ndim == 0 or delay.shape == (projection.weights.nnz,),
        "delay-shape",
        where,
        f"{delay.shape}",
        f"one for all, or one per stored synapse: ({projection.weights.nnz},)",
    )
    check(
        delay.dtype.kind in "iu" and (delay.size == 0 or int(delay.min()) >= 0),
        "delay-value",
        where,
        "negative or fractional delays",
        "whole timesteps of at least 0",
    )


def _check_readout(network: Any, check: Callable[..., bool]) -> None:
    readout, names = network.readout, [population.name for population in network.populations]
    known = check(
        readout.population in names,
        "unknown-population",
        "readout",
        repr(readout.population),
        ", ".join(map(repr, names)),
    )
    valid = check(
        readout.kind in READOUTS,
        "readout-kind",
        "readout",
        repr(readout.kind),
        ", ".join(map(repr, READOUTS)),
    )
    if known and valid:
        neuron = network.population(readout.population).neuron
        model = neuron.model
        check(
            readout.of_membrane != neuron.spikes,
            "readout-kind",
            "readout",
            f"{readout.kind!r} of a population of {model!r}",
            "'spike_count' of neurons that spike, 'membrane_max' or 'membrane_mean' of integrators",
        )


def is_name(name: object) -> bool:
    """True for a name that is safe as an HDF5 group and as part of a file name."""
    return (
        isinstance(name, str)
        and 0 < len(name) <= 128
        and all(letter.isalnum() or letter in "_-." for letter in name)
        and set(name) != {"."}
    )
