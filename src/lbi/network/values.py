"""Records that hold arrays: arrays that nobody else can write, and equality by value."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Problems, Rule

WHOLE = Rule("whole-numbers", "whole numbers from {low} to {high}", "round or scale them first")


def check_whole(values: Any, dtype: Any, where: str, problems: Problems) -> bool:
    """Note values that an integer type cannot hold unchanged: fractions, NaN, and numbers out of its range.

    Args:
        values: one number or an array of them.
        dtype: the integer type.
        where: names the values in the error.
        problems: receives it.

    Returns:
        True if the type holds all of them.
    """
    array, limits = np.asarray(values), np.iinfo(dtype)
    if array.dtype == dtype or not array.size:
        return True
    if array.dtype.kind not in "biuf":
        found = f"type {array.dtype}" if array.ndim else repr(values)
        return WHOLE.check(problems, False, where, found, low=limits.min, high=limits.max)
    fits = (array >= limits.min) & (array <= limits.max)  # False for NaN
    if array.dtype.kind == "f":
        fits &= np.floor(array) == array
    wrong = array[~fits]
    found = (
        f"{wrong.size} of {array.size} values, such as {wrong[0]}"
        if array.ndim and wrong.size
        else f"{array}"
    )
    return WHOLE.check(problems, not wrong.size, where, found, low=limits.min, high=limits.max)


def read_only(values: Any, dtype: Any = None, where: str = "values") -> NDArray[Any]:
    """A contiguous read-only array of the values: they themselves where nobody can write them, else a copy.

    Args:
        values: numbers.
        dtype: type of the array; None for that of the values.
        where: names the values in errors.

    Returns:
        The values as an array that cannot be written.

    Raises:
        InputError: if an integer type cannot hold the values unchanged.
    """
    if dtype is not None and np.dtype(dtype).kind in "iu":
        problems = Problems()
        check_whole(values, dtype, where, problems)
        problems.raise_as(InputError)
    array = np.asarray(values, dtype=dtype, order="C")
    if isinstance(values, np.ndarray):
        shared = np.may_share_memory(array, values) and _writeable(values)
    else:
        shared = not array.flags.owndata  # of a tensor, for example
    if shared:
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

    Returns:
        True if all fields are equal; NaNs are unequal to each other.
    """
    return all(_equal(getattr(one, field.name), getattr(other, field.name)) for field in fields(one))


def _equal(one: Any, other: Any) -> bool:
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.asarray(one).dtype == np.asarray(other).dtype and np.array_equal(one, other)
    return bool(one == other)
