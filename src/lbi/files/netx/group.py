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
        """A group inside this one."""
        return Group(subgroup(self.group, key), f"{self.where}, {key}")

    def integers(self, key: str) -> NDArray[np.int64]:
        """An array of truncated numbers; raises InputError, naming the key, if it is missing or not finite."""
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
        """One number; ``default``, if given, for a missing key."""
        if default is not None and key not in self:
            return default
        values = self.integers(key)
        if values.size != 1:
            found = f"{values.size} numbers"
            raise InputError(VALUE.broken(f"{self.where}, {key}", found, allowed="one number"))
        return int(values.item())

    def pair(self, key: str) -> tuple[int, int]:
        """Two numbers, for height and width; a single number stands for both."""
        values = self.integers(key).reshape(-1)
        if not values.size:
            raise InputError(VALUE.broken(f"{self.where}, {key}", "empty", allowed="one or two numbers"))
        return int(values[0]), int(values[-1])

    def shape(self) -> tuple[int, ...]:
        """The sizes of the layer; raises InputError if they are impossible."""
        sizes = tuple(self.integers("shape").reshape(-1).tolist())
        if min(sizes, default=0) < 1 or prod(sizes) > MOST_NEURONS:
            allowed = f"1 to {MOST_NEURONS} neurons"
            raise InputError(VALUE.broken(f"{self.where}, shape", sizes, allowed=allowed))
        return sizes

    def text(self, key: str) -> str:
        """A text stored as bytes or str, as a scalar or in an array of one."""
        if key not in self.group:
            found = ", ".join(self.group) or "nothing"
            raise InputError(MISSING.broken(f"{self.where}, {key}", f"missing; there is {found}"))
        value = np.asarray(self.group[key]).reshape(-1)
        if value.dtype.kind not in "OSU" or not value.size:
            raise InputError(VALUE.broken(f"{self.where}, {key}", "not a text", allowed="a text"))
        return text(value[0])
