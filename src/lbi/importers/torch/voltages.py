"""Voltages that plain torch computes: ``v = beta * v + fc(spikes)``, also behind a current with a leak of its own.

They are taken from sequences of signals, one for each step that is returned, or from the last one alone: as all steps are
alike, its terms of up to t steps ago are the voltage of step t.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, identity

from lbi.importers.builder import ALWAYS
from lbi.importers.signal import Signal
from lbi.importers.terms import Term
from lbi.importers.torch.memory import (
    factors,
    largest_weights,
    pair_of_factors,
    stored_alike,
    undone,
    windows,
)
from lbi.importers.torch.shadow import LOST, Shadow

Array = NDArray[np.float64]
Entry = tuple[NDArray[np.int64], Array]
"""Numbers of elements, and their values in the run."""

CLOSE = 1e-11
"""Relative difference of weights and biases that differ by rounding only."""

OF_SUMS = 1e-14
"""Relative error of weights that were summed over the steps."""


@dataclass(frozen=True)
class Leak:
    """A voltage and its current: ``u ← current · u + signal``, ``v ← voltage · v + u + bias``.

    Attributes:
        signal: what arrives in each step.
        current: (n,) factors that are kept; 0 for a current without memory.
        voltage: (n,) factors that are kept, at least as large.
        bias: (n,).
    """

    signal: Signal
    current: Array
    voltage: Array
    bias: Array

    def run(self, arriving: Array) -> Array:
        """The voltages.

        Args:
            arriving: (samples, steps, n) values of ``signal``.

        Returns:
            (samples, steps, n).
        """
        u, v, found = np.zeros_like(arriving[:, 0]), np.zeros_like(arriving[:, 0]), np.empty_like(arriving)
        for step in range(arriving.shape[1]):
            u = self.current * u + arriving[:, step]
            v = self.voltage * v + u + self.bias
            found[:, step] = v
        return found


class Steps(NamedTuple):
    """The signals of all steps in order, and the number of zeros before the first one."""

    signals: list[Signal]
    n_before: int


def entries(
    numbers: Sequence[NDArray[np.int64]], values: Sequence[Array], n_steps: int
) -> Iterator[list[Entry]]:
    """The steps that tensors may hold: one in each, or along a dimension of a single one.

    Args:
        numbers: the numbers of each tensor's elements, in its shape.
        values: their values in the run.
        n_steps: steps of the run; the state before the first one may be there, too.

    Yields:
        The steps in order.
    """
    if len(numbers) in (n_steps, n_steps + 1):
        yield [(own.reshape(-1), value.reshape(-1)) for own, value in zip(numbers, values, strict=True)]
    if len(numbers) == 1:
        for dim, size in enumerate(numbers[0].shape):
            if size in (n_steps, n_steps + 1):
                slices = (np.moveaxis(array, dim, 0).reshape(size, -1) for array in (numbers[0], values[0]))
                yield list(zip(*slices, strict=True))


def in_order(shadow: Shadow, found: Sequence[Entry], n_steps: int) -> Steps | None:
    """The signals of steps, whose delays count back from each.

    Args:
        shadow: the numbers of all elements.
        found: a step's elements each; of one more than the run has, the first is to be zero.
        n_steps: steps of the run.

    Returns:
        The signals of ``n_steps`` steps; None if the elements are lost, or hold spikes of later steps.
    """
    n_before, signals = len(found) - n_steps, []
    for place, (numbers, values) in enumerate(found):
        if not numbers.size or bool((numbers == LOST).any()):
            return None
        node, step = shadow.read(numbers, values), place - n_before
        if node.late(step) < 0 or (step < 0 and (node.signal.terms or np.any(node.signal.constant))):
            return None
        signals.append(node.at(step).reshaped((numbers.size,)))
    return Steps(signals[n_before:], n_before)


def leak_of(signals: Sequence[Signal]) -> Leak | None:
    """The voltage that has these values in its steps.

    Args:
        signals: its value at every step, as ``in_order`` returns them.

    Returns:
        The voltage; None for values without memory, with more than two leaks, or of which a step differs from the others.
    """
    last = signals[-1]
    expected = [_until(last, step, signal.constant) for step, signal in enumerate(signals)]
    if not all(map(alike, signals, expected)):
        return None
    kept = _kept(expected)
    if kept is None or not kept.any():
        return None
    signal = _without(expected, kept)
    biases = _biases(np.array([signal.constant for signal in signals]), kept)
    if biases is None:
        return None
    constant, bias, late = biases
    return Leak(_from_step(signal, constant, late), kept[:, 1], kept[:, 0], bias)


def leaks_of_one(signal: Signal, n_steps: int) -> Iterator[tuple[Leak, bool]]:
    """The voltages whose last value, or the sum of whose values over all steps, is a signal.

    A bias is taken for one that arrives with the spikes.

    Args:
        signal: its value at the last step.
        n_steps: number of steps.

    Yields:
        The voltage, and whether it is summed.
    """
    zeros = np.zeros(signal.n)
    steps = [_until(signal, step, zeros) for step in range(n_steps)]
    gained = undone(steps[-2:], np.ones(signal.n))[-1]
    every = [_until(gained, step, zeros) for step in range(n_steps)]
    ways = (
        (steps, False, 0.0, _one),
        (every, True, OF_SUMS, _one),
        (steps, False, 0.0, pair_of_factors),
        (every, True, OF_SUMS, pair_of_factors),
    )
    for n, (of, total, rounding, find) in product(windows(n_steps), ways):
        kept = find(of[:n], rounding)
        if kept is None or not kept.any():
            continue
        own = _without(of, kept)
        sources = [term.source for term in own.terms]
        if not sources or len(sources) != len(set(sources)):
            continue  # not a layer of one delay
        late = min(term.delay for term in own.terms)
        started = (np.arange(n_steps) >= late)[None, :, None] + np.zeros((1, 1, signal.n))
        ones = Leak(own, kept[:, 1], kept[:, 0], zeros).run(started)[0]
        per_bias = ones.sum(axis=0) if total else ones[-1]
        yield Leak(_from_step(own, signal.constant / per_bias, late), kept[:, 1], kept[:, 0], zeros), total


def single_source(signal: Signal) -> tuple[str, float] | None:
    """The one source that a signal holds in order, and the positive number that multiplies it.

    Args:
        signal: a signal.

    Returns:
        Its name and the number; None for anything else.
    """
    sources = {term.source for term in signal.terms}
    if len(sources) != 1 or np.any(signal.constant):
        return None
    found = {factor and float(f"{factor:.12g}") for factor in map(_factor, signal.terms)}
    factor = found.pop()
    return None if found or factor is None else (next(iter(sources)), factor)


def alike(one: Signal, other: Signal, factor: float = 1.0) -> bool:
    """True if a signal times a factor is another one, up to rounding.

    Args:
        one: a signal.
        other: another one.
        factor: the number.

    Returns:
        True for the same weights of the same sources with the same delays, and the same constants.
    """
    if one.n != other.n or not np.allclose(one.constant * factor, other.constant, rtol=CLOSE, atol=0):
        return False
    first, second = (
        {(term.source, term.delay): term.matrix for term in signal.terms} for signal in (one, other)
    )
    largest = max(1e-300, float(largest_weights(other).max(initial=0)))
    for key in first.keys() | second.keys():
        a, b = first.get(key), second.get(key)
        if factor == 1.0 and (a is b or stored_alike(a, b)):
            continue
        left: csr_matrix = b if a is None else a * factor if b is None else a * factor - b
        if left.nnz and float(abs(left).max()) > CLOSE * largest:
            return False
    return True


def _factor(term: Term) -> float | None:
    """The positive number f of a matrix f · 1; None for other matrices."""
    n_out, n_in = term.matrix.shape
    if n_out != n_in or not n_in:
        return None
    diagonal = term.matrix.diagonal()
    factor = float(diagonal[0])
    off = term.matrix - csr_matrix(identity(n_in).multiply(diagonal))
    return factor if factor > 0 and np.allclose(diagonal, factor, rtol=1e-12) and off.nnz == 0 else None


def _until(signal: Signal, step: int, constant: Array) -> Signal:
    """A signal with the spikes since the first step, as it is at an earlier step."""
    return Signal(signal.shape, tuple(term for term in signal.terms if term.delay <= step), constant)


def _one(signals: Sequence[Signal], rounding: float = 0.0) -> Array | None:
    """One factor for each value as a pair."""
    kept = factors(signals, rounding)
    return None if kept is None else np.stack([kept, np.zeros_like(kept)], axis=1)


def _kept(signals: Sequence[Signal]) -> Array | None:
    """The factors of one or two leaks, (n, 2), that leave nothing of what arrived before the first steps."""
    for n, find in product(windows(len(signals)), (_one, pair_of_factors)):
        kept = find(signals[:n])
        if kept is not None and all(term.delay < n for term in _without(signals, kept).terms):
            return kept
    return None


def _without(signals: Sequence[Signal], kept: Array) -> Signal:
    """What arrives at the last step, of which the constant does not count."""
    last = [replace(signal, constant=np.zeros(signal.n)) for signal in signals[-3:]]
    left = undone(undone(last, kept[:, 0]), kept[:, 1])[-1]
    limits, terms = CLOSE * largest_weights(left), []
    for term in left.terms:
        matrix = csr_matrix(term.matrix, copy=True)
        matrix.data[np.abs(matrix.data) <= np.repeat(limits, np.diff(matrix.indptr))] = 0.0
        matrix.eliminate_zeros()
        if matrix.nnz:
            terms.append(term._replace(matrix=matrix))
    return replace(left, terms=tuple(terms))


def _biases(constants: Array, kept: Array) -> tuple[Array, Array, int] | None:
    """The constants that arrive at the current and at the voltage, and the step from which on.

    A constant of the voltage is behind the current's leak: undone with that, it is larger at the first step.
    """
    left, size = constants, CLOSE * np.abs(constants).max(axis=0, initial=0)
    for factor in kept.T:
        left = left - factor * np.concatenate([np.zeros_like(left[:1]), left[:-1]])
    left[np.abs(left) <= size] = 0.0
    starts = np.flatnonzero(left.any(axis=1))
    late = int(starts[0]) if starts.size else 0
    first, last = left[late], left[-1]
    if np.any(np.abs(left[late + 1 :] - last) > 4 * size):
        return None
    if np.all(np.abs(first - last) <= 4 * size):
        return first, np.zeros_like(first), late
    current = kept[:, 1]
    if late or not current.all():
        return None
    bias = (first - last) / current
    return first - bias, bias, 0


def _from_step(signal: Signal, constant: Array, late: int) -> Signal:
    """The signal with a constant that arrives from a step on: from the neuron that spikes in every step where that is not the first."""
    if not late or not np.any(constant):
        return replace(signal, constant=constant)
    return replace(signal, terms=(*signal.terms, Term(ALWAYS, csr_matrix(constant[:, None]), late)))
