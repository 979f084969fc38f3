"""Conformance suite of targets and chips, which a new row or file joins by being listed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import cases
from support.command import call

import lbi
from lbi.chip import rules
from lbi.chip.load import load_profile, profile_names
from lbi.chip.placement import place
from lbi.cli.export import main as lbi_export
from lbi.costing.estimation import estimate
from lbi.deploy import targets
from lbi.network.fixed import SignMode, num_weight_bits
from lbi.quantization.to_floats import dequantize

ROOT = Path(__file__).parents[2]
DOCS = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
every_target = pytest.mark.parametrize("name", sorted(targets.TARGETS))
every_chip = pytest.mark.parametrize("chip", profile_names())


def contents(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    return {str(p.relative_to(path)): p.read_bytes() for p in files}


@every_target
def test_a_target_writes_the_same_bytes_twice(name, tmp_path):
    if name == "nir":
        pytest.importorskip("nir")
    lbi.save(cases.make("feed_forward")[0], tmp_path / "network.h5")
    written = []
    for folder in ("a", "b"):
        out = tmp_path / folder / f"network{targets.exporter(name).SUFFIX}"
        out.parent.mkdir()
        more = ["--dt", "0.001"] if name == "nir" else []
        done = call(lbi_export, tmp_path / "network.h5", "--target", name, "-o", out, *more, "--json")
        assert done.code == 0, done.errors
        assert done.json["target"] == name
        written.append(contents(out))
    assert written[0] == written[1]
    assert all(written[0].values())


@every_target
def test_a_target_is_listed_and_documented(name):
    listed = call(lbi_export, "--list-targets").out
    assert name in listed
    suffix = targets.exporter(name).SUFFIX
    assert f"<name>{suffix}" in DOCS or f"`{suffix}`" in DOCS or f"{suffix}`" in DOCS


@every_chip
def test_a_chip_takes_what_is_quantized_for_it(chip):
    profile = load_profile(chip)
    _, spikes = cases.make("feed_forward")
    fixed = lbi.quantize(dequantize(cases.make("feed_forward")[0]), profile)
    assert rules.check(fixed, profile) == []
    assert place(fixed, profile).n_cores >= 1
    result = estimate(fixed, chip=profile, spikes=spikes)
    assert result.profile.name == chip


@every_chip
def test_a_chips_formats_are_part_of_lavas(chip):
    """Records hold what Lava holds: a chip may allow less."""
    formats = load_profile(chip).formats
    assert -8 <= formats.weight_exponent.minimum <= formats.weight_exponent.maximum <= 7
    assert 0 <= formats.delay.minimum <= formats.delay.maximum <= 62
    for mode in SignMode:
        assert mode.chip_format(formats).within(mode.lava_format)


@every_chip
def test_a_chips_memory_stores_its_weight_grid(chip):
    profile = load_profile(chip)
    for mode in SignMode:
        grid = mode.chip_format(profile.formats)
        values = np.arange(grid.minimum, grid.maximum + 1, grid.step)
        assert num_weight_bits(values, mode) <= max(profile.layout.weight_bits.numbers)


@every_chip
def test_a_chip_is_documented(chip):
    assert f"hardware/{chip}.toml" in DOCS
