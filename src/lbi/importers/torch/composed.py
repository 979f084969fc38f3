"""Operations that torch computes as one and that are several others: a trace runs these in their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor


def _lerp(start: Any, end: Any, weight: Any) -> Any:
    return start + weight * (end - start)


def _addcmul(base: Any, one: Any, two: Any, *, value: Any = 1) -> Any:
    return base + value * (one * two)


def _addcdiv(base: Any, one: Any, two: Any, *, value: Any = 1) -> Any:
    return base + value * (one / two)


PARTS: dict[str, Callable[..., Any]] = {
    "aten::lerp": _lerp,
    "aten::addcmul": _addcmul,
    "aten::addcdiv": _addcdiv,
}
"""ATen's name, without the underscore of operations in place → the others that give the same up to rounding."""


def by_parts(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """The result of an operation of ``PARTS``, by its parts.

    Args:
        func: the operation.
        args: its arguments.
        kwargs: its keyword arguments.

    Returns:
        What it returns; in place, its first argument.
    """
    name = func._schema.name
    found: Tensor = PARTS[name.rstrip("_")](*args, **kwargs)
    return args[0].copy_(found) if name.endswith("_") else found
