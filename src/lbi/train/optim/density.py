"""Control of the density: a controller that adjusts λ, and a log of the support.

A Bregman optimizer's dual v determines which λ gives which density: a weight is nonzero where
``reg.strength(v) > λ``. So the λ of a wanted density is a quantile, and there are no gains to tune.
(Aloradi, Tenbrinck, Habets, Roith, arXiv:2605.07892, adapt λ by feedback on the sparsity instead.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor

from lbi.errors import InputError, Problems, Rule, UsageError
from lbi.train.optim.masks import packed, unpacked

DIVERGED = Rule("diverged", "finite numbers", "lower lr, or clip gradients; a NaN in the loss comes first")
OPTION = Rule("controller-option", "{allowed}")
STATE = Rule(
    "controller-state",
    "{n_units} units over {n_tensors} weight tensors",
    "make the optimizer's groups and the controller as they were made when saving",
)
OPTIMIZER = Rule(
    "controller-optimizer",
    "a LinBreg or AdaBreg with at least one",
    "give the weights' group a regularizer such as L1(0.1)",
)
GROUP = Rule("controller-group", "{names}", "name a group")
DENSITY = Rule("controller-density", "a number > 0 and ≤ 1")
NOT_SETTLED = Rule("controller-order", "tighten() after settle()", "call settle() first, or aim() before it")
LAMDA = Rule("controller-lamda", "a number > 0", "give the regularizer a λ to start from")

_MOST_FALLS = 16
_LEAST_LAMDA = 1e-12  # keeps λ positive if a density cannot be reached


@dataclass(frozen=True)
class DensityRecord:
    """One line of the log: the state of one unit of control after ``step`` optimizer steps.

    Attributes:
        step: optimizer steps so far.
        unit: "model", or the group's name.
        density: non-zero weights / weights.
        lamda: λ of the unit's first group, after control.
        entered: weights that became non-zero since the last record.
        left: weights that became zero since the last record.
    """

    step: int
    unit: str
    density: float
    lamda: float
    entered: int
    left: int


@dataclass
class _Unit:
    """Groups whose λ change by a common factor, towards one density."""

    name: str
    groups: list[int]
    density: float
    acting: bool = True
    falls: int = 0  # consecutive checks at which λ fell by the maximum step and was still too high


class DensityController:
    """A controller that adjusts λ until a fraction ``density`` of the regularized weights is non-zero.

    Call ``step()`` once after every optimizer step. Every ``every`` steps it counts the non-zero weights. It
    starts to act when their fraction leaves density·(1 ± band) and stops within half of that band (hysteresis). If
    there are too many weights, λ is set to the quantile of the dual that gives the density. If there are too few,
    λ falls towards it by a factor of e^−rate at most (twice the rate at each further check at which that is not
    enough), so that gradients select the weights that enter; the values of non-zero weights stay the same, since
    their duals are moved along. Ratios of λ between the groups of one unit are kept. ``log`` holds the
    DensityRecords. Until it settles, the aim is the density times ``overshoot`` (≥ 1, can be set at any time), at
    most 1.

    Args:
        optimizer: a LinBreg or AdaBreg; its groups with a regularizer, each with λ > 0, are controlled.
        density: in (0, 1], for all groups together; or a mapping from group names to densities, which gives each
            of these groups its own λ (make the groups with ``param_groups(per_layer=True)``).
        every: steps between checks, ≥ 1.
        band: relative, in (0, 1).
        rate: relative, in (0, 1).

    Raises:
        UsageError: naming every option that is out of range.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        density: float | Mapping[str, float] = 0.1,
        *,
        every: int = 10,
        band: float = 0.04,
        rate: float = 0.1,
    ) -> None:
        self.optimizer: Any = optimizer
        self.every, self.band, self.rate = int(every), float(band), float(rate)
        self.log: list[DensityRecord] = []
        self.steps = 0
        self.overshoot = 1.0
        self.settled = False
        problems = Problems()
        for name, number, holds, allowed in (
            ("every", every, every >= 1, "a number of steps ≥ 1"),
            ("band", band, 0 < band < 1, "a number > 0 and < 1"),
            ("rate", rate, 0 < rate < 1, "a number > 0 and < 1"),
        ):
            OPTION.check(problems, holds, f"DensityController.{name}", number, allowed=allowed)
        self._units = _units(optimizer, density, problems)
        problems.raise_as(UsageError)
        self._support = [_support(p) for unit in self._units for p in self._weights(unit)]

    def _weights(self, unit: _Unit) -> list[Tensor]:
        return [p for i in unit.groups for p in self.optimizer.param_groups[i]["params"]]

    def _aim(self, unit: _Unit) -> float:
        return min(1.0, self.overshoot * unit.density)

    def density(self) -> float:
        """The current fraction of non-zero weights over all controlled groups."""
        weights = [p for unit in self._units for p in self._weights(unit)]
        return sum(int(torch.count_nonzero(p)) for p in weights) / sum(p.numel() for p in weights)

    @torch.no_grad()
    def step(self) -> None:
        """Count one optimizer step; every ``every`` steps check and act, or hold the settled support.

        Raises:
            InputError: at a check, if weights or duals are NaN or infinite: training has diverged.
        """
        self.steps += 1
        if self.settled:
            self._hold()
            if self.steps % self.every == 0:
                self._check_finite()
            return
        if self.steps % self.every:
            return
        self._check_finite()
        supports = iter(self._support)
        renewed: list[Tensor] = []
        for unit in self._units:
            weights = self._weights(unit)
            share = sum(int(torch.count_nonzero(p)) for p in weights) / sum(p.numel() for p in weights)
            off = abs(share / self._aim(unit) - 1)
            unit.acting = off > (self.band / 2 if unit.acting else self.band)
            if unit.acting:
                self._act(unit)
            else:
                unit.falls = 0
            entered = left = alive = 0
            for p in weights:
                now, before = _support(p), next(supports)
                entered += int((now & ~before).sum())
                left += int((before & ~now).sum())
                alive += int(now.sum())
                renewed.append(now)
            lamda = self.optimizer.param_groups[unit.groups[0]]["reg"].lamda
            share = alive / sum(p.numel() for p in weights)
            self.log.append(DensityRecord(self.steps, unit.name, share, lamda, entered, left))
        self._support = renewed

    def _check_finite(self) -> None:
        """Raise InputError naming every group with NaN or infinite weights or duals: training has diverged."""
        problems = Problems()
        for unit in self._units:
            for i in unit.groups:
                group = self.optimizer.param_groups[i]
                for what, tensors in (
                    ("weights", group["params"]),
                    ("duals", [self.optimizer.state[p].get("dual") for p in group["params"]]),
                ):
                    n_bad = sum(int((~torch.isfinite(t)).sum()) for t in tensors if t is not None)
                    where = f"step {self.steps}, param_groups[{i}]"
                    DIVERGED.check(problems, n_bad == 0, where, f"{n_bad} {what} are NaN or infinite")
        problems.raise_as(InputError)

    def _act(self, unit: _Unit) -> None:
        """Move the unit's λ towards the quantile of its duals, and update the weights."""
        parts = []
        for i in unit.groups:
            group = self.optimizer.param_groups[i]
            for p in group["params"]:
                if "dual" in self.optimizer.state[p]:
                    strength = group["reg"].strength(self.optimizer.state[p]["dual"])
                    parts.append((strength / group["reg"].lamda).ravel())
        if not parts:
            return
        wanted, least = _quantile(torch.cat(parts), self._aim(unit)), math.exp(-self.rate * 2**unit.falls)
        unit.falls = min(unit.falls + 1, _MOST_FALLS) if wanted < least else 0
        factor = max(wanted, least)
        for i in unit.groups:
            _scale_lamda(self.optimizer, self.optimizer.param_groups[i], factor)

    @torch.no_grad()
    def settle(self) -> None:
        """Fix the support: keep the strongest weights, a fraction ``density`` at most, and set λ = 0.

        From then on these weights move as under plain SGD or Adam; all others stay 0, and the log ends. ``step`` still holds
        the support. A second call changes nothing.
        """
        if self.settled:
            return
        self.settled = True
        for unit in self._units:
            strengths = []
            for i in unit.groups:
                group = self.optimizer.param_groups[i]
                reg = group["reg"]
                for p in group["params"]:
                    strengths.append(reg.strength(p / group["delta"] + reg.sub_grad(p)) / reg.lamda)
                group["reg"] = reg.with_lamda(0.0)
            self._cut(unit, strengths)
        self._fix_support()

    def aim(self, density: float) -> None:
        """Set another density for all units, before ``settle``.

        Args:
            density: in (0, 1].

        Raises:
            UsageError: for a density out of range.
        """
        _check_density("DensityController.aim", density)
        for unit in self._units:
            unit.density = float(density)

    @torch.no_grad()
    def tighten(self, density: float) -> None:
        """Keep the strongest of the settled weights, a fraction ``density`` of all at most.

        Args:
            density: below the present one, in (0, 1].

        Raises:
            UsageError: for a density out of range, or before ``settle``.
        """
        _check_density("DensityController.tighten", density)
        if not self.settled:
            raise UsageError(NOT_SETTLED.broken("DensityController.tighten", "called before settle()"))
        for unit in self._units:
            unit.density = float(density)
            strengths = []
            for i in unit.groups:
                group = self.optimizer.param_groups[i]
                reg = group["reg"].with_lamda(1.0)
                strengths += [reg.strength(p / group["delta"]) for p in group["params"]]
            self._cut(unit, strengths)
        self._fix_support()

    def _cut(self, unit: _Unit, strengths: list[Tensor]) -> None:
        """Set all but the strongest weights of a unit to 0, given the strength of each."""
        every = torch.cat([strength.ravel() for strength in strengths])
        n_cut = every.numel() - math.floor(unit.density * every.numel())
        limit = every.kthvalue(n_cut).values if n_cut else every.new_zeros(())
        for p, strength in zip(self._weights(unit), strengths, strict=True):
            p.mul_(strength > limit)

    def _fix_support(self) -> None:
        self._support = [_support(p) for unit in self._units for p in self._weights(unit)]
        self.optimizer.reset_duals()
        self._let_step()

    def _let_step(self) -> None:
        """Have the optimizer step the support only, once it is settled."""
        weights = [p for unit in self._units for p in self._weights(unit)]
        self.optimizer.hold(dict(zip(weights, self._support, strict=True)) if self.settled else {})

    def _hold(self) -> None:
        weights = (p for unit in self._units for p in self._weights(unit))
        for p, support in zip(weights, self._support, strict=True):
            if not self.optimizer.holds(p):
                p.mul_(support)
                dual = self.optimizer.state[p].get("dual")
                if dual is not None:  # a weight without a gradient so far has none
                    dual.mul_(support)

    def state_dict(self) -> dict[str, Any]:
        """The state in plain types and bit-packed supports, loadable with ``weights_only=True``; λ is in the optimizer's."""
        return {
            "steps": self.steps,
            "overshoot": self.overshoot,
            "settled": self.settled,
            "acting": [unit.acting for unit in self._units],
            "falls": [unit.falls for unit in self._units],
            "log": [astuple(record) for record in self.log],
            "support": packed(self._support),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a saved state; the optimizer's state must be loaded too.

        Args:
            state: the result of ``state_dict``.

        Raises:
            UsageError: if it is that of another network; nothing is changed then.
        """
        weights, problems = [p for unit in self._units for p in self._weights(unit)], Problems()
        STATE.check(
            problems,
            len(state["acting"]) == len(self._units) and len(state["support"]) == len(weights),
            "DensityController.load_state_dict",
            f"{len(state['acting'])} units over {len(state['support'])} weight tensors",
            n_units=len(self._units),
            n_tensors=len(weights),
        )
        problems.raise_as(UsageError)
        support = unpacked(state["support"], weights, "support")
        self.steps, self.overshoot, self.settled = (
            int(state["steps"]),
            float(state["overshoot"]),
            bool(state["settled"]),
        )
        self.log = [DensityRecord(*record) for record in state["log"]]
        for unit, acting, falls in zip(self._units, state["acting"], state["falls"], strict=True):
            unit.acting, unit.falls = bool(acting), int(falls)
        self._support = support
        self._let_step()


def _scale_lamda(optimizer: torch.optim.Optimizer, group: dict[str, Any], factor: float) -> None:
    """Set λ ← λ·factor and θ ← prox(δv); if λ falls, duals of non-zero weights are moved so that θ is unchanged."""
    old, delta = group["reg"], float(group["delta"])
    new = group["reg"] = old.with_lamda(max(old.lamda * factor, _LEAST_LAMDA))
    for p in group["params"]:
        dual = optimizer.state[p].get("dual")
        if dual is None:
            continue
        if factor < 1:
            # Where θ is not 0, v = θ/δ + sub_grad(θ); where it is 0, v stays.
            dual.add_(torch.where(p != 0, new.sub_grad(p) - old.sub_grad(p), torch.zeros_like(p)))
        p.copy_(new.prox(dual * delta, delta))


def _check_density(where: str, density: float) -> None:
    problems = Problems()
    DENSITY.check(problems, 0 < density <= 1, where, density)
    problems.raise_as(UsageError)


def _support(p: Tensor) -> Tensor:
    return p.detach() != 0


def _units(
    optimizer: torch.optim.Optimizer, density: float | Mapping[str, float], problems: Problems
) -> list[_Unit]:
    """One unit for all regularized groups, or one for each group that the mapping names."""
    regularized = {i: g for i, g in enumerate(optimizer.param_groups) if g.get("reg") is not None}
    OPTIMIZER.check(
        problems,
        bool(regularized) and all("delta" in group for group in regularized.values()),
        "DensityController.optimizer",
        f"{type(optimizer).__name__} with {len(regularized)} regularized groups",
    )
    if isinstance(density, Mapping):
        names = {str(group.get("name", i)): i for i, group in regularized.items()}
        for name in density:
            known = ", ".join(names) or "none has a regularizer"
            found = "no regularized group of this name"
            GROUP.check(problems, name in names, f"density[{name!r}]", found, names=known)
        units = [_Unit(name, [names[name]], float(d)) for name, d in density.items() if name in names]
    else:
        units = [_Unit("model", list(regularized), float(density))]
    for unit in units:
        DENSITY.check(problems, 0 < unit.density <= 1, f"density of {unit.name}", unit.density)
        for i in unit.groups:
            LAMDA.check(problems, regularized[i]["reg"].lamda > 0, f"param_groups[{i}].reg.lamda", "0")
    return units


def _quantile(strengths: Tensor, density: float) -> float:
    """The number that a fraction ``density`` of the entries exceeds (except for ties)."""
    rank = min(max(round((1 - density) * strengths.numel()), 1), strengths.numel())
    return float(strengths.kthvalue(rank).values)
