"""Sparse group lasso: single weights vanish, and whole groups of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lbi.errors import Problems, Rule
from lbi.train.optim.regularizers import GroupL1, soft_threshold

MIX = Rule("regularizer-value", "a number from 0 to 1", "give the share of λ that weighs single weights")

BISECTIONS = 60
"""Halvings of the interval that holds a group's λ: more than double precision resolves."""


@dataclass(frozen=True)
class SparseGroupL1(GroupL1):
    """J(x) = λ·(mix·‖x‖₁ + (1 − mix)·Σ_g √n_g·‖x_g‖₂) + (elastic/2)·‖x‖² (+ ∞ where x < 0, if ``nonneg``).

    With s = soft(x, δλ·mix) (of the positive part if ``nonneg``), the proximal map shrinks its groups:
    y_g = s_g · max(1 − δλ(1 − mix)√n_g / ‖s_g‖, 0) / (1 + δ·elastic)
    (Simon, Friedman, Hastie, Tibshirani, J. Comput. Graph. Stat. 22(2), 2013, DOI 10.1080/10618600.2012.681250).

    Attributes:
        over: as in ``GroupL1``: "rows" are a neuron's inputs, "columns" an axon's synapses, which the chip stores as a row.
        mix: share of λ that weighs single weights: 1 is ``L1``, 0 is ``GroupL1``.
    """

    mix: float = 0.5

    def _check(self, problems: Problems) -> None:
        super()._check(problems)
        mix = float(self.mix)
        MIX.check(problems, 0.0 <= mix <= 1.0, "SparseGroupL1.mix", mix)
        object.__setattr__(self, "mix", mix)

    def value(self, x: Tensor) -> Tensor:
        """λ·(mix·‖x‖₁ + (1 − mix)·Σ_g √n_g‖x_g‖) + (elastic/2)‖x‖², 0-d; ∞ where ``nonneg`` is violated."""
        norms, sizes = self.group_norms(x)
        groups = (norms / sizes.sqrt()).expand_as(x).sum()
        single = x.abs().sum()
        return self.lamda * (self.mix * single + (1 - self.mix) * groups) + self._common_value(x)

    def prox(self, x: Tensor, delta: float = 1.0) -> Tensor:
        """Soft-threshold, then shrink the groups: same shape as x."""
        shrunk = soft_threshold(self._feasible(x), delta * self.lamda * self.mix)
        norms, sizes = self.group_norms(shrunk)
        kept = norms - torch.minimum(norms, delta * self.lamda * (1 - self.mix) * sizes.sqrt())
        factor = kept / torch.where(norms > 0, norms, torch.ones_like(norms))
        factor = torch.where(norms.isnan(), norms, factor)
        return shrunk * (factor / (1.0 + delta * self.elastic))

    def sub_grad(self, x: Tensor) -> Tensor:
        """λ·(mix·sign(x) + (1 − mix)·√n_g·x_g / ‖x_g‖) + elastic·x, same shape as x; 0 where x is 0."""
        x = self._feasible(x)
        norms, sizes = self.group_norms(x)
        groups = x * (sizes.sqrt() / torch.where(norms > 0, norms, torch.ones_like(norms)))
        return self.lamda * (self.mix * x.sign() + (1 - self.mix) * groups) + self.elastic * x

    def strength(self, v: Tensor) -> Tensor:
        """The smaller of |v|/mix and the λ at which the entry's group vanishes, found by bisection: v's shape."""
        v = self._feasible(v)
        if self.mix == 0.0:
            return super().strength(v)
        single = v.abs() / self.mix
        if self.mix == 1.0:
            return single
        exact = v.double()
        norms, sizes = self.group_norms(exact)
        roots = (1 - self.mix) * sizes.sqrt()
        low, high = torch.zeros_like(norms), norms / roots
        for _ in range(BISECTIONS):
            middle = 0.5 * (low + high)
            threshold = (middle * self.mix).expand_as(exact)
            left = self.group_norms(exact - torch.clamp(exact, -threshold, threshold))[0]
            alive = left > middle * roots
            low, high = torch.where(alive, middle, low), torch.where(alive, high, middle)
        return torch.minimum(single, low.to(v.dtype).expand_as(v))
