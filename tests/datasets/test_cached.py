"""Spikes kept in the user's cache folder: read again only if whole and of the same source, and cleaned."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.spoken import random_samples, shd_file

from lbi import datasets
from lbi.datasets import cached, heidelberg, packed
from lbi.datasets.base import DataWarning
from lbi.datasets.cached import NotKeptError, SpikeCache
from lbi.errors import InputError

OPTIONS = {"n_steps": 40, "step_ms": 25.0, "n_channels": 70}


@pytest.fixture
def shd(tmp_path, rng, monkeypatch):
    """SHD files whose every split is large, and a cache of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(packed, "PACKED_ABOVE", 10_000)
    for split in ("train", "test"):
        shd_file(tmp_path / f"shd_{split}.h5", random_samples(rng, 60))
    return tmp_path


@pytest.fixture
def opened(monkeypatch):
    """The HDF5 files that were read."""
    names, actual = [], heidelberg.open_tree
    monkeypatch.setattr(
        heidelberg, "open_tree", lambda path, problem: names.append(path.name) or actual(path, problem)
    )
    return names


def files(shd: Path, pattern: str = "*") -> list[Path]:
    return sorted((shd / "cache" / "lbi" / "datasets").glob(pattern))


def train(shd: Path, **options: object):
    return datasets.load("shd", shd, **{**OPTIONS, **options}).train


def unpacked(shd: Path, **options: object):
    """The training spikes, read without cache."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(shd / "none"))
        patch.setattr(packed, "PACKED_ABOVE", 1 << 40)
        return train(shd, **options).spikes


def test_a_split_is_binned_once_and_again_after_a_change(shd, opened, rng):
    first = train(shd)
    assert opened == ["shd_train.h5"]
    second = train(shd)
    assert opened == ["shd_train.h5"]
    np.testing.assert_array_equal(first.spikes, second.spikes)
    np.testing.assert_array_equal(first.labels, second.labels)
    train(shd, step_ms=20.0)
    assert len(opened) == 2
    path = shd / "shd_train.h5"
    shd_file(path, random_samples(rng, 60))
    os.utime(path, ns=(0, 10**18))
    third = train(shd)
    assert len(opened) == 3
    assert (np.asarray(third.spikes) != first.spikes).any()
    np.testing.assert_array_equal(third.spikes, unpacked(shd))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: content[:3],
        lambda content: content[: len(content) // 2],
        lambda content: content + b"\x00",
        lambda content: bytes(len(content)),
        lambda content: content[:-1] + bytes([content[-1] ^ 1]),
        lambda content: content[:5000] + bytes([content[5000] ^ 16]) + content[5001:],
        lambda content: b"PK\x03\x04 another program's",
    ],
)
def test_a_damaged_file_is_written_again(damage, shd, opened):
    expected = unpacked(shd)
    train(shd)
    (path,) = files(shd)
    whole = path.read_bytes()
    opened.clear()
    path.unlink()  # changed in place, it would change under those who map it
    path.write_bytes(damage(whole))
    np.testing.assert_array_equal(train(shd).spikes, expected)
    assert opened == ["shd_train.h5"]
    assert files(shd) == [path]
    assert path.read_bytes() == whole


def test_the_file_of_another_source_or_encoding_is_none(shd, opened):
    train(shd)
    (one,) = files(shd)
    expected = unpacked(shd, step_ms=30.0)
    train(shd, step_ms=30.0)
    (other,) = set(files(shd)) - {one}
    other.unlink()
    other.write_bytes(one.read_bytes())  # of equal shape
    opened.clear()
    np.testing.assert_array_equal(train(shd, step_ms=30.0).spikes, expected)
    assert opened == ["shd_train.h5"]


def test_errors_of_the_data_leave_no_file_and_warnings_come_again(shd, rng):
    samples = random_samples(rng, 60)
    shd_file(shd / "shd_train.h5", [*samples, ([0.1], [700], 0)])
    with pytest.raises(InputError, match="sample 60: 1 times"):
        train(shd)
    assert not files(shd)
    shd_file(shd / "shd_train.h5", [*samples, ([0.1, 0.2], [1, 2], 0)])
    for _ in range(2):
        with pytest.warns(DataWarning, match="events are behind the last step"):
            train(shd, n_steps=10)
    with h5py.File(shd / "shd_train.h5", "r+") as file:
        file["labels"][3] = 20
    for _ in range(2):
        with pytest.raises(InputError, match="1 of 61 labels are 20; allowed: 0 to 19"):
            train(shd)


def test_a_full_disk_is_one_error_where_bits_do_not_fit_memory_either(shd, monkeypatch):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    expected = unpacked(shd)
    for most, fits in ((10_000, False), (100_000, True)):  # the bits take 60 · 40 · 9 = 21,600 bytes
        monkeypatch.setattr(packed, "PACKED_ABOVE", most)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
        try:
            if fits:
                np.testing.assert_array_equal(train(shd).spikes, expected)
            else:
                with pytest.raises(
                    InputError, match=r"^not-written: .*File too large; .*21600.*XDG_CACHE_HOME"
                ):
                    train(shd)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert not files(shd, ".*") + files(shd)


def test_a_folder_that_cannot_be_made_is_the_same_error(shd):
    (shd / "cache").write_text("a file")
    with pytest.raises(
        NotKeptError, match=r"^not-written: .*Not a directory.*fix: free space, check permissions"
    ):
        train(shd)


def test_old_files_of_the_same_source_are_removed(shd):
    for i in range(1, 8):
        train(shd, n_steps=40 + i)
        for path in files(shd):
            os.utime(path, ns=(0, path.stat().st_mtime_ns - 10**9))
        train(shd, n_steps=41)  # used again: kept
    assert len(files(shd)) == cached.KEPT
    _ = datasets.load("shd", shd, **OPTIONS).test
    assert len(files(shd)) == cached.KEPT + 1


def test_temporary_files_of_killed_processes_are_removed_after_a_day(shd):
    train(shd)
    (path,) = files(shd)
    old, new = (path.with_name(f".{path.name[:40]}.{end}.tmp") for end in ("aaaa", "bbbb"))
    for name in (old, new):
        name.write_bytes(b"part")
    os.utime(old, (0, old.stat().st_mtime - cached.ABANDONED_S - 10))
    train(shd, step_ms=20.0)
    assert not old.exists()
    assert new.exists()


def test_a_removed_file_stays_readable_for_those_who_use_it(shd):
    data = train(shd)
    for path in files(shd):
        path.unlink()
    np.testing.assert_array_equal(data.spikes, unpacked(shd))


def test_many_processes_at_once_read_the_same_spikes(shd):
    script = (
        "import sys; from lbi import datasets; from lbi.datasets import packed; packed.PACKED_ABOVE = 10_000\n"
        f"data = datasets.load('shd', sys.argv[1], **{OPTIONS}).train\n"
        "import hashlib, numpy; print(hashlib.sha256(numpy.asarray(data.spikes).tobytes()).hexdigest())"
    )
    children = [
        subprocess.Popen([sys.executable, "-c", script, str(shd)], stdout=subprocess.PIPE) for _ in range(4)
    ]
    answers = {child.communicate()[0] for child in children}
    assert [child.returncode for child in children] == [0] * 4
    assert len(answers) == 1
    assert len(files(shd)) == 1
    assert not files(shd, ".*")


def test_the_file_is_what_its_description_says(shd):
    expected = unpacked(shd)
    data = train(shd)
    (path,) = files(shd)
    with path.open("rb") as stream:
        bits, labels, ends = (np.load(stream) for _ in range(3))
        assert len(stream.read()) == 4
    np.testing.assert_array_equal(np.unpackbits(bits, axis=-1)[..., :70], expected)
    np.testing.assert_array_equal(labels, data.labels)
    assert ends.shape == (60, 3)
    assert SpikeCache("shd_train", "elsewhere", "").read(40, 70) is None
