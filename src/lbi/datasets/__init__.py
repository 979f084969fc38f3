"""Data sets as spikes: chips take binary events per timestep, so a data set consists of them.

``load(name, data_dir, **encoding)`` gives the same spikes for the same arguments on any machine. The full encoding is
in ``Dataset.encoding`` and is stored with a trained model, so that commands encode new input as in training. To add
a data set, add its file and its row below.
"""

from __future__ import annotations

import inspect
import os
from importlib import import_module
from pathlib import Path
from typing import Any

from lbi.datasets.base import Dataset, SpikeData, signature_of
from lbi.errors import InputError, Problems, Rule, UsageError

UNKNOWN_DATASET = Rule("unknown-dataset", "{allowed}, or a .npz file", "{fix}")
DATA_FOLDER = Rule("data-missing", "the folder with the files of {name}", "give that folder with --data")
UNKNOWN_ENCODING = Rule("unknown-encoding", "{allowed}")

DATASETS: dict[str, str] = {
    "digits": "lbi.datasets.digits:load_digits",
    "psdigits": "lbi.datasets.digits:load_psdigits",
    "mnist": "lbi.datasets.mnist:load_mnist",
    "nmnist": "lbi.datasets.dvs:load_nmnist",
    "dvsgesture": "lbi.datasets.dvs:load_dvsgesture",
    "cifar10dvs": "lbi.datasets.dvs:load_cifar10dvs",
    "psmnist": "lbi.datasets.mnist:load_psmnist",
    "shd": "lbi.datasets.heidelberg:load_shd",
    "ssc": "lbi.datasets.heidelberg:load_ssc",
}
"""Data set name → "module:function"; the function takes (data_dir, **encoding)."""


def load(name: str, data_dir: str | Path | None = None, /, **encoding: Any) -> Dataset:
    """The data set of that name, encoded into spikes.

    Args:
        name: a key of ``DATASETS``, or the path of a ``.npz`` file.
        data_dir: folder with its files, for data sets that do not come with a package.
        **encoding: options of the data set; ``load(d.name, data_dir, **d.encoding)`` gives ``d`` again.

    Returns:
        The data set.

    Raises:
        UsageError: for an unknown name or option.
        InputError: for files that are missing or broken.
    """
    if name.endswith(".npz"):
        from lbi.datasets.npz import load_npz

        loader, data_dir = load_npz, name
    else:
        loader, problems = _loader(name), Problems()
        if data_dir is not None and os.path.exists(data_dir):
            found, where = "is a file", str(data_dir)
            DATA_FOLDER.check(problems, os.path.isdir(data_dir), where, found, name=name)
        problems.raise_as(InputError)
    known = signature_of(loader)
    problems = Problems()
    for option in encoding:
        UNKNOWN_ENCODING.check(
            problems,
            option in known,
            f"data set {name}",
            repr(option),
            allowed=", ".join(known) or "no options",
        )
    problems.raise_as(UsageError)
    return loader(None if data_dir is None else Path(data_dir), **encoding)


def _loader(name: str) -> Any:
    """The function that loads a built-in data set."""
    problems = Problems()
    allowed, fix = ", ".join(DATASETS), _own_files(name)
    UNKNOWN_DATASET.check(problems, name in DATASETS, "--dataset", repr(name), allowed=allowed, fix=fix)
    problems.raise_as(UsageError)
    module, _, function = DATASETS[name].partition(":")
    return getattr(import_module(module), function)


def _own_files(name: str) -> str:
    """How to give files of one's own."""
    if name.endswith((".h5", ".hdf5")):
        return "of files in SHD's format, name the format and their folder: --dataset shd --data FOLDER"
    if os.path.isdir(name):
        return "name what is in the folder: --dataset NAME --data FOLDER"
    return "choose one, or write spikes and labels to a .npz (docs/formats.md)"


def known_shape(name: str, /, **encoding: Any) -> tuple[int, ...] | None:
    """The input shape of a data set, from its encoding alone.

    Args:
        name: a key of ``DATASETS``, or the path of a ``.npz`` file.
        **encoding: as for ``load``, which checks it.

    Returns:
        The shape; None where only the files tell it, or an option is not a positive number.

    Raises:
        UsageError: for an unknown name.
    """
    from lbi.datasets.shapes import SHAPES

    if name.endswith(".npz"):
        return None
    parameters = inspect.signature(_loader(name)).parameters.values()
    options = {parameter.name: parameter.default for parameter in parameters} | encoding
    numbers = (value for key, value in encoding.items() if key in ("n_levels", "n_channels", "pool"))
    if not all(isinstance(value, int) and value >= 1 for value in numbers):
        return None
    shape_of = SHAPES.get(name)
    return None if shape_of is None else shape_of(options)


__all__ = ["DATASETS", "Dataset", "SpikeData", "known_shape", "load"]
