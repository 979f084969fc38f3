"""Leaky sums in plain torch: their factors and inputs, found in signals that were unrolled by the recurrence itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from lbi.importers.signal import Signal
from lbi.importers.terms import Term
from lbi.importers.torch.memory import factors, pair_of_factors, undone, windows
from lbi.importers.torch.voltages import leak_of

N_IN, STEPS = 7, 6
BETAS = st.one_of(st.just(0.0), st.just(1.0), st.just(0.5), st.floats(0.002, 0.9999))
POLES = st.one_of(st.sampled_from([0.25, 0.5, 0.9]), st.floats(0.05, 0.999))


def signal(weights, constant):
    """A signal of (source, delay) → dense weights."""
    terms = tuple(Term(source, csr_matrix(w), delay) for (source, delay), w in sorted(weights.items()))
    return Signal((constant.size,), terms, constant)


def plus(one, other, factor=None):
    """Dense weights one + other, the latter times a factor and a step later."""
    found = dict(one)
    for (source, delay), w in other.items():
        key = (source, delay) if factor is None else (source, delay + 1)
        w = w if factor is None else factor[:, None] * w
        found[key] = found[key] + w if key in found else w
    return found


def filtered(inputs, beta):
    """y[t] = beta · y[t−1] + x[t] of (weights, constant) at every step, as plain torch computes it."""
    found, weights, constant = [], {}, np.zeros(beta.size)
    for x, bias in inputs:
        weights, constant = plus(x, weights, beta), beta * constant + bias
        found.append((weights, constant))
    return found


def inputs_of(rng, n, *, delays=(0,), bias=True, late=0, n_steps=STEPS):
    """What arrives at every step: spikes of one or two sources, through these delays, and a bias; nothing in the first steps."""
    sources = ["a", "b"][: rng.integers(1, 3)]
    weights = {
        (s, d): rng.normal(size=(n, N_IN)) * (rng.random((n, N_IN)) < 0.7) for s in sources for d in delays
    }
    own = rng.normal(size=n) if bias else np.zeros(n)
    return [
        (
            {key: w for key, w in weights.items() if key[1] <= t - late} if t >= late else {},
            own if t >= late else 0 * own,
        )
        for t in range(n_steps)
    ]


def signals_of(steps):
    return [signal(*step) for step in steps]


def check_inputs(found, inputs):
    """The inputs found are those that arrived."""
    for x, (weights, bias) in zip(found, inputs, strict=True):
        terms = {(term.source, term.delay): term.matrix.toarray() for term in x.terms}
        assert terms.keys() == {key for key, w in weights.items() if w.any()} | {
            k for k in terms if k in weights
        }
        for key, w in terms.items():
            np.testing.assert_allclose(w, weights[key], rtol=0, atol=1e-10)
        np.testing.assert_allclose(x.constant, bias, rtol=0, atol=1e-10)


@settings(max_examples=60, deadline=None)
@given(
    betas=st.lists(BETAS, min_size=1, max_size=4),
    delays=st.sampled_from([(0,), (1,), (0, 1), (0, 2)]),
    bias=st.booleans(),
    late=st.integers(0, 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_factors_and_inputs_are_those_of_the_recurrence(betas, delays, bias, late, seed):
    beta, n_steps = np.array(betas), STEPS + max(delays)
    inputs = inputs_of(
        np.random.default_rng(seed), beta.size, delays=delays, bias=bias, late=late, n_steps=n_steps
    )
    signals = signals_of(filtered(inputs, beta))
    found = factors(signals)
    assert found is not None
    empty = ~np.any(
        [np.any([w.any(axis=1) for w in x.values()], axis=0) | (b != 0) for x, b in inputs if x], axis=0
    )
    np.testing.assert_allclose(found[~empty], beta[~empty], rtol=0, atol=2e-12)
    check_inputs(undone(signals, found), inputs)


@settings(max_examples=60, deadline=None)
@given(
    poles=st.tuples(POLES, POLES),
    equal=st.booleans(),
    bias=st.booleans(),
    late=st.integers(0, 2),
    seed=st.integers(0, 2**32 - 1),
)
def test_pairs_of_factors_are_those_of_two_recurrences(poles, equal, bias, late, seed):
    a, b = poles if not equal else (poles[0], poles[0])
    rng, n = np.random.default_rng(seed), 3
    inputs = inputs_of(rng, n, bias=bias, late=late)
    signals = signals_of(filtered(filtered(inputs, np.full(n, a)), np.full(n, b)))
    found = pair_of_factors(signals)
    assert found is not None
    np.testing.assert_allclose(found.sum(axis=1), a + b, rtol=0, atol=1e-10)
    np.testing.assert_allclose(found.prod(axis=1), a * b, rtol=0, atol=1e-10)
    assert np.all(found[:, 0] >= found[:, 1])
    assert np.all(found == found[0])
    check_inputs(undone(undone(signals, found[:, 0]), found[:, 1]), inputs)


def test_equal_poles_are_found_equal(rng):
    beta = np.full(2, 0.9)
    signals = signals_of(filtered(filtered(inputs_of(rng, 2), beta), beta))
    found = pair_of_factors(signals)
    assert np.array_equal(found[:, 0], found[:, 1])
    np.testing.assert_allclose(found, 0.9, rtol=0, atol=1e-9)


def test_two_memories_are_not_one(rng):
    two = signals_of(filtered(filtered(inputs_of(rng, 2), np.full(2, 0.9)), np.full(2, 0.7)))
    assert factors(two) is None
    one = signals_of(filtered(inputs_of(rng, 2), np.array([0.9, 0.7])))
    np.testing.assert_allclose(pair_of_factors(one), [[0.9, 0], [0.7, 0]], rtol=0, atol=1e-12)


def test_three_memories_are_not_two(rng):
    steps = inputs_of(rng, 2)
    for beta in (0.9, 0.7, 0.5):
        steps = filtered(steps, np.full(2, beta))
    assert factors(signals_of(steps)) is None
    assert pair_of_factors(signals_of(steps)) is None


@pytest.mark.parametrize("factor", [-0.5, 1.25])
def test_a_factor_that_no_decay_is_is_returned_as_it_is(factor, rng):
    found = factors(signals_of(filtered(inputs_of(rng, 3), np.full(3, factor))))
    np.testing.assert_allclose(found, factor, rtol=1e-12)


def test_values_that_hold_nothing_take_the_factor_of_the_others(rng):
    inputs = inputs_of(rng, 3, bias=False)
    inputs = [({key: w * [[1], [0], [1]] for key, w in x.items()}, b) for x, b in inputs]
    found = factors(signals_of(filtered(inputs, np.full(3, 0.8))))
    np.testing.assert_allclose(found, 0.8, rtol=1e-12)
    assert np.array_equal(factors([Signal.nothing((3,))] * STEPS), np.zeros(3))


def test_constants_alone_show_the_factor(rng):
    """A row of zeros with a bias."""
    inputs = [({}, np.array([0.3, -2.0]))] * STEPS
    np.testing.assert_allclose(
        factors(signals_of(filtered(inputs, np.array([0.9, 0.1])))), [0.9, 0.1], rtol=1e-10
    )


def test_a_coefficient_that_grows_shows_the_factor(rng):
    """A static input: the same term at every step, times 1 + f + f² + …"""
    weights, beta, total, signals = rng.normal(size=(2, N_IN)), np.array([0.9, 1.0]), np.zeros(2), []
    for _ in range(STEPS):
        total = beta * total + 1.0
        signals.append(signal({("input", 0): total[:, None] * weights}, np.zeros(2)))
    np.testing.assert_allclose(factors(signals), beta, rtol=1e-10)


def test_a_factor_that_changes_is_none(rng):
    inputs, beta, steps = inputs_of(rng, 2), [0.9, 0.8, 0.7, 0.6, 0.5, 0.4], []
    weights, constant = {}, np.zeros(2)
    for (x, bias), factor in zip(inputs, beta, strict=True):
        weights, constant = plus(x, weights, np.full(2, factor)), factor * constant + bias
        steps.append((weights, constant))
    assert factors(signals_of(steps)) is None


@pytest.mark.parametrize("n_steps", [1, 2])
def test_too_few_steps_say_nothing(n_steps, rng):
    signals = signals_of(filtered(inputs_of(rng, 2, n_steps=n_steps), np.full(2, 0.9)))
    assert factors(signals) is None
    assert pair_of_factors(signals) is None


def test_of_a_long_run_the_first_steps_show_both_leaks(rng):
    a, b = np.full(2, 0.95), np.full(2, 0.19)
    inputs = inputs_of(rng, 2, n_steps=50)
    leak = leak_of(signals_of(filtered(filtered(inputs, b), a)))
    np.testing.assert_allclose([leak.voltage, leak.current], [a, b], rtol=0, atol=1e-12)
    check_inputs([leak.signal], inputs[:1])
    assert windows(50) == [6, 12, 24, 48, 50]
    assert windows(6) == [6]
