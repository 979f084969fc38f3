"""Estimates as tables on a terminal: main figures, projections, scenarios, notes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbi import tables
from lbi.costing.report.figures import comparison, headline, projection_lines, where_it_goes

if TYPE_CHECKING:
    from rich.console import Console

    from lbi.costing.result import Estimate

HEADLINE = ("per timestep", "dense", "sparse", "dense / sparse")
PROJECTIONS = (
    "projection",
    "shape",
    "nonzero",
    "density",
    "stored as",
    "bits",
    "bits dense",
    "SynOps nonzero",
    "SynOps dense",
)


def show(out: Console, estimates: list[Estimate], names: list[str]) -> None:
    """Print one block per export, then the comparison if there are several."""
    for estimate, name in zip(estimates, names, strict=True):
        _one(out, estimate, name)
    if len(estimates) > 1:
        _comparison(out, estimates, names)


def _one(out: Console, estimate: Estimate, name: str) -> None:
    out.print()
    out.print(f"{name} on {estimate.profile.title}", markup=False, style="bold")
    out.print(f"{estimate.basis}; energy and time are ranges, not single figures", markup=False)
    lines = headline(estimate)
    rows = [(line.label, line.dense, line.sparse, line.ratio) for line in lines]
    dim = [number for number, line in enumerate(lines) if line.hypothetical]
    tables.show(out, tables.make(HEADLINE, rows, dim=dim))
    tables.show(out, tables.make(PROJECTIONS, projection_lines(estimate), left=(0, 4)))
    for text in where_it_goes(estimate):
        out.print(text, markup=False)
    for note in estimate.notes():
        out.print(f"• {note}", markup=False)


def _comparison(out: Console, estimates: list[Estimate], names: list[str]) -> None:
    """Each export as it would be stored, and the first over the others."""
    out.print()
    out.print("Compared, each as the chip would store it", style="bold")
    ratios = (f"{names[0]} / {name}" for name in names[1:])
    tables.show(out, tables.make(("per timestep", *names, *ratios), comparison(estimates)))
