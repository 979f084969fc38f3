"""Spikes from a user's file: ``.npz`` with ``spikes`` uint8 and ``labels`` (n_samples,).

``spikes`` is (n_samples, n_steps, n_in), or for convolutions (n_samples, n_steps, channels, height, width).

``test_spikes`` and ``test_labels``, if present, are the test set; otherwise a stratified share is held out.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lbi.datasets.base import (
    SPIKES_VALUE,
    Dataset,
    DataWarning,
    SpikeData,
    check_options,
    read_as,
    stratified_split,
)
from lbi.datasets.packed import Spikes
from lbi.errors import InputError, Problems, Rule
from lbi.files.labels import check_shape
from lbi.files.spikes_npz import rename
from lbi.files.untrusted_npz import read_npz
from lbi.system.paths import not_a_file

SHAPES = Rule("spikes-shape", "samples of shape {shape} in each step, as for training")
EMPTY = Rule("data-empty", "some in each", "add samples, or choose another test_share")
MISSING = Rule("data-missing", "a .npz file", "check the path")
BROKEN = Rule(
    "data-broken",
    "an .npz file without pickled objects",
    "write it with numpy.savez; samples of unequal length are padded with zeros",
)
LACKS = Rule("data-broken", "{key!r} among the arrays, which are {names}", "{fix}")
TYPE = Rule("data-broken", "uint8", "write numbers: spikes.astype(numpy.uint8)")
MANY = Rule(
    "labels-value",
    "classes numbered from 0: a network has an output for each number up to the largest",
    "number them with numpy.unique(labels, return_inverse=True)[1]",
)

SILENT = Rule("data-empty", "spikes to learn from", "check how they were encoded")
UNUSED = Rule(
    "labels-unused",
    "samples of every class: the network has an output for each number up to the largest label",
    "number them with numpy.unique(labels, return_inverse=True)[1]",
)
ONE_CLASS = Rule("labels-value", "two classes or more: any network is right on one", "check the labels")

FEW_CLASSES, SPARE = 1000, 10
"""Outputs that any labels may ask for, and how many times their distinct values beyond."""


def load_npz(path: Path | None, *, test_share: float = 0.2, split_seed: int = 0) -> Dataset:
    """A ``.npz`` file as a data set, named as its path.

    Args:
        path: the file.
        test_share: share of every class that becomes the test set, for files without one.
        split_seed: seed of the split.

    Returns:
        The data set.

    Raises:
        InputError: for a file that is missing or broken, and for spikes or labels that no network takes.
        UsageError: for options out of range.
    """
    check_options(
        test_share=(
            test_share,
            isinstance(test_share, int | float) and 0 < test_share < 1,
            "above 0, below 1",
        ),
        split_seed=(split_seed, isinstance(split_seed, int) and split_seed >= 0, "a whole number from 0"),
    )
    assert path is not None
    arrays = _read(path)
    problems = Problems()
    prefixes = ["", *(["test_"] if {"test_spikes", "test_labels"} & arrays.keys() else [])]
    read = []
    for prefix in prefixes:
        try:
            read.append(_samples(arrays, prefix, path))
        except InputError as error:
            problems.take(error)
    problems.raise_as(InputError)
    train, shape = read[0]
    if len(read) > 1:
        test, other = read[1]
        SHAPES.check(problems, other == shape, f"{path}, test_spikes", other, shape=shape)
    else:
        kept, held_out = stratified_split(train.labels, test_share, np.random.default_rng(split_seed))
        train, test = train.subset(kept), train.subset(held_out)
    EMPTY.check(problems, len(train) > 0 and len(test) > 0, str(path), "no samples in a split")
    problems.raise_as(InputError)
    labels = np.concatenate([train.labels, test.labels])
    n_classes, n_distinct = 1 + int(labels.max()), np.unique(labels).size
    found = f"up to {labels.max()}, for {n_distinct} classes"
    MANY.check(problems, n_classes <= max(FEW_CLASSES, SPARE * n_distinct), f"{path}, labels", found)
    problems.raise_as(InputError)
    _warn(path, train.spikes, labels)
    return Dataset(
        str(path),
        {"train": train, "test": test},
        n_classes=n_classes,
        n_steps=train.spikes.shape[1],
        input_shape=shape,
        encoding={"test_share": test_share, "split_seed": split_seed},
        files=[path],
    )


def _warn(path: Path, spikes: Spikes, labels: NDArray[np.int64]) -> None:
    """Warn of samples from which nothing can be learned, and of classes that no sample has."""
    found, unused = Problems(), np.setdiff1d(np.arange(labels.max() + 1), labels)
    silent = min(spikes.shape) > 0 and not np.any(spikes)
    SILENT.check(found, not silent, f"{path}, spikes", "no spike in any training sample")
    shown = ", ".join(map(str, unused[:5])) + (", …" if unused.size > 5 else "")
    UNUSED.check(found, not unused.size, f"{path}, labels", f"no sample of class {shown}")
    ONE_CLASS.check(found, labels.max() > 0, f"{path}, labels", "one class, 0")
    for problem in found:
        warnings.warn(str(problem), DataWarning, stacklevel=2)


def _read(path: Path) -> dict[str, np.ndarray]:
    if why := not_a_file(path):
        raise InputError(MISSING.broken(str(path), why))
    try:
        return read_npz(path)[0]
    except ValueError as error:
        raise InputError(BROKEN.broken(str(path), f"is not readable ({error})")) from error


def _samples(arrays: dict[str, np.ndarray], prefix: str, path: Path) -> tuple[SpikeData, tuple[int, ...]]:
    """The samples of a split, and the shape of their input."""
    problems = Problems()
    names = ", ".join(arrays) or "none"
    for key in (f"{prefix}spikes", f"{prefix}labels"):
        found = f"lacks {key!r}"
        LACKS.check(problems, key in arrays, str(path), found, key=key, names=names, fix=rename(arrays))
    problems.raise_as(InputError)
    spikes, labels = arrays[f"{prefix}spikes"], arrays[f"{prefix}labels"]
    where = f"{path}, {prefix}spikes"
    if TYPE.check(problems, spikes.dtype.kind in "buif", where, f"type {spikes.dtype}") and (
        spikes.dtype != np.uint8
    ):
        n_other = spikes.size - int(np.count_nonzero(spikes == 0)) - int(np.count_nonzero(spikes == 1))
        SPIKES_VALUE.check(problems, n_other == 0, where, f"{n_other} values beside 0 and 1")
    check_shape(labels, spikes, f"{path}, {prefix}labels", problems)
    problems.raise_as(InputError)
    shape = spikes.shape[2:]
    if spikes.ndim == 5:
        spikes = spikes.reshape(*spikes.shape[:2], -1)
    return read_as(str(path), spikes.astype(np.uint8), labels), shape
