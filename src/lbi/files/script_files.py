"""Files of ``run_lava.py``: its spikes, its output, and the network, each with one line for what is wrong."""

from __future__ import annotations

# Files, begin: run_lava.py of an export holds a copy of this part.
import os
import secrets
from argparse import ArgumentTypeError
from math import prod
from pathlib import Path
from typing import Any

import h5py
import numpy as np


def at_least_one(text: str) -> int:
    """A count from 1, of an option.

    Args:
        text: as typed.

    Returns:
        The count.

    Raises:
        ArgumentTypeError: for any other text.
    """
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is not a number of at least 1")
    return int(text)


def open_network(path: str | Path) -> Any:
    """The HDF5 file of a network, opened for reading.

    Args:
        path: a ``network.h5``.

    Returns:
        The ``h5py.File``.

    Raises:
        SystemExit: if it cannot be read.
    """
    try:
        return h5py.File(path, "r")
    except OSError as error:
        raise SystemExit(f"{path}: not readable as HDF5 ({' '.join(str(error).split())})") from None


def read_spikes(path: Path, input_shape: tuple[int, ...], n_samples: int | None) -> tuple[Any, Any]:
    """The first samples of a file of spikes.

    Args:
        path: the ``.npz`` file.
        input_shape: of the network.
        n_samples: how many samples; None for all.

    Returns:
        Spikes (n_samples, n_steps, n_in) of 0 and 1, and labels (n_samples,) or None.

    Raises:
        SystemExit: for a file that cannot be read, and arrays of another shape, type or value.
    """
    try:
        file = np.load(path, allow_pickle=False)
        arrays = {name: file[name] for name in ("spikes", "labels") if name in file.files}
    except AttributeError:
        raise SystemExit(f"{path}: one array; wanted an .npz with spikes and optional labels") from None
    except Exception as error:  # numpy raises many kinds
        raise SystemExit(f"{path}: not a readable .npz ({' '.join(str(error).split())})") from None
    if "spikes" not in arrays:
        raise SystemExit(
            f"{path}: arrays {', '.join(file.files) or 'none'}; wanted spikes and optional labels"
        )
    spikes, labels = arrays["spikes"], arrays.get("labels")
    fits = spikes.shape[2:] in ((prod(input_shape),), input_shape) and min(spikes.shape[:2]) > 0
    if not fits or spikes.dtype.kind not in "buif" or not np.isin(spikes, (0, 1)).all():
        wanted = f"0 and 1, (samples, steps, {', '.join(map(str, input_shape))})"
        raise SystemExit(f"{path}: spikes {spikes.dtype} {spikes.shape}; wanted {wanted}")
    if labels is not None and (labels.shape != spikes.shape[:1] or labels.dtype.kind not in "iu"):
        raise SystemExit(f"{path}: labels {labels.dtype} {labels.shape}; wanted integers ({len(spikes)},)")
    spikes = spikes.reshape(*spikes.shape[:2], -1)
    return spikes[:n_samples], None if labels is None else labels[:n_samples]


def output_path(path: Path, *inputs: Path) -> Path:
    """The ``.npz`` file to write.

    Args:
        path: as asked for, with or without the ending.
        *inputs: files that must stay as they are.

    Returns:
        The file.

    Raises:
        SystemExit: if it is an input, or its folder takes no file.
    """
    goal = path if path.name.endswith(".npz") else path.with_name(path.name + ".npz")
    if os.path.realpath(goal) in {os.path.realpath(other) for other in inputs}:
        raise SystemExit(f"{goal}: is an input; choose another output")
    if goal.is_dir() or not os.access(goal.absolute().parent, os.W_OK):
        raise SystemExit(f"{goal}: cannot be written; choose another output")
    return goal


def write_npz(path: Path, arrays: dict[str, Any]) -> None:
    """Write the arrays to a temporary name, then rename it: an earlier file is replaced by a whole one or not at all.

    Args:
        path: the file.
        arrays: name → array.

    Raises:
        SystemExit: if it cannot be written.
    """
    goal = Path(os.path.realpath(path))
    new = goal.with_name(f".{goal.name[:40]}.{secrets.token_hex(4)}.tmp")
    try:
        with new.open("wb") as file:
            np.savez_compressed(file, **arrays)
        os.replace(new, goal)
    except OSError as error:
        raise SystemExit(f"{path}: cannot be written ({error.strerror})") from None
    finally:
        new.unlink(missing_ok=True)


# Files, end.
