"""A network as netx's chain of layers, or all reasons why it is not one.

A layer is one population, or several in parallel: parts with different decays and thresholds, which netx takes
per neuron. A projection that equals a convolution becomes one again.
"""

from __future__ import annotations

from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lbi.errors import Problems, Rule
from lbi.network.convolution import Convolution, Shape, find, image, inexact_in_lava
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.csr import CsrMatrix, Weights
from lbi.network.fixed import FixedNetwork, FixedPopulation, FixedProjection
from lbi.network.graph import INPUT

OTHER_TARGET = "use --target lava or loihi, which take any graph"

UNFED = Rule("not-a-chain", "layers, each fed by the one before", OTHER_TARGET)
NOT_NEXT = Rule("not-a-chain", "from the layer before, or from the layer to itself", OTHER_TARGET)
READOUT_INSIDE = Rule("readout-inside", "{allowed}", OTHER_TARGET)
NO_INPUT = Rule("not-a-chain", "the layer before", OTHER_TARGET)
NO_WEIGHTS = Rule("no-weights", "at least one weight", "train with less regularization, or use --target lava")
EXPONENT = Rule(
    "exponent", "integers from −254 to 254 once the exponent is applied", "quantize with exponents='zero'"
)
TWO_DELAYS = Rule("two-delays", "one synapse per pair", OTHER_TARGET)
WEIGHT_SUM = Rule("weight-sum", "−255 to 255", OTHER_TARGET)


class Synapses(NamedTuple):
    """All synapses from one layer to another, or to itself.

    Attributes:
        where: the projections they come from, for errors.
        weights: (n, n_source) int16, with the exponents multiplied in: CSR, or kernels where netx is to store them.
        delay: () or (nnz,), relative to netx's latencies, in which every layer is one step behind the one before.
    """

    where: str
    weights: Weights
    delay: NDArray[np.int64]


class Layer(NamedTuple):
    """One netx layer: populations in parallel, their forward synapses, and their recurrence if there is any.

    Attributes:
        populations: the populations, in order.
        forward: synapses from the layer before.
        recurrent: synapses within the layer, or None.
        convolution: the forward synapses as a convolution, if netx is to store them as one.
    """

    populations: tuple[FixedPopulation, ...]
    forward: Synapses
    recurrent: Synapses | None
    convolution: Convolution | None

    @property
    def n(self) -> int:
        """Number of neurons."""
        return sum(population.n for population in self.populations)


def chain(network: FixedNetwork, problems: Problems) -> list[Layer]:
    """The layers in order; notes everything that is not a chain or that netx's integers cannot hold.

    Args:
        network: the network.
        problems: receives the reasons.

    Returns:
        The layers that could be formed.
    """
    fed = {projection.target for projection in network.projections}
    alone = [population.name for population in network.populations if population.name not in fed]
    for name in alone:
        problems.note(
            UNFED.broken(f"population {name!r}", "nothing leads into it: it spikes by its bias alone")
        )
    groups = _groups(network, alone)
    level = {INPUT: 0} | {p.name: index for index, group in enumerate(groups, 1) for p in group}
    into: dict[tuple[int, int], list[FixedProjection]] = {}
    for projection in network.projections:
        if projection.source in alone:
            continue
        step = level[projection.target] - level[projection.source]
        if NOT_NEXT.check(
            problems,
            step in (0, 1),
            f"projection {projection.name!r}",
            f"leads from {projection.source!r} to {projection.target!r}",
        ):
            into.setdefault((level[projection.target], step), []).append(projection)
    layers, before, spatial = [], [(INPUT, network.n_in)], image(network.input_shape)
    for index, group in enumerate(groups, 1):
        places = [(population.name, population.n) for population in group]
        forward = _forward(network, into.get((index, 1), []), before, places, problems)
        recurrent = _joined(network, into.get((index, 0), []), places, places, problems)
        if forward is None:
            spatial = ()  # a layer without weights has no shape for the next one to be a convolution of
        else:
            convolution = None
            if len(group) == 1 and recurrent is None and not np.any(forward.delay):
                convolution = _convolution(forward.weights, spatial, group[0].shape)
            layers.append(Layer(group, forward, recurrent, convolution))
            spatial = group[0].shape if convolution is not None else ()
        before = places
    readout = network.readout.population
    READOUT_INSIDE.check(
        problems,
        [population.name for group in groups[-1:] for population in group] == [readout],
        f"readout {readout!r}",
        "is not the last layer",
        allowed=" and ".join(repr(population.name) for group in groups[-1:] for population in group),
    )
    return layers


def _convolution(weights: Weights, before: Shape, after: Shape) -> Convolution | None:
    """The convolution between feature maps of these shapes that the weights are, if Lava gives its sums; else None."""
    if isinstance(weights, ConvolutionWeights) and weights.fits(before, after):
        found: Convolution | None = weights.convolution
    else:
        found = find(weights.to_csr(), before, after)
    return None if found is None or inexact_in_lava(found) else found


def _groups(network: FixedNetwork, alone: list[str]) -> list[tuple[FixedPopulation, ...]]:
    """Groups of consecutive populations with one latency and with input from outside the group, without ``alone``."""
    groups: list[tuple[FixedPopulation, ...]] = []
    chained = (population for population in network.populations if population.name not in alone)
    for _, run in groupby(chained, key=lambda population: population.latency):
        group = tuple(run)
        names = {population.name for population in group}
        fed = {projection.target for projection in network.projections if projection.source not in names}
        groups += [group] if names <= fed else [(population,) for population in group]
    return groups


def _forward(
    network: FixedNetwork,
    projections: list[FixedProjection],
    before: list[tuple[str, int]],
    places: list[tuple[str, int]],
    problems: Problems,
) -> Synapses | None:
    """The forward synapses of a layer; a layer without any is noted."""
    names = ", ".join(repr(name) for name, _ in places)
    if NO_INPUT.check(
        problems, bool(projections), f"population {names}", "nothing leads into it"
    ) and NO_WEIGHTS.check(
        problems,
        any(projection.weights.nnz for projection in projections),
        _where(projections),
        "no weight is left; netx cannot load an all-zero layer",
    ):
        return _joined(network, projections, before, places, problems)
    return None


def _where(projections: list[FixedProjection]) -> str:
    return f"projection {', '.join(repr(projection.name) for projection in projections)}"


def _joined(
    network: FixedNetwork,
    projections: list[FixedProjection],
    before: list[tuple[str, int]],
    places: list[tuple[str, int]],
    problems: Problems,
) -> Synapses | None:
    """The projections joined into one matrix of integers; None if they have no weights or cannot be joined."""
    projections = [projection for projection in projections if projection.weights.nnz]
    if not projections:
        return None
    column, row = _offsets(before), _offsets(places)
    shape = (sum(n for _, n in places), sum(n for _, n in before))
    back = 1 if before is places else 0  # lag in trained time; one step passes in any case
    scaled = [found for projection in projections if (found := _scaled(projection, problems)) is not None]
    delays = [np.asarray(network.lag(projection)) - back for projection in projections]
    if len(scaled) < len(projections):
        return None
    if len(projections) == 1 and scaled[0].shape == shape:
        return Synapses(_where(projections), scaled[0], delays[0])
    matrices = [weights.to_csr() for weights in scaled]
    ends = list(zip(matrices, projections, strict=True))
    rows = np.concatenate([matrix.row_of() + row[p.target] for matrix, p in ends])
    columns = np.concatenate([matrix.indices + column[p.source] for matrix, p in ends])
    late = np.concatenate([np.broadcast_to(d, (m.nnz,)) for m, d in zip(matrices, delays, strict=True)])
    data = np.concatenate([matrix.data for matrix in matrices])
    return _summed(_where(projections), rows, columns, data, late, shape, problems)


def _offsets(places: list[tuple[str, int]]) -> dict[str, int]:
    ends = np.cumsum([n for _, n in places])
    return {name: int(end) - n for (name, n), end in zip(places, ends, strict=True)}


def _scaled(projection: FixedProjection, problems: Problems) -> Weights | None:
    """The weights with the exponent multiplied in, since the file cannot hold one.

    Exact for a positive one, and for a negative one if no set bit is lost (then the shift of the sum equals the
    sum of the shifted).
    """
    exponent, data = projection.weight_exp, projection.weights.data.astype(np.int32)
    scaled = data << exponent if exponent > 0 else data >> -exponent
    exact = exponent >= 0 or not np.any(data % (1 << -exponent))
    if not EXPONENT.check(
        problems,
        exact and scaled.min() >= -255 and scaled.max() <= 255,
        f"projection {projection.name!r}",
        f"weight exponent {exponent} takes weights off netx's integers",
    ):
        return None
    return projection.weights.with_data(scaled.astype(np.int16))[0]


def _summed(
    where: str,
    rows: NDArray[Any],
    columns: NDArray[Any],
    data: NDArray[np.int16],
    late: NDArray[np.int64],
    shape: tuple[int, int],
    problems: Problems,
) -> Synapses | None:
    """The matrix of entries in any order, with duplicates summed; None if duplicates have different delays."""
    place = rows.astype(np.int64) * shape[1] + columns
    order = np.argsort(place, kind="stable")
    place, late = place[order], late[order]
    first = np.flatnonzero(np.diff(place, prepend=-1))
    data = np.add.reduceat(data[order], first)
    n_two = int(
        np.count_nonzero(np.diff(place) == 0) - np.count_nonzero((np.diff(place) == 0) & (np.diff(late) == 0))
    )
    if not TWO_DELAYS.check(
        problems, n_two == 0, where, f"{n_two} pairs of neurons are joined by two synapses of different delay"
    ) or not WEIGHT_SUM.check(
        problems,
        data.min() >= -255 and data.max() <= 255,
        where,
        f"synapses of one pair of neurons add up to {data.min()} … {data.max()}",
    ):
        return None
    place, late = place[first], late[first]
    indptr = np.searchsorted(place, np.arange(shape[0] + 1, dtype=np.int64) * shape[1])
    kept = np.flatnonzero(data)
    matrix, _ = CsrMatrix(np.where(data, data, 1), place % shape[1], indptr, shape).with_data(data)
    return Synapses(where, matrix, late[kept])
