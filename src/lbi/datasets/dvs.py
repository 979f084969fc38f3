"""Vision data of event cameras: N-MNIST, DVS128 Gesture and CIFAR10-DVS, from the authors' files.

Events become frames of two polarities: a place is 1 in a step if its pixels had ``least`` events or more. A split is read on
first use, and kept as bits in the user's cache folder until its files or options change; a large one is mapped from there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lbi.datasets.base import Dataset, SpikeData, check_options, stratified_split
from lbi.datasets.cached import NotKeptError, SpikeCache
from lbi.datasets.events import Binning, Events, frames, read_aedat2, read_aedat3, read_atis
from lbi.datasets.packed import Spikes, collect, is_large, is_large_packed
from lbi.errors import InputError, Problems, Rule
from lbi.files.untrusted_npz import read_npz
from lbi.system.atomic import atomic_write
from lbi.system.cache import cache_folder

GET = "get it from {origin}, unpack it, and give the folder with --data"
NO_FOLDER = Rule("data-missing", "a folder with {files}", GET)
NO_FILES = Rule("data-missing", "{files}", GET)
LIST = Rule("data-broken", "{allowed}", "get it again")
NO_EVENTS = Rule(
    "data-empty", "at least one event", "it may be truncated: get it again, or take it out of the data set"
)

SHOWN = 3
"""Recordings without events that are named; of the others, the number is."""

NMNIST = "garrickorchard.com/datasets/n-mnist (or tonic.datasets.NMNIST)"
GESTURE = "research.ibm.com/interactive/dvsgesture (DvsGesture.tar.gz)"
CIFAR = "figshare.com/articles/dataset/CIFAR10-DVS_New/4724671"
CIFAR_CLASSES = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)

Recording = tuple[Path, int, int, int]
"""File, label, first microsecond and the one after the last (−1: to the end)."""


def load_nmnist(
    data_dir: Path | None = None,
    *,
    n_steps: int = 10,
    step_ms: float = 30.0,
    pool: int = 1,
    least: int = 1,
    n_train: int = 0,
) -> Dataset:
    """N-MNIST: digits seen by a moving camera of 34 × 34 pixels (Orchard et al., Front. Neurosci. 9, 2015).

    Args:
        data_dir: folder with ``Train`` and ``Test``, each with a folder of ``.bin`` files per digit.
        n_steps: timesteps.
        step_ms: milliseconds per timestep.
        pool: pixels of a row and of a column that become one place.
        least: events in a place and step from which it spikes.
        n_train: number of training samples, evenly spaced over the files; 0 for all 60,000.

    Returns:
        The data set, which reads its files on first use.
    """
    binning = Binning(34, n_steps, step_ms, pool, least)
    check_options(**binning.checks(), n_train=_count(n_train))
    root = _root("nmnist", data_dir, ("Train", "Test"), NMNIST)
    splits = {}
    for split, folder in (("train", "Train"), ("test", "Test")):
        found = [
            (path, label, 0, -1)
            for label in range(10)
            for path in sorted((root / folder / str(label)).glob("*.bin"))
        ]
        _check_found("nmnist", root / folder, found, "folders 0 to 9 with .bin files", NMNIST)
        splits[split] = found
    files = [path for found in splits.values() for path, *_ in found]
    if n_train:
        every = np.linspace(0, len(splits["train"]), min(n_train, len(splits["train"])), endpoint=False)
        splits["train"] = [splits["train"][int(i)] for i in every]
    encoding = {"n_steps": n_steps, "step_ms": step_ms, "pool": pool, "least": least, "n_train": n_train}
    return _dataset("nmnist", splits, read_atis, 10, binning, encoding, files)


def load_dvsgesture(
    data_dir: Path | None = None, *, n_steps: int = 60, step_ms: float = 25.0, pool: int = 4, least: int = 1
) -> Dataset:
    """DVS128 Gesture: 11 gestures of 29 persons before 128 × 128 pixels (Amir et al., CVPR 2017), split by person.

    Args:
        data_dir: folder with ``trials_to_train.txt``, ``trials_to_test.txt``, and the ``.aedat`` and ``_labels.csv`` of each trial.
        n_steps: timesteps.
        step_ms: milliseconds per timestep.
        pool: pixels of a row and of a column that become one place.
        least: events in a place and step from which it spikes.

    Returns:
        The data set, which reads its files on first use.
    """
    binning = Binning(128, n_steps, step_ms, pool, least)
    check_options(**binning.checks())
    lists = {"train": "trials_to_train.txt", "test": "trials_to_test.txt"}
    root = _root("dvsgesture", data_dir, tuple(lists.values()), GESTURE, "DvsGesture")
    splits = {}
    for split, name in lists.items():
        found = [recording for trial in _lines(root / name) for recording in _gestures(root / trial)]
        _check_found("dvsgesture", root / name, found, "names of .aedat files with gestures", GESTURE)
        splits[split] = found
    encoding = {"n_steps": n_steps, "step_ms": step_ms, "pool": pool, "least": least}
    trials = {path for found in splits.values() for path, *_ in found}
    files = [root / name for name in lists.values()] + [f for path in trials for f in (path, _table(path))]
    return _dataset("dvsgesture", splits, read_aedat3, 11, binning, encoding, files)


def load_cifar10dvs(
    data_dir: Path | None = None,
    *,
    n_steps: int = 20,
    step_ms: float = 65.0,
    pool: int = 4,
    least: int = 1,
    test_share: float = 0.1,
    split_seed: int = 0,
) -> Dataset:
    """CIFAR10-DVS: moving pictures of 10 classes on 128 × 128 pixels (Li et al., Front. Neurosci. 11, 2017).

    The authors define no test set; the last options choose one.

    Args:
        data_dir: folder with a folder of ``.aedat`` files per class.
        n_steps: timesteps.
        step_ms: milliseconds per timestep.
        pool: pixels of a row and of a column that become one place.
        least: events in a place and step from which it spikes.
        test_share: share of every class that becomes the test set.
        split_seed: seed of the split.

    Returns:
        The data set, which reads its files on first use.
    """
    binning = Binning(128, n_steps, step_ms, pool, least)
    share = isinstance(test_share, int | float) and 0 < test_share < 1
    check_options(
        **binning.checks(), test_share=(test_share, share, "above 0, below 1"), split_seed=_count(split_seed)
    )
    root = _root("cifar10dvs", data_dir, CIFAR_CLASSES, CIFAR)
    every = [
        (path, label, 0, -1)
        for label, name in enumerate(CIFAR_CLASSES)
        for path in sorted((root / name).glob("*.aedat"))
    ]
    _check_found("cifar10dvs", root, every, "folders of .aedat files", CIFAR)
    labels = np.array([label for _, label, _, _ in every])
    chosen = stratified_split(labels, test_share, np.random.default_rng(split_seed))
    splits = {name: [every[i] for i in part] for name, part in zip(("train", "test"), chosen, strict=True)}
    encoding = {"n_steps": n_steps, "step_ms": step_ms, "pool": pool, "least": least}
    encoding |= {"test_share": test_share, "split_seed": split_seed}
    files = [path for path, *_ in every]
    return _dataset("cifar10dvs", splits, read_aedat2, 10, binning, encoding, files)


def _count(value: object) -> tuple[object, bool, str]:
    return (
        value,
        isinstance(value, int) and not isinstance(value, bool) and value >= 0,
        "a whole number from 0",
    )


def _root(name: str, data_dir: Path | None, files: Sequence[str], origin: str, own: str = "") -> Path:
    """The folder that holds all ``files``: the user's, or in it one of the data set's name."""
    problems = Problems()
    shown = ", ".join(files)
    if data_dir is None:
        problems.note(NO_FOLDER.broken(f"data set {name}", "no folder given", files=shown, origin=origin))
        problems.raise_as(InputError)
    assert data_dir is not None
    for folder in (data_dir, data_dir / name.upper(), data_dir / name, data_dir / (own or name)):
        with suppress(OSError):  # a name that is too long
            if all((folder / file).exists() for file in files):
                return folder
    for file in files:
        with suppress(OSError):
            if (data_dir / file).exists():
                continue
        problems.note(NO_FILES.broken(str(data_dir / file), "does not exist", files=file, origin=origin))
    problems.raise_as(InputError)
    raise AssertionError("unreachable")


def _check_found(name: str, where: Path, found: Sequence[Recording], files: str, origin: str) -> None:
    problems = Problems()
    NO_FILES.check(problems, bool(found), f"{where}", f"no recording of {name}", files=files, origin=origin)
    problems.raise_as(InputError)


def _lines(path: Path) -> list[str]:
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(LIST.broken(str(path), "is not readable", allowed="a list of files")) from error
    names = [line for line in lines if line]
    bad = [name for name in names if Path(name).name != name or not name.endswith(".aedat")]
    if bad:
        raise InputError(LIST.broken(str(path), repr(bad[0]), allowed="names of .aedat files"))
    return names


def _table(path: Path) -> Path:
    """The table of a trial's gestures."""
    return path.with_name(path.stem + "_labels.csv")


def _gestures(path: Path) -> list[Recording]:
    """The gestures of a trial: class (from 1), first and last microsecond, one a line of its ``_labels.csv``."""
    table = _table(path)
    allowed = "a heading, and lines of class (1 to 11), start and end in microseconds"
    try:
        rows = np.loadtxt(table, dtype=np.int64, delimiter=",", skiprows=1, ndmin=2)
    except (OSError, ValueError) as error:
        raise InputError(LIST.broken(str(table), "is not readable", allowed=allowed)) from error
    if rows.shape[1] != 3 or not np.all((rows[:, 0] >= 1) & (rows[:, 0] <= 11) & (rows[:, 1] < rows[:, 2])):
        raise InputError(LIST.broken(str(table), f"{len(rows)} lines, one of them wrong", allowed=allowed))
    return [(path, int(label) - 1, int(start), int(stop)) for label, start, stop in rows]


def _dataset(
    name: str,
    splits: dict[str, list[Recording]],
    read: Callable[[Path], Events],
    n_classes: int,
    binning: Binning,
    encoding: dict[str, float],
    files: Sequence[Path],
) -> Dataset:
    def reader(recordings: list[Recording]) -> Callable[[], SpikeData]:
        labels = np.array([label for _, label, _, _ in recordings], dtype=np.int64)
        return lambda: SpikeData(_cached(name, recordings, read, binning), labels)

    return Dataset(
        name,
        {split: reader(recordings) for split, recordings in splits.items()},
        n_classes=n_classes,
        n_steps=binning.n_steps,
        input_shape=binning.shape,
        encoding=encoding,
        step_s=binning.step_ms / 1000.0,
        files=files,
    )


def _cached(
    name: str, recordings: list[Recording], read: Callable[[Path], Events], binning: Binning
) -> Spikes:
    """Frames of all recordings, from the cache if neither files nor options have changed."""
    shape = len(recordings), binning.n_steps, int(np.prod(binning.shape))
    key = _key(recordings, binning)
    if is_large(shape):
        cache = SpikeCache(name, str(recordings[0][0].parent.absolute()), key)
        found = cache.read(*shape[1:])
        try:
            found = found or cache.write(shape, _frames(recordings, read, binning), tuple)
            return found.spikes
        except NotKeptError:
            if is_large_packed(shape):
                raise
            return collect(shape, _frames(recordings, read, binning))
    path = cache_folder() / "datasets" / f"{name}-{key[:32]}.npz"
    with suppress(OSError, ValueError, KeyError):
        bits = read_npz(path)[0]["bits"]
        if bits.dtype == np.uint8 and bits.size == -(-int(np.prod(shape)) // 8):
            return np.unpackbits(bits.ravel(), count=int(np.prod(shape))).reshape(shape)
    spikes = np.asarray(collect(shape, _frames(recordings, read, binning)))
    with suppress(OSError, InputError):  # a full disk or a folder without access costs only time
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as new, new.open("wb") as out:
            np.savez_compressed(out, bits=np.packbits(spikes))
    return spikes


def _frames(
    recordings: list[Recording], read: Callable[[Path], Events], binning: Binning
) -> Iterator[NDArray[np.uint8]]:
    """The frames of one recording after another, each (1, n_steps, n_in); those without events are refused at the end."""
    last: tuple[Path, Events] | None = None
    problems, n_blank = Problems(), 0
    for file, _, start, stop in recordings:
        events = last[1] if last is not None and last[0] == file else read(file)
        last = file, events
        part = events if stop < 0 else events.between(start, stop)
        n_blank += not part.t.size
        if not part.t.size and n_blank <= SHOWN:
            when = "" if stop < 0 else f" from {start} to {stop} µs"
            problems.note(NO_EVENTS.broken(str(file), f"no event{when}"))
        yield frames(part, binning, str(file))[None]
    if n_blank > SHOWN:
        folder = str(recordings[0][0].parent.parent)
        problems.note(NO_EVENTS.broken(folder, f"{n_blank - SHOWN} more recordings without events"))
    problems.raise_as(InputError)


def _key(recordings: list[Recording], binning: Binning) -> str:
    """A digest of the options, and of name, size and time of every file."""
    digest = hashlib.sha256(repr(binning).encode())
    for path in dict.fromkeys(path for path, _, _, _ in recordings):
        try:
            stat = path.stat()
        except OSError as error:
            problem = NO_FILES.broken(
                str(path), "does not exist", files=path.name, origin="where the others are from"
            )
            raise InputError(problem) from error
        digest.update(json.dumps([str(path.absolute()), stat.st_size, stat.st_mtime_ns]).encode())
    digest.update(json.dumps([[label, start, stop] for _, label, start, stop in recordings]).encode())
    return digest.hexdigest()
