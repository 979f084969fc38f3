"""An L1 norm with prices per neuron, for chips on which a neuron costs something beside its weights."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import ClassVar

import torch
from torch import Tensor

from lbi.errors import Problems, Rule
from lbi.train.optim.regularizers import Regularizer, soft_threshold

PRICES = Rule("regularizer-value", "finite numbers > 0", "give a price per neuron")


@dataclass(frozen=True)
class PricedL1(Regularizer):
    """J(x) = λ·Σ c_ij|x_ij| + (elastic/2)·‖x‖² (+ ∞ where x < 0, if ``nonneg``), for a matrix (n_out, n_in).

    c_ij is the mean of ``rows[i]`` and ``columns[j]``, or the one of both that is given, or 1.
    prox(x, δ) = argmin_y ½‖y − x‖² + δ·J(y) = soft(x, δλc) / (1 + δ·elastic), entry by entry.

    Attributes:
        rows: (n_out,) prices of the neurons that the weights enter; empty where these have none.
        columns: (n_in,) prices of the neurons that the weights leave; empty where these have none.
    """

    for_any_shape: ClassVar[bool] = False

    rows: tuple[float, ...] = field(default=(), repr=False)
    columns: tuple[float, ...] = field(default=(), repr=False)

    def _check(self, problems: Problems) -> None:
        super()._check(problems)
        for name in ("rows", "columns"):
            prices = tuple(float(price) for price in getattr(self, name))
            n_wrong = sum(not (math.isfinite(price) and price > 0) for price in prices)
            PRICES.check(problems, n_wrong == 0, f"PricedL1.{name}", f"{n_wrong} other numbers")
            object.__setattr__(self, name, prices)

    def with_prices(self, rows: Sequence[float], columns: Sequence[float]) -> PricedL1:
        """The same regularizer with other prices.

        Args:
            rows: see the attributes.
            columns: see the attributes.

        Returns:
            A new regularizer.
        """
        return replace(self, rows=tuple(rows), columns=tuple(columns))

    def costs(self, x: Tensor) -> Tensor | float:
        """c, to be broadcast over x.

        Args:
            x: weights.

        Returns:
            (n_rows, 1), (1, n_columns) or (n_rows, n_columns) of the type of x; 1.0 without prices.
        """
        return _costs(self.rows, self.columns, x.dtype, x.device)

    def value(self, x: Tensor) -> Tensor:
        """λ·Σ c|x| + (elastic/2)‖x‖², 0-d; ∞ where ``nonneg`` is violated."""
        return self.lamda * (self.costs(x) * x.abs()).sum() + self._common_value(x)

    def prox(self, x: Tensor, delta: float = 1.0) -> Tensor:
        """soft(x, δλc) / (1 + δ·elastic), same shape as x."""
        threshold = (delta * self.lamda) * torch.as_tensor(self.costs(x)).to(x)
        shrunk = soft_threshold(self._feasible(x), threshold)
        return shrunk if self.elastic == 0 else shrunk.mul_(1.0 / (1.0 + delta * self.elastic))

    def sub_grad(self, x: Tensor) -> Tensor:
        """λ·c·sign(x) + elastic·x, same shape as x."""
        x = self._feasible(x)
        return self.lamda * self.costs(x) * x.sign() + self.elastic * x

    def strength(self, v: Tensor) -> Tensor:
        """|v| / c, or max(v, 0) / c if ``nonneg``: same shape as v."""
        return self._feasible(v).abs() / self.costs(v)

    def shrinkage(self, delta: float) -> tuple[float, float] | None:
        """That of L1 at λ = 0, where prices do not count; otherwise None."""
        return (0.0, 1.0 / (1.0 + delta * self.elastic)) if self.lamda == 0 else None


@lru_cache(maxsize=32)
def _costs(
    rows: tuple[float, ...], columns: tuple[float, ...], dtype: torch.dtype, device: torch.device
) -> Tensor | float:
    parts = [
        torch.tensor(prices, dtype=dtype, device=device).reshape(shape)
        for prices, shape in ((rows, (-1, 1)), (columns, (1, -1)))
        if prices
    ]
    if len(parts) == 2:
        return (parts[0] + parts[1]) / 2
    return parts[0] if parts else 1.0
