"""docs/architecture.md names every module beside its folder."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("network", "chip", "quantization", "simulation", "costing", "files", "deploy", "system")


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_tree_names_every_module(folder):
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^      {folder}/ .*$", text, re.MULTILINE)
    named = set(re.findall(r"\w+", row))
    modules = {path.stem for path in (ROOT / "src" / "lbi" / folder).glob("*.py")} - {"__init__"}
    assert modules <= named, "modules that the row of their folder leaves out"
