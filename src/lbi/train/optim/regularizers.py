"""Convex regularizers J for sparse training: value, proximal map, one subgradient.

Each one is defined by its proximal map, for a step δ > 0:

    prox(x, δ) = argmin_y  ½‖y − x‖² + δ·J(y)

This is all that the optimizers need: a Bregman optimizer keeps a dual v and sets θ = prox(δ·v, δ).
Regularizers are frozen. To change λ, replace the object (``group["reg"] = group["reg"].with_lamda(0.2)``); so
groups can share one, and a scheduler cannot change another group by accident.

The names ``lamda``, ``prox`` and ``sub_grad`` are those of the Bregman papers' code
(Bungert, Roith, Tenbrinck, Burger, JMLR 23, 2022, arXiv:2105.04319).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from dataclasses import fields as dataclass_fields
from typing import Any, ClassVar

import torch
from torch import Tensor

from lbi.errors import Problems, Rule, UsageError

PENALTY = Rule(
    "regularizer-value",
    "a finite number ≥ 0, in float32",
    "give the weight of the penalty; 0 switches it off",
)
GROUPS = Rule(
    "regularizer-groups",
    "'rows', 'channels', 'columns', 'kernels' or a block shape (h, w) with h, w ≥ 1",
    "name the dimension that a group spans",
)

KIND_TAKEN = Rule(
    "regularizer-kind", "one class of each name: optimizers' states name it", "give the class another name"
)
UNKNOWN = Rule("regularizer-unknown", "{names}", "import the module that defines it before loading")
FIELDS = Rule("regularizer-fields", "{names}", "save the state again with this version")
OPTION = Rule("regularizer-option", "{names}", "see lbi.train.Regularizer and its subclasses")
KIND = Rule("regularizer-option", "numbers, flags and names", "see lbi.train.Regularizer and its subclasses")

_LARGEST = torch.finfo(torch.float32).max
_DIMS = {"rows": 0, "channels": 0, "columns": 1}


@dataclass(frozen=True)
class Regularizer(ABC):
    """J(x) = λ·R(x) + (elastic/2)·‖x‖² (+ ∞ where x < 0, if ``nonneg``), with R chosen by the subclass.

    Attributes:
        lamda: weight λ ≥ 0 of the sparsifying part R.
        elastic: weight ≥ 0 of the squared norm.
        nonneg: admit non-negative weights only (an excitatory projection).

    Raises:
        UsageError: naming every field that is out of range.
    """

    lamda: float
    elastic: float = 0.0
    nonneg: bool = False

    kinds: ClassVar[dict[str, type[Regularizer]]] = {}
    for_any_shape: ClassVar[bool] = True
    """Whether the same object serves weights of any shape, so that an option of a run can name it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        own = Regularizer.kinds.setdefault(cls.__name__, cls)
        if (own.__module__, own.__qualname__) != (cls.__module__, cls.__qualname__):
            raise UsageError(KIND_TAKEN.broken(f"class {cls.__qualname__}", f"that of {own.__module__}"))
        Regularizer.kinds[cls.__name__] = cls

    def __post_init__(self) -> None:
        problems = Problems()
        self._check(problems)
        problems.raise_as(UsageError)

    def _check(self, problems: Problems) -> None:
        for name in ("lamda", "elastic"):
            number = float(getattr(self, name))
            PENALTY.check(problems, 0 <= number <= _LARGEST, f"{type(self).__name__}.{name}", number)
            object.__setattr__(self, name, number)
        object.__setattr__(self, "nonneg", bool(self.nonneg))

    @abstractmethod
    def value(self, x: Tensor) -> Tensor:
        """J(x) as a 0-d tensor; ∞ where ``nonneg`` is violated.

        Args:
            x: weights.

        Returns:
            J(x), 0-d.
        """

    @abstractmethod
    def prox(self, x: Tensor, delta: float = 1.0) -> Tensor:
        """argmin_y ½‖y − x‖² + delta·J(y), same shape as x; x is not changed.

        Args:
            x: weights.
            delta: step δ > 0.

        Returns:
            A new tensor of the shape of x.
        """

    @abstractmethod
    def sub_grad(self, x: Tensor) -> Tensor:
        """One p ∈ ∂J(x): J(y) ≥ J(x) + ⟨p, y − x⟩ for all y; the one that is 0 where x is 0.

        With ``nonneg``, negative entries of x (where ∂J is empty) count as 0.

        Args:
            x: weights.

        Returns:
            The subgradient, same shape as x.
        """

    @abstractmethod
    def strength(self, v: Tensor) -> Tensor:
        """The λ per entry from which prox(δ·v, δ) is 0 there, same shape as v, for any δ and elastic.

        The density for a given λ is the mean of ``strength(v) > λ``.

        Args:
            v: duals.

        Returns:
            A λ per entry, of the shape of v.
        """

    def shrinkage(self, delta: float) -> tuple[float, float] | None:
        """(threshold, scale) if the prox acts entry by entry as soft-threshold, then scale; otherwise None.

        Args:
            delta: step δ > 0.

        Returns:
            (threshold, scale); None if the prox acts otherwise.
        """
        return None

    def with_lamda(self, lamda: float) -> Regularizer:
        """The same regularizer with another λ.

        Args:
            lamda: weight λ ≥ 0.

        Returns:
            A copy with that λ.
        """
        return replace(self, lamda=lamda)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain types, as an optimizer's state_dict holds them."""
        return {"kind": type(self).__name__, **asdict(self)}

    @staticmethod
    def from_dict(fields: dict[str, Any]) -> Regularizer:
        """The inverse of ``to_dict``.

        Args:
            fields: plain types: ``kind`` and the fields of that class.

        Returns:
            An equal regularizer to the one that was written.

        Raises:
            UsageError: for an unknown kind or field.
        """
        rest = dict(fields)
        kind = rest.pop("kind", None)
        problems = Problems()
        names = ", ".join(sorted(Regularizer.kinds))
        UNKNOWN.check(problems, kind in Regularizer.kinds, "kind", repr(kind), names=names)
        problems.raise_as(UsageError)
        cls = Regularizer.kinds[str(kind)]
        wanted, found = {field.name for field in dataclass_fields(cls)}, ", ".join(sorted(map(str, rest)))
        holds = "lamda" in rest and set(rest) <= wanted
        FIELDS.check(problems, holds, str(kind), found or "no fields", names=", ".join(sorted(wanted)))
        problems.raise_as(UsageError)
        return cls(**rest)

    @staticmethod
    def choices() -> list[str]:
        """The names of regularizers that options of a run can name, sorted."""
        return sorted(name for name, cls in Regularizer.kinds.items() if cls.for_any_shape)

    @staticmethod
    def named(name: str, lamda: float, options: Mapping[str, Any]) -> Regularizer:
        """The regularizer that options of a run describe.

        Args:
            name: A key of ``kinds``.
            lamda: Its weight λ.
            options: Its other fields.

        Returns:
            A new regularizer of that class.

        Raises:
            UsageError: If there is no such regularizer, field or value.
        """
        problems = Problems()
        choices = Regularizer.choices()
        known, names = name in choices, ", ".join(choices)
        if UNKNOWN.check(problems, known, "regularizer", repr(name), names=names):
            own = [entry.name for entry in dataclass_fields(Regularizer.kinds[name]) if entry.name != "lamda"]
            for key in options:
                OPTION.check(problems, key in own, "regularizer_options", repr(key), names=", ".join(own))
        problems.raise_as(UsageError)
        try:
            return Regularizer.kinds[name](lamda, **options)
        except (TypeError, ValueError) as error:
            if isinstance(error, UsageError):
                raise
            raise UsageError(KIND.broken("regularizer_options", repr(dict(options)))) from error

    def _feasible(self, x: Tensor) -> Tensor:
        return x.clamp(min=0) if self.nonneg else x

    def _common_value(self, x: Tensor) -> Tensor:
        value = 0.5 * self.elastic * x.square().sum()
        if self.nonneg:
            value = torch.where((x < 0).any(), torch.full_like(value, math.inf), value)
        return value


def soft_threshold(x: Tensor, threshold: float | Tensor) -> Tensor:
    """sign(x)·max(|x| − threshold, 0), threshold ≥ 0; NaN stays NaN.

    Args:
        x: weights.
        threshold: a number, or one per entry.

    Returns:
        A new tensor of the shape of x.
    """
    return x - x.clamp(-threshold, threshold)  # type: ignore[arg-type]  # its stub knows pairs of one type only


@dataclass(frozen=True)
class L1(Regularizer):
    """J(x) = λ·Σ|x_i| + (elastic/2)·Σx_i² (+ ∞ where x < 0, if ``nonneg``), for a tensor of any shape.

    prox(x, δ) = argmin_y ½‖y − x‖² + δ·J(y) = soft(x, δλ) / (1 + δ·elastic), where
    soft(x, t) = sign(x)·max(|x| − t, 0), or max(x − t, 0) if ``nonneg``.
    """

    def value(self, x: Tensor) -> Tensor:
        """λ‖x‖₁ + (elastic/2)‖x‖², 0-d; ∞ where ``nonneg`` is violated."""
        return self.lamda * x.abs().sum() + self._common_value(x)

    def prox(self, x: Tensor, delta: float = 1.0) -> Tensor:
        """soft(x, δλ) / (1 + δ·elastic), same shape as x."""
        threshold, scale = self.shrinkage(delta)
        shrunk = soft_threshold(self._feasible(x), threshold)
        return shrunk if scale == 1.0 else shrunk.mul_(scale)

    def sub_grad(self, x: Tensor) -> Tensor:
        """λ·sign(x) + elastic·x, same shape as x."""
        x = self._feasible(x)
        return self.lamda * x.sign() + self.elastic * x

    def strength(self, v: Tensor) -> Tensor:
        """|v|, or max(v, 0) if ``nonneg``: same shape as v."""
        return self._feasible(v).abs()

    def shrinkage(self, delta: float) -> tuple[float, float]:
        """(δλ, 1 / (1 + δ·elastic))."""
        return delta * self.lamda, 1.0 / (1.0 + delta * self.elastic)


@dataclass(frozen=True)
class GroupL1(Regularizer):
    """J(x) = λ·Σ_g √n_g·‖x_g‖₂ + (elastic/2)·‖x‖² (+ ∞ where x < 0, if ``nonneg``): whole groups become 0.

    prox(x, δ) = argmin_y ½‖y − x‖² + δ·J(y): with z = x (its positive part if ``nonneg``),
    y_g = z_g · max(1 − δλ√n_g / ‖z_g‖, 0) / (1 + δ·elastic); n_g is the group's number of entries
    (Bungert et al., JMLR 2022, eq. (2.4) up to notation).

    A bias (n,) is treated as a matrix (n, 1).

    Attributes:
        over: the groups of a weight (n_out, n_in, ...). "rows": the inputs of one neuron, or an output channel
            of a convolution. "channels": another name for "rows". "columns": the outputs of one axon, or an input
            channel of a convolution. "kernels": each (output, input) pair of a convolution, or each entry of a
            matrix. (h, w): tiles of h × w of the matrix (n_out, rest), smaller at the edges.
    """

    over: str | tuple[int, int] = "rows"

    def _check(self, problems: Problems) -> None:
        super()._check(problems)
        if not isinstance(self.over, str):
            object.__setattr__(self, "over", tuple(int(side) for side in self.over))
            known = len(self.over) == 2 and min(self.over) >= 1
        else:
            known = self.over in {*_DIMS, "kernels"}
        GROUPS.check(problems, known, "GroupL1.over", f"{self.over!r}")

    def group_norms(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(‖x_g‖₂, n_g), both broadcastable to x's shape (expanded for blocks).

        Args:
            x: weights.

        Returns:
            The norms and the sizes.
        """
        shaped = x if x.ndim >= 2 else x.reshape(-1, 1)
        if isinstance(self.over, tuple):
            norms, sizes = _block_norms(shaped.flatten(1), self.over)
            norms, sizes = norms.reshape(x.shape), sizes.reshape(x.shape)
        else:
            kept = {_DIMS[self.over]} if self.over in _DIMS else {0, 1}
            summed = tuple(dim for dim in range(shaped.ndim) if dim not in kept)
            squares = shaped.square()
            norms = (squares.sum(summed, keepdim=True) if summed else squares).sqrt()
            count = math.prod(shaped.shape[dim] for dim in summed)
            sizes = torch.full_like(norms, count)
            if x.ndim < 2:
                shape = x.shape if norms.numel() == x.numel() else (1,) * x.ndim
                norms, sizes = norms.reshape(shape), sizes.reshape(shape)
        return norms, sizes

    def value(self, x: Tensor) -> Tensor:
        """λ·Σ_g √n_g‖x_g‖ + (elastic/2)‖x‖², 0-d; ∞ where ``nonneg`` is violated."""
        norms, sizes = self.group_norms(x)
        # The norm is distributed over the entries of a group: √n·‖x_g‖ = Σ over the n entries of ‖x_g‖ / √n.
        per_entry = (norms / sizes.sqrt()).expand_as(x)
        return self.lamda * per_entry.sum() + self._common_value(x)

    def prox(self, x: Tensor, delta: float = 1.0) -> Tensor:
        """z_g · max(1 − δλ√n_g / ‖z_g‖, 0) / (1 + δ·elastic), same shape as x."""
        z = self._feasible(x)
        norms, sizes = self.group_norms(z)
        kept = norms - torch.minimum(norms, delta * self.lamda * sizes.sqrt())
        factor = kept / torch.where(norms > 0, norms, torch.ones_like(norms))
        factor = torch.where(norms.isnan(), norms, factor)
        return z * (factor / (1.0 + delta * self.elastic))

    def sub_grad(self, x: Tensor) -> Tensor:
        """λ·√n_g·x_g / ‖x_g‖ (0 for a zero group) + elastic·x, same shape as x."""
        x = self._feasible(x)
        norms, sizes = self.group_norms(x)
        return x * (self.lamda * sizes.sqrt() / torch.where(norms > 0, norms, torch.ones_like(norms))) + (
            self.elastic * x
        )

    def strength(self, v: Tensor) -> Tensor:
        """‖v_g‖ / √n_g (of the positive part if ``nonneg``; 0 for entries it removes): v's shape."""
        v = self._feasible(v)
        norms, sizes = self.group_norms(v)
        strength = (norms / sizes.sqrt()).expand_as(v)
        return torch.where(v != 0, strength, torch.zeros_like(v))


def _block_norms(matrix: Tensor, block: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Per entry of a matrix (n_out, n): the norm and the number of entries of its tile."""
    (height, width), (n_out, n_in) = block, matrix.shape
    n_rows, n_columns = -(-n_out // height), -(-n_in // width)
    padded = torch.nn.functional.pad(matrix, (0, n_columns * width - n_in, 0, n_rows * height - n_out))
    norms = padded.view(n_rows, height, n_columns, width).square().sum((1, 3)).sqrt()
    row = torch.arange(n_out, device=matrix.device) // height
    column = torch.arange(n_in, device=matrix.device) // width
    sizes = row.bincount()[:, None] * column.bincount()[None, :]
    spread = (row[:, None], column[None, :])
    return norms[spread], sizes.to(matrix.dtype)[spread]
