"""Budgets: the most that a deployed network may use on a chip, and what a network uses of it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from lbi.chip.load import load_profile
from lbi.chip.profile import HardwareProfile
from lbi.costing.costs import price_source
from lbi.costing.recorded_budget import RecordedUse
from lbi.costing.result import CostBreakdown
from lbi.errors import Problems, Rule, UsageError

UNITS: Mapping[str, Mapping[str, float]] = {
    "cores": {"": 1.0},
    "memory": {"B": 8.0, "KiB": 8.0 * 1024, "MiB": 8.0 * 1024**2},
    "synops": {"": 1.0},
    "energy": {"pJ": 1.0, "nJ": 1e3, "uJ": 1e6, "µJ": 1e6},
    "time": {"ns": 1.0, "us": 1e3, "µs": 1e3, "ms": 1e6},
}
"""Resource → unit → its size in bits, pJ or ns; the empty unit is a plain number."""

UPDATES = "neuron updates"
"""The part of the energy that is paid per neuron and timestep (``lbi.chip.events.PARTS``)."""

EXAMPLES = "cores=1, memory=64KiB, synops=1200, energy=40nJ or energy=40nJ@COSTS, time=5us"

SHAPE = Rule("budget", f"NAME=VALUE such as {EXAMPLES}")
NAME = Rule("budget-name", "{names}")
UNIT = Rule("budget-unit", "{units}", "{fix}")
VALUE = Rule("budget-value", "a finite number above 0")
ONCE = Rule("budget-name", "each name once")
COSTS = Rule("budget-costs", "{names}", "name one: energy=40nJ@NAME")
NO_COSTS = Rule("budget-costs", "no @NAME: only energy has cost sets")
CHIP = Rule("budget-chip", "a chip", "add --chip loihi1, loihi2 or a .toml file")
NO_BUDGET = Rule("budget-chip", "no --chip without --budget")

_MU = "\N{GREEK SMALL LETTER MU}"
"""What many keyboards give for the sign of micro."""
_FORM = re.compile(r"(?P<name>[a-z]+)=(?P<value>[0-9.eE+-]+?)(?P<unit>[A-Za-zµ]*)(@(?P<costs>[\w.-]+))?")


@dataclass(frozen=True)
class Limit:
    """The most that a network may use of one resource.

    Attributes:
        name: a key of ``UNITS``.
        limit: in ``unit``.
        unit: as the user wrote it; empty for plain numbers.
        costs: cost set or scenario that prices the energy; empty for the highest of the chip's cost sets.
        source: labels and confidences of what prices energy or time.
    """

    name: str
    limit: float
    unit: str
    costs: str = ""
    source: str = ""

    def used(self, cost: CostBreakdown) -> float:
        """What a network uses of the resource, in ``unit``.

        Args:
            cost: the network's cost on the chip.

        Returns:
            Cores, bits of memory, or the mean per timestep of SynOps, energy or time, in ``unit``; of energy
            and time the upper end of their range. Infinite where no time is published.
        """
        return self._used(cost) / UNITS[self.name][self.unit]

    def fill(self, cost: CostBreakdown) -> float | None:
        """The largest share of any resource of the allowed cores that a placed network takes.

        Args:
            cost: the network's cost on the chip.

        Returns:
            The share, 1 for full cores; None for limits of other resources than cores.
        """
        if self.name != "cores":
            return None
        shares = (share.sum() for share in cost.placement.utilization.values())
        return float(max(shares, default=0.0)) / self.limit

    def updates(self, cost: CostBreakdown) -> float | None:
        """The share of an energy limit that all neuron updates take.

        Args:
            cost: the network's cost on the chip.

        Returns:
            The share, by the cost set with the highest total; None for other limits than energy, and if
            updates are free.
        """
        if self.name != "energy":
            return None
        names = [self.costs] if self.costs else list(cost.energy)
        prices = [cost.parts[name] for name in names if name in cost.parts]
        if not prices:
            return None
        updates = max(prices, key=lambda parts: sum(parts.values()))[UPDATES]
        return updates / (self.limit * UNITS[self.name][self.unit]) or None

    def _used(self, cost: CostBreakdown) -> float:
        if self.name == "cores":
            return float(cost.placement.n_cores)
        if self.name == "memory":
            return float(cost.placement.synaptic_bits)
        if self.name == "synops":
            return cost.synops_fetched
        if self.name == "time":
            return math.inf if cost.time_range is None else cost.time_range.high
        ranges = [{**cost.scenarios, **cost.energy}[self.costs]] if self.costs else list(cost.energy.values())
        return max(found.high for found in ranges)


@dataclass(frozen=True)
class Use:
    """What a network uses of one resource, beside its limit.

    Attributes:
        limit: the limit.
        used: in the limit's unit; infinite if the network does not fit the chip.
        fill: share of the allowed cores' fullest resource that is taken; of cores only, whose number moves in jumps.
        updates: share of the limit that all neuron updates take; of energy only.
        n_updates: neuron updates per timestep.
    """

    limit: Limit
    used: float
    fill: float | None = None
    updates: float | None = None
    n_updates: float = 0.0

    @property
    def update(self) -> float | None:
        """Share of the limit that an average neuron update takes; of energy only."""
        return None if self.updates is None else self.updates / self.n_updates

    @property
    def ratio(self) -> float:
        """Use / limit; of cores within their limit, how full they are."""
        return self.used / self.limit.limit if self.fill is None or not self.met else self.fill

    @property
    def met(self) -> bool:
        """True if the use is within the limit."""
        return self.used <= self.limit.limit

    def recorded(self) -> RecordedUse:
        """The use in plain values, as commands print it and files keep it."""
        limit = self.limit
        used = self.used if math.isfinite(self.used) else None
        costs = (limit.costs or "highest cost set") if limit.name == "energy" else ""
        return RecordedUse(limit.name, limit.limit, used, limit.unit, self.met, costs, limit.source)

    def __str__(self) -> str:
        return self.recorded().amounts


@dataclass(frozen=True)
class Budget:
    """Limits on the use of one chip; all hold at once.

    Attributes:
        limits: one per resource.
        profile: the chip.
    """

    limits: tuple[Limit, ...]
    profile: HardwareProfile

    @classmethod
    def read(cls, texts: tuple[str, ...], chip: str | None) -> Budget | None:
        """The budget that options describe.

        Args:
            texts: NAME=VALUE each.
            chip: name or TOML file of the chip.

        Returns:
            The budget; None without limits.

        Raises:
            UsageError: naming everything that is wrong.
        """
        problems = Problems()
        if not texts:
            NO_BUDGET.check(problems, chip is None, "--chip", repr(chip))
            problems.raise_as(UsageError)
            return None
        CHIP.check(problems, chip is not None, "--budget", "no chip")
        problems.raise_as(UsageError)
        assert chip is not None
        return cls.of(texts, load_profile(chip))

    @classmethod
    def of(cls, texts: tuple[str, ...], profile: HardwareProfile) -> Budget:
        """The budget that texts describe.

        Args:
            texts: NAME=VALUE each.
            profile: the chip.

        Returns:
            The budget.

        Raises:
            UsageError: naming everything that is wrong.
        """
        problems = Problems()
        limits: list[Limit] = []
        for text in texts:
            found = _limit(text, profile, problems)
            if found is not None:
                taken = [limit.name for limit in limits]
                ONCE.check(problems, found.name not in taken, f"--budget {text}", f"a second {found.name}")
                limits.append(found)
        problems.raise_as(UsageError)
        return cls(tuple(limits), profile)

    def uses(self, cost: CostBreakdown | None) -> tuple[Use, ...]:
        """What a network uses, one use per limit.

        Args:
            cost: what it costs on the chip; None if it does not fit, and then all are infinite.

        Returns:
            One use per limit, in the order of ``limits``.
        """
        if cost is None:
            return tuple(Use(limit, math.inf) for limit in self.limits)
        return tuple(
            Use(limit, limit.used(cost), limit.fill(cost), limit.updates(cost), cost.neuron_updates)
            for limit in self.limits
        )


def worst(uses: tuple[Use, ...]) -> Use:
    """The use that is closest to its limit, or furthest above it.

    Args:
        uses: one per limit, at least one.

    Returns:
        The use with the largest ``ratio``; of equals the first.
    """
    return max(uses, key=lambda use: use.ratio)


def _limit(text: str, profile: HardwareProfile, problems: Problems) -> Limit | None:
    """The limit that a text states; None, with the problems noted, for any other text."""
    where, match = f"--budget {text}", _FORM.fullmatch(text.strip().replace(_MU, "µ"))
    if match is None:
        problems.note(SHAPE.broken(where, repr(text)))
        return None
    name, unit, costs = match["name"], match["unit"], match["costs"] or ""
    if not NAME.check(problems, name in UNITS, where, repr(name), names=", ".join(UNITS)):
        return None
    units = ", ".join(filter(None, UNITS[name]))
    fix = "write one behind the number" if units else f"leave it out: {name}={match['value']}"
    found, units = repr(unit) if unit else "no unit", units or "none: a plain number"
    holds = UNIT.check(problems, unit in UNITS[name], where, found, units=units, fix=fix)
    try:
        value = float(match["value"])
    except ValueError:
        value = math.nan
    holds &= VALUE.check(problems, math.isfinite(value) and value > 0, where, match["value"])
    if name != "energy":
        holds &= NO_COSTS.check(problems, not costs, where, f"@{costs}")
    else:
        priced = [entry.name for entry in profile.costs if entry.energy]
        names = [*priced, *(scenario.name for scenario in profile.scenarios)]
        found = repr(costs) if costs else f"no cost set, and no energy of {profile.title} is published"
        known = costs in names or (not costs and bool(priced))
        holds &= COSTS.check(problems, known, where, found, names=", ".join(names))
    if not holds:
        return None
    source = price_source(profile, name, costs) if name in ("energy", "time") else ""
    return Limit(name, value, unit, costs, source)
