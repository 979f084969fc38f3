"""Data sets as spikes: chips take binary events per timestep, so a data set consists of them.

``load(name, data_dir, **encoding)`` gives the same spikes for the same arguments on any machine. The full encoding is
in ``Dataset.encoding`` and is stored with a trained model, so that commands encode new input as in training. To add
a data set, add its file and its row below.
"""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Any

from lbi.datasets.base import Dataset, SpikeData, signature_of
from lbi.errors import InputError, Problems, Rule, UsageError

UNKNOWN_DATASET = Rule("unknown-dataset", "{allowed}, or a .npz file")
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
        problems = Problems()
        UNKNOWN_DATASET.check(
            problems, name in DATASETS, "--dataset", repr(name), allowed=", ".join(DATASETS)
        )
        problems.raise_as(UsageError)
        if data_dir is not None and os.path.exists(data_dir):
            found, where = "is a file", str(data_dir)
            DATA_FOLDER.check(problems, os.path.isdir(data_dir), where, found, name=name)
        problems.raise_as(InputError)
        module, _, function = DATASETS[name].partition(":")
        loader = getattr(import_module(module), function)
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


__all__ = ["DATASETS", "Dataset", "SpikeData", "load"]
