"""Ranges of figures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Range:
    """A range from a lower to an upper value."""

    low: float
    high: float

    def to_dict(self) -> dict[str, float]:
        """``{"low": …, "high": …}``."""
        return {"low": self.low, "high": self.high}


def hull(ranges: Mapping[str, Range]) -> Range | None:
    """The smallest range that contains all of ``ranges``; None if there are none.

    Args:
        ranges: ranges by name.

    Returns:
        The range from the lowest to the highest end; None if there are none.
    """
    if not ranges:
        return None
    return Range(min(r.low for r in ranges.values()), max(r.high for r in ranges.values()))


def ratio(over: Mapping[str, Range], under: Mapping[str, Range]) -> Range | None:
    """The range of ``over / under`` over the names that both have, low over low and high over high of each.

    Ends of different names are never divided: the lowest figure of one network may be of another cost set than that of the other.

    Args:
        over: ranges by name, such as those of cost sets.
        under: other ranges.

    Returns:
        The range; None if no name has two ends above 0 to divide by.
    """
    found = [
        end
        for name, a in over.items()
        if (b := under.get(name)) is not None and b.low > 0 and b.high > 0
        for end in (a.low / b.low, a.high / b.high)
    ]
    return Range(min(found), max(found)) if found else None
