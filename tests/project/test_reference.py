"""The tables in docs/reference that are made from the code are those of the code."""

from __future__ import annotations

from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

pytest.importorskip("torch")

TOOL = Path(__file__).parents[2] / "docs" / "_tools" / "reference.py"
spec = spec_from_file_location("docs_reference", TOOL)
assert spec is not None
assert spec.loader is not None
reference = module_from_spec(spec)
spec.loader.exec_module(reference)
for name in reference.COMMANDS:  # before another test adds a neuron model, which their help would list
    import_module(f"lbi.cli.{name}")


@pytest.mark.parametrize("name", sorted(reference.PARTS))
def test_the_pages_are_made_from_the_code(name):
    text = (reference.FOLDER / f"{name}.md").read_text(encoding="utf-8")
    assert text == reference.page(name), "run `make schemas`"


def test_every_preset_is_listed():
    from lbi.train.session.presets import PRESETS

    text = "\n".join(reference.presets())
    for dataset, rows in PRESETS.items():
        assert text.count(f"| `{dataset}` |") == sum(bool(options) for options in rows.values())
