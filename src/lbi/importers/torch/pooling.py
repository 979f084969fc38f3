"""Maximum pooling of spikes: the maximum over a window is 1 where any of its neurons spikes.

That is a population of neurons without memory, each of which takes in the spikes of its window with weight 1 and fires above
1/2. It is exact only if what is pooled is spikes of 0 and 1, each of one neuron or absent (a constant 0); of anything
else, such as currents, voltages or sums, the maximum is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, identity, kron

from lbi.errors import Problems, Rule
from lbi.importers.builder import Builder
from lbi.importers.signal import Signal
from lbi.importers.torch.layer import layer_name
from lbi.importers.torch.operations import is_tracked, plane_matrix, tracked
from lbi.importers.torch.running import place
from lbi.importers.torch.shadow import STATE_OF, Pool, Shadow
from lbi.importers.torch.spikes import fan_in, is_spikes
from lbi.network.graph import INPUT

THRESHOLD = 0.5
"""Between no spike and one."""

MOST_IN_WINDOW = 512
"""Spikes that a neuron can take in at once: with the largest mantissa, 255, their sum still fits a current of 24 bits."""

WINDOW = Rule(
    "window-size",
    f"up to {MOST_IN_WINDOW} in the window of a maximum, whose sum the chip's currents hold",
    "pool in two steps, with smaller windows",
)


def max_pool(shadow: Shadow, func: Any, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The rule for the maximum over windows.

    Args:
        shadow: the numbers of all elements.
        func: the operation.
        out: what it returned, maxima and their indices.
        args: its arguments.
        kwargs: its keyword arguments.

    Returns:
        Numbers of the maxima and of their indices; None unless spikes are pooled.
    """
    x = args[0]
    if "indices" in kwargs or any(is_tracked(shadow, value) for value in args[1:]):
        return None
    n_rows, shape = x.shape[0] if x.dim() == 4 else 1, tuple(out.shape[-3:])
    key, window = plane_matrix(shadow, func, args, kwargs)
    elements = tracked(shadow, x, x.shape)
    numbers, values = elements.numbers.reshape(n_rows, -1), elements.values.reshape(n_rows, -1)
    found = np.zeros((2, n_rows, int(np.prod(shape))), dtype=np.int64)
    for row in range(n_rows):
        if not numbers[row].any():
            continue
        node = shadow.read(numbers[row], values[row])
        own = ("maximum", *key, shape, id(node.signal))
        pooled = shadow.keep(own, partial(_pooled, shadow, node.signal, window, shape))
        if pooled is None:
            return None
        found[:, row] = [shadow.new(signal, node.step).numpy() for signal in pooled]
    return tuple(torch.from_numpy(part).reshape(out.shape) for part in found)


def _pooled(
    shadow: Shadow, signal: Signal, window: csr_matrix, shape: tuple[int, ...]
) -> tuple[Signal, Signal] | None:
    """The spikes of a new population for the windows of a signal, and the places of the maxima, a state of it; None unless it is spikes."""
    if not is_spikes(signal):
        return None
    windows = csr_matrix(kron(identity(shape[0]), window))
    taken = signal.linear(windows, shape=shape, pattern=windows)
    ones = tuple(term._replace(matrix=(term.matrix != 0).astype(np.float64)) for term in taken.terms)
    name, where = _named(shadow, signal)
    shadow.pools.append(Pool(name, where, Signal(shape, ones, taken.constant)))
    return Signal.spikes(name, shape), Signal.spikes(f"{name}{STATE_OF}indices", shape)


def _named(shadow: Shadow, signal: Signal) -> tuple[str, str]:
    """Name and place of a population: after the module that pools, or after what is pooled by a function."""
    module = place().module
    path = shadow.paths.get(id(module), "")
    if path and module is not None and not any(module.children()):
        first, where = layer_name(path), f"module {path!r}"
    else:
        source = next(iter(term.source for term in signal.terms), INPUT)
        first, where = f"{source}_pooled", f"the maximum of {source!r}"
    taken = {pool.name for pool in shadow.pools} | {layer_name(p) for p in shadow.paths.values() if p != path}
    name, number = first, 1
    while name in taken:
        number += 1
        name = f"{first}_{number}"
    return name, where


# ---- in the network ------------------------------------------------------------------------------------------------


class Named(Protocol):
    """Anything that becomes a population of this name."""

    @property
    def name(self) -> str:
        """The population's name."""


Layer = TypeVar("Layer", bound=Named)


def sources(signals: Sequence[Signal], pools: Sequence[Pool]) -> set[str]:
    """Names of what signals consist of, with those of pooled spikes in place of pools.

    Args:
        signals: any signals.
        pools: populations that pool.

    Returns:
        Names of layers, of their states, or of the input.
    """
    found = {term.source for signal in signals for term in signal.terms}
    for pool in reversed(pools):
        if pool.name in found:
            found = found - {pool.name} | {term.source for term in pool.signal.terms}
    return found


def in_order(layers: Sequence[Layer], signals: Sequence[Signal], pools: Sequence[Pool]) -> list[Layer | Pool]:
    """Layers with the pools that they need, each behind the layers whose spikes of the same step it takes in.

    Args:
        layers: the layers in order of evaluation.
        signals: what they take in.
        pools: populations that pool, each after those that it takes in.

    Returns:
        Layers and pools in order of evaluation.
    """
    needed = {term.source for signal in signals for term in signal.terms}
    for pool in reversed(pools):
        if pool.name in needed:
            needed |= {term.source for term in pool.signal.terms}
    found: list[Layer | Pool] = list(layers)
    for pool in pools:
        if pool.name in needed:
            before = {term.source for term in pool.signal.terms if term.delay == 0}
            places = [i for i, entry in enumerate(found) if entry.name in before]
            found.insert(max(places, default=-1) + 1, pool)
    return found


def add(pool: Pool, builder: Builder, problems: Problems) -> None:
    """Add the population of a pool.

    Args:
        pool: the pool.
        builder: receives the population.
        problems: receives a window that is too large.
    """
    most = int(fan_in(pool.signal).max(initial=0))
    WINDOW.check(problems, most <= MOST_IN_WINDOW, pool.where, f"{most} neurons in a window")
    builder.neurons(
        pool.where, pool.name, pool.signal, current_decay=1.0, voltage_decay=1.0, threshold=THRESHOLD
    )


def spikes_of(pool: Pool, spikes: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """The spikes of a pool (samples, steps, n): 1 where any of its inputs is.

    Args:
        pool: the pool.
        spikes: source → its spikes (samples, steps, n).

    Returns:
        The spikes.
    """
    return np.asarray(arriving(pool.signal, spikes) > 0, dtype=np.float64)


def arriving(signal: Signal, spikes: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """The values (samples, steps, n) of a signal.

    Args:
        signal: the signal.
        spikes: source → its spikes (samples, steps, n).

    Returns:
        The values.
    """
    n_samples, n_steps = next(iter(spikes.values())).shape[:2]
    values = np.zeros((n_samples, n_steps, signal.n)) + signal.constant
    for term in signal.terms:
        for step in range(term.delay, n_steps):
            values[:, step] += (term.matrix @ spikes[term.source][:, step - term.delay].T).T
    return values


RULES = {"aten::max_pool2d_with_indices": max_pool, "aten::adaptive_max_pool2d": max_pool}
"""ATen's name → rule; those of one dimension are lowered to these."""
