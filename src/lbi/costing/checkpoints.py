"""Published measurements beside what the chip's constants give for the same counts: hits and misses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lbi.chip.profile import CheckPoint, HardwareProfile
from lbi.costing.costs import energy
from lbi.costing.ranges import Range


@dataclass(frozen=True)
class Comparison:
    """One check point.

    Attributes:
        point: the published measurement.
        ours: energy in pJ from its counts and its cost set.
    """

    point: CheckPoint
    ours: Range

    @property
    def ratio(self) -> Range:
        """Ours over measured."""
        measured = self.point.measured.number
        return Range(self.ours.low / measured, self.ours.high / measured)

    @property
    def inside(self) -> bool:
        """True if the measurement lies in our range."""
        return self.ratio.low <= 1 <= self.ratio.high

    @property
    def verdict(self) -> str:
        """``inside``, or by how much our range misses the measurement."""
        if self.inside:
            return "inside"
        near, far = sorted(abs(end - 1) for end in (self.ratio.low, self.ratio.high))
        span = f"{far:.0%}" if f"{near:.0%}" == f"{far:.0%}" else f"{near:.0%} to {far:.0%}"
        return f"miss by {span}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        measured = self.point.measured
        return {
            "name": self.point.name,
            "label": self.point.label,
            "costs": self.point.costs.label,
            "boundary": self.point.boundary,
            "source": measured.source,
            "confidence": measured.confidence,
            "ours_pj": self.ours.to_dict(),
            "measured_pj": measured.number,
            "inside": self.inside,
            "verdict": self.verdict,
        }


def check_points(profile: HardwareProfile) -> tuple[Comparison, ...]:
    """All check points of a chip.

    Args:
        profile: the chip.

    Returns:
        One comparison each, in the order of the chip's file.
    """
    return tuple(
        Comparison(point, Range(*sorted(_energy(point, end) for end in (0, -1))))
        for point in profile.checkpoints
    )


def _energy(point: CheckPoint, end: int) -> float:
    """Energy in pJ of the lower (0) or upper (−1) counts."""
    events = {"synop_indexed": point.synops.numbers[end]}
    for event, updates in (
        ("update_active", point.updates_active),
        ("update_inactive", point.updates_inactive),
    ):
        if updates is not None:
            events[event] = updates.numbers[end]
    return energy(point.costs, events) or 0.0
