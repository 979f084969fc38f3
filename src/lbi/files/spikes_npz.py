"""Spike files: ``.npz`` with ``spikes`` (n_samples, n_steps, n_in) uint8 and optional ``labels`` (n_samples,).

Spikes of feature maps may be (n_samples, n_steps, channels, height, width).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, LbiError, LbiWarning, Problems, Rule
from lbi.files.labels import check_shape
from lbi.files.untrusted_npz import read_npz
from lbi.files.versions import SPIKES_KEYS
from lbi.network.spikes import check_spikes
from lbi.system.paths import not_a_file

MISSING = Rule("file-missing", "a .npz file", "check the path")
DAMAGED = Rule(
    "file-damaged",
    ".npz with spikes and optional labels",
    "write it with numpy.savez(path, spikes=…, labels=…); samples of unequal length are padded with zeros",
)
NO_SPIKES = Rule("spikes-missing", "spikes, and optional labels", "{fix}")
AXES = Rule(
    "spikes-axes", "(n_samples, n_steps, n_in)", "the channels are the last axis: spikes.swapaxes(1, 2)"
)
EMPTY = Rule("spikes-empty", "at least one sample and one step", "write at least one")

NO_LABELS_READ = Rule(
    "labels-missing",
    fix="if these are labels: a = numpy.load(path); numpy.savez(path, spikes=a['spikes'], labels=a[{other!r}])",
)

NO_LABELS = ("test_spikes", "test_labels", "predictions", "membrane")
"""Arrays beside spikes that training and ``lbi-run --output`` name so."""

OTHER_NAMES = (("data", "targets"), ("x", "y"), ("X", "Y"), ("events", "labels"), ("arr_0", "arr_1"))
"""Names under which other tools store samples and labels."""


def load_spikes(
    path: str | Path, input_shape: int | Sequence[int]
) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
    """Spikes and labels of a spike file.

    Args:
        path: the ``.npz``.
        input_shape: shape of the network's input; an int if only its number of channels is known.

    Returns:
        Spikes (n_samples, n_steps, n_in), and labels (n_samples,) or None.

    Warns:
        LbiWarning: if there are no labels, but arrays of other names.

    Raises:
        InputError: naming everything that is wrong with the file, its arrays, width, type or values.
    """
    path = Path(path)
    n_in = input_shape if isinstance(input_shape, int) else prod(input_shape)
    where = str(path)
    if why := not_a_file(path):
        raise InputError(MISSING.broken(where, why))
    try:
        arrays, found = read_npz(path, SPIKES_KEYS)
    except ValueError as error:
        reason = "one array, a .npy" if _is_npy(path) else f"not a readable spike file ({error})"
        raise InputError(DAMAGED.broken(where, reason)) from error
    if "spikes" not in arrays:
        names = ", ".join(found) or "none"
        raise InputError(NO_SPIKES.broken(where, f"arrays {names}", fix=rename(found)))
    problems = Problems()
    spikes, given = None, arrays["spikes"]
    if given.ndim == 3 and given.shape[1] == n_in != given.shape[2]:
        problems.note(AXES.broken(where, f"shape {given.shape} for {n_in} channels"))
        given = given.swapaxes(1, 2)
    try:
        spikes = check_spikes(given, input_shape, where)
    except LbiError as error:
        problems.take(error)
    labels = arrays.get("labels")
    others = [name for name in found if name not in (*SPIKES_KEYS, *NO_LABELS)]
    if labels is None and others:
        problem = NO_LABELS_READ.broken(
            where, f"no array 'labels'; others are {', '.join(others)}", other=others[0]
        )
        warnings.warn(str(problem), LbiWarning, stacklevel=2)
    if labels is not None:
        check_shape(labels, arrays["spikes"], f"{where}, labels", problems)
    if spikes is not None:
        EMPTY.check(problems, spikes.shape[0] > 0 and spikes.shape[1] > 0, where, f"shape {spikes.shape}")
    problems.raise_as(InputError)
    assert spikes is not None
    return spikes, None if labels is None else labels.astype(np.int64)


def rename(found: Any) -> str:
    """The call that gives the arrays of a file the names that are read.

    Args:
        found: names of the arrays in the file.

    Returns:
        A line of Python; empty if no name is close.
    """
    if {"indices", "indptr", "data"} <= set(found):
        return "make it dense: numpy.savez(path, spikes=scipy.sparse.load_npz(path).toarray().reshape(n_samples, n_steps, -1))"
    others = [("spikes", name) for name in found if name not in ("spikes", *NO_LABELS)]
    for spikes, labels in (*OTHER_NAMES, *others):
        if spikes in found:
            rest = f", labels=a[{labels!r}]" if labels in found else ""
            return f"name them so: a = numpy.load(path); numpy.savez(path, spikes=a[{spikes!r}]{rest})"
    return "write it with numpy.savez(path, spikes=…, labels=…)"


def _is_npy(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(6) == b"\x93NUMPY"
