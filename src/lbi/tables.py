"""Text tables for terminals, pipes and files, laid out by rich, which is loaded on first use."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

NARROWEST = 24
"""Minimum width of the first column on a narrow terminal, in characters."""


def make(
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    left: Iterable[int] = (0,),
    dim: Iterable[int] = (),
) -> Table:
    """A table without lines.

    Args:
        columns: the titles.
        rows: the cells, printed literally (brackets are not markup).
        left: numbers of left-aligned columns; all others are right-aligned.
        dim: numbers of rows that are dimmed on a terminal.

    Returns:
        The table. On a narrow terminal only its first column breaks lines.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    cells = [tuple(map(Text, row)) for row in rows]
    for number, title in enumerate(columns):
        widest = max(text.cell_len for text in (Text(title), *(row[number] for row in cells)))
        table.add_column(
            Text(title),
            justify="left" if number in left else "right",
            no_wrap=number > 0,
            min_width=widest if number > 0 else min(widest, NARROWEST),
        )
    for number, row in enumerate(cells):
        table.add_row(*row, style="dim" if number in dim else None)
    return table


def show(console: Console, table: Table) -> None:
    """Print a table at the console's width, or wider if needed so that no figure is cut.

    Args:
        console: where to print.
        table: the table.
    """
    from rich.console import Console
    from rich.measure import Measurement

    unlimited = console.options.update(max_width=10_000)
    needed = Measurement.get(console, unlimited, table).minimum
    if needed > console.width:
        console = Console(file=console.file, width=needed, highlight=False, quiet=console.quiet)
    console.print(table)


def plain(table: Table) -> str:
    """A table as plain text of the required width, without trailing spaces.

    Args:
        table: the table.

    Returns:
        The text, without a line break at its end.
    """
    from io import StringIO

    from rich.console import Console
    from rich.measure import Measurement

    wide = Console(file=StringIO(), width=10_000, color_system=None)
    wide.width = Measurement.get(wide, wide.options, table).maximum
    with wide.capture() as text:
        wide.print(table)
    return "\n".join(line.rstrip() for line in text.get().splitlines())
