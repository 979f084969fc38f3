"""Spike files: ``.npz`` with ``spikes`` (n_samples, n_steps, n_in) uint8 and optional ``labels`` (n_samples,)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, LbiError, Problem, Problems
from lbi.files.untrusted_npz import read_npz
from lbi.files.versions import SPIKES_KEYS
from lbi.network.spikes import check_spikes


def load_spikes(path: str | Path, n_in: int) -> tuple[NDArray[np.uint8], NDArray[np.int64] | None]:
    """Spikes and labels of a spike file.

    Args:
        path: the ``.npz``.
        n_in: number of inputs of the network.

    Returns:
        Spikes (n_samples, n_steps, n_in), and labels (n_samples,) or None.

    Raises:
        InputError: naming everything that is wrong with the file, its arrays, width, type or values.
    """
    path = Path(path)
    where = str(path)
    if not path.is_file():
        raise InputError(Problem("file-missing", where, "no such file", remedy="check the path"))
    try:
        arrays, found = read_npz(path, SPIKES_KEYS)
    except ValueError as error:
        reason = "one array, a .npy" if _is_npy(path) else f"not a readable spike file ({error})"
        raise InputError(
            Problem(
                "file-damaged",
                where,
                reason,
                ".npz with spikes and optional labels",
                "write it with numpy.savez(path, spikes=…, labels=…)",
            )
        ) from error
    if "spikes" not in arrays:
        raise InputError(
            Problem(
                "spikes-missing", where, f"arrays {', '.join(found) or 'none'}", "spikes, and optional labels"
            )
        )
    problems = Problems()
    spikes = None
    try:
        spikes = check_spikes(arrays["spikes"], n_in, where)
    except LbiError as error:
        problems.take(error)
    labels = arrays.get("labels")
    if labels is not None:
        n_samples = arrays["spikes"].shape[:1]
        problems.check(
            labels.shape == n_samples and labels.dtype.kind in "iu",
            "labels-shape",
            f"{where}, labels",
            f"{labels.dtype} {labels.shape}",
            f"integers {n_samples}",
            "a label per sample; samples are the first axis of spikes, steps the second",
        )
    if spikes is not None:
        problems.check(
            spikes.shape[0] > 0 and spikes.shape[1] > 0,
            "spikes-empty",
            where,
            f"shape {spikes.shape}",
            "at least one sample and one step",
        )
    problems.raise_as(InputError)
    assert spikes is not None
    return spikes, None if labels is None else labels.astype(np.int64)


def _is_npy(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(6) == b"\x93NUMPY"
