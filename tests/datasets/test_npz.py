"""Data sets in a user's ``.npz`` file."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from lbi import datasets
from lbi.errors import InputError


def test_npz_of_ones_own(tmp_path, rng):
    spikes = (rng.random((20, 7, 5)) < 0.5).astype(np.uint8)
    labels = np.arange(20) % 4
    np.savez(tmp_path / "own.npz", spikes=spikes, labels=labels)
    data = datasets.load(str(tmp_path / "own.npz"))
    assert (len(data.train), len(data.test), data.n_classes) == (16, 4, 4)
    assert sorted(data.test.labels) == [0, 1, 2, 3]
    np.savez(
        tmp_path / "own.npz", spikes=spikes, labels=labels, test_spikes=spikes[:3] > 0, test_labels=labels[:3]
    )
    data = datasets.load(str(tmp_path / "own.npz"))
    assert (len(data.train), len(data.test)) == (20, 3)
    np.testing.assert_array_equal(data.test.spikes, spikes[:3])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"spikes": np.zeros((2, 3, 4), np.uint8)}, "lacks 'labels'"),
        ({"spikes": np.zeros((2, 3), np.uint8), "labels": np.zeros(2, int)}, r"\(n_samples, n_steps, n_in\)"),
        ({"spikes": np.full((2, 3, 4), 2, np.uint8), "labels": np.zeros(2, int)}, "values up to 2"),
        ({"spikes": np.full((2, 3, 4), 0.5), "labels": np.zeros(2, int)}, "0 and 1"),
        ({"spikes": np.zeros((2, 3, 4), np.uint8), "labels": np.zeros(3, int)}, r"\(3,\)"),
        ({"spikes": np.zeros((2, 3, 4), np.uint8), "labels": np.array([0, -1])}, r"bad\.npz, labels: .*-1"),
        (
            {"spikes": np.zeros((2, 3, 4), np.uint8), "labels": np.array([0.0, 1.0])},
            r"float64.*labels\.astype\(int\)",
        ),
        ({"spikes": np.zeros((2, 3, 4), np.uint8), "labels": np.eye(2)}, r"\(2, 2\).*labels\.argmax\(1\)"),
        ({"spikes": np.zeros((3, 2, 4), np.uint8), "labels": np.zeros(2, int)}, r"spikes\.swapaxes\(0, 1\)"),
        (
            {"spikes": np.zeros((2, 3, 4), np.uint8), "y": np.zeros(2, int)},
            r"lacks 'labels'.*spikes=a\['spikes'\], labels=a\['y'\]",
        ),
        (
            {
                key: np.zeros((4, 3, 4)[: 3 if key == "spikes" else 1], np.uint8)
                for key in ("spikes", "labels", "test_labels")
            },
            "lacks 'test_spikes'",
        ),
        ({"data": np.zeros((2, 3, 4)), "targets": np.zeros(2)}, r"spikes=a\['data'\], labels=a\['targets'\]"),
        ({"spikes": np.zeros((2, 3, 4), np.uint8), "labels": np.array(["yes", "no"])}, "return_inverse"),
        (
            {
                "spikes": np.zeros((4, 3, 4), np.uint8),
                "labels": np.array([100_000, 250_000] * 2),
                "test_spikes": np.zeros((1, 3, 4), np.uint8),
                "test_labels": np.array([100_000]),
            },
            "labels-value: .*up to 250000, for 2 classes; .*fix: number them with",
        ),
        ({"spikes": np.zeros((0, 3, 4), np.uint8), "labels": np.zeros(0, int)}, "no samples"),
        ({"spikes": np.array([None]), "labels": np.zeros(1, int)}, "pickled"),
    ],
)
def test_bad_npz(tmp_path, arrays, message):
    np.savez(tmp_path / "bad.npz", **arrays)
    with pytest.raises(InputError, match=message):
        _ = datasets.load(str(tmp_path / "bad.npz")).train


def test_npz_that_is_none(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        datasets.load(str(tmp_path / "no.npz"))
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(InputError, match="not readable"):
        datasets.load(str(tmp_path / "bad.npz"))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"labels": np.array([0, 2] * 5)}, ["labels-unused: {}, labels: no sample of class 1; "]),
        ({"labels": np.zeros(10, int)}, ["labels-value: {}, labels: one class, 0; "]),
        ({"spikes": np.zeros((10, 2, 3))}, ["data-empty: {}, spikes: no spike in any training sample; "]),
    ],
)
def test_data_from_which_nothing_can_be_learned_is_a_warning(changes, found, tmp_path):
    path = tmp_path / "own.npz"
    np.savez(path, **{"spikes": np.ones((10, 2, 3), np.uint8), "labels": np.array([0, 1] * 5), **changes})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        datasets.load(str(path))
    texts = [str(warning.message) for warning in caught]
    assert [text[: len(start.format(path))] for text, start in zip(texts, found, strict=True)] == [
        start.format(path) for start in found
    ]


def test_faults_of_both_splits_are_reported_together(tmp_path):
    """uint64 labels beyond int64 would wrap to classes below 0; NaN is neither 0 nor 1."""
    path, spikes = tmp_path / "own.npz", np.ones((2, 3, 4))
    wide = np.array([0, 2**63], np.uint64)
    np.savez(
        path, spikes=np.where(spikes, np.nan, 0), labels=wide, test_spikes=spikes * 2, test_labels=wide[:1]
    )
    with pytest.raises(InputError) as caught:
        datasets.load(str(path))
    assert [f"{problem.where}: {problem.found}" for problem in caught.value.problems] == [
        f"{path}, spikes: 24 values beside 0 and 1",
        f"{path}, labels: up to 9223372036854775808",
        f"{path}, test_spikes: 24 values beside 0 and 1",
        f"{path}, test_labels: uint64 (1,)",
    ]
