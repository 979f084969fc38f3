"""Input of lbi-run and lbi-estimate: a data set's test samples, encoded as in training, or a spike file."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from lbi.costing.provenance import trained_encoding
from lbi.errors import InputError, LbiWarning, Problems, Rule
from lbi.system.paths import data_files

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lbi.network.fixed import FixedNetwork

ONE_INPUT = Rule("options", "one of them")
OTHER_DATASET = Rule(
    "spikes-width", "{n_in}, the network's input", "run it on {trained}, or on a file with --spikes"
)

SILENT = Rule(
    "spikes-silent", "some: all figures are those of a network without input", "check how they were encoded"
)


class Samples(NamedTuple):
    """Input spikes with their labels.

    Attributes:
        spikes: (n_samples, n_steps, n_in), 0 and 1.
        labels: (n_samples,), or None.
        what: description for people, such as "digits, test set".
    """

    spikes: NDArray[np.uint8]
    labels: NDArray[np.int64] | None
    what: str


def files_read(
    exports: Iterable[Path], *others: str | Path | None, data_dir: Path | None = None
) -> list[Path]:
    """The files that a command reads, so that none of its outputs takes their place.

    Args:
        exports: exported files, or folders with what lbi-export wrote into them.
        *others: further files; names of data sets and chips, which are no files, and None do no harm.
        data_dir: folder of a data set.

    Returns:
        The files.
    """
    from lbi.deploy.targets import OWN_ENTRIES

    given = [*exports, *(Path(other) for other in others if other is not None)]
    members = [path / name for path in given if path.is_dir() for name in sorted(OWN_ENTRIES)]
    return [*given, *members, *([] if data_dir is None else data_files(data_dir))]


def read_samples(
    fixed: FixedNetwork,
    dataset: str | None,
    data_dir: Path | None,
    spikes: Path | None,
    n_samples: int | None,
) -> Samples:
    """The first samples of a spike file or of a data set's test set.

    Args:
        fixed: the network. If it was trained on ``dataset``, the samples are encoded as in training.
        dataset: name of a data set; used if ``spikes`` is None.
        data_dir: folder with the data set's files.
        spikes: a spike file (``.npz``).
        n_samples: how many samples to take; None for all.

    Returns:
        The samples.

    Warns:
        LbiWarning: if they hold no spike.

    Raises:
        InputError: if the samples do not match the network.
    """
    if spikes is not None:
        from lbi.files.spikes_npz import load_spikes

        array, labels = load_spikes(spikes, fixed.input_shape)
        what = spikes.name
    else:
        from lbi import datasets
        from lbi.network.spikes import check_spikes

        assert dataset is not None
        encoding = trained_encoding(fixed)
        trained = encoding.pop("name", None)
        if trained != dataset:
            encoding = {}
        shape = datasets.known_shape(dataset, **encoding)
        if shape is not None and prod(shape) != fixed.n_in:  # before its files are asked for
            where, found = f"data set {dataset}", f"{prod(shape)} channels"
            ours = f"what it was trained on, {trained}" if trained else "data that it was trained on"
            raise InputError(OTHER_DATASET.broken(where, found, n_in=fixed.n_in, trained=ours))
        test = datasets.load(dataset, data_dir, **encoding).test
        array = check_spikes(test.spikes[:n_samples], fixed.n_in, f"data set {dataset}")
        labels = test.labels
        what = f"{dataset}, test set"
    array = array[:n_samples]
    if array.size and not array.any():
        problem = SILENT.broken(what, f"no spike in {array.shape[0]:,} samples of {array.shape[1]:,} steps")
        warnings.warn(str(problem), LbiWarning, stacklevel=2)
    return Samples(array, None if labels is None else labels[:n_samples], what)


def check_labels(samples: Samples, fixed: FixedNetwork) -> None:
    """Check that every label has an output: the others have no accuracy.

    Args:
        samples: with labels or without.
        fixed: the network.

    Raises:
        InputError: naming the labels out of range.
    """
    from lbi.files.labels import check_range

    problems = Problems()
    if samples.labels is not None:
        check_range(samples.labels, fixed.n_out, f"{samples.what}, labels", problems)
    problems.raise_as(InputError)
