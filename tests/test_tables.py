"""Tables keep all figures at any width and print cells literally."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from lbi import tables
from lbi.tables import NARROWEST

COLUMNS = ("name", "first figure", "second")
ROWS = [
    ("a [bold]label[/bold] that is long enough to break", "1,234,567", "1"),
    ("b", "2", "12.5 µs – 13.1 µs"),
]


def shown(width: int, **options) -> list[str]:
    out = Console(file=io.StringIO(), width=width, **options)
    tables.show(out, tables.make(COLUMNS, ROWS, dim=(1,)))
    return out.file.getvalue().splitlines()


def test_plain_text_is_as_wide_as_it_needs():
    text = tables.plain(tables.make(COLUMNS, ROWS, left=(0, 1, 2)))
    first = max(len(row[0]) for row in ROWS)
    assert text.splitlines() == [
        f"{'name':{first}}  first figure  second",
        f"{ROWS[0][0]}  1,234,567     1",
        f"{'b':{first}}  2             12.5 µs – 13.1 µs",
    ]


@pytest.mark.parametrize("width", [1, 20, 40, 60, 200])
def test_no_figure_is_cut(width):
    lines = shown(width)
    for cell in (*COLUMNS[1:], *(cell for row in ROWS for cell in row[1:])):
        assert any(cell in line for line in lines)
    text = " ".join(line[:NARROWEST] if width < 60 else line for line in lines)
    assert all(word in text for word in ROWS[0][0].split())


def test_pipes_and_no_color_get_no_escapes(monkeypatch):
    assert not any("\x1b" in line for line in shown(80))
    assert any("\x1b[" in line for line in shown(80, force_terminal=True, color_system="standard"))
    monkeypatch.setenv("NO_COLOR", "1")
    colours = [line for line in shown(80, force_terminal=True) if "\x1b[3" in line]
    assert colours == []
