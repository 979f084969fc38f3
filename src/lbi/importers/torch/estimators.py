"""Straight-through estimators: ``(spikes - smooth).detach() + smooth``, which is the spikes, with the gradient of the smooth function.

The trace does not follow the smooth function, so its values are lost. They are named here, and sums keep account of them: where they
cancel, what is left is followed, and that the smooth function is none of the trace's operations is no fault of the model.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from lbi.errors import Problem
from lbi.importers.torch.operations import Tracked, added, tracked
from lbi.importers.torch.shadow import LOST, Shadow, digest, storage_of

COPIES = {"aten::clone", "aten::_to_copy"}
SUMS = {"aten::add": (1.0, 1.0), "aten::sub": (1.0, -1.0), "aten::rsub": (-1.0, 1.0)}
"""Operation → factors of its arguments; the one that is negated in a difference is multiplied by ``alpha`` too."""


class Sum(NamedTuple):
    """A tensor that is a sum of what is followed and of lost values.

    Attributes:
        rest: what is followed.
        factors: number of a lost tensor → its factor.
        layout: shape and strides of the tensor.
    """

    rest: Tracked
    factors: dict[int, float]
    layout: tuple[Any, Any]


class Estimators:
    """The lost values of a trace.

    Args:
        shadow: the numbers of the trace.
    """

    def __init__(self, shadow: Shadow) -> None:
        self.shadow = shadow
        self._problems: list[list[Problem]] = []
        self._numbers: dict[Hashable, int] = {}
        self._made_of: list[set[int]] = []
        self._sums: dict[int, Sum] = {}
        self._cancelled: set[int] = set()

    def lost(
        self, func: Any, out: Tensor | None, args: Any, kwargs: dict[str, Any], problem: Problem | None = None
    ) -> None:
        """Name the values of an operation that is not followed; the same operation on the same values has the same name.

        Args:
            func: the operation.
            out: what it returned; None for more than one tensor, which get no name.
            args: its arguments.
            kwargs: its keyword arguments.
            problem: what is wrong with it; None if that has been found before, or is another's fault.
        """
        given = tree_flatten((args, kwargs))[0]
        names = [self._name(value) for value in given]
        known = None not in names and torch.Tag.nondeterministic_seeded not in func.tags
        key = (func._schema.name, *names) if known else object()
        number = self._numbers.setdefault(key, len(self._problems))
        if number == len(self._problems):
            found = [self._sums.get(storage_of(value)) for value in given if isinstance(value, Tensor)]
            self._problems.append([])
            self._made_of.append({other for part in found if part is not None for other in part.factors})
        self._problems[number] += [] if problem is None else [problem]
        if out is not None:
            nothing = Tracked(np.zeros(out.numel(), dtype=np.int64), np.zeros(out.numel()))
            self._keep(out, nothing, {number: 1.0})

    def followed(self, func: Any, out: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        """Numbers of an operation on lost values.

        Args:
            func: the operation.
            out: what it returned.
            args: its arguments.
            kwargs: its keyword arguments.

        Returns:
            Numbers of the output: what is left if the lost values cancel, LOST otherwise.
        """
        name = func._schema.name
        if name in COPIES and (found := self._sum(args[0])) is not None and out.is_floating_point():
            self._keep(out, found.rest, found.factors)
        elif name in SUMS and len(args) == 2 and (parts := [self._part(value, out) for value in args]):
            total = self._total(parts, SUMS[name], float(kwargs.get("alpha", 1)))
            if total is not None and not total.factors:
                return torch.from_numpy(total.rest.numbers).reshape(out.shape)
            if total is not None:
                self._keep(out, total.rest, total.factors)
        else:
            self.lost(func, out, args, kwargs)
        return torch.full(out.shape, LOST)

    def changed(self, tensor: Tensor) -> None:
        """Forget what a tensor is the sum of, as it is changed in place.

        Args:
            tensor: the tensor.
        """
        self._sums.pop(storage_of(tensor), None)

    def problems(self, *, reached: bool) -> list[Problem]:
        """What is wrong with operations that were not followed.

        Args:
            reached: whether lost values reached neurons or outputs.

        Returns:
            The problems, without those of values that cancelled if no others reached anything.
        """
        excused = set() if reached else set(self._cancelled)
        ahead = list(excused)
        while ahead:
            new = self._made_of[ahead.pop()] - excused
            excused |= new
            ahead += new
        return [p for number, found in enumerate(self._problems) if number not in excused for p in found]

    def _keep(self, out: Tensor, rest: Tracked, factors: dict[int, float]) -> None:
        self._sums[storage_of(out)] = Sum(rest, factors, (out.shape, out.stride()))

    def _sum(self, value: Any) -> Sum | None:
        """The sum that all of a tensor is."""
        found = self._sums.get(storage_of(value)) if isinstance(value, Tensor) else None
        return found if found is not None and found.layout == (value.shape, value.stride()) else None

    def _name(self, value: Any) -> Hashable:
        """What two values have in common that are the same in every run; None for values that cannot be told."""
        if not isinstance(value, Tensor):
            return repr(value)
        found = self._sum(value)
        part = tracked(self.shadow, value, value.shape) if found is None else found.rest
        if np.any(part.numbers == LOST):
            return None
        which = self.shadow.nodes(part.numbers)
        used, inverse = np.unique(which, return_inverse=True)
        nodes = [self.shadow.node_at(int(index)) for index in used]
        steps = self.shadow.steps(np.array([first for _, first in nodes]))
        elements = np.where(part.numbers, part.numbers - np.array([first for _, first in nodes])[inverse], 0)
        constants = np.where(part.numbers, 0.0, part.values)
        return (
            tuple((id(signal), int(step)) for (signal, _), step in zip(nodes, steps, strict=True)),
            digest(inverse, elements, constants),
            () if found is None else tuple(sorted(found.factors.items())),
            tuple(value.shape),
        )

    def _part(self, value: Any, out: Tensor) -> Sum | None:
        """An argument as a sum; None if parts of it are lost that have no name."""
        if (found := self._sum(value)) is not None:
            return found if value.shape == out.shape else None
        part = tracked(self.shadow, value, out.shape)
        return None if np.any(part.numbers == LOST) else Sum(part, {}, ((), ()))

    def _total(self, parts: list[Sum | None], signs: tuple[float, float], alpha: float) -> Sum | None:
        one, two = parts
        if one is None or two is None:
            return None
        by = (signs[0] * (alpha if signs[0] < 0 else 1.0), signs[1] * (alpha if signs[0] > 0 else 1.0))
        factors = {
            number: by[0] * one.factors.get(number, 0.0) + by[1] * two.factors.get(number, 0.0)
            for number in one.factors.keys() | two.factors.keys()
        }
        self._cancelled |= {number for number, factor in factors.items() if factor == 0}
        first = one.rest if by[0] == 1 else self._times(one.rest, by[0])
        numbers = added(self.shadow, first, two.rest, by[1])
        rest = Tracked(numbers, first.values + by[1] * two.rest.values)
        return Sum(rest, {number: factor for number, factor in factors.items() if factor}, ((), ()))

    def _times(self, value: Tracked, factor: float) -> Tracked:
        nothing = Tracked(np.zeros_like(value.numbers), np.zeros(value.numbers.size))
        return Tracked(added(self.shadow, nothing, value, factor), factor * value.values)
