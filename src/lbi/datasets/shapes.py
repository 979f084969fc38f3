"""Input shapes of the built-in data sets, which their encoding determines without any file."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lbi.datasets.mnist import SIDE

Options = Mapping[str, Any]


def _levels(options: Options) -> tuple[int, ...]:
    return (options["n_levels"],)


def _channels(options: Options) -> tuple[int, ...]:
    return (options["n_channels"],)


def _frames(side: int) -> Callable[[Options], tuple[int, ...]]:
    """Of a camera with ``side`` × ``side`` pixels: one map per polarity."""
    return lambda options: (2, side // options["pool"], side // options["pool"])


SHAPES: dict[str, Callable[[Options], tuple[int, ...]]] = {
    "digits": lambda options: (8, 8),
    "psdigits": _levels,
    "mnist": lambda options: (1, SIDE, SIDE),
    "psmnist": _levels,
    "nmnist": _frames(34),
    "dvsgesture": _frames(128),
    "cifar10dvs": _frames(128),
    "shd": _channels,
    "ssc": _channels,
}
"""Data set → its input shape for all options of its encoding."""
