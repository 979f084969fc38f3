"""Numbers of spikes that leave torch for Python: ``.item()``, ``float()``, ``if``, ``.tolist()``, ``.numpy()``.

What Python does with them cannot be followed. They are noted, and in further traces (``numbers``) others take their place.
"""

from __future__ import annotations

import dis
import math
import sys
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor

from lbi.errors import Problem

METHODS = ("numpy", "tolist", "__array__")
"""Methods of a tensor that hand out all of its numbers, without an operation that a dispatch mode would see."""

OWN = ("lbi", "torch")
"""Packages whose own calls of these methods hand nothing to the model: the rules of operations, and torch within itself."""


class Substitutes:
    """Numbers in place of those that are taken, but for guards.

    A guard is a place whose number decides whether the model raises an exception of its own, such as ``assert not v.isnan().any()``.

    Args:
        numbers: the numbers, one after the other.
        guards: lines that get their own numbers.

    Attributes:
        last: line that took the last number.
        stopped: line that took the last number before the model raised an exception of its own; empty if it did not.
    """

    def __init__(self, numbers: Iterator[float], guards: Set[str] = frozenset()) -> None:
        self.guards = guards
        self.last = self.stopped = ""
        self._numbers = numbers

    def next(self, line: str) -> float:
        """The next number.

        Args:
            line: the line that takes a number.

        Returns:
            The number; NaN for the number itself.
        """
        if line in self.guards:
            return math.nan
        self.last = line
        return next(self._numbers)

    def fail(self, error: Exception) -> None:
        """Note that the model has failed.

        Args:
            error: the exception.
        """
        if _is_raised(error):
            self.stopped = self.last


def _is_raised(error: Exception) -> bool:
    """Whether a ``raise`` or ``assert`` of the model's code raised an exception, and no operation with an impossible number."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None:
        return False
    code, module = trace.tb_frame.f_code, trace.tb_frame.f_globals.get("__name__", "")
    at_fault = next((i.opname for i in dis.get_instructions(code) if i.offset == trace.tb_lasti), "")
    own = module.partition(".")[0] not in OWN or (module, code.co_name) == ("torch", "_assert")
    return own and at_fault == "RAISE_VARARGS"


class Taken:
    """The places that take numbers, and the numbers that they get instead.

    Args:
        substitutes: numbers in place of those that are taken; None for these themselves.
    """

    def __init__(self, substitutes: Substitutes | None = None) -> None:
        self.problems: list[Problem] = []
        self._substitutes = substitutes

    def number(self, problem: Problem | None, number: bool | float, line: str) -> bool | float:
        """Note that Python takes a number.

        Args:
            problem: the place; None if it is known.
            number: the number.
            line: the line of the model that takes it.

        Returns:
            The number, or its substitute.
        """
        if problem is not None:
            self.problems.append(problem)
        if self._substitutes is None:
            return number
        other = self._substitutes.next(line)
        if math.isnan(other) and (line in self._substitutes.guards or not isinstance(number, float)):
            return number
        return type(number)(other)

    @contextmanager
    def watched(
        self,
        known: Callable[[Tensor], bool],
        problem: Callable[[str], Problem | None],
        line: Callable[[], str],
    ) -> Iterator[None]:
        """Note the numbers that leave as arrays and lists, too.

        Args:
            known: whether a tensor holds numbers that are followed.
            problem: the problem of a method's call here; None if it is known.
            line: the line of the model that calls.
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
                here = line()
                others = [
                    self.number(found if i == 0 else None, v, here)
                    for i, v in enumerate(array.ravel().tolist())
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
