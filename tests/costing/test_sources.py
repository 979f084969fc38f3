"""Every number behind a figure is listed with its source: in the JSON record, on the terminal and on the page."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Iterator, Mapping
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from support.handmade_networks import two_layer_network

from lbi.chip.load import load_profile, parse_profile, profile_names
from lbi.chip.profile import CostSet, HardwareProfile, Quantity
from lbi.cli.estimate_table import show
from lbi.costing.budget import Budget
from lbi.costing.estimation import estimate
from lbi.costing.recorded_budget import read_uses
from lbi.costing.report.html import render
from lbi.costing.result import Estimate
from lbi.errors import InputError
from lbi.system import toml

LOIHI1, LOIHI2 = (
    (files("lbi.hardware") / f"{chip}.toml").read_text(encoding="utf-8") for chip in ("loihi1", "loihi2")
)
GRIDS = ("weight_mixed", "weight_excitatory", "weight_inhibitory")


def own_chip() -> str:
    """Loihi 2's file, whose scenario borrows another cost set than its check points do, and whose "SF" is no SANA-FE."""
    scenario, checkpoints = LOIHI2.split("[checkpoints.pilotnet]")
    assert scenario.count('"loihi1:davies2018"') == 1
    scenario = scenario.replace('"loihi1:davies2018"', '"loihi1:sanafe"').replace(
        'name = "loihi2"', 'name = "own"'
    )
    scenario = scenario.replace("[sources]", '[sources]\nSF = "Synthesis of our own chip"')
    return f"{scenario}[checkpoints.pilotnet]{checkpoints}"


def estimated(profile: HardwareProfile) -> Estimate:
    fixed, spikes = two_layer_network()
    return estimate(fixed, spikes=spikes, chip=profile)


def printed(estimates: list[Estimate]) -> str:
    out = io.StringIO()
    names = [f"export {i}" for i in range(len(estimates))]
    show(Console(file=out, width=100_000), estimates, names, sources=True)
    return out.getvalue()


def chips() -> Iterator[Any]:
    yield from (pytest.param(load_profile(chip), id=chip) for chip in profile_names())
    yield pytest.param(parse_profile(own_chip(), "own.toml"), id="own")


def prices(text: str, costs: str) -> dict[str, tuple[Any, str]]:
    """Event → value and source of a cost set's energies, read from the file itself."""
    table = toml.parse(text, "chip")["costs"][costs]["energy"]
    return {event: (entry.get("value"), entry["source"]) for event, entry in table.items()}


@pytest.mark.parametrize(
    ("place", "costs"), [("scenarios.loihi1_constants", "sanafe"), ("checkpoints.pilotnet", "davies2018")]
)
def test_prices_of_another_chip_are_listed_with_its_references(place, costs):
    record = estimated(parse_profile(own_chip(), "own.toml")).to_dict()
    listed = {constant["name"]: constant for constant in record["constants"]}
    references = toml.parse(LOIHI1, "chip")["sources"]
    for event, (value, source) in prices(LOIHI1, costs).items():
        found = listed[f"{place}.energy.{event}"]
        assert found["value"] == value
        assert found["source"] == f"loihi1:{source}"
        key = source.split()[0]
        assert record["sources"][f"loihi1:{key}"] == references[key]
    assert record["sources"]["SF"] == "Synthesis of our own chip"
    assert record["sources"]["loihi1:SF"].startswith("SANA-FE")


def quantities_in(record: Any) -> Iterator[Quantity]:
    """All quantities that a record holds, at any depth."""
    if isinstance(record, Quantity):
        yield record
    elif isinstance(record, Mapping):
        for value in record.values():
            yield from quantities_in(value)
    elif isinstance(record, tuple):
        for value in record:
            yield from quantities_in(value)
    elif dataclasses.is_dataclass(record):
        for field in dataclasses.fields(record):
            yield from quantities_in(getattr(record, field.name))


@pytest.mark.parametrize("profile", list(chips()))
def test_no_number_is_left_out(profile):
    record = estimated(profile).to_dict()
    listed = [(c["value"], c["unit"], c["source"], c["confidence"], c["note"]) for c in record["constants"]]
    held = list(quantities_in(profile))
    assert len(held) > 50
    for number in held:
        assert dataclasses.astuple(number)[:5] in listed
    cited = {part.split()[0] for constant in record["constants"] for part in constant["source"].split(";")}
    assert cited <= set(record["sources"])


def test_a_number_changed_in_a_program_is_listed_as_it_is_used():
    profile = load_profile("loihi1")
    price = Quantity(1000.0, "pJ", "D21 by hand", "assumption")
    costs = CostSet(
        "mine", "Mine", "made up", profile.costs[0].energy | {"spike": price}, profile.costs[0].time
    )
    record = estimated(dataclasses.replace(profile, costs=(costs,))).to_dict()
    listed = {constant["name"]: constant for constant in record["constants"]}
    assert listed["costs.mine.energy.spike"]["value"] == 1000
    assert not [name for name in listed if name.startswith("costs.davies2018")]


@pytest.mark.parametrize("profile", list(chips()))
def test_the_terminal_names_the_source_of_every_price(profile):
    text = printed([estimated(profile)])
    lines = {line.partition(": ")[0]: line for line in text.splitlines()}
    for place, costs in profile.cost_sets():
        for kind, table in (("energy", costs.energy), ("time", costs.time)):
            for event, price in table.items() if not place.startswith("checkpoints") else ():
                line = lines[f"{place}.{kind}"]
                assert event in line
                assert f"({price.source}" in line
                assert not price.known or f"{event} {price.number:,.10g} {price.unit}" in line
                for part in price.source.split(";"):
                    key = part.split()[0]
                    assert f"{key}: {profile.sources[key]}" in text
    for power in profile.static:
        assert f"power {power.power} ({power.power.source}, {power.power.confidence})" in text
    for scenario in profile.scenarios:
        if scenario.costs is not None:
            assert f"energy of what-ifs: {scenario.costs.label} (" in text


def test_the_page_explains_the_keys_of_another_chip():
    html = render([estimated(parse_profile(own_chip(), "own.toml"))], ["own"])
    for key in ("loihi1:SF", "loihi1:D18", "SF"):
        assert html.count(f"<td><b>{key}</b></td>") == 1
    assert html.count("<li><b>SANA-FE fit</b>: third-party fit") == 1
    assert html.count("<li><b>Davies 2018, Table 2</b>: published minimum") == 1


def test_two_chips_of_one_name_are_both_listed():
    other = parse_profile(LOIHI1.replace("value = 23.6", "value = 47.25"), "other.toml")
    estimates = [estimated(load_profile("loihi1")), estimated(other), estimated(other)]
    html, text = render(estimates, ["a", "b", "c"]), printed(estimates)
    assert html.count("Every constant of Intel Loihi 1") == 2
    assert text.count("Numbers of Intel Loihi 1") == 2
    assert html.count('<td class="n">47.25</td>') == 2  # synop_dense, synop_indexed
    assert text.count("synop_indexed 47.25 pJ") == 1


def test_grids_that_a_file_leaves_out_are_listed_as_lavas():
    text = "\n".join(line for line in LOIHI1.splitlines() if not line.startswith(GRIDS))
    record = estimated(parse_profile(text, "mine.toml")).to_dict()
    listed = {constant["name"]: constant for constant in record["constants"]}
    assert listed["formats.weight_mixed"]["value"] == (-256, 254)
    assert listed["formats.weight_mixed"]["source"] == "lbi:LAVA utils/weightutils.py"
    assert record["sources"]["lbi:LAVA"] == "lava-nc 0.10.0"


@pytest.mark.parametrize(
    ("old", "new", "code", "words"),
    [
        # A cost set without energies would price everything at 0 pJ.
        ('"loihi1:sanafe"', '"vendor_ratio"', "no-energy", "a chip's cost set"),
        ('"loihi1:sanafe"', '"loihi2:peak_rate"', "no-energy", "a chip's cost set"),
        ('"loihi1:sanafe"', '"loihi1:nobody"', "unknown-costs", "davies2018, sanafe"),
        ('"loihi1:sanafe"', '"own.toml:sanafe"', "unknown-costs", "a cost set of loihi1, loihi2"),
        ("OZU = ", '"loihi1:SF" = "x"\nOZU = ', "source-key", "without white space"),
        ("OZU = ", '"A B" = "x"\nOZU = ', "source-key", "without white space"),
    ],
)
def test_costs_that_cannot_be_traced_are_refused(old, new, code, words):
    text = own_chip()
    assert text.count(old) == 1
    with pytest.raises(InputError, match=f"{code}: own.toml.*{words}"):
        parse_profile(text.replace(old, new), "own.toml")


def test_a_borrowed_price_is_the_figure():
    """Synops, updates and messages of the record times loihi1.toml's SANA-FE prices."""
    found = estimated(parse_profile(own_chip(), "own.toml"))
    price = {event: value or 0 for event, (value, _) in prices(LOIHI1, "sanafe").items()}
    events = found.sparse.events
    pj = sum(price[event] * events[event] for event in price)
    pj += events["message_from_input"] * (price["message_out"] + price["message_within_tile"])
    assert np.isclose(found.sparse.scenarios["loihi1_constants"].high, pj, rtol=1e-12)


@pytest.mark.parametrize(
    ("chip", "delay", "noted"), [("loihi1", 8, False), ("loihi1", 9, True), ("loihi2", 62, False)]
)
def test_delays_that_take_compartments_are_noted(chip, delay, noted):
    fixed, _ = two_layer_network()
    projections = (dataclasses.replace(fixed.projections[0], delay=delay), *fixed.projections[1:])
    slow = dataclasses.replace(fixed, projections=projections)
    notes = [
        note for note in estimate(slow, chip=chip).notes() if note.startswith("Delays of more than 8 steps")
    ]
    assert bool(notes) == noted
    assert not notes or f"(here {delay})" in notes[0]


LOIHI1_SETS = "Davies 2018, Table 2 (published); SANA-FE fit (third-party)"


@pytest.mark.parametrize(
    ("chip", "text", "source"),
    [
        ("loihi1", "energy=40nJ", LOIHI1_SETS),
        ("loihi1", "energy=40nJ@sanafe", "SANA-FE fit (third-party)"),
        ("loihi1", "time=5us", LOIHI1_SETS),
        (
            "loihi2",
            "energy=40nJ@loihi1_constants",
            "what-if: Loihi-1-constant proxy (not a Loihi 2 figure) (published)",
        ),
        ("loihi1", "cores=1", ""),
    ],
)
def test_the_use_of_a_budget_names_what_prices_it(chip, text, source):
    """Energies and times of a budget are printed by lbi-train and kept in the model, whoever reads it later."""
    (use,) = Budget.of((text,), load_profile(chip)).uses(None)
    recorded = use.recorded()
    (back,) = read_uses({recorded.name: json.loads(json.dumps(recorded.to_dict()))})
    assert back == recorded
    assert back.source == source
    assert back.sourced.endswith(f", NOT MET [{source}]" if source else ", NOT MET")
    assert read_uses({recorded.name: {**recorded.to_dict(), "source": "\x1b[2J"}}) == ()
