"""The float network, as training produced it: populations of neurons and sparse projections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Problems, Rule, UsageError
from lbi.network.csr import CsrMatrix, Weights
from lbi.network.neurons import Neuron
from lbi.network.pattern import check_pattern, n_weights
from lbi.network.values import read_only, same

INPUT = "input"
"""Name of the spike source that feeds a network."""

READOUTS = ("spike_count", "membrane_max", "membrane_mean", "membrane_last")
"""Ways to turn an output population's activity into a class; only integrators are read by membrane."""

INPUT_SHAPE = Rule("input-shape", "whole numbers of at least 1")
NO_POPULATION = Rule("no-population", "at least one")
NAME = Rule("name", "letters, digits, '_', '-', '.'")
POPULATION_TAKEN = Rule("name-taken", "one each; 'input' is reserved")
PROJECTION_TAKEN = Rule("name-taken", "one each")
POPULATION_SHAPE = Rule("population-shape", "whole numbers of at least 1")
BIAS_SHAPE = Rule("bias-shape", "{shape}")
UNKNOWN_POPULATION = Rule("unknown-population", "{names}", "correct the name")
INPUT_TARGET = Rule("input-target", "a population")
WEIGHTS_SHAPE = Rule("weights-shape", "(n_target, n_source) = {expected}")
DELAY_SHAPE = Rule("delay-shape", "one for all, or one per stored synapse: ({nnz},)")
KERNEL_DELAY = Rule("delay-shape", "one for all synapses of a convolution", "use its to_csr()")
DELAY_VALUE = Rule("delay-value", "whole timesteps of at least 0")
READOUT_KIND = Rule("readout-kind", ", ".join(map(repr, READOUTS)))
READOUT_OF = Rule(
    "readout-kind",
    "'spike_count' of neurons that spike, 'membrane_max', 'membrane_mean' or 'membrane_last' of integrators",
)

P = TypeVar("P", bound=Any)
"""A record with a ``name``."""


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
        weights: (n_target, n_source), float: a ``CsrMatrix``, or the kernels of a ``ConvolutionWeights``.
        delay: extra timesteps, one int for all synapses or, of CSR, (nnz,).
        pattern: ones where the layer has weights, zeros among them (``lbi.network.pattern``); None: the form's own,
            everywhere for CSR and all places of the kernels for a convolution.
    """

    name: str
    source: str
    target: str
    weights: Weights
    delay: int | NDArray[np.uint8] = 0
    pattern: Weights | None = None

    def __post_init__(self) -> None:
        if self.pattern is None:
            object.__setattr__(self, "pattern", self.weights.pattern())
        if isinstance(self.delay, np.ndarray):
            object.__setattr__(self, "delay", read_only(self.delay))

    def __eq__(self, other: object) -> bool:
        return same(self, other) if isinstance(other, Projection) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

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
            the sample; ``membrane_mean``, its sum; ``membrane_last``, that of the last step.
    """

    population: str
    kind: str = "spike_count"

    @classmethod
    def of(cls, population: Any) -> Readout:
        """The usual readout of a population: ``spike_count``, or ``membrane_mean`` of integrators.

        Args:
            population: the population.

        Returns:
            A readout of that population.
        """
        kind = "spike_count" if population.neuron.spikes else "membrane_mean"
        return cls(population.name, kind)

    @property
    def of_membrane(self) -> bool:
        """True if voltages are read instead of spikes."""
        return self.kind != "spike_count"

    def classify(self, output: NDArray[Any]) -> NDArray[np.int64]:
        """Classes (n_samples,) from ``Activity.output``: spikes or voltages (n_samples, n_steps, n_out).

        Args:
            output: (n_samples, n_steps, n_out).

        Returns:
            The class with the highest score, the lowest index on ties.

        Raises:
            InputError: if ``kind`` is none of ``READOUTS``.
        """
        if self.kind not in READOUTS:
            raise InputError(READOUT_KIND.broken("readout", repr(self.kind)))
        if self.kind == "membrane_max":
            return output.max(axis=1).argmax(axis=1)
        if self.kind == "membrane_last":
            output = output[:, -1:]
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

    def __repr__(self) -> str:
        """Populations and projections with their sizes in place of the arrays."""
        return drawn("Network", self)

    @property
    def n_in(self) -> int:
        """Number of input channels."""
        return prod(self.input_shape)

    @property
    def n_weights(self) -> int:
        """Number of the dense network's weights over all projections; of kernels their entries."""
        return sum(n_weights(projection)[1] for projection in self.projections)

    @property
    def n_active(self) -> int:
        """Number of nonzero weights over all projections."""
        return sum(n_weights(projection)[0] for projection in self.projections)

    def population(self, name: str) -> Population:
        """The population of that name.

        Args:
            name: the name.

        Returns:
            The population's record.

        Raises:
            UsageError: if there is none.
        """
        return named(self.populations, name)

    def is_forward(self, projection: Projection) -> bool:
        """Test for a projection whose source is evaluated before its target in a timestep.

        Spikes of all others arrive a step later.

        Args:
            projection: one of the network's.

        Returns:
            True from the input, and from a population earlier in the network's order.
        """
        order = {population.name: i for i, population in enumerate(self.populations)}
        return projection.source == INPUT or order[projection.source] < order[projection.target]

    def lag(self, projection: Projection) -> NDArray[np.int64]:
        """Steps after which the projection's spikes arrive: () for all synapses, or (nnz,).

        Args:
            projection: one of the network's.

        Returns:
            The lag in timesteps, of shape () or (nnz,).
        """
        return np.asarray(projection.delay, dtype=np.int64) + (0 if self.is_forward(projection) else 1)

    def evaluation_order(self) -> tuple[str, ...]:
        """Population names in the order of evaluation within a timestep."""
        return tuple(population.name for population in self.populations)


def drawn(title: str, network: Any) -> str:
    """A Network or FixedNetwork in lines: every population in order of evaluation, and what projects to it.

    Args:
        title: of the first line.
        network: the network.

    Returns:
        The text, one line per population, without a line break at its end.
    """
    entering: dict[str, list[str]] = {}
    for projection in network.projections:
        active, total = n_weights(projection)
        longest = int(np.max(projection.delay, initial=0))
        delayed = f", delay {'up to ' * (np.ndim(projection.delay) > 0)}{longest}" if longest else ""
        entering.setdefault(projection.target, []).append(
            f"{projection.source} ({active:,} of {total:,} weights{delayed})"
        )
    lines = [
        f"  {population.name} {population.shape} {population.neuron.model}"
        + (f" ← {', '.join(entering[population.name])}" if population.name in entering else "")
        for population in network.populations
    ]
    readout = f"  {network.readout.kind} of {network.readout.population}"
    return "\n".join([f"{title}(", f"  {INPUT} {network.input_shape}", *lines, readout, ")"])


def check_graph(network: Any) -> None:
    """Check the graph of a Network or FixedNetwork.

    Args:
        network: the network.

    Raises:
        InputError: naming all inconsistencies.
    """
    problems = Problems()
    valid = INPUT_SHAPE.check(problems, is_shape(network.input_shape), "input", network.input_shape)
    NO_POPULATION.check(problems, bool(network.populations), "network", "no population")
    sizes = {INPUT: network.n_in if valid else 0}
    for population in network.populations:
        sizes[population.name] = _check_population(population, sizes, problems)
    seen: set[str] = set()
    for projection in network.projections:
        _check_projection(projection, sizes, seen, problems)
        check_pattern(projection, f"projection {projection.name!r}", problems)
        seen.add(projection.name)
    _check_readout(network, problems)
    problems.raise_as(InputError)


def _check_population(population: Any, sizes: Mapping[str, int], problems: Problems) -> int:
    """Check one population; its number of neurons, or 0 if its shape is none."""
    name = population.name
    where = f"population {name!r}"
    NAME.check(problems, is_name(name), where, repr(name))
    POPULATION_TAKEN.check(problems, name not in sizes, where, "a second of that name")
    if not POPULATION_SHAPE.check(problems, is_shape(population.shape), where, population.shape):
        return 0
    for parameter in ("bias", "bias_mant"):
        value = getattr(population.neuron, parameter, None)
        if value is not None:
            shape = (population.n,)
            BIAS_SHAPE.check(
                problems, value.shape == shape, f"{where}, {parameter}", value.shape, shape=shape
            )
    return population.n


def _check_projection(projection: Any, sizes: Mapping[str, int], seen: set[str], problems: Problems) -> None:
    where = f"projection {projection.name!r}"
    NAME.check(problems, is_name(projection.name), where, repr(projection.name))
    PROJECTION_TAKEN.check(problems, projection.name not in seen, where, "a second of that name")
    names, shape, nnz = ", ".join(map(repr, sizes)), projection.weights.shape, projection.weights.nnz
    ends = [(projection.source, "source"), (projection.target, "target")]
    known = all(
        UNKNOWN_POPULATION.check(problems, end in sizes, f"{where}, {role}", repr(end), names=names)
        for end, role in ends
    )
    INPUT_TARGET.check(problems, projection.target != INPUT, where, "leads into the input")
    if known:
        expected = (sizes[projection.target], sizes[projection.source])
        WEIGHTS_SHAPE.check(problems, shape == expected, where, shape, expected=expected)
    delay = np.asarray(projection.delay)
    DELAY_SHAPE.check(problems, delay.ndim == 0 or delay.shape == (nnz,), where, delay.shape, nnz=nnz)
    shared = delay.ndim == 0 or isinstance(projection.weights, CsrMatrix)
    KERNEL_DELAY.check(problems, shared, where, f"{delay.size} delays")
    whole = delay.dtype.kind in "iu" and (delay.size == 0 or int(delay.min()) >= 0)
    DELAY_VALUE.check(problems, whole, where, "negative or fractional delays")


def _check_readout(network: Any, problems: Problems) -> None:
    readout, names = network.readout, [population.name for population in network.populations]
    known = UNKNOWN_POPULATION.check(
        problems,
        readout.population in names,
        "readout",
        repr(readout.population),
        names=", ".join(map(repr, names)),
    )
    valid = READOUT_KIND.check(problems, readout.kind in READOUTS, "readout", repr(readout.kind))
    if known and valid:
        neuron = network.population(readout.population).neuron
        found = f"{readout.kind!r} of a population of {neuron.model!r}"
        READOUT_OF.check(problems, readout.of_membrane != neuron.spikes, "readout", found)


def is_shape(shape: object) -> bool:
    """Test for a tuple or list of sizes.

    Args:
        shape: any value.

    Returns:
        True if all are whole numbers of at least 1.
    """
    return isinstance(shape, tuple | list) and all(
        isinstance(size, int | np.integer) and size >= 1 for size in shape
    )


def is_name(name: object) -> bool:
    """Test for a name that is safe as an HDF5 group and as part of a file name.

    Args:
        name: any text.

    Returns:
        True for 1 to 128 letters, digits, "_", "-" and ".", not of dots alone.
    """
    return (
        isinstance(name, str)
        and 0 < len(name) <= 128
        and all(letter.isalnum() or letter in "_-." for letter in name)
        and set(name) != {"."}
    )


def named(populations: Iterable[P], name: str) -> P:
    """The population of a name.

    Args:
        populations: records with a ``name``.
        name: the name.

    Returns:
        One of ``populations``.

    Raises:
        UsageError: if there is none.
    """
    by_name = {population.name: population for population in populations}
    if name not in by_name:
        names = ", ".join(map(repr, by_name))
        raise UsageError(UNKNOWN_POPULATION.broken("population", repr(name), names=names))
    return by_name[name]
