"""A user's own spikes: ``.npz`` with ``spikes`` (n_samples, n_steps, n_in) uint8 and ``labels`` (n_samples,).

With ``test_spikes`` and ``test_labels`` beside them, these are the test set; else a stratified share is.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from lbi.datasets.base import Dataset, SpikeData, check_options, stratified_split
from lbi.errors import InputError, Problem, Problems
from lbi.files.untrusted_npz import read_npz


def load_npz(path: Path | None, *, test_share: float = 0.2, split_seed: int = 0) -> Dataset:
    """The file as a data set of that name; test_share, split_seed: for files without a test set."""
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
    train = _samples(arrays, "", path)
    if "test_spikes" in arrays:
        test = _samples(arrays, "test_", path)
    else:
        kept, held_out = stratified_split(train.labels, test_share, np.random.default_rng(split_seed))
        train, test = train.subset(kept), train.subset(held_out)
    problems = Problems()
    problems.check(
        len(train) > 0 and len(test) > 0, "data-empty", str(path), "no samples in a split", "some in each"
    )
    problems.raise_as(InputError)
    return Dataset(
        str(path),
        {"train": train, "test": test},
        n_classes=1 + int(max(train.labels.max(), test.labels.max())),
        n_steps=train.spikes.shape[1],
        input_shape=(train.spikes.shape[2],),
        encoding={"test_share": test_share, "split_seed": split_seed},
    )


def _read(path: Path) -> dict[str, np.ndarray]:
    if not os.path.isfile(path):  # False for a name too long, too
        raise InputError(
            Problem("data-missing", str(path), "does not exist", "a .npz file", "check the path")
        )
    try:
        return read_npz(path)[0]
    except ValueError as error:
        raise InputError(
            Problem(
                "data-broken", str(path), f"is not readable ({error})", "an .npz file without pickled objects"
            )
        ) from error


def _samples(arrays: dict[str, np.ndarray], prefix: str, path: Path) -> SpikeData:
    problems = Problems()
    for key in (f"{prefix}spikes", f"{prefix}labels"):
        problems.check(
            key in arrays, "data-broken", str(path), f"lacks {key!r}", f"has {', '.join(arrays) or 'nothing'}"
        )
    problems.raise_as(InputError)
    spikes, labels = arrays[f"{prefix}spikes"], arrays[f"{prefix}labels"]
    for key, array, kinds in ((f"{prefix}spikes", spikes, "buif"), (f"{prefix}labels", labels, "ui")):
        problems.check(
            array.dtype.kind in kinds,
            "data-broken",
            f"{path}, {key}",
            f"type {array.dtype}",
            "uint8" if key.endswith("spikes") else "integers",
        )
    problems.raise_as(InputError)
    if spikes.dtype != np.uint8:
        problems.check(
            bool(np.isin(spikes, (0, 1)).all()),
            "spikes-value",
            f"{path}, {prefix}spikes",
            "values beside 0 and 1",
            "0 and 1",
        )
        problems.raise_as(InputError)
        spikes = spikes.astype(np.uint8)
    return SpikeData(spikes, labels)
