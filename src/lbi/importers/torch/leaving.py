"""Numbers of spikes that leave torch for Python: ``.item()``, ``float()``, ``if``, ``.tolist()``, ``.numpy()``.

What Python does with them cannot be followed. They are noted, and in further traces (``numbers``) others take their place.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor

from lbi.errors import Problem

METHODS = ("numpy", "tolist", "__array__")
"""Methods of a tensor that hand out all of its numbers, without an operation that a dispatch mode would see."""

OWN = ("lbi", "torch")
"""Packages whose own calls of these methods hand nothing to the model: the rules of operations, and torch within itself."""


class Taken:
    """The places that take numbers, and the numbers that they get instead.

    Args:
        substitutes: numbers in place of those that are taken; None for these themselves.
    """

    def __init__(self, substitutes: Iterator[float] | None = None) -> None:
        self.problems: list[Problem] = []
        self._substitutes = substitutes

    def number(self, problem: Problem | None, number: bool | float) -> bool | float:
        """Note that Python takes a number.

        Args:
            problem: the place; None if it is known.
            number: the number.

        Returns:
            The number, or its substitute.
        """
        if problem is not None:
            self.problems.append(problem)
        if self._substitutes is None:
            return number
        other = next(self._substitutes)
        return number if math.isnan(other) and not isinstance(number, float) else type(number)(other)

    @contextmanager
    def watched(
        self, known: Callable[[Tensor], bool], problem: Callable[[str], Problem | None]
    ) -> Iterator[None]:
        """Note the numbers that leave as arrays and lists, too.

        Args:
            known: whether a tensor holds numbers that are followed.
            problem: the problem of a method's call here; None if it is known.
        """
        before = {name: vars(Tensor).get(name) for name in METHODS}

        def patched(name: str) -> Callable[..., Any]:
            own = getattr(Tensor, name)

            def method(tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
                values = own(tensor, *args, **kwargs)
                caller = sys._getframe(1).f_globals.get("__name__", "").partition(".")[0]
                if caller in OWN or not known(tensor):
                    return values
                found = problem(name.strip("_"))
                array = np.array(values)
                others = [
                    self.number(found if i == 0 else None, v) for i, v in enumerate(array.ravel().tolist())
                ]
                changed = np.array(others, dtype=array.dtype).reshape(array.shape)
                return changed.tolist() if name == "tolist" else changed

            return method

        for name in METHODS:
            setattr(Tensor, name, patched(name))
        try:
            yield
        finally:
            for name, method in before.items():
                if method is None:
                    delattr(Tensor, name)
                else:
                    setattr(Tensor, name, method)
