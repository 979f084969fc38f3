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
BOUNDED = {"sigmoid", "hardsigmoid", "tanh", "hardtanh", "atan", "erf", "clamp", "reciprocal", "div"}
"""Functions with small values for any argument."""

STEEP = {
    "exp",
    "exp2",
    "expm1",
    "pow",
    "cosh",
    "sinh",
    "tan",
    "sqrt",
    "rsqrt",
    "log",
    "log2",
    "log10",
    "log1p",
    "asin",
    "acos",
}
"""Functions whose values may be so large, or not a number, that adding and subtracting them changes a spike."""

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


class _Lost(NamedTuple):
    """Values of an operation that is not followed.

    Attributes:
        problems: what is wrong with it.
        made_of: numbers of the lost values that it takes in.
        steep: whether adding the values and taking them away again may change a number.
    """

    problems: list[Problem]
    made_of: set[int]
    steep: bool


class Estimators:
    """The lost values of a trace.

    Args:
        shadow: the numbers of the trace.
    """

    def __init__(self, shadow: Shadow) -> None:
        self.shadow = shadow
        self._lost: list[_Lost] = []
        self._numbers: dict[Hashable, int] = {}
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
        given, structure = tree_flatten((args, kwargs))
        names = [self._name(value) for value in given]
        known = None not in names and torch.Tag.nondeterministic_seeded not in func.tags
        number = self._numbers.setdefault(
            (func, str(structure), *names) if known else object(), len(self._lost)
        )
        if number == len(self._lost):
            within = [self._sums.get(storage_of(value)) for value in given if isinstance(value, Tensor)]
            made_of = {other for found in within if found is not None for other in found.factors}
            name = func._schema.name.removeprefix("aten::").rstrip("_")
            steep = name in STEEP or (
                name not in BOUNDED and any(self._lost[other].steep for other in made_of)
            )
            self._lost.append(_Lost([], made_of, steep))
        self._lost[number].problems.extend([] if problem is None else [problem])
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
        name, found = func._schema.name, None
        if "out" in kwargs:
            self.lost(func, None, args, kwargs)
            return torch.full(out.shape, LOST)
        if name in COPIES and _holds(args[0].dtype, out.dtype):
            found = self._sum(args[0])
        elif name in SUMS and len(args) == 2 and out.is_floating_point():
            one, two = (self._part(value, out) for value in args)
            found = self._total(one, two, SUMS[name], float(kwargs.get("alpha", 1)))
        if found is None:
            self.lost(func, out, args, kwargs)
        elif found.factors:
            self._keep(out, found.rest, found.factors)
        else:
            return torch.from_numpy(found.rest.numbers).reshape(out.shape)
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
            The problems: of all lost values where some reached neurons or outputs; otherwise of those that cancel in sums of
            which they may change a number. All others are penalties and statistics that nothing depends on.
        """
        used = {n for n, lost in enumerate(self._lost) if reached or (lost.steep and n in self._cancelled)}
        for number in reversed(range(len(self._lost))):  # what is made of others is later than these
            if number in used:
                used |= self._lost[number].made_of
        return [problem for number in sorted(used) for problem in self._lost[number].problems]

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
        if value.layout is not torch.strided or value.is_complex():
            return None
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
            (value.dtype, *value.shape),
        )

    def _part(self, value: Any, out: Tensor) -> Sum | None:
        """An argument as a sum; None if parts of it are lost that have no name, and for complex numbers."""
        if isinstance(value, complex) or (isinstance(value, Tensor) and value.is_complex()):
            return None
        if (found := self._sum(value)) is not None:
            return found if value.shape == out.shape else None
        part = tracked(self.shadow, value, out.shape)
        return None if np.any(part.numbers == LOST) else Sum(part, {}, ((), ()))

    def _total(
        self, one: Sum | None, two: Sum | None, signs: tuple[float, float], alpha: float
    ) -> Sum | None:
        """The sum of both, with their signs; ``alpha`` is the factor of what is added or taken away."""
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


def _holds(one: torch.dtype, other: torch.dtype) -> bool:
    """Whether a floating-point type holds all numbers of another type."""
    return other.is_floating_point and torch.promote_types(one, other) == other
