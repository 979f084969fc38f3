"""Records that hold arrays: arrays that nobody else can write, and equality by value."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray


def read_only(values: Any, dtype: Any = None) -> NDArray[Any]:
    """A contiguous read-only array of the values: they themselves where nobody can write them, else a copy.

    Args:
        values: numbers.
        dtype: type of the array; None for that of the values.

    Returns:
        The array.
    """
    array = np.asarray(values, dtype=dtype, order="C")
    if isinstance(values, np.ndarray) and np.may_share_memory(array, values) and _writeable(values):
        array = array.copy()
    array.flags.writeable = False
    return array


def _writeable(array: Any) -> bool:
    """True if the array, or one that it is a view of, can be written; memory of others (a mapped file) counts as theirs."""
    while isinstance(array, np.ndarray):
        if array.flags.writeable:
            return True
        array = array.base
    return False


def same(one: Any, other: Any) -> bool:
    """True if two records of one dataclass have equal fields, arrays by their type and values.

    Args:
        one: a record.
        other: another of the same class.
    """
    return all(_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.asarray(one).dtype == np.asarray(other).dtype and np.array_equal(one, other)
    return bool(one == other)
