"""HDF5 group of a layer, read as by netx: weights and biases are truncated to integers; errors name the key."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Rule
from lbi.files.untrusted_hdf5 import numbers, subgroup, text
from lbi.limits import MOST_NEURONS

MISSING = Rule("netx-key", "one of the keys that netx reads of such a layer", "export it again with lava-dl")
VALUE = Rule("netx-key", "{allowed}", "export it again with lava-dl")


class Group:
    """A layer of a ``.net`` file.

    Args:
        group: the HDF5 group.
        where: file and layer, for errors.
    """

    def __init__(self, group: Any, where: str) -> None:
        self.group, self.where = group, where

    def __contains__(self, key: str) -> bool:
        return key in self.group

    def inner(self, key: str) -> Group:
        """A group inside this one.

        Args:
            key: name of the inner group.

        Returns:
            The inner group.

        Raises:
            ValueError: if the key is missing or not a group.
        """
        return Group(subgroup(self.group, key), f"{self.where}, {key}")

    def integers(self, key: str) -> NDArray[np.int64]:
        """An array of numbers, truncated to integers.

        Args:
            key: name of the data set.

        Returns:
            The array, in the file's shape.

        Raises:
            InputError: naming the key, if it is missing or holds anything but finite numbers.
        """
        if key not in self.group:
            found = ", ".join(self.group) or "nothing"
            raise InputError(MISSING.broken(f"{self.where}, {key}", f"missing; there is {found}"))
        try:
            values = numbers(self.group, key)
        except ValueError:
            raise InputError(VALUE.broken(f"{self.where}, {key}", "not numbers", allowed="numbers")) from None
        if not np.all(np.isfinite(values)):
            found = "NaN or infinite values"
            raise InputError(VALUE.broken(f"{self.where}, {key}", found, allowed="finite numbers"))
        return values.astype(np.int64)

    def integer(self, key: str, default: int | None = None) -> int:
        """One number, truncated to an integer.

        Args:
            key: name of the data set.
            default: the result for a missing key; None if the key is required.

        Returns:
            The number.

        Raises:
            InputError: naming the key, if it is missing and required, or does not hold one finite number.
        """
        if default is not None and key not in self:
            return default
        values = self.integers(key)
        if values.size != 1:
            found = f"{values.size} numbers"
            raise InputError(VALUE.broken(f"{self.where}, {key}", found, allowed="one number"))
        return int(values.item())

    def pair(self, key: str) -> tuple[int, int]:
        """Two numbers, for height and width; a single number stands for both.

        Args:
            key: name of the data set.

        Returns:
            (height, width); of more than two numbers the first and the last.

        Raises:
            InputError: naming the key, if it is missing, empty or holds anything but finite numbers.
        """
        values = self.integers(key).reshape(-1)
        if not values.size:
            raise InputError(VALUE.broken(f"{self.where}, {key}", "empty", allowed="one or two numbers"))
        return int(values[0]), int(values[-1])

    def shape(self) -> tuple[int, ...]:
        """The sizes of the layer.

        Returns:
            (n,) or (channels, height, width), as the file has them.

        Raises:
            InputError: if sizes are missing, below 1, or the layer has more than MOST_NEURONS neurons.
        """
        sizes = tuple(self.integers("shape").reshape(-1).tolist())
        if min(sizes, default=0) < 1 or prod(sizes) > MOST_NEURONS:
            allowed = f"1 to {MOST_NEURONS} neurons"
            raise InputError(VALUE.broken(f"{self.where}, shape", sizes, allowed=allowed))
        return sizes

    def text(self, key: str) -> str:
        """A text stored as bytes or str, as a scalar or in an array of one.

        Args:
            key: name of the data set.

        Returns:
            The text.

        Raises:
            InputError: naming the key, if it is missing or not a text.
        """
        if key not in self.group:
            found = ", ".join(self.group) or "nothing"
            raise InputError(MISSING.broken(f"{self.where}, {key}", f"missing; there is {found}"))
        value = np.asarray(self.group[key]).reshape(-1)
        if value.dtype.kind not in "OSU" or not value.size:
            raise InputError(VALUE.broken(f"{self.where}, {key}", "not a text", allowed="a text"))
        return text(value[0])
