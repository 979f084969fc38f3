"""Memory of values in plain torch: the factors with which a leaky sum keeps its value from step to step.

``v = beta * v + fc(spikes)`` is unrolled by the tracer: at step t it is a sum of all spikes so far, those of k steps ago times
beta^k. The functions here take such a sequence of signals apart again: into the factors, and the input of each step.
What a signal gains from one step to the next, its tail, is geometric: the terms with delay t, and how far constants have grown. Random
vectors, one per source for all delays, make one number of it per value and step, whose ratios are the factor.
Late steps show the slowest of several leaks alone; so the first few are taken of a long sequence (``windows``).
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from lbi.importers.signal import Signal
from lbi.importers.terms import Term, union

Array = NDArray[np.float64]

ROUNDED = 1e-12
"""Relative size of what rounding leaves of a difference of equal numbers."""

EPS = 16 * float(np.finfo(np.float64).eps)
"""Relative error of a constant that was summed up over the steps of a trace."""

ALIKE = 1e-11
"""Difference up to which factors are one."""

DIGITS = 6
"""Digits behind the point of a factor that stands in a model's code."""

PRECISE = 1e-9
"""Error of a factor above which the one of the other values is taken, if that explains the value too."""


class _Tail(NamedTuple):
    """What every signal of a sequence gains, as one number per value, and the error of each; (steps, n)."""

    values: Array
    errors: Array


def windows(n_steps: int) -> list[int]:
    """Numbers of first steps from which factors are to be found, until some explain all steps.

    Args:
        n_steps: steps of a sequence.

    Returns:
        6 and its doubles up to the number of steps, and that number.
    """
    return [*(6 * 2**i for i in range(20) if 6 * 2**i < n_steps), n_steps]


def factors(signals: Sequence[Signal], rounding: float = 0.0) -> Array | None:
    """The factor f of each value y whose memory is one leak: ``y[t] = f · y[t−1] + x[t]``, where x has finite memory.

    The last two steps confirm each factor, so that x may reach back as many steps as there are signals, less three.

    Args:
        signals: the value at every step from the first one on, all of one size; delays count back from its step.
        rounding: error of all weights, relative to the largest one of their value; 0 for products, sums of which were not taken.

    Returns:
        (n,): 1 without a leak, 0 without memory, also below 0 or above 1 where the model multiplies by such a number. A value
        of which nothing is known, as it is always 0, has the factor of the others. None if no factor explains all steps.
    """
    if len(signals) < 3:
        return None
    tail = _tail(signals, rounding)
    found, errors = _ratios(tail)
    known = _known(tail) & (errors <= PRECISE)
    found[known] = _joined(found[known])
    found[~known] = found[known][0] if known.any() else 0.0
    return found if _explained(tail, found, np.zeros_like(found), 2) else None


def pair_of_factors(signals: Sequence[Signal], rounding: float = 0.0) -> Array | None:
    """The two factors a ≥ b of each value y behind two leaks: ``y[t] = (a + b) · y[t−1] − a · b · y[t−2] + x[t]``.

    Which of the two is the current's and which the voltage's makes no difference to a value without reset. The last three
    steps confirm each pair, so that x may reach back as many steps as there are signals, less five.

    Args:
        signals: the value at every step from the first one on, all of one size; delays count back from its step.
        rounding: error of all weights, relative to the largest one of their value; 0 for products, sums of which were not taken.

    Returns:
        (n, 2): the larger factor first; the second one is 0 for a value with one leak. A value of which nothing is known has
        those of the others. None if no pair of real numbers explains all steps.
    """
    if len(signals) < 5:
        return None
    tail = _tail(signals, rounding)
    one, one_errors = _ratios(tail)
    single = _holds(tail, one, np.zeros_like(one), 2) & (one_errors <= PRECISE)
    p, q, errors = _recurrences(tail)
    if not single.all():  # the clearest value's, where it explains the others
        best = int(np.argmin(np.where(single, np.inf, errors)))
        alike = _holds(tail, np.full_like(p, p[best]), np.full_like(q, q[best]), 3)
        p, q, errors = (np.where(alike, values[best], values) for values in (p, q, errors))
    root = p * p - 4 * q
    equal = np.abs(root) <= ROUNDED * p * p + 8 * (np.abs(p) + 2) * np.minimum(errors, PRECISE)
    known = _known(tail) & (single | ((errors <= PRECISE) & ((root >= 0) | equal)))
    root = np.sqrt(np.where(equal | single | ~known, 0.0, root))
    found = np.stack([(p + root) / 2, (p - root) / 2], axis=1)
    found[single] = np.stack([np.maximum(one, 0.0), np.minimum(one, 0.0)], axis=1)[single]
    found[known] = np.stack([_joined(column) for column in found[known].T], axis=1)
    found[~known] = found[known][0] if known.any() else 0.0
    sums, products = found.sum(axis=1), found.prod(axis=1)
    return found if _explained(tail, sums, products, 3) else None


def undone(signals: Sequence[Signal], kept: Array) -> list[Signal]:
    """The input ``x[t] = y[t] − f · y[t−1]`` of each step of a leaky sum y.

    For a pair of factors apply it twice. What is only rounding is left out: up to ``ROUNDED`` of a value's largest weight.

    Args:
        signals: the value at every step from the first one on, all of one size.
        kept: (n,) factors f.

    Returns:
        The input at every step; its delays count back from that step.
    """
    found = list(signals[:1])
    for before, now in pairwise(signals):
        largest = largest_weights(now)
        late = {(term.source, term.delay + 1): term for term in before.terms}
        terms = [_less(term, late.pop((term.source, term.delay), None), kept, largest) for term in now.terms]
        terms += [
            _less(term._replace(delay=term.delay + 1, matrix=0.0 * term.matrix), term, kept, largest)
            for term in late.values()
        ]
        constant = now.constant - kept * before.constant
        constant[np.abs(constant) <= ROUNDED * np.abs(now.constant)] = 0.0
        found.append(Signal(now.shape, tuple(term for term in terms if term is not None), constant))
    return found


def _less(term: Term, before: Term | None, kept: Array, largest: Array) -> Term | None:
    """A term without what is kept of the step before; None if nothing is left."""
    if before is None:
        return term
    left = csr_matrix(term.matrix - before.scaled(kept).matrix)
    left.data[np.abs(left.data) <= ROUNDED * np.repeat(largest, np.diff(left.indptr))] = 0.0
    left.eliminate_zeros()
    return term._replace(matrix=left, pattern=union(term.pattern, before.pattern)) if left.nnz else None


def largest_weights(signal: Signal) -> Array:
    """The largest absolute weight of each value of a signal.

    Args:
        signal: the signal.

    Returns:
        (n,), 0 for a value without weights.
    """
    largest = np.zeros(signal.n)
    for term in signal.terms:
        rows = np.repeat(np.arange(signal.n), np.diff(term.matrix.indptr))
        np.maximum.at(largest, rows, np.abs(term.matrix.data))
    return largest


# ---- the tail ----------------------------------------------------------------------------------------------------


def _tail(signals: Sequence[Signal], rounding: float) -> _Tail:
    """What every signal gains over the one before, the first one over nothing."""
    n, blur = signals[0].n, rounding * largest_weights(signals[-1])
    values, errors = np.zeros((len(signals), n)), np.zeros((len(signals), n))
    vectors: dict[str, Array] = {}
    for step, now in enumerate(signals):
        before = signals[step - 1] if step else Signal.nothing((n,))
        earlier = {(term.source, term.delay): term.matrix for term in before.terms}
        later = {(term.source, term.delay): term.matrix for term in now.terms}
        for key in sorted(earlier.keys() | later.keys()):
            one, two = later.get(key), earlier.get(key)
            if one is two or stored_alike(one, two):
                continue
            if one is None or two is None:
                only: csr_matrix = one if two is None else two
                vector = _vector(vectors, key[0], only.shape[1])
                values[step] += only @ vector if two is None else -(only @ vector)
                errors[step] += EPS / 4 * (abs(only) @ np.abs(vector)) + blur * np.sqrt(only.shape[1])
                continue
            vector = _vector(vectors, key[0], one.shape[1])
            gained = csr_matrix(one - two)
            gained.eliminate_zeros()
            values[step] += gained @ vector
            errors[step] += EPS * (abs(two).multiply(gained != 0) @ np.abs(vector))
        gain = now.constant - before.constant
        values[step] += gain * _vector(vectors, "", 1)[0]
        errors[step] += np.where(gain, EPS * np.abs(before.constant), 0.0)
    return _Tail(values, errors)


def stored_alike(one: csr_matrix | None, two: csr_matrix | None) -> bool:
    """Whether two matrices store the same numbers at the same places.

    Args:
        one: a matrix, or None for none.
        two: another one.

    Returns:
        True if so; False also if one of them is None.
    """
    if one is None or two is None or one.nnz != two.nnz:
        return False
    return all(
        np.array_equal(getattr(one, name), getattr(two, name)) for name in ("data", "indices", "indptr")
    )


def _vector(vectors: dict[str, Array], source: str, size: int) -> Array:
    """The random vector of a source."""
    if source not in vectors:
        vectors[source] = np.random.default_rng(zlib.crc32(source.encode())).normal(size=size)
    return vectors[source]


def _known(tail: _Tail) -> NDArray[np.bool_]:
    """Which values ever hold anything."""
    known: NDArray[np.bool_] = (np.abs(tail.values) > 1e3 * tail.errors).any(axis=0)
    return known


def _ratios(tail: _Tail) -> tuple[Array, Array]:
    """The ratio of successive numbers of each tail, 0 where it ends; and its error, infinite where it has none.

    Of the ratios from the last one back to the first that differs, it is the one with the smallest error.
    """
    n = tail.values.shape[1]
    found, errors, going = np.zeros(n), np.full(n, np.inf), np.ones(n, dtype=bool)
    for step in range(len(tail.values) - 1, 0, -1):
        now, before = tail.values[step], tail.values[step - 1]
        usable = np.abs(before) > 1e3 * tail.errors[step - 1]
        size = np.where(usable, before, 1.0)
        ratio = now / size
        error = (tail.errors[step] + np.abs(ratio) * tail.errors[step - 1]) / np.abs(
            size
        ) + ROUNDED / 8 * np.abs(ratio)
        new = usable & np.isinf(errors)
        alike = new | (np.abs(ratio - found) <= 4 * (error + np.where(new, 0.0, errors)))
        going &= ~usable | alike
        better = going & usable & (error < errors)
        found, errors = np.where(better, ratio, found), np.where(better, error, errors)
    for whole in (0.0, 1.0):
        found[np.abs(found - whole) <= 4 * np.where(errors <= PRECISE, errors, 0.0)] = whole
    return found, errors


def _recurrences(tail: _Tail) -> tuple[Array, Array, Array]:
    """The p and q of ``e[t] = p · e[t−1] − q · e[t−2]`` in each tail e, and the error of both, infinite where there is none.

    Of the solutions from the last one back to the first that differs, it is the one with the smallest error.
    """
    n = tail.values.shape[1]
    p, q, errors, going = np.zeros(n), np.zeros(n), np.full(n, np.inf), np.ones(n, dtype=bool)
    for step in range(len(tail.values) - 1, 2, -1):
        window, blur = tail.values[step - 3 : step + 1], tail.errors[step - 3 : step + 1].sum(axis=0)
        size = np.abs(window).max(axis=0)
        usable = size > 1e3 * blur
        e3, e2, e1, e0 = window / np.where(usable, size, 1.0)
        area = e2 * e2 - e1 * e3
        usable &= area != 0
        divisor = np.where(usable, area, 1.0)
        new_p, new_q = (e1 * e2 - e0 * e3) / divisor, (e1 * e1 - e2 * e0) / divisor
        scale = (1 + np.abs(new_p) + np.abs(new_q)) / np.abs(divisor)
        error = np.where(usable, (blur / np.where(usable, size, 1.0) + EPS / 16) * scale, np.inf)
        new = usable & np.isinf(errors)
        with np.errstate(invalid="ignore"):
            apart = np.maximum(np.abs(new_p - p), np.abs(new_q - q))
            alike = new | (apart <= 4 * (error + np.where(new, 0.0, errors)))
        going &= ~usable | alike
        better = going & usable & (error < errors)
        p, q, errors = (np.where(better, a, b) for a, b in ((new_p, p), (new_q, q), (error, errors)))
    return p, q, errors


def _holds(tail: _Tail, p: Array, q: Array, n_steps: int) -> NDArray[np.bool_]:
    """Which tails follow ``e[t] = p · e[t−1] − q · e[t−2]`` in the last steps."""
    holds = np.ones(p.size, dtype=bool)
    for step in range(len(tail.values) - n_steps, len(tail.values)):
        parts = [tail.values[step], p * tail.values[step - 1]]
        errors = tail.errors[step] + np.abs(p) * tail.errors[step - 1]
        if q.any():
            parts.append(-q * tail.values[step - 2])
            errors = errors + np.abs(q) * tail.errors[step - 2]
        off = np.abs(parts[0] - sum(parts[1:]))
        holds &= off <= 1e3 * errors + 100 * ROUNDED * np.max(np.abs(parts), axis=0)
    return holds


def _explained(tail: _Tail, p: Array, q: Array, n_steps: int) -> bool:
    return bool(np.isfinite(p).all() and np.isfinite(q).all() and _holds(tail, p, q, n_steps).all())


def _joined(values: Array) -> Array:
    """The numbers, of which those that differ by rounding are one; numbers of few digits are as they were written."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    groups = np.cumsum(np.diff(ordered, prepend=ordered[:1]) > ALIKE)
    found = np.empty_like(values)
    found[order] = ordered[np.searchsorted(groups, groups)]
    short = found.round(DIGITS)
    return np.where(np.abs(found - short) <= ALIKE, short, found)
