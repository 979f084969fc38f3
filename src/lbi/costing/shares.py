"""Records of what could be saved next."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lbi.costing.ranges import Range

TEXTS = {
    "rare-neurons": "updates of {n:,} of {of:,} neurons that fire in under 0.1 % of the timesteps: remove them",
    "busy-sources": "synaptic operations of the {n:,} busiest of {of:,} sources: prune their weights, or let them fire less",
    "stored-zeros": "reading {n:,} of {of:,} weights that are zero, in rows stored dense: prune further, until indices are smaller",
}
"""Kind of saving → what it is, and what would save it."""


@dataclass(frozen=True)
class Saving:
    """A share of the dynamic energy with one cause.

    Attributes:
        kind: key of ``TEXTS``.
        n: neurons, sources or weights that cause it.
        of: of how many.
        share: its share of the dynamic energy per timestep (0 to 1), over the price lists.
        what_if: the scenarios of the energy, where none of the chip is published; empty for the chip's own.
    """

    kind: str
    n: int
    of: int
    share: Range
    what_if: str = ""

    @property
    def text(self) -> str:
        """The saving as a sentence."""
        low, high = f"{100 * self.share.low:.0f}", f"{100 * self.share.high:.0f}"
        percent = low if low == high else f"{low}–{high}"
        energy = f"the dynamic energy ({self.what_if})" if self.what_if else "the dynamic energy"
        return f"{percent} % of {energy} is {TEXTS[self.kind].format(n=self.n, of=self.of)}"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {
            "kind": self.kind,
            "n": self.n,
            "of": self.of,
            "share": self.share.to_dict(),
            "text": self.text,
        }
