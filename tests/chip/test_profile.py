"""Chip profiles: the built-in ones are complete, and a wrong file is refused with all its faults."""

from __future__ import annotations

import re
from dataclasses import fields
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from support.handmade_networks import population, projection

from lbi import FixedNetwork, Readout
from lbi.chip.events import ENERGY, TIME
from lbi.chip.load import load_profile, parse_profile, profile_names
from lbi.chip.memory import projection_bits
from lbi.chip.placement import place
from lbi.chip.profile import CONFIDENCES, Limits, MemoryLayout, Mesh
from lbi.errors import FitError, InputError, UsageError
from lbi.network.fixedpoint import IntFormat, NumberFormats

CHIPS = profile_names()
LOIHI1 = (files("lbi.hardware") / "loihi1.toml").read_text(encoding="utf-8")


def changed(old: str, new: str) -> str:
    assert LOIHI1.count(old) == 1, old
    return LOIHI1.replace(old, new)


def problems(text: str) -> dict[str, str]:
    with pytest.raises(InputError, match=r"mine\.toml") as caught:
        parse_profile(text, "mine.toml")
    return {problem.where: problem.code for problem in caught.value.problems}


def test_both_loihis_come_with_the_package():
    assert set(CHIPS) >= {"loihi1", "loihi2"}


@pytest.mark.parametrize("chip", CHIPS)
def test_every_number_has_unit_source_and_confidence(chip):
    profile = load_profile(chip)
    assert len(list(profile.quantities())) > 50
    for name, quantity in profile.quantities():
        assert quantity.unit, name
        assert quantity.confidence in CONFIDENCES, name
        for part in quantity.source.split(";"):
            assert part.split()[0] in profile.sources, name
        assert quantity.known == (quantity.confidence != "not published"), name


def test_loihi_1_numbers_as_published():
    """Davies et al. 2018: Table 2 and the rules on page 89."""
    profile = load_profile("loihi1")
    costs = profile.costs[0]
    assert {
        name: costs.energy[name].number for name in ("synop_dense", "update_active", "update_inactive")
    } == {
        "synop_dense": 23.6,
        "update_active": 81,
        "update_inactive": 52,
    }
    assert (costs.time["synop_dense"].number, costs.time["barrier_low"].number) == (3.5, 113)
    limits = profile.limits
    assert (limits.compartments_per_core.limit, limits.input_axons_per_core.limit) == (1024, 4096)
    assert profile.layout.capacity.limit == 128 * 1024 * 8


def test_loihi_2_has_no_energy_of_its_own_but_labelled_scenarios():
    profile = load_profile("loihi2")
    assert not profile.has_energy
    assert profile.limits.input_axons_per_core.limit is None
    assert all("not a Loihi 2 figure" in scenario.label for scenario in profile.scenarios)
    borrowed = next(s.costs for s in profile.scenarios if s.costs is not None)
    lent = load_profile("loihi1").costs[0]
    assert {event: price.value for event, price in borrowed.energy.items()} == {
        event: price.value for event, price in lent.energy.items()
    }
    assert borrowed.energy["synop_dense"].source == "loihi1:D18 Table 2"
    assert profile.sources["loihi1:D18"] == load_profile("loihi1").sources["D18"]


@pytest.mark.parametrize(
    ("old", "new", "where", "code"),
    [
        ("columns = { value = 8, unit", "columns = { value = 8, units", "mesh.columns.units", "unknown-key"),
        ("columns = { value = 8, unit", "columns = { value = 8, units", "mesh.columns", "missing-unit"),
        (
            'rows = { value = 4, unit = "tiles"',
            'rows = { value = 4, unit = "cores"',
            "mesh.rows",
            "wrong-unit",
        ),
        ("[mesh]", "[mesh]\ndepth = 1", "mesh.depth", "unknown-key"),
        (
            "rows = { value = 4,",
            "rows = { value = 3,",
            "mesh",
            "mesh-too-small",
        ),  # 8 · 3 · 4 = 96 of 128 cores
        ("[mesh]", "[extra]\nx = 1\n[mesh]", "extra", "unknown-key"),
        ("rows = { value = 4,", "rows = { value = 0,", "mesh.rows", "impossible-value"),
        ("rows = { value = 4,", "rows = { value = 2.5,", "mesh.rows", "impossible-value"),
        ("rows = { value = 4,", "rows = { value = true,", "mesh.rows", "impossible-value"),
        ("rows = { value = 4,", "rows = {", "mesh.rows", "missing-value"),
        ("value = 128, unit", "value = -128, unit", "limits.cores_per_chip", "impossible-value"),
        ("value = 8.4, unit", "value = nan, unit", "costs.davies2018.time.update_active", "impossible-value"),
        (
            "value = 1.7, unit",
            "value = -1.7, unit",
            "costs.davies2018.energy.message_within_tile",
            "impossible-value",
        ),
        (
            "value = [6, 7, 8, 9, 10, 11, 12]",
            "value = [12, 6]",
            "memory.loihi1.index_bits",
            "impossible-value",
        ),
        ("decay = { min = 0, max = 4095", "decay = { min = 0, max = -1", "formats.decay", "impossible-value"),
        (
            "weight_mixed = { min = -256, max = 254, step = 2",
            "weight_mixed = { min = -256, max = 254, step = 4",
            "formats.weight_mixed",
            "impossible-value",
        ),
        (
            "weight_mixed = { min = -256, max = 254, step = 2",
            "weight_mixed = { min = -128, max = 127, step = 1",
            "formats.weight_mixed",
            "impossible-value",
        ),
        (
            "weight_excitatory = { min = 0, max = 255",
            "weight_excitatory = { min = 0, max = 256",
            "formats.weight_excitatory",
            "impossible-value",
        ),
        (
            "weight_exponent = { min = -7, max = 7",
            "weight_exponent = { min = -7, max = 9",
            "formats.weight_exponent",
            "impossible-value",
        ),
        (
            "threshold = { min = 0,",
            "threshold = { step = 2, min = 0,",
            "formats.threshold.step",
            "unknown-key",
        ),
        ("schema = 1", "schema = 2", "schema", "schema-version"),
        ("[static.blouw2019]", "[static.blouw2019]\nvolt = 1", "static.blouw2019.volt", "unknown-key"),
        ('costs = "sanafe"', 'costs = "nobody"', "checkpoints.frady2020_sanafe.costs", "unknown-costs"),
    ],
)
def test_each_fault_is_named(old, new, where, code):
    assert problems(changed(old, new))[f"mine.toml, {where}"] == code


def test_unknown_source_and_confidence_are_named():
    text = changed(
        'rows = { value = 4, unit = "tiles", source = "SF", confidence = "inferred" }',
        'rows = { value = 4, unit = "tiles", source = "Hearsay p.1", confidence = "sure" }',
    )
    with pytest.raises(InputError, match="Hearsay") as caught:
        parse_profile(text, "mine.toml")
    assert {problem.code for problem in caught.value.problems} == {"unknown-source", "confidence"}


def test_a_bare_number_and_a_new_source_are_answered_with_what_to_write():
    text = changed(
        'rows = { value = 4, unit = "tiles", source = "SF", confidence = "inferred" }',
        "rows = 4",
    )
    fix = 'fix: write { value = 4, unit = "tiles", source = "KEY place", confidence = "assumption" }'
    with pytest.raises(InputError, match=re.escape(fix)):
        parse_profile(text, "mine.toml")
    written = fix.partition("write ")[2].replace("KEY place", "SF")
    assert parse_profile(text.replace("rows = 4", f"rows = {written}"), "mine.toml").mesh.rows.number == 4
    text = text.replace(
        "rows = 4", 'rows = { value = 4, unit = "tiles", source = "RTL x.v", confidence = "published" }'
    )
    with pytest.raises(
        InputError, match=r"'RTL x\.v'; .*fix: declare it under \[sources\]: RTL = \"full reference\"$"
    ):
        parse_profile(text, "mine.toml")
    parse_profile(text.replace("[sources]", '[sources]\nRTL = "full reference"'), "mine.toml")


def test_the_name_of_a_file_without_its_ending_is_answered_with_the_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=r"'mine'; .*fix: choose one, or write your own"):
        load_profile("mine")
    (tmp_path / "mine.toml").write_text("", encoding="utf-8")
    with pytest.raises(UsageError, match=r"'mine'; .*fix: --chip mine\.toml$"):
        load_profile("mine")


def test_a_value_that_is_not_published_may_not_have_one():
    text = changed('chips_per_system = { unit = "chips"', 'chips_per_system = { value = 3, unit = "chips"')
    assert problems(text) == {"mine.toml, limits.chips_per_system": "impossible-value"}


def test_weight_grids_that_a_file_leaves_out_are_lavas():
    """As in files written before chips had grids of their own."""
    grids = ("weight_mixed", "weight_excitatory", "weight_inhibitory")
    text = "\n".join(line for line in LOIHI1.splitlines() if not line.startswith(grids))
    formats = parse_profile(text, "mine.toml").formats
    assert (formats.weight_mixed, formats.weight_inhibitory) == (IntFormat(-256, 254, 2), IntFormat(-255, 0))


def test_all_faults_in_one_pass():
    text = changed("rows = { value = 4,", "rows = { value = 0,").replace(
        'word = { value = 64, unit = "bits"', "word = { value = 64"
    )
    text = text.replace("[mesh]", "[mesh]\nlayers = 3")
    assert len(problems(text)) == 3


def test_a_missing_table_says_what_stands_in_it():
    with pytest.raises(InputError, match="missing-key") as caught:
        parse_profile("", "mine.toml")
    allowed = {problem.where: problem.allowed for problem in caught.value.problems}
    assert allowed["mine.toml, mesh"] == "a table with columns, rows, cores_per_tile"
    assert "weight_mixed (optional)" in allowed["mine.toml, formats"]
    assert allowed["mine.toml, memory"].startswith("at least one [memory.NAME], each a table with label, ")
    assert allowed["mine.toml, costs"].startswith("[costs.NAME], each a table with label, ")
    assert "a value" not in allowed.values()
    for text, words in (("[mesh]", "value, unit, source, confidence"), ("[formats]", "min, max, unit")):
        with pytest.raises(InputError, match=f"missing-key.*allowed: {{ {words}.*fix: copy it from"):
            parse_profile(text, "mine.toml")


def test_not_toml_is_one_line():
    with pytest.raises(InputError, match="toml-syntax"):
        parse_profile("name = ", "mine.toml")


def test_a_users_own_file(tmp_path):
    path = tmp_path / "half.toml"
    path.write_text(changed("value = 1024, unit", "value = 512, unit"), encoding="utf-8")
    assert load_profile(path).limits.compartments_per_core.limit == 512


def test_no_profile_shares_what_can_be_changed_with_a_later_one():
    """Chips that lend their costs are read once."""
    first, second = load_profile("loihi2"), load_profile("loihi2")
    lent = [scenario.costs for scenario in first.scenarios if scenario.costs]
    assert [bool(costs.energy) for costs in lent] == [True] * len(lent) != []
    first.sources.clear()
    for costs in lent:
        costs.energy.clear()
    assert load_profile("loihi2") == second != first


def test_unknown_chip_names_the_known_ones():
    with pytest.raises(UsageError, match=", ".join(CHIPS)):
        load_profile("loihi9")


def test_missing_file_is_one_problem():
    with pytest.raises(InputError, match="chip-unreadable"):
        load_profile("/nowhere/chip.toml")


def test_the_documentation_names_every_key():
    text = (Path(__file__).parents[2] / "docs" / "hardware.md").read_text(encoding="utf-8")
    records = (Limits, Mesh, NumberFormats, MemoryLayout)
    keys = {*(field.name for kind in records for field in fields(kind)), *ENERGY, *TIME, *CONFIDENCES}
    missing = [key for key in keys if f"`{key}`" not in text]
    assert missing == []


@pytest.mark.parametrize("number", [2**48 + 1, 2**63 - 1])
def test_counts_that_64_bits_cannot_add_up_are_refused(number):
    text = re.sub(r"(state_per_neuron = \{ value = )\d+", rf"\g<1>{number}", LOIHI1)
    assert text != LOIHI1
    assert [where for where in problems(text) if "state_per_neuron" in where]


BITS_8, BITS_4 = "value = [1, 2, 3, 4, 5, 6, 8]", "value = [1, 2, 4]"


def test_a_layout_narrower_than_the_weights_is_answered_with_grids_that_load():
    """Four bits hold 16 numbers: -256 to 224 in steps of 32, 0 to 240 and -240 to 0 in steps of 16."""
    text = changed(BITS_8, BITS_4)
    with pytest.raises(InputError, match="weight-bits") as caught:
        parse_profile(text, "mine.toml")
    fixes = [problem.remedy for problem in caught.value.problems]
    assert {problem.where for problem in caught.value.problems} == {"mine.toml, memory.loihi1.weight_bits"}
    assert fixes == [
        "state the grid that the layout stores: weight_mixed = { min = -256, max = 224, step = 32, … }",
        "state the grid that the layout stores: weight_excitatory = { min = 0, max = 240, step = 16, … }",
        "state the grid that the layout stores: weight_inhibitory = { min = -240, max = 0, step = 16, … }",
    ]
    for fix in fixes:
        name, _, grid = fix.partition(": ")[2].partition(" = ")
        text = re.sub(
            rf"^{name} = {{ min = \S+ max = \S+( step = 2,)?", f"{name} = {grid[:-4]}", text, flags=re.M
        )
    formats = parse_profile(text, "mine.toml").formats
    assert formats.weight_mixed == IntFormat(-256, 224, 32)
    assert formats.weight_inhibitory == IntFormat(-240, 0, 16)


def test_a_what_if_layout_is_as_wide_as_the_weights():
    other = LOIHI1[LOIHI1.index("[memory.loihi1]") : LOIHI1.index("[costs.davies2018]")]
    other = other.replace("[memory.loihi1]", "[memory.narrow]").replace(BITS_8, "value = [7]")
    found = problems(LOIHI1.replace("[costs.davies2018]", f"{other}[costs.davies2018]", 1))
    assert found == {"mine.toml, memory.narrow.weight_bits": "weight-bits"}


INDEX_BITS = "value = [6, 7, 8, 9, 10, 11, 12]"
SIZE = "compartments_per_core = { value = 1024"


def test_an_index_too_narrow_for_a_core_is_refused_in_the_layout_in_use():
    """1,024 = 2^10 neurons take 10 bits; 8 bits address 2^8 = 256, and 257 neurons take 9."""
    narrow = changed(INDEX_BITS, "value = [6, 8]")
    with pytest.raises(InputError) as caught:
        parse_profile(narrow, "mine.toml")
    assert [str(problem) for problem in caught.value.problems] == [
        "index-bits: mine.toml, memory.loihi1.index_bits: up to 8 bits; allowed: 10 bits, which "
        "limits.compartments_per_core (1,024) takes; fix: give a wider index, or compartments_per_core of at most 256"
    ]
    parse_profile(narrow.replace(SIZE, "compartments_per_core = { value = 256"), "mine.toml")
    parse_profile(changed(INDEX_BITS, "value = [10]"), "mine.toml")
    assert problems(narrow.replace(SIZE, "compartments_per_core = { value = 257")) == {
        "mine.toml, memory.loihi1.index_bits": "index-bits"
    }


def test_a_what_if_layout_fills_a_core_with_what_its_index_addresses():
    """600 targets by 6 bits: 9 cores of 64 and one of 24; a row of n synapses takes 16 n + 10 bits, in words of 64."""
    other = LOIHI1[LOIHI1.index("[memory.loihi1]") : LOIHI1.index("[costs.davies2018]")]
    other = other.replace("[memory.loihi1]", "[memory.short]").replace(INDEX_BITS, "value = [6]")
    other = other.replace("dense_index = { value = 0", "dense_index = { value = 8").replace("shared =", "#")
    profile = parse_profile(
        LOIHI1.replace("[costs.davies2018]", f"{other}[costs.davies2018]", 1), "mine.toml"
    )
    found = projection_bits(
        projection("input", "a", np.full((600, 3), 2)), {"input": 3, "a": 600}, profile, profile.memory[1]
    )

    def padded(bits):
        return -(-bits // 64) * 64

    bits = 8
    assert found.indexed == 3 * (9 * padded(64 * (bits + 6) + 10) + padded(24 * (bits + 6) + 10))
    assert found.dense == 3 * (9 * padded(64 * (bits + 8) + 10) + padded(24 * (bits + 8) + 10))


def test_without_a_limit_of_neurons_a_core_holds_what_an_index_addresses():
    text = changed(
        SIZE + ', unit = "compartments", source = "D18 p.89 rule 1; NL block.py", confidence = "published" }',
        'compartments_per_core = { unit = "compartments", source = "D18", confidence = "not published" }',
    )
    profile = parse_profile(text.replace(INDEX_BITS, "value = [6]"), "mine.toml")
    sparse = np.zeros((65, 9), int)
    sparse[:, 0] = 2
    for n, fits in ((64, True), (65, False)):
        network = FixedNetwork(
            (9,), (population("a", n),), (projection("input", "a", sparse[:n]),), Readout("a"), "loihi1"
        )
        if fits:
            assert place(network, profile).n_cores == 1
            continue
        with pytest.raises(
            FitError,
            match=r"index-bits: population 'a': 65 neurons on a core; allowed: 64, which an index of 6 bits addresses \(Loihi 1 synapse formats\); fix: state limits\.compartments_per_core or wider index_bits in the chip's file",
        ):
            place(network, profile)


@pytest.mark.parametrize(
    ("old", "new", "where", "found"),
    [
        (
            "barrier_low = { value = 113",
            "barrier_low = { value = 466",
            "costs.davies2018.time.barrier_high",
            "465 ns",
        ),
        (INDEX_BITS, "value = [10.5]", "memory.loihi1.index_bits", "10.5"),
        (INDEX_BITS, "value = [10, 65]", "memory.loihi1.index_bits", "65"),
    ],
)
def test_widths_are_whole_and_a_range_begins_at_its_lower_end(old, new, where, found):
    with pytest.raises(InputError, match=rf"impossible-value: mine\.toml, {where}: \S*{found}"):
        parse_profile(changed(old, new), "mine.toml")
