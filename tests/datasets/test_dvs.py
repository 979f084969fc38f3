"""Event-camera data sets: small files in the authors' formats, read as spikingjelly reads them, and binned by hand."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import types

import numpy as np
import pytest
from support import peers
from support.recordings import aedat2, aedat3, atis, random_events

from lbi import datasets
from lbi.datasets import dvs, packed
from lbi.datasets.events import Binning, Events, frames, read_aedat2, read_aedat3, read_atis
from lbi.errors import InputError, UsageError


def equal(events, expected):
    for name in ("t", "x", "y", "p"):
        np.testing.assert_array_equal(getattr(events, name), expected[name])


@pytest.fixture
def spikingjelly_readers(monkeypatch):
    """Its modules; torchaudio, which it loads for other data sets, need not be installed."""
    pytest.importorskip("spikingjelly")
    if importlib.util.find_spec("torchaudio") is None:
        monkeypatch.setitem(sys.modules, "torchaudio", types.ModuleType("torchaudio"))
    names = ("cifar10_dvs", "utils")
    return [peers.package(f"spikingjelly.datasets.{name}") for name in names]


@pytest.mark.parametrize("kind", ["atis", "aedat2", "aedat3"])
def test_recordings_are_read_as_spikingjelly_reads_them(kind, rng, tmp_path, spikingjelly_readers):
    cifar10_dvs, utils = spikingjelly_readers

    events = random_events(rng, 300, 34 if kind == "atis" else 128)
    write, ours, theirs = {
        "atis": (atis, read_atis, utils.load_ATIS_bin),
        "aedat2": (aedat2, read_aedat2, cifar10_dvs._load_origin_data),
        "aedat3": (aedat3, read_aedat3, utils.load_aedat_v3),
    }[kind]
    path = tmp_path / "recording"
    path.write_bytes(write(events))
    read = ours(path)
    equal(read, theirs(path))
    equal(read, vars(events))
    if kind == "aedat3":
        path.write_bytes(aedat3(events, overflows=1))
        assert (ours(path).t == events.t + (1 << 31)).all()
        equal(ours(path), theirs(path))


def test_an_overflow_of_the_time_is_no_event(tmp_path):
    """As tonic reads N-MNIST: row 240 adds 2^13 microseconds to all that follows."""
    (tmp_path / "a.bin").write_bytes(bytes([1, 2, 128, 0, 5, 0, 240, 0, 0, 0, 3, 4, 0, 0, 6]))
    equal(read_atis(tmp_path / "a.bin"), {"t": [5, 8198], "x": [1, 3], "y": [2, 4], "p": [1, 0]})


@pytest.mark.parametrize(("pool", "least"), [(1, 1), (4, 1), (3, 2)])
def test_frames_by_hand(pool, least, rng):
    events = random_events(rng, 4000, 34, 100_000)
    binning = Binning(34, 7, 10.0, pool, least)
    size = 34 // pool
    expected = np.zeros((7, 2, size, size), int)
    for t, x, y, p in zip(events.t, events.x, events.y, events.p, strict=True):
        step = (t - events.t[0]) // 10_000
        if step < 7 and x // pool < size and y // pool < size:
            expected[step, p, y // pool, x // pool] += 1
    assert binning.shape == (2, size, size)
    np.testing.assert_array_equal(frames(events, binning, "here"), (expected >= least).reshape(7, -1))
    nothing = Events(*(np.zeros(0, np.int64) for _ in range(4)))
    assert not frames(nothing, binning, "here").any()
    with pytest.raises(InputError, match=r"here: an event at 34; allowed: places of 34 × 34"):
        frames(Events(np.zeros(1), np.array([34]), np.array([0]), np.array([0])), binning, "here")


@pytest.fixture
def folders(tmp_path, rng, monkeypatch):
    """All three data sets with a few recordings each, and a cache of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for folder in ("Train", "Test"):
        for label in range(10):
            place = tmp_path / "NMNIST" / folder / str(label)
            place.mkdir(parents=True)
            for i in range(2):
                (place / f"0000{i}.bin").write_bytes(atis(random_events(rng, 50, 34)))
    for name in dvs.CIFAR_CLASSES:
        place = tmp_path / "cifar10dvs" / name
        place.mkdir(parents=True)
        for i in range(4):
            (place / f"cifar10_{name}_{i}.aedat").write_bytes(aedat2(random_events(rng, 40, 128)))
    place = tmp_path / "DvsGesture"
    place.mkdir()
    for i, split in ((1, "train"), (2, "test")):
        (place / f"trials_to_{split}.txt").write_text(f"user0{i}_led.aedat\n\n")
        (place / f"user0{i}_led.aedat").write_bytes(aedat3(random_events(rng, 600, 128)))
        rows = [f"{k + 1},{k * 10_000},{k * 10_000 + 9_000}" for k in range(11)]
        (place / f"user0{i}_led_labels.csv").write_text(
            "\n".join(["class,startTime_usec,endTime_usec", *rows])
        )
    return tmp_path


@pytest.mark.parametrize(
    ("name", "shape", "n"),
    [
        ("nmnist", (2, 34, 34), (20, 20)),
        ("dvsgesture", (2, 32, 32), (11, 11)),
        ("cifar10dvs", (2, 32, 32), (30, 10)),
    ],
)
def test_data_sets_are_read_once_and_kept(name, shape, n, folders, monkeypatch):
    options = {"test_share": 0.25} if name == "cifar10dvs" else {}
    data = datasets.load(name, folders, n_steps=5, step_ms=2.0, **options)
    reads = []
    for reader in ("read_atis", "read_aedat2", "read_aedat3"):
        actual = getattr(dvs, reader)
        monkeypatch.setattr(dvs, reader, lambda path, actual=actual: reads.append(path) or actual(path))
    assert datasets.known_shape(name, **data.encoding) == data.input_shape
    data = datasets.load(name, folders, **data.encoding)
    assert reads == []
    assert (len(data.train), len(data.test)) == n
    assert data.input_shape == shape
    assert data.train.spikes.shape[1:] == (5, np.prod(shape))
    assert 0 < data.train.spikes.mean() < 0.1
    assert set(data.test.labels) == set(range(data.n_classes))
    first = len(reads)
    assert first == {"nmnist": 40, "dvsgesture": 2, "cifar10dvs": 40}[name]
    again = datasets.load(name, folders, **data.encoding)
    np.testing.assert_array_equal(again.train.spikes, data.train.spikes)
    np.testing.assert_array_equal(again.train.labels, data.train.labels)
    assert len(reads) == first
    for entry in (folders / "cache" / "lbi" / "datasets").iterdir():
        entry.write_bytes(b"PK\x03\x04 broken")
    third = datasets.load(name, folders, **data.encoding)
    np.testing.assert_array_equal(third.train.spikes, data.train.spikes)
    assert len(reads) > first
    other = datasets.load(name, folders, **{**data.encoding, "least": 2})
    assert other.train.spikes.sum() < data.train.spikes.sum()


@pytest.mark.parametrize("name", ["nmnist", "dvsgesture", "cifar10dvs"])
def test_large_data_sets_are_the_same_as_bits(name, folders, monkeypatch):
    options = {"n_steps": 5, "step_ms": 2.0, "pool": 3}  # 2 · 11 · 11 or 2 · 42 · 42 channels: no whole bytes
    options |= {"test_share": 0.25} if name == "cifar10dvs" else {}
    plain = datasets.load(name, folders, **options)
    expected = [(plain.train.spikes, plain.train.labels), (plain.test.spikes, plain.test.labels)]
    monkeypatch.setattr(packed, "PACKED_ABOVE", 0)
    for readable in (True, False):  # made, then from the cache
        if not readable:
            monkeypatch.setattr(dvs, "_frames", None)
        large = datasets.load(name, folders, **options)
        for data, (spikes, labels) in zip((large.train, large.test), expected, strict=True):
            assert isinstance(data.spikes, packed.PackedSpikes)
            np.testing.assert_array_equal(data.spikes, spikes)
            np.testing.assert_array_equal(data.labels, labels)


def test_large_data_sets_stay_in_memory_where_the_cache_cannot_be_written(folders, monkeypatch):
    expected = datasets.load("nmnist", folders).train.spikes
    monkeypatch.setenv("XDG_CACHE_HOME", str(folders / "NMNIST" / "Train" / "0" / "00000.bin"))
    monkeypatch.setattr(packed, "PACKED_ABOVE", expected.size - 1)
    found = datasets.load("nmnist", folders).train.spikes
    assert isinstance(found, packed.PackedSpikes)
    np.testing.assert_array_equal(found, expected)
    monkeypatch.setattr(packed, "PACKED_ABOVE", 10)
    with pytest.raises(InputError, match=r"^not-written: .*Not a directory"):
        _ = datasets.load("nmnist", folders).train


@pytest.mark.parametrize(
    ("name", "folder", "options"),
    [
        ("nmnist", "NMNIST", {"n_train": 3}),
        ("dvsgesture", "DvsGesture", {}),
        ("cifar10dvs", "cifar10dvs", {}),
    ],
)
def test_data_sets_name_all_files_that_they_read(name, folder, options, folders):
    data = datasets.load(name, folders, **options)
    assert sorted(data.files) == sorted(path for path in (folders / folder).rglob("*") if path.is_file())


def test_a_gesture_is_its_part_of_the_trial(folders):
    data = datasets.load("dvsgesture", folders, n_steps=9, step_ms=1.0, pool=1)
    whole = read_aedat3(folders / "DvsGesture" / "user01_led.aedat")
    for label in range(11):
        part = whole.between(label * 10_000, label * 10_000 + 9_000)
        expected = np.zeros((9, 2, 128, 128))
        for t, x, y, p in zip(part.t - part.t.min(), part.x, part.y, part.p, strict=True):
            expected[t // 1000, p, y, x] = 1
        np.testing.assert_array_equal(data.train.spikes[label], expected.reshape(9, -1))
        assert data.train.labels[label] == label


@pytest.mark.parametrize("name", ["nmnist", "dvsgesture", "cifar10dvs"])
def test_missing_data_says_where_to_get_it(name, tmp_path):
    with pytest.raises(InputError, match=r"data-missing: .*fix: get it from .*--data"):
        datasets.load(name)
    with pytest.raises(InputError, match=r"does not exist.*fix: get it from") as caught:
        datasets.load(name, tmp_path)
    assert all(str(tmp_path) in problem.where for problem in caught.value.problems)
    with pytest.raises(InputError, match="does not exist"):
        datasets.load(name, tmp_path / ("x" * 300))
    with pytest.raises(UsageError, match="pool: 0; allowed: 1 to"):
        datasets.load(name, tmp_path, pool=0)


def test_broken_recordings_and_lists_are_one_error(folders):
    def fails(name, match, **options):
        with pytest.raises(InputError, match=match):
            _ = datasets.load(name, folders, **options).train

    path = folders / "NMNIST" / "Train" / "3" / "00001.bin"
    path.write_bytes(path.read_bytes()[:-1])
    fails("nmnist", r"00001\.bin: 249 bytes; allowed: 5 bytes for each event")
    path = folders / "cifar10dvs" / "cat" / "cifar10_cat_0.aedat"
    for content in (b"", b"no header", path.read_bytes()[:-3]):
        path.write_bytes(content)
        fails("cifar10dvs", "lines of '#', then 8 bytes", test_share=0.01)
    place = folders / "DvsGesture"
    whole = (place / "user01_led.aedat").read_bytes()
    for content in (b"", whole[:-1], whole.replace(b"#!END-HEADER", b"#!END_HEADER"), whole[:60]):
        (place / "user01_led.aedat").write_bytes(content)
        fails("dvsgesture", "a header and whole packets")
    (place / "user01_led.aedat").unlink()
    fails("dvsgesture", "user01_led.aedat: does not exist")
    for table in ("class,a,b\n12,0,5\n", "class,a,b\n1,5,5\n", "class,a,b\n1,5\n", "class,a,b\n1,x,3\n"):
        (place / "user01_led_labels.csv").write_text(table)
        fails("dvsgesture", r"user01_led_labels\.csv: .*allowed: a heading, and lines of class")
    (place / "trials_to_train.txt").write_text("../../secret.aedat\n")
    fails("dvsgesture", "names of .aedat files")
    (place / "trials_to_train.txt").write_text("\n")
    fails("dvsgesture", "no recording of dvsgesture")


@pytest.mark.parametrize("above", [packed.PACKED_ABOVE, 0])
def test_recordings_without_events_are_refused_together_and_not_kept(above, folders, monkeypatch):
    """A file of 0 bytes, as a full disk leaves it, was a sample without spikes."""
    monkeypatch.setattr(packed, "PACKED_ABOVE", above)
    place = folders / "NMNIST" / "Train"
    names = [place / str(label) / "00000.bin" for label in range(5)]
    for name in names:
        name.write_bytes(b"")
    events = folders / "DvsGesture" / "user01_led_labels.csv"
    events.write_text(events.read_text().replace("11,100000,109000", "11,900000,909000"))
    late = folders / "DvsGesture" / "user01_led.aedat"
    expected = {
        "nmnist": [
            *(f"{name}: no event" for name in names[:3]),
            f"{place}: 2 more recordings without events",
        ],
        "dvsgesture": [f"{late}: no event from 900000 to 909000 µs"],
    }
    for _ in range(2):
        for name, found in expected.items():
            with pytest.raises(InputError) as caught:
                _ = datasets.load(name, folders).train
            assert [f"{problem.where}: {problem.found}" for problem in caught.value.problems] == found
            assert {problem.code for problem in caught.value.problems} == {"data-empty"}
