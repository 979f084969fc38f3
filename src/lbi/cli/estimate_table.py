"""Estimates as tables on a terminal: headline figures, projections, scenarios, what to know."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lbi.costing.report.figures import Line, headline, projection_lines, where_it_goes

if TYPE_CHECKING:
    from rich.console import Console

    from lbi.costing.result import Estimate


def show(out: Console, estimates: list[Estimate], names: list[str]) -> None:
    """Print one block per export, then the comparison if there are several."""
    for estimate, name in zip(estimates, names, strict=True):
        _one(out, estimate, name)
    if len(estimates) > 1:
        _comparison(out, estimates, names)


def _one(out: Console, estimate: Estimate, name: str) -> None:
    from rich.table import Table

    title = f"{name} on {estimate.profile.title}"
    out.print()
    out.print(f"[bold]{title}[/bold]")
    out.print(f"{estimate.basis}; energy and time are bands, not single figures", markup=False)
    out.print(_table(headline(estimate), ("per timestep", "dense", "sparse", "dense / sparse")))
    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, column in enumerate(
        (
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
    ):
        table.add_column(column, justify="left" if i in (0, 4) else "right")
    for row in projection_lines(estimate):
        table.add_row(*row)
    out.print(table)
    for line in where_it_goes(estimate):
        out.print(line, markup=False)
    for note in estimate.notes():
        out.print(f"• {note}", markup=False)


def _table(lines: list[Line], columns: tuple[str, ...]) -> object:
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for i, column in enumerate(columns):
        table.add_column(column, justify="left" if i == 0 else "right")
    for line in lines:
        table.add_row(
            line.label, line.dense, line.sparse, line.ratio, style="dim" if line.hypothetical else None
        )
    return table


def _comparison(out: Console, estimates: list[Estimate], names: list[str]) -> None:
    """Each export as it would be stored, and the first over the others."""
    from rich.table import Table

    from lbi.costing.report.figures import comparison

    out.print()
    out.print("[bold]Compared, each as the chip would store it[/bold]")
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("per timestep")
    for name in names:
        table.add_column(name, justify="right")
    for name in names[1:]:
        table.add_column(f"{names[0]} / {name}", justify="right")
    for row in comparison(estimates):
        table.add_row(*row)
    out.print(table)
