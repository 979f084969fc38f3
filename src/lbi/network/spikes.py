"""Input spikes: an array (n_samples, n_steps, n_in) of zeros and ones, or a list of events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbi.errors import InputError, Problems, Rule
from lbi.network.values import read_only

SPIKES_RANK = Rule(
    "spikes-rank",
    "(n_samples, n_steps, n_in)",
    "one row of channels per step: spikes.reshape(n_samples, n_steps, -1)",
)
SPIKES_MAPS = Rule(
    "spikes-shape",
    "(n_samples, n_steps, {sizes}), or (n_samples, n_steps, {n_in}) in that order",
    "{fix}",
)
SPIKES_WIDTH = Rule(
    "spikes-width", "{n_in}, the network's input", "use the encoding the network was trained with"
)
SPIKES_DTYPE = Rule(
    "spikes-dtype", "uint8 (or bool) zeros and ones", "convert with spikes.astype(numpy.uint8)"
)
SPIKES_VALUE = Rule(
    "spikes-value",
    "0 and 1: a chip input spikes at most once per timestep",
    "bin the events to one per step",
)
EVENTS_SHAPE = Rule(
    "events-shape",
    "({n},), one entry per event in sample, step and channel",
    "pass three arrays of the same length",
)
EVENTS_SIZES = Rule(
    "events-sizes",
    "three sizes (n_samples, n_steps, n_in) of at least 0, fewer than 2^62 places in all",
    "pass the shape of the array that the events stand for",
)
EVENTS_DTYPE = Rule("events-dtype", "integers", "convert with .astype(numpy.int64)")
EVENTS_RANGE = Rule("events-range", "{allowed}", "drop them, or pass the shape that holds them")
EVENTS_TWICE = Rule(
    "events-twice", "at most one spike per channel and step", "bin the events to one per step"
)

_PLACES = 1 << 62


def check_spikes(
    spikes: ArrayLike | SpikeEvents, input_shape: int | Sequence[int], where: str = "spikes"
) -> NDArray[np.uint8]:
    """Spikes as a contiguous uint8 array of zeros and ones.

    Args:
        spikes: Numbers or bools, (n_samples, n_steps, n_in), or with the axes of the network's input, such as
            (n_samples, n_steps, channels, height, width); or a list of events.
        input_shape: Shape of the network's input; an int if only its number of channels is known.
        where: Names the spikes in errors.

    Returns:
        The spikes, (n_samples, n_steps, n_in) uint8, C-contiguous.

    Raises:
        InputError: The rank, the width, the type or values are wrong; all that is wrong is named.
    """
    shape = (input_shape,) if isinstance(input_shape, int) else tuple(input_shape)
    n_in = prod(shape)
    problems = Problems()
    array = spikes.to_dense() if isinstance(spikes, SpikeEvents) else np.asarray(spikes)
    if array.ndim == 2 + len(shape) > 3:
        found, sizes = f"shape {array.shape}", ", ".join(map(str, shape))
        fits = array.shape[2:] == shape
        fix = _order(array.shape[2:], shape)
        if SPIKES_MAPS.check(problems, fits, where, found, sizes=sizes, n_in=n_in, fix=fix):
            array = array.reshape(*array.shape[:2], n_in)
    elif SPIKES_RANK.check(problems, array.ndim == 3, where, f"shape {array.shape}"):
        SPIKES_WIDTH.check(problems, array.shape[2] == n_in, where, f"{array.shape[2]} channels", n_in=n_in)
    if SPIKES_DTYPE.check(problems, array.dtype.kind in "biuf", where, f"type {array.dtype}"):
        n_bad = array.size - int(np.count_nonzero(array == 0)) - int(np.count_nonzero(array == 1))
        SPIKES_VALUE.check(problems, n_bad == 0, where, f"{n_bad} values that are neither 0 nor 1")
    problems.raise_as(InputError)
    return np.ascontiguousarray(array, dtype=np.uint8)


def _order(found: tuple[int, ...], wanted: tuple[int, ...]) -> str:
    """How to bring feature maps into the network's order of axes."""
    if (*found[-1:], *found[:-1]) == wanted:
        return "channels stand before height and width: numpy.moveaxis(spikes, -1, 2)"
    return "use the encoding the network was trained with"


@dataclass(frozen=True, eq=False)
class SpikeEvents:
    """Input spikes as a list: event i is a spike of ``channel[i]`` in ``step[i]`` of ``sample[i]``.

    Attributes:
        sample: (n_events,) integers from 0; events are in any order, none is there twice.
        step: (n_events,) integers from 0.
        channel: (n_events,) integers from 0.
        shape: (n_samples, n_steps, n_in) of the array that the events stand for; sizes may be 0.

    Raises:
        InputError: Arrays or shape are inconsistent, or events are out of range or repeated.
    """

    sample: NDArray[Any]
    step: NDArray[Any]
    channel: NDArray[Any]
    shape: tuple[int, int, int]

    def __post_init__(self) -> None:
        problems = Problems()
        sizes = np.asarray(self.shape)
        EVENTS_SIZES.check(
            problems,
            sizes.shape == (3,)
            and sizes.dtype.kind in "iu"
            and int(sizes.min()) >= 0
            and prod(max(int(size), 1) for size in sizes) < _PLACES,
            "events, shape",
            f"{self.shape}",
        )
        problems.raise_as(InputError)
        object.__setattr__(self, "shape", tuple(int(size) for size in sizes))
        for name, limit in zip(("sample", "step", "channel"), self.shape, strict=True):
            array = read_only(getattr(self, name))
            object.__setattr__(self, name, array)
            self._check_entries(f"events, {name}", array, limit, problems)
        problems.raise_as(InputError)
        n_twice = self.sample.size - np.unique(self._rows() * max(self.shape[2], 1) + self.channel).size
        EVENTS_TWICE.check(problems, n_twice == 0, "events", f"{n_twice} repeated events")
        problems.raise_as(InputError)

    def _check_entries(self, where: str, array: NDArray[Any], limit: int, problems: Problems) -> None:
        n = np.size(self.sample)
        EVENTS_SHAPE.check(problems, array.shape == (n,), where, f"shape {array.shape}", n=n)
        # An empty list has no integers to be recognized by: numpy.array([]) is a float array.
        if EVENTS_DTYPE.check(problems, array.dtype.kind in "iu" or array.size == 0, where, f"{array.dtype}"):
            n_bad = int(np.count_nonzero((array < 0) | (array >= limit)))
            allowed = f"0 to {limit - 1}" if limit else "none, where the shape has no place for any"
            EVENTS_RANGE.check(problems, n_bad == 0, where, f"{n_bad} out of range", allowed=allowed)

    def _rows(self) -> NDArray[np.int64]:
        """(n_events,) the number of each event's step, counted through all samples."""
        return self.sample.astype(np.int64) * self.shape[1] + self.step.astype(np.int64)

    def to_dense(self) -> NDArray[np.uint8]:
        """The same spikes as an array (n_samples, n_steps, n_in) of zeros and ones."""
        dense = np.zeros(self.shape, dtype=np.uint8)
        dense.reshape(-1, self.shape[2])[self._rows(), self.channel.astype(np.int64)] = 1
        return dense

    def by_step(self) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The events sorted by sample and step, as rows of a sparse matrix.

        Returns:
            Row pointers (n_samples · n_steps + 1,), and the channels (n_events,) of each row, ascending.
        """
        row = self._rows()
        order = np.lexsort((self.channel, row))
        pointers = np.searchsorted(row[order], np.arange(self.shape[0] * self.shape[1] + 1))
        return pointers.astype(np.int64), self.channel[order].astype(np.int32)
