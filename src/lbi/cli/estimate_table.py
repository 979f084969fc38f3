"""Estimates as tables on a terminal: main figures, projections, scenarios, notes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lbi import tables
from lbi.costing.report.figures import (
    budget_note,
    comparison,
    core_lines,
    headline,
    next_savings,
    projection_lines,
    static_note,
    what_bounds,
    where_it_goes,
)
from lbi.costing.report.sources import profiles, source_lines, source_note

if TYPE_CHECKING:
    from rich.console import Console

    from lbi.costing.recorded_budget import RecordedUse
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
    "SynOps fetched",
    "SynOps nonzero",
    "SynOps dense",
)
CORES = ("per timestep", "busiest core", "its number", "mean", "all cores", "most in one step", "limit")


def show(
    out: Console,
    estimates: list[Estimate],
    names: list[str],
    uses: Sequence[tuple[RecordedUse, ...]] = (),
    *,
    sources: bool = False,
) -> None:
    """Print one block per export, then the comparison if there are several, then the sources.

    Args:
        out: the terminal.
        estimates: the estimates.
        names: their names.
        uses: for each, what it uses of the limits that were asked for.
        sources: whether to list every number of each chip with its source.
    """
    shown = zip(estimates, names, uses or [()] * len(names), strict=True)
    for number, (estimate, name, own) in enumerate(shown):
        if number:
            out.print()
        _one(out, estimate, name)
        for use in own:
            out.print(f"budget  {use.sourced}", markup=False, style="bold")
    if len(estimates) > 1:
        _comparison(out, estimates, names)
    for profile in profiles(estimates) if sources else ():
        out.print()
        out.print(f"Numbers of {profile.title}, and their sources", markup=False, style="bold")
        for line in source_lines(profile):
            out.print(line, markup=False, style="dim")


def _one(out: Console, estimate: Estimate, name: str) -> None:
    out.print(f"{name} on {estimate.profile.title}", markup=False, style="bold")
    out.print(f"{estimate.basis}; energy and time are ranges, not single figures", markup=False)
    lines = headline(estimate)
    rows = [(line.label, line.dense, line.sparse, line.ratio) for line in lines]
    dim = [number for number, line in enumerate(lines) if line.hypothetical]
    tables.show(out, tables.make(HEADLINE, rows, dim=dim))
    out.print(source_note(estimate), markup=False)
    tables.show(out, tables.make(PROJECTIONS, projection_lines(estimate), left=(0, 4)))
    cores = core_lines(estimate)
    if cores:
        tables.show(out, tables.make(CORES, cores))
    static = static_note(estimate)
    for text in (*what_bounds(estimate), *where_it_goes(estimate), *next_savings(estimate)):
        out.print(text, markup=False)
    for text in filter(None, (static, budget_note(estimate))):
        out.print(text, markup=False)
    for note in estimate.notes():
        out.print(f"• {note}", markup=False)


def _comparison(out: Console, estimates: list[Estimate], names: list[str]) -> None:
    """Each export as it would be stored, and the first over the others."""
    out.print()
    out.print("Compared, each as the chip would store it", style="bold")
    ratios = (f"{names[0]} / {name}" for name in names[1:])
    tables.show(out, tables.make(("per timestep", *names, *ratios), comparison(estimates)))
