"""Resets of hand-written neurons: products with their spikes, and choices by them, as rules of the trace.

``voltage · (1 − spikes)``, ``where(spikes, 0, voltage)``, ``masked_fill`` and an assignment to the places of a mask all are a value times a
gate, which is a function of one population's spikes of one step. Spikes times the voltage of their own step are a state of the population;
so is anything else times its spikes, with what it was.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lbi.importers.signal import Signal
from lbi.importers.torch.operations import Tracked, added, affine, is_tracked, tracked
from lbi.importers.torch.shadow import Shadow
from lbi.importers.torch.written import GATED, RESET, Population, state_of

ROUNDED = 1e-11
"""Size of a sum, relative to its parts, up to which it is taken for 0 and its rounding."""

NARROW = (torch.bool, torch.uint8)
"""Types in which a sum or a difference of spikes is not that of their values."""

WRAPPING = ("aten::add", "aten::sub", "aten::rsub", "aten::neg")


class Gate(NamedTuple):
    """Values that are ``factor`` times a population's spikes of a step, plus ``constant``."""

    population: Population
    step: int
    numbers: NDArray[np.int64]
    factor: NDArray[np.float64]
    constant: NDArray[np.float64]

    def inverse(self) -> Gate:
        """One minus these values."""
        return self._replace(factor=-self.factor, constant=1.0 - self.constant)


def wraps(func: Any, out: Tensor) -> bool:
    """Whether an operation wraps around, so that its result is no sum of values.

    Args:
        func: the operation.
        out: what it returns.

    Returns:
        True for sums and differences of truth values and bytes.
    """
    return func._schema.name.rstrip("_") in WRAPPING and out.dtype in NARROW


def decided(
    shadow: Shadow, gate: Gate, compare: Callable[[Any, Any], Any], limit: Any, out: Tensor
) -> Tensor:
    """Numbers of a comparison of a gate's values.

    Args:
        shadow: the numbers of the trace.
        gate: a function of spikes.
        compare: the comparison.
        limit: what the values are compared with.
        out: what the comparison returned.

    Returns:
        The numbers.
    """
    off, on = (
        np.asarray(compare(gate.constant + spike * gate.factor, limit), dtype=float) for spike in (0, 1)
    )
    return affinely(shadow, gate.numbers, on - off, off, out)


def affinely(
    shadow: Shadow, numbers: NDArray[np.int64], factor: NDArray[Any], constant: NDArray[Any], out: Tensor
) -> Tensor:
    """Numbers of elements times a factor, plus a constant.

    Args:
        shadow: the numbers of the trace.
        numbers: numbers of elements.
        factor: one per element.
        constant: one per element.
        out: a tensor of the shape that they are to have.

    Returns:
        The numbers.
    """
    found = affine(shadow, Tracked(numbers, np.zeros(numbers.size)), factor, constant)
    return torch.from_numpy(found).reshape(out.shape)


class Gates:
    """The gates of a trace.

    Args:
        shadow: the numbers of the trace.

    Attributes:
        spikes: node → the population whose spikes it is, and their step.
    """

    def __init__(self, shadow: Shadow) -> None:
        self.shadow = shadow
        self.spikes: dict[int, tuple[Population, int]] = {}

    def of_numbers(self, numbers: NDArray[np.int64]) -> Gate | None:
        """Elements as a function of one population's spikes of one step.

        Args:
            numbers: numbers of elements.

        Returns:
            The gate; None for anything else.
        """
        index = self.shadow.whole(numbers)
        if index is None:
            return None
        root, factor, constant = self.shadow.origin(index)
        if root not in self.spikes:
            return None
        population, step = self.spikes[root]
        first = self.shadow.node_at(root)[1]
        return Gate(population, step, np.arange(first, first + numbers.size), factor, constant)

    def of(self, value: Any, shape: Any) -> Gate | None:
        """A tensor as a function of one population's spikes.

        Args:
            value: a tensor of the run, or a number.
            shape: the shape that it has to fill.

        Returns:
            The gate; None for anything else.
        """
        if not is_tracked(self.shadow, value) or value.numel() != int(np.prod(shape)):
            return None
        return self.of_numbers(tracked(self.shadow, value, value.shape).numbers)

    def times(self, gate: Gate, value: Any, shape: Any) -> Tracked:
        """Spikes times a value.

        Args:
            gate: a function of spikes.
            value: a tensor of the run, or a number.
            shape: the shape of both.

        Returns:
            The product.
        """
        factor = tracked(self.shadow, value, shape)
        n = factor.numbers.size
        if not factor.numbers.any() and not _is_voltage(gate, factor.values):
            by, constant = gate.factor * factor.values, gate.constant * factor.values
            if not by.any():
                return Tracked(np.zeros(n, dtype=np.int64), constant)
            return Tracked(affine(self.shadow, Tracked(gate.numbers, np.zeros(n)), by, constant), constant)
        zeros = np.zeros(n)
        found = Tracked(affine(self.shadow, factor, gate.constant, zeros), factor.values * gate.constant)
        for numbers, factors in self._spikes_times(gate, factor):
            if factors.any():
                part = Tracked(affine(self.shadow, Tracked(numbers, zeros), factors, zeros), zeros)
                found = Tracked(self.sum(found, part), zeros)
        return found

    def _spikes_times(
        self, gate: Gate, value: Tracked
    ) -> list[tuple[NDArray[np.int64], NDArray[np.float64]]]:
        """What a gate's spikes take of a value, as numbers of elements and their factors."""
        population, index = gate.population, self.shadow.whole(value.numbers)
        known = population.roots.get(gate.step)
        if not value.numbers.any():
            return [(self._state(population, RESET, gate.step), gate.factor)]
        if known is not None and index is not None:
            root, scale, shift = self.shadow.origin(index)
            if root == known[0]:  # the value is scale · known[1] · voltage + scale · known[2] + shift
                taken = self._state(population, RESET, gate.step)
                constant = scale * known[2] + shift
                parts = np.abs(scale * known[2]) + np.abs(shift)
                constant = np.where(np.abs(constant) > ROUNDED * parts, constant, 0.0)
                return [(taken, gate.factor * scale * known[1]), (gate.numbers, gate.factor * constant)]
        return [(self._gated(population, gate.step, value), gate.factor)]

    def sum(self, a: Tracked, b: Tracked) -> NDArray[np.int64]:
        """Numbers of ``a + b``; of either alone where the other is 0.

        Args:
            a: values of the run.
            b: as many.

        Returns:
            The numbers.
        """
        for one, other in ((a, b), (b, a)):
            if not one.numbers.any() and not one.values.any():
                return other.numbers
        return added(self.shadow, a, b, 1.0)

    def _state(self, population: Population, state: str, step: int) -> NDArray[np.int64]:
        group = population.group
        signal = self.shadow.keep(
            ("state", group.number, state), lambda: Signal.spikes(state_of(group.name, state), group.shape)
        )
        return self.shadow.new(signal, step).numpy()

    def _gated(self, population: Population, step: int, value: Tracked) -> NDArray[np.int64]:
        """A new state: something else than the voltage, times the spikes of a step."""
        node = self.shadow.read(value.numbers, value.values)
        name = state_of(population.group.name, f"{GATED}{len(population.gated)}")
        population.gated[name] = node, step
        return self.shadow.new(Signal.spikes(name, population.group.shape), max(step, node.step)).numpy()

    # ---- rules ----

    def rule(self, func: Any, out: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The rule for products with spikes, and for choices by them.

        Args:
            func: the operation.
            out: what it returned, or the tensor that it changes.
            args: its arguments.
            kwargs: its keyword arguments.

        Returns:
            Numbers of the output; None for any other operation.
        """
        name = func._schema.name.rstrip("_")
        chosen: tuple[Gate | None, Any, Any]
        if name == "aten::mul":
            for gate, value in (
                (self.of(args[0], out.shape), args[1]),
                (self.of(args[1], out.shape), args[0]),
            ):
                if gate is not None:
                    return self._shaped(self.times(gate, value, out.shape), out)
            return None
        if name in ("aten::logical_not", "aten::bitwise_not") and out.dtype is torch.bool:
            gate = self.of(args[0], out.shape)
            return None if gate is None else decided(self.shadow, gate, operator.eq, 0.0, out)
        if name in ("aten::_to_copy", "aten::copy"):
            return self._cast(out, args[1:2] if name == "aten::copy" else args)
        if wraps(func, out):
            return None if kwargs or len(args) < 2 else self._wrapped(func, out, args)
        if name == "aten::relu":
            gate = self.of(args[0], out.shape)
            return None if gate is None else decided(self.shadow, gate, np.maximum, 0.0, out)
        if name == "aten::where" and len(args) == 3:
            chosen = self.of(args[0], out.shape), args[1], args[2]
        elif name == "aten::masked_fill":
            chosen = self.of(args[1], out.shape), args[2], args[0]
        elif name == "aten::index_put" and _is_mask(args) and args[3:4] != (True,):
            chosen = self.of(args[1][0], out.shape), args[2], args[0]
        else:
            return None
        gate, one, other = chosen
        if gate is None:
            return None
        parts = self.times(gate, one, out.shape), self.times(gate.inverse(), other, out.shape)
        return torch.from_numpy(self.sum(*parts)).reshape(out.shape)

    def _shaped(self, found: Tracked, out: Tensor) -> Tensor:
        return torch.from_numpy(found.numbers).reshape(out.shape)

    def _wrapped(self, func: Any, out: Tensor, args: tuple[Any, ...]) -> Any:
        """Sums and differences of truth values and bytes, which wrap around: of one gate and a constant alone."""
        at = next((i for i in range(2) if is_tracked(self.shadow, args[i])), 0)
        gate = None if is_tracked(self.shadow, args[1 - at]) else self.of(args[at], out.shape)
        if gate is None:
            return None

        def wrapped(values: NDArray[Any], _limit: Any) -> NDArray[Any]:
            part = torch.from_numpy(values).to(args[at].dtype).reshape(out.shape)
            result: Tensor = func(*(part if i == at else arg for i, arg in enumerate(args)))
            return np.asarray(result.reshape(-1).double().numpy())

        return decided(self.shadow, gate, wrapped, 0.0, out)

    def _cast(self, out: Tensor, args: tuple[Any, ...]) -> Any:
        """Spikes as whole numbers, or as truth values."""
        gate = self.of(args[0], out.shape)
        if gate is None:
            return None
        if out.dtype is torch.bool:
            return decided(self.shadow, gate, operator.ne, 0.0, out)
        whole = np.all(gate.factor == np.round(gate.factor)) and np.all(
            gate.constant == np.round(gate.constant)
        )
        return self.shadow.of(args[0]) if whole else None


def _is_voltage(gate: Gate, values: NDArray[Any]) -> bool:
    """Whether numbers are a voltage of the gate's neurons that is constant in its step, and not 0."""
    voltage = gate.population.voltages[gate.step]
    alike = np.allclose(values, voltage.constant, rtol=1e-12, atol=0.0)
    return not voltage.terms and bool(values.any()) and alike


def _is_mask(args: Sequence[Any]) -> bool:
    """Whether an assignment sets one value at the places of a mask."""
    indices, value = args[1], args[2]
    alone = len(indices) == 1 and isinstance(indices[0], Tensor) and indices[0].dtype is torch.bool
    return (
        alone and indices[0].shape == args[0].shape and (not isinstance(value, Tensor) or value.numel() == 1)
    )
