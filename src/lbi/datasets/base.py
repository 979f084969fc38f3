"""Records of a data set: spikes and labels, split into training and test, and their encoding."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.datasets.encodings import VALUE_CODES
from lbi.datasets.packed import PackedSpikes, Spikes, part_length
from lbi.errors import InputError, LbiWarning, Problems, Rule, UsageError
from lbi.files.labels import check_range
from lbi.network.values import check_whole

SPIKES_SHAPE = Rule(
    "spikes-shape",
    "uint8 (n_samples, n_steps, n_in)",
    "one row of channels per step: spikes.reshape(n_samples, n_steps, -1).astype(numpy.uint8)",
)
SPIKES_VALUE = Rule("spikes-value", "0 and 1", "bin the events to one per step and channel: spikes > 0")
SAMPLE_SHAPE = Rule(
    "spikes-shape", "(n_steps, n_in) = {expected}", "encode all splits with the same steps and channels"
)
NO_STEPS = Rule("spikes-shape", "at least one step and one channel", "encode the samples again")
LABELS_SHAPE = Rule("labels-shape", "{shape}", "give a label per sample")
LABELS_BELOW = Rule(
    "labels-value", "classes from 0", "leave samples without a class out, and number the classes from 0"
)
CLASSES = Rule(
    "labels-untrained",
    "classes that training has samples of",
    "train on samples of every class, or leave these out of the test",
)
OPTION = Rule("encoding-option", "{allowed}", "choose one that is allowed")


class DataWarning(LbiWarning):
    """Warning of data that can be read but are probably in another unit or form than intended."""


@dataclass(frozen=True, eq=False)
class SpikeData:
    """Samples with labels.

    Attributes:
        spikes: (n_samples, n_steps, n_in) uint8, 0 or 1: an array, or for large splits ``PackedSpikes``, which are
            indexed by samples and become an array by ``numpy.asarray``.
        labels: (n_samples,) int64.

    Raises:
        InputError: naming all arrays of wrong shape or type.
    """

    spikes: Spikes
    labels: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not isinstance(self.spikes, PackedSpikes):
            object.__setattr__(self, "spikes", np.asarray(self.spikes))
        problems = Problems()
        whole = check_whole(self.labels, np.int64, "labels", problems)
        object.__setattr__(self, "labels", np.asarray(self.labels, dtype=np.int64 if whole else None))
        spikes, labels = self.spikes, self.labels
        SPIKES_SHAPE.check(
            problems,
            spikes.ndim == 3 and spikes.dtype == np.uint8,
            "spikes",
            f"{spikes.dtype} {spikes.shape}",
        )
        fits = LABELS_SHAPE.check(
            problems, labels.shape == spikes.shape[:1], "labels", labels.shape, shape=spikes.shape[:1]
        )
        if fits and whole:
            n_below = int(np.count_nonzero(labels < 0))
            found = f"{n_below} of {labels.size} below 0, the least {labels.min(initial=0)}"
            LABELS_BELOW.check(problems, n_below == 0, "labels", found)
        problems.raise_as(InputError)
        if not isinstance(spikes, PackedSpikes) and spikes.size and int(spikes.max()) > 1:
            problems.note(SPIKES_VALUE.broken("spikes", f"values up to {spikes.max()}"))
        problems.raise_as(InputError)

    def __len__(self) -> int:
        return self.spikes.shape[0]

    def subset(self, indices: Any) -> SpikeData:
        """The samples at ``indices``, any numpy index of the first axis; packed spikes are not copied.

        Args:
            indices: indices, a slice or a mask.

        Returns:
            These samples.
        """
        spikes = self.spikes
        chosen = spikes.take(indices) if isinstance(spikes, PackedSpikes) else spikes[indices]
        return SpikeData(chosen, self.labels[indices])


def read_as(where: str, spikes: Spikes, labels: NDArray[np.int64]) -> SpikeData:
    """The samples of a file.

    Args:
        where: its name, with which errors begin.
        spikes: as for ``SpikeData``.
        labels: as for ``SpikeData``.

    Returns:
        The samples.

    Raises:
        InputError: naming the file and all arrays of wrong shape or type.
    """
    problems = Problems()
    try:
        return SpikeData(spikes, labels)
    except InputError as error:
        problems.take(error, where)
    raise InputError(*problems)


class Dataset:
    """A data set in spikes; ``load(name, data_dir, **encoding)`` makes the same again.

    The splits are given as SpikeData or as functions that read it, called once on first use; ``validation`` is None if
    the data set defines none. ``n_in`` and ``n_steps`` are channels and timesteps of every sample.

    Args:
        input_shape: shape of the input for display and hardware placement, with product n_in.
        step_s: seconds per timestep, or None if it has no meaning.
        files: the user's files that the samples are read from.
    """

    def __init__(
        self,
        name: str,
        splits: Mapping[str, SpikeData | Callable[[], SpikeData]],
        *,
        n_classes: int,
        n_steps: int,
        input_shape: tuple[int, ...],
        encoding: Mapping[str, Any] | None = None,
        step_s: float | None = None,
        files: Iterable[Path] = (),
    ) -> None:
        self.name = name
        self.n_classes = n_classes
        self.n_steps = n_steps
        self.input_shape = input_shape
        self.encoding = dict(encoding or {})
        self.step_s = step_s
        self.files = tuple(files)
        self._splits = dict(splits)

    @property
    def n_in(self) -> int:
        """Number of input channels."""
        return prod(self.input_shape)

    @property
    def train(self) -> SpikeData:
        """The training samples."""
        return self._split("train")

    @property
    def test(self) -> SpikeData:
        """The test samples."""
        return self._split("test")

    @property
    def validation(self) -> SpikeData | None:
        """The data set's own validation samples, if it defines any."""
        return self._split("validation") if "validation" in self._splits else None

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the samples that a network is trained on and chosen by, as bits or bytes in memory alike."""
        digest = hashlib.sha256()
        for data in (self.train, self.validation):
            if data is None:
                continue
            digest.update(repr((data.spikes.shape, self.n_classes)).encode() + data.labels.tobytes())
            length = part_length(*data.spikes.shape[1:])
            for start in range(0, len(data), length):
                digest.update(np.packbits(data.spikes[start : start + length], axis=-1).tobytes())
        return digest.hexdigest()

    def _split(self, name: str) -> SpikeData:
        data = self._splits[name]
        if not isinstance(data, SpikeData):
            data = self._splits[name] = data()
        problems = Problems()
        expected, where = (self.n_steps, self.n_in), f"data set {self.name}, {name}"
        found = f"samples of {data.spikes.shape[1:]}"
        SAMPLE_SHAPE.check(problems, data.spikes.shape[1:] == expected, where, found, expected=expected)
        NO_STEPS.check(problems, min(expected) > 0, where, found)
        check_range(data.labels, self.n_classes, f"{where}, labels", problems)
        problems.raise_as(InputError)
        return data

    def check_classes(self, train: SpikeData) -> None:
        """Raise InputError for classes of the test set without training samples.

        Args:
            train: the training samples, without those held out for validation.
        """
        learned, problems = np.unique(train.labels), Problems()
        for name in ("test", "validation"):
            data = self.test if name == "test" else self.validation
            if data is not None:
                missing = np.setdiff1d(data.labels, learned)
                n_samples = int(np.isin(data.labels, missing).sum())
                shown = ", ".join(map(str, missing[:5])) + (" …" if missing.size > 5 else "")
                found = f"{n_samples} of {len(data)} samples are of classes {shown}, which training lacks"
                CLASSES.check(problems, missing.size == 0, f"data set {self.name}, {name}", found)
        problems.raise_as(InputError)


def signature_of(loader: Callable[..., Any]) -> tuple[str, ...]:
    """Names of a loader's encoding options.

    Args:
        loader: a data set's loader.

    Returns:
        The names.
    """
    return tuple(inspect.signature(loader).parameters)[1:]


def stratified_split(
    labels: NDArray[np.int64], test_fraction: float, rng: np.random.Generator
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Indices (train, test), both ascending: ``round(test_fraction · n)`` of every class, drawn by ``rng``.

    Args:
        labels: (n,) classes.
        test_fraction: fraction of each class.
        rng: source of randomness.

    Returns:
        Both sets of indices.
    """
    test: list[NDArray[np.intp]] = []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        test.append(rng.permutation(members)[: round(test_fraction * members.size)])
    chosen = np.sort(np.concatenate(test)) if test else np.zeros(0, dtype=np.intp)
    return np.setdiff1d(np.arange(labels.size), chosen), chosen


def check_options(**checks: tuple[Any, bool, str]) -> None:
    """Check options.

    Args:
        **checks: option → (value, whether it is allowed, what is allowed).

    Raises:
        UsageError: naming every option that is not allowed.
    """
    problems = Problems()
    for option, (value, holds, allowed) in checks.items():
        OPTION.check(problems, holds, option, repr(value), allowed=allowed)
    problems.raise_as(UsageError)


def pixel_options(code: str, n_levels: int, order_seed: int) -> dict[str, tuple[Any, bool, str]]:
    """The checks, for ``check_options``, of data sets that show one pixel per step.

    Args:
        code: name of the encoding.
        n_levels: channels.
        order_seed: seed of the order of pixels.

    Returns:
        Option → (value, whether it holds, what is allowed).
    """
    return {
        "code": (code, code in VALUE_CODES, ", ".join(VALUE_CODES)),
        "n_levels": (
            n_levels,
            isinstance(n_levels, int) and 2 <= n_levels <= 256 and n_levels % 2 == 0,
            "2 to 256, even",
        ),
        "order_seed": (
            order_seed,
            isinstance(order_seed, int) and order_seed >= 0,
            "a whole number from 0",
        ),
    }
