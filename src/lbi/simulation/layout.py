"""Memory layout of a network for event-driven simulation: flat arrays, with columns of weights in narrow integers."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Problems, Rule
from lbi.network.fixed import FixedNetwork, FixedPopulation, FixedProjection
from lbi.network.fixedpoint import ACTIVATION_SHIFT, DECAY_BITS
from lbi.network.graph import INPUT
from lbi.network.neurons import FixedNeuron
from lbi.simulation.columns import stored_columns
from lbi.simulation.records import ATRLIF, CUBA_LIF, KERNELS, LIF_REFRACTORY, MASKED, N_PARAMETERS, Layout

FAN_IN = Rule("fan-in", f"fewer than {(1 << 31) // 256}", "split the projection")

_UNITY = 1 << DECAY_BITS


class SimulationPlan(NamedTuple):
    """The part shared by all runs of a network.

    Attributes:
        populations: In evaluation order.
        projections: Sorted by source.
        source: (Q,) of each projection: 0 the input, p + 1 population p.
        layout: The network in flat arrays.
        idle: Working memory (``lbi.simulation.kernels.Scratch``) that no thread uses now.
    """

    populations: tuple[FixedPopulation, ...]
    projections: tuple[FixedProjection, ...]
    source: tuple[int, ...]
    layout: Layout
    idle: list[Any]


_plans: dict[int, tuple[weakref.ref[FixedNetwork], SimulationPlan]] = {}


def plan_of(fixed: FixedNetwork) -> SimulationPlan:
    """The plan of a network, made on first use and kept as long as the (immutable) network exists.

    Args:
        fixed: the network.

    Returns:
        The plan; the same object in every call.
    """
    key = id(fixed)
    if key not in _plans or _plans[key][0]() is not fixed:
        made = plan(fixed)
        _plans[key] = (weakref.ref(fixed, lambda _: _plans.pop(key, None)), made)
    return _plans[key][1]


def plan(fixed: FixedNetwork) -> SimulationPlan:
    """The plan of a network for the simulator.

    Args:
        fixed: the network.

    Returns:
        The populations in order of evaluation, the projections, and both in flat arrays.

    Raises:
        InputError: if a sum could exceed the 32 bits of Lava's messages before its shift.
    """
    order = fixed.evaluation_order()
    number = {INPUT: 0} | {name: p + 1 for p, name in enumerate(order)}
    projections = tuple(sorted(fixed.projections, key=lambda projection: number[projection.source]))
    _check_sums(projections)
    populations = tuple(fixed.population(name) for name in order)
    sources = tuple(number[projection.source] for projection in projections)
    return SimulationPlan(
        populations, projections, sources, _layout(fixed, populations, projections, number), []
    )


def _layout(
    fixed: FixedNetwork,
    populations: tuple[FixedPopulation, ...],
    projections: tuple[FixedProjection, ...],
    number: dict[str, int],
) -> Layout:
    columns = stored_columns(fixed, projections)
    n = np.array([population.n for population in populations], dtype=np.int64)
    target = np.array([number[p.target] - 1 for p in projections], dtype=np.int64)
    n_slots = np.ones(len(populations), dtype=np.int64)
    for t, part in zip(target, columns, strict=True):
        n_slots[t] = max(n_slots[t], part.lag + part.n_lags)
    sources = [number[projection.source] for projection in projections]
    weights1 = [part.weights if part.weights.itemsize == 1 else None for part in columns]
    weights2 = [part.weights if part.weights.itemsize == 2 else None for part in columns]
    indices2 = [part.indices if part.indices.itemsize == 2 else None for part in columns]
    words, first_word = _pool([part.words for part in columns], np.uint64)
    indices4 = [part.indices if part.indices.itemsize == 4 else None for part in columns]
    pool1, start1 = _pool(weights1, np.int8)
    pool2, start2 = _pool(weights2, np.int16)
    index2, first2 = _pool(indices2, np.uint16)
    index4, first4 = _pool(indices4, np.uint32)
    pointers, first_pointer = _pool([part.pointers for part in columns], np.uint64)
    weight_bytes = _int64([part.weights.itemsize for part in columns])
    index_bytes = _int64([part.indices.itemsize for part in columns])
    in_words = np.array([part.format in (MASKED, KERNELS) for part in columns], dtype=bool)
    models = [_parameters(population.neuron) for population in populations]
    return Layout(
        n_in=fixed.n_in,
        n=n,
        model=_int64([model for model, _ in models]),
        start=_running(n),
        ring=_running(n * n_slots),
        n_slots=n_slots,
        parameters=np.array([parameters for _, parameters in models], dtype=np.int64),
        bias=np.concatenate([population.neuron.bias for population in populations]).astype(np.int32),
        first=np.searchsorted(sources, np.arange(len(populations) + 2)).astype(np.int64),
        n_source=_int64([projection.weights.shape[1] for projection in projections]),
        target=target,
        lag=_int64([part.lag for part in columns]),
        n_lags=_int64([part.n_lags for part in columns]),
        shift=_int64([part.shift for part in columns]),
        factor=np.array([1 << max(part.shift, 0) for part in columns], dtype=np.int32),
        format=_int64([part.format for part in columns]),
        weight_bytes=weight_bytes,
        index_bytes=index_bytes,
        columns=first_pointer,
        weights=np.where(weight_bytes == 1, start1, start2),
        indices=np.where(in_words, first_word, np.where(index_bytes == 2, first2, first4)),
        pointers=pointers,
        weights1=pool1,
        weights2=pool2,
        indices2=index2,
        indices4=index4,
        words=words,
    )


def stored_bytes(layout: Layout) -> int:
    """Bytes of a layout's weights, indices, masks and column pointers.

    Args:
        layout: the network in flat arrays.

    Returns:
        The number of bytes of all arrays together.
    """
    stored = (
        layout.weights1,
        layout.weights2,
        layout.indices2,
        layout.indices4,
        layout.words,
        layout.pointers,
    )
    return sum(array.nbytes for array in stored)


def _check_sums(projections: tuple[FixedProjection, ...]) -> None:
    problems = Problems()
    for projection in projections:
        largest = int(projection.weights.fan_in().max(initial=0)) * 256
        FAN_IN.check(
            problems,
            largest < 1 << 31,
            f"projection {projection.name!r}",
            f"{largest // 256} synapses on one neuron",
        )
    problems.raise_as(InputError)


def is_compiled(fixed: FixedNetwork) -> bool:
    """True if the neuron models of all populations have compiled kernels.

    Args:
        fixed: The network to run.

    Returns:
        False if a population needs its model's plain step function.
    """
    return all(population.neuron.model in COMPILED for population in fixed.populations)


def _parameters(neuron: FixedNeuron) -> tuple[int, list[int]]:
    """Model code and the parameters of its kernel, padded with zeros."""
    code, parameters_of = COMPILED[neuron.model]
    values = parameters_of(neuron)
    return code, values + [0] * (N_PARAMETERS - len(values))


def _cuba_lif(neuron: FixedNeuron) -> list[int]:
    return [_UNITY - (neuron.du + 1), _UNITY - neuron.dv, neuron.vth << ACTIVATION_SHIFT]


def _integrator(neuron: FixedNeuron) -> list[int]:
    above_every_voltage = (1 << 31) - 1
    return [_UNITY - (neuron.du + 1), _UNITY - neuron.dv, above_every_voltage]


def _lif_refractory(neuron: FixedNeuron) -> list[int]:
    return [*_cuba_lif(neuron), neuron.refractory_period]


def _atrlif(neuron: FixedNeuron) -> list[int]:
    return [
        _UNITY - (neuron.delta_i + 1),
        _UNITY - neuron.delta_v,
        neuron.theta_0 << ACTIVATION_SHIFT,
        _UNITY - neuron.delta_theta,
        _UNITY - neuron.delta_r,
        neuron.theta_step << ACTIVATION_SHIFT,
    ]


COMPILED: dict[str, tuple[int, Callable[[FixedNeuron], list[int]]]] = {
    "cuba_lif": (CUBA_LIF, _cuba_lif),
    "integrator": (CUBA_LIF, _integrator),
    "lif_refractory": (LIF_REFRACTORY, _lif_refractory),
    "atrlif": (ATRLIF, _atrlif),
}
"""Neuron model → code of its compiled kernel, and the kernel's parameters.

Decays are the fraction left, in 1/4096; thresholds are in state units. Other models use their plain step function.
"""


def _pool(parts: list[Any], dtype: Any) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """The concatenation of parts (None is empty), and the start of each."""
    arrays = [np.zeros(0, dtype=dtype) if part is None else part for part in parts]
    starts = _running(_int64([array.size for array in arrays]))[:-1]
    if len([array for array in arrays if array.size]) == 1:
        return next(array for array in arrays if array.size), starts
    return np.concatenate([np.zeros(0, dtype=dtype), *arrays]), starts


def _running(counts: NDArray[Any]) -> NDArray[np.int64]:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _int64(values: list[int]) -> NDArray[np.int64]:
    return np.array(values, dtype=np.int64)
