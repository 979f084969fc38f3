"""The budget that a network was trained to, as its file records it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lbi.network.fixed import FixedNetwork

MOST_DIGITS = 15
"""Significant digits that every float64 keeps."""

LONGEST_SOURCE = 1000
"""Letters of a source that is read from a file."""


@dataclass(frozen=True)
class RecordedUse:
    """One limit of the budget, and the use that training certified.

    Attributes:
        name: cores, memory, synops, energy or time.
        limit: in ``unit``.
        used: in ``unit``, on the training samples; None if the network did not fit the chip.
        unit: empty for plain numbers.
        met: True if the use was within the limit.
        costs: the cost set of an energy; empty for others.
        source: labels and confidences of what prices an energy or a time; empty for others, and in files of earlier versions.
    """

    name: str
    limit: float
    used: float | None
    unit: str
    met: bool
    costs: str = ""
    source: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values, as ``lbi-train --json`` prints them."""
        record = {"limit": self.limit, "used": self.used, "unit": self.unit, "met": self.met}
        texts = {"costs": self.costs, "source": self.source}
        return record | {name: text for name, text in texts.items() if text}

    @property
    def ratio(self) -> float:
        """Use / limit; infinite if the network did not fit the chip."""
        return self.used / self.limit if self.used is not None and self.limit else math.inf

    @property
    def amounts(self) -> str:
        """Use and limit in words."""
        unit = f" {self.unit}" if self.unit else ""
        used = "no placement" if self.used is None else self.used_text
        priced = f" ({self.costs})" if self.costs else ""
        return f"{self.name} {used} of {self.limit_text}{unit}{priced}"

    @property
    def limit_text(self) -> str:
        """The limit without its unit."""
        return _digits(self.limit, MOST_DIGITS)

    @property
    def used_text(self) -> str:
        """The use without its unit, in as many digits as tell it from the limit; empty without a placement."""
        if self.used is None:
            return ""
        limit = _digits(self.limit, MOST_DIGITS)
        texts = (_digits(self.used, n) for n in range(4, MOST_DIGITS + 1))
        return next((text for text in texts if text != limit or self.met), _digits(self.used, MOST_DIGITS))

    def __str__(self) -> str:
        return f"{self.amounts}, {'met' if self.met else 'NOT MET'}"

    @property
    def sourced(self) -> str:
        """Use and limit in words, with the source of their prices."""
        return f"{self} [{self.source}]" if self.source else str(self)


def recorded_budget(fixed: FixedNetwork) -> tuple[RecordedUse, ...]:
    """The budget in a network's provenance.

    Args:
        fixed: the network; its provenance may hold any JSON, and entries of another form are left out.

    Returns:
        One record per limit, sorted by name; none if it was not trained to a budget.
    """
    training = fixed.provenance.get("training")
    return read_uses(training.get("budget") if isinstance(training, dict) else None)


def read_uses(budget: Any) -> tuple[RecordedUse, ...]:
    """The limits and uses that ``lbi-train --json`` prints.

    Args:
        budget: resource → record, or anything else.

    Returns:
        One record per limit, sorted by name; entries of another form are left out.
    """
    if not isinstance(budget, dict):
        return ()
    return tuple(use for name in sorted(budget) if (use := _use(name, budget[name])) is not None)


def exceeded(uses: Iterable[RecordedUse]) -> list[RecordedUse]:
    """The uses beyond their limit, the furthest first.

    Args:
        uses: all of them.

    Returns:
        The uses that are not met, by falling ratio of use to limit; empty if all are met.
    """
    return sorted((use for use in uses if not use.met), key=lambda use: use.ratio, reverse=True)


def _use(name: str, entry: Any) -> RecordedUse | None:
    if not isinstance(entry, dict):
        return None
    limit: Any = entry.get("limit")
    used, unit = entry.get("used"), entry.get("unit", "")
    costs, source, met = entry.get("costs", ""), entry.get("source", ""), entry.get("met")
    well_formed = (
        _is_amount(limit)
        and (used is None or _is_amount(used))
        and isinstance(unit, str)
        and isinstance(costs, str)
        and isinstance(source, str)
        and isinstance(met, bool)
        and all(text.isprintable() and len(text) <= 60 for text in (name, unit, costs))
        and source.isprintable()
        and len(source) <= LONGEST_SOURCE
    )
    if not well_formed:
        return None
    return RecordedUse(
        name, float(limit), None if used is None else float(used), unit, bool(met), costs, source
    )


def _digits(value: float, n: int) -> str:
    """At least ``n`` significant digits, all of those before the point, and no power of ten between 1e-6 and 1e15."""
    if value and not 1e-6 <= abs(value) < 1e15:
        return f"{value:.{n}g}"
    places = max(0, n - 1 - math.floor(math.log10(abs(value)))) if value else 0
    text = f"{value:,.{places}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _is_amount(value: Any) -> bool:
    """True for a finite number of at least 0."""
    return (
        isinstance(value, int | float) and not isinstance(value, bool) and value >= 0 and math.isfinite(value)
    )
