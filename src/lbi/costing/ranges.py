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
        The range.
    """
    if not ranges:
        return None
    return Range(min(r.low for r in ranges.values()), max(r.high for r in ranges.values()))
