"""Formats of stored weights: each adds exactly the weights of the sources that spiked, with and without AVX-512."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit
from support.one_layer import one_layer

from lbi import SignMode
from lbi.simulation import bits, columns, rows, vectors
from lbi.simulation.layout import plan_of, stored_bytes
from lbi.simulation.records import DENSE, MASKED, SPARSE
from lbi.system.numba_cache import inlined


@njit
def added(goal, layout, kind, factor, sources, room):
    pointers, empty = layout.pointers, layout.n_source[0]
    if kind == DENSE:
        if layout.weight_bytes[0] == 1:
            rows.add_dense(goal, layout.weights1, factor, sources, sources.size, empty, room)
        else:
            rows.add_dense(goal, layout.weights2, factor, sources, sources.size, empty, room)
    elif layout.weight_bytes[0] == 1:
        rows.add_masked(
            goal, layout.words, layout.weights1, factor, pointers, sources, sources.size, empty, room
        )
    else:
        rows.add_masked(
            goal, layout.words, layout.weights2, factor, pointers, sources, sources.size, empty, room
        )


def layout_in(kind, weights, monkeypatch, **options):
    monkeypatch.setattr(columns, "chosen_formats", lambda fixed, projections: [kind])
    return plan_of(one_layer(weights, **options)).layout


@pytest.mark.parametrize("kind", [DENSE, MASKED])
@given(data=st.data())
@settings(max_examples=60)
def test_rows_equal_sums_in_python_integers(kind, data):
    n_target, n_source = data.draw(st.integers(1, 200)), data.draw(st.integers(1, 12))
    peak = data.draw(st.sampled_from([3, 127, 254, 255]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    stored = rng.random((n_target, n_source)) < data.draw(st.sampled_from([0.02, 0.3, 1.0]))
    weights = np.where(stored, rng.integers(-peak, peak + 1, stored.shape), 0)
    weights = weights * 2 if peak == 127 else weights - weights % 2 if peak == 254 else np.abs(weights)
    mode = SignMode.MIXED if peak in (127, 254) else SignMode.EXCITATORY
    with pytest.MonkeyPatch.context() as patch:
        layout = layout_in(kind, weights, patch, sign_mode=mode)
    goal = rng.integers(-(2**31), 2**31, n_target).astype(np.int32)
    sources = rng.permutation(n_source)[: data.draw(st.integers(0, n_source))].astype(np.uint32)
    factor = np.int32(1 << data.draw(st.integers(0, 7)))
    spare = layout.shift[0]
    expected = [
        (int(g) + int(factor) * sum(int(weights[i, s]) >> int(spare) for s in sources)) & 0xFFFFFFFF
        for i, g in enumerate(goal)
    ]
    added(goal, layout, kind, factor, sources, np.full((3, 130), -1, dtype=np.int64))
    assert [int(value) & 0xFFFFFFFF for value in goal] == expected


@pytest.mark.parametrize("kind", [DENSE, MASKED])
@pytest.mark.parametrize("weight", [254, -254, 255])
def test_narrow_sums_hold_any_number_of_extreme_rows(monkeypatch, kind, weight):
    # 257 rows of the largest weight: 257 · 127 > 2^15 − 1 = 258 · 127 + 1, and an odd number.
    mode = SignMode.EXCITATORY if weight == 255 else SignMode.MIXED
    layout = layout_in(kind, np.full((70, 300), weight), monkeypatch, sign_mode=mode)
    goal = np.zeros(70, np.int32)
    added(goal, layout, kind, layout.factor[0], np.arange(299, dtype=np.uint32), np.zeros((3, 130), np.int64))
    assert (goal // layout.factor[0] * (1 << int(layout.shift[0]))).tolist() == [299 * weight] * 70


@pytest.mark.parametrize("kind", [DENSE, MASKED])
def test_plain_code_equals_vectors(monkeypatch, rng, kind):
    weights = np.where(rng.random((150, 90)) < 0.3, rng.integers(-127, 128, (150, 90)) * 2, 0)
    layout = layout_in(kind, weights, monkeypatch)
    sources = np.flatnonzero(rng.random(90) < 0.5).astype(np.uint32)
    monkeypatch.setattr(vectors, "has_vectors", lambda: False)
    monkeypatch.setattr(rows, "has_vectors", lambda: False)
    for name in ("add_dense", "add_masked"):
        monkeypatch.setattr(rows, name, inlined(getattr(rows, name).py_func))  # compiled again
    goal = np.zeros(150, np.int32)
    plain = njit(added.py_func)
    plain(goal, layout, kind, layout.factor[0], sources, np.zeros((3, 130), np.int64))
    assert goal.tolist() == weights[:, sources].sum(axis=1).tolist()
    assert not any(
        "zmm" in line and "expand" in line for line in plain.inspect_asm().popitem()[1].split("\n")
    )


@pytest.mark.parametrize("has_vectors", [None, False])
def test_nonzeros_are_those_of_numpy(monkeypatch, rng, has_vectors):
    if has_vectors is not None:
        monkeypatch.setattr(vectors, "has_vectors", lambda: has_vectors)
    find = njit(bits.nonzeros.py_func)
    for n in (1, 15, 63, 64, 65, 130, 700):
        for density in (0.0, 0.1, 0.9, 1.0):
            flags = (rng.random(n + int(rng.integers(0, 70))) < density).astype(np.uint8)
            found = np.zeros(n + 16, np.uint32)
            count = find(flags, n, found)
            assert found[:count].tolist() == np.flatnonzero(flags[:n]).tolist()


def format_of(density, shape=(1024, 200), **options):
    rng = np.random.default_rng(3)
    values = np.where(rng.random(shape) < density, rng.integers(1, 64, shape) * 2, 0)
    layout = plan_of(one_layer(values, **options)).layout
    return int(layout.format[0]), stored_bytes(layout) / np.count_nonzero(values)


@pytest.mark.skipif(not vectors.has_vectors(), reason="masked rows are slow without AVX-512 VBMI2")
def test_the_format_follows_density():
    for density, expected, most_bytes in (
        (1.0, DENSE, 1.1),
        (0.5, MASKED, 1.4),
        (0.2, MASKED, 1.8),
        (0.1, MASKED, 2.4),
        (0.01, SPARSE, 4.0),
    ):
        found, n_bytes = format_of(density)
        assert (found, n_bytes < most_bytes) == (expected, True), (density, found, n_bytes)


def test_without_vectors_rows_are_dense_or_sparse_within_the_memory_limit(monkeypatch):
    monkeypatch.setattr(vectors, "has_vectors", lambda: False)
    assert format_of(1.0)[0] == format_of(0.2)[0] == format_of(0.1)[0] == DENSE  # the caches hold 200 KiB
    assert format_of(0.01)[0] == SPARSE
    monkeypatch.setattr(columns, "CACHED_BYTES", 0)
    assert format_of(1.0)[0] == format_of(0.2)[0] == DENSE
    assert format_of(0.1)[0] == SPARSE  # dense rows would take 10 bytes per synapse


def test_several_delays_are_stored_as_targets(rng):
    delay = rng.integers(0, 3, 50 * 40).astype(np.uint8)
    layout = plan_of(one_layer(np.full((50, 40), 2), delay=delay)).layout
    assert layout.format.tolist() == [SPARSE]
