"""Spikes held as bits are the same spikes: indexed, taken in parts, and from every data set that is large."""

from __future__ import annotations

import gzip

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.spoken import random_samples, shd_file

from lbi import datasets
from lbi.datasets import SpikeData, packed
from lbi.datasets.packed import PackedSpikes, collect
from lbi.errors import InputError

SHAPES = st.tuples(st.integers(0, 9), st.integers(0, 5), st.integers(1, 40))
SPIKES = SHAPES.flatmap(lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 1)))


@st.composite
def chosen(draw, n):
    """An index of n samples: indices in any order, repeated, a slice, or a mask."""
    return draw(
        st.one_of(
            st.slices(n),
            arrays(np.bool_, (n,)),
            arrays(np.int64, st.integers(0, 12), elements=st.integers(-n, max(n - 1, -n)))
            if n
            else st.just(np.zeros(0, np.int64)),
        )
    )


@given(st.data())
def test_bits_give_the_spikes_that_were_packed(data):
    spikes = data.draw(SPIKES)
    bits = PackedSpikes(np.packbits(spikes, axis=-1), spikes.shape[2])
    for _ in range(3):
        assert (bits.shape, len(bits), bits.dtype, bits.ndim) == (
            spikes.shape,
            len(spikes),
            spikes.dtype,
            spikes.ndim,
        )
        np.testing.assert_array_equal(np.asarray(bits), spikes)
        index = data.draw(chosen(len(spikes)))
        part = bits[index]
        assert type(part) is np.ndarray
        assert part.dtype == np.uint8
        np.testing.assert_array_equal(part, spikes[index])
        if len(spikes):
            np.testing.assert_array_equal(bits[len(spikes) - 1], spikes[-1])
        bits, spikes = bits.take(index), spikes[index]


@given(st.data())
def test_parts_are_collected_as_bytes_or_bits(data):
    spikes, length = data.draw(SPIKES), data.draw(st.integers(1, 4))
    parts = [spikes[start : start + length] for start in range(0, len(spikes), length)]
    with pytest.MonkeyPatch.context() as patch:
        for most, kind in ((spikes.size, np.ndarray), (spikes.size - 1, PackedSpikes)):
            patch.setattr(packed, "PACKED_ABOVE", most)
            found = collect(spikes.shape, parts)
            assert type(found) is kind
            np.testing.assert_array_equal(found, spikes)


def test_subsets_share_the_bits(rng):
    spikes = rng.integers(0, 2, (20, 3, 13), np.uint8)
    bits = np.packbits(spikes, axis=-1)
    data = SpikeData(PackedSpikes(bits, 13), np.arange(20))
    part = data.subset(rng.permutation(20)[:9]).subset(np.arange(9) % 2 == 0)
    np.testing.assert_array_equal(part.spikes, spikes[part.labels])
    bits[...] = 0
    assert not part.spikes[:].any()


def test_packed_spikes_check_themselves():
    bits = np.zeros((2, 3, 2), np.uint8)
    with pytest.raises(InputError, match=r"spikes-shape: .*uint8 \(n_samples, n_steps, 3\) for 17 channels"):
        PackedSpikes(bits, 17)
    with pytest.raises(InputError, match="int64"):
        PackedSpikes(bits.astype(int), 16)
    with pytest.raises(InputError, match="labels-shape"):
        SpikeData(PackedSpikes(bits, 16), np.zeros(3))
    with pytest.raises(TypeError, match=r"spikes\[samples\]\[:, steps\]"):
        PackedSpikes(bits, 16)[:, 0]
    with pytest.raises(IndexError, match="out of bounds"):
        PackedSpikes(bits, 16)[2]


@pytest.fixture
def files(tmp_path, rng, monkeypatch):
    """SHD and MNIST files, and a cache of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for split, n in (("train", 300), ("test", 40)):
        shd_file(tmp_path / f"shd_{split}.h5", random_samples(rng, n))
    for split, n in (("train", 300), ("t10k", 40)):
        for part, array in (
            ("images-idx3", rng.integers(0, 256, (n, 28, 28), np.uint8)),
            ("labels-idx1", (np.arange(n) % 10).astype(np.uint8)),
        ):
            head = b"\x00\x00\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes()
            (tmp_path / f"{split}-{part}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes()))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("shd", {"n_steps": 50, "step_ms": 20.0}),
        ("shd", {"n_steps": 7, "step_ms": 150.0, "n_channels": 1}),
        ("mnist", {}),
        ("mnist", {"code": "latency", "n_steps": 5}),
        ("psmnist", {"side": 14}),
        ("psmnist", {"code": "on_off", "n_levels": 10}),
    ],
)
def test_large_data_sets_are_the_same_as_bits(name, options, files, monkeypatch):
    plain = datasets.load(name, files, **options)
    train, test = plain.train, plain.test
    assert type(train.spikes) is np.ndarray
    monkeypatch.setattr(packed, "PACKED_ABOVE", 0)
    for _ in range(2):  # made, then from the cache
        large = datasets.load(name, files, **options)
        for data, expected in ((large.train, train), (large.test, test)):
            assert isinstance(data.spikes, PackedSpikes)
            np.testing.assert_array_equal(data.spikes, expected.spikes)
            np.testing.assert_array_equal(data.labels, expected.labels)
