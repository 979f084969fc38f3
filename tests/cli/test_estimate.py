"""``lbi-estimate`` as users call it: JSON, table, comparison, trace, and errors."""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from importlib.resources import files

import numpy as np
import pytest
from click.testing import CliRunner
from support.handmade_networks import projection, two_layer_network

from lbi import save


@pytest.fixture
def two_layers():
    return two_layer_network()


@pytest.fixture
def exported(two_layers, tmp_path):
    fixed, spikes = two_layers
    save(fixed, tmp_path / "network.h5")
    np.savez(tmp_path / "in.npz", spikes=spikes)
    return tmp_path


def run(*arguments: object):
    from lbi.cli.estimate import main

    return CliRunner().invoke(main, [str(argument) for argument in arguments])


CONTRACT = {"chip", "n_samples", "n_steps", "basis", "dense", "sparse", "ratio"}
SIDE = {
    "synops_per_step",
    "neuron_updates_per_step",
    "spikes_per_step",
    "synaptic_memory_bits",
    "n_cores",
    "energy_pj_per_step",
    "time_ns_per_step",
}


def test_json_has_the_contracts_keys(exported):
    done = run(exported / "network.h5", "--spikes", exported / "in.npz", "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert set(record) >= CONTRACT
    for side in ("dense", "sparse"):
        assert set(record[side]) >= SIDE
        assert set(record[side]["energy_pj_per_step"]) == {"low", "high"}
    assert "in.npz" in record["basis"]


def test_the_table_names_what_it_shows(exported):
    done = run(exported / "network.h5", "--spikes", exported / "in.npz")
    assert done.exit_code == 0, done.output
    assert re.match(r"\S.* on Intel Loihi", done.stdout)  # no empty line first
    for words in (
        "SynOps fetched",
        "dynamic energy",
        "neuron is updated in every timestep",
        "Davies 2018",
        "static energy",
    ):
        assert words.lower() in " ".join(done.stdout.split()).lower()


def test_two_exports_are_compared_on_the_same_input(exported, two_layers):
    fixed, _ = two_layers
    fuller = dataclasses.replace(
        fixed, projections=(projection("input", "a", np.full((2, 3), 2)), *fixed.projections[1:])
    )
    (exported / "full").mkdir()
    save(fuller, exported / "full" / "network.h5")
    done = run(exported / "full", exported / "network.h5", "--spikes", exported / "in.npz", "--json")
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    first, second = record["exports"]
    (comparison,) = record["comparison"]
    expected = first["sparse"]["synops_per_step"] / second["sparse"]["synops_per_step"]
    assert expected > 1
    assert comparison["ratio"]["synops_per_step"] == pytest.approx(expected)
    assert set(record) >= CONTRACT


def test_the_trace_adds_up(exported):
    path = exported / "t.csv"
    done = run(exported / "network.h5", "--spikes", exported / "in.npz", "--trace", path, "--quiet")
    assert (done.exit_code, done.stdout) == (0, "")
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * (1 + 2 + 2)  # steps · (input, populations, projections)

    def total(column: str) -> int:
        return sum(int(row[column] or 0) for row in rows)

    assert total("synops_sparse") == 5
    assert total("synops_dense") == 8
    assert total("active_updates") == 6
    assert total("inactive_updates") == 3
    assert total("spikes") == 3 + 4
    assert [row["chip_step"] for row in rows if row["name"] == "b"] == ["2", "3", "4"]


BUDGET = ("--budget", "synops=1.5", "--budget", "cores=1", "--budget", "energy=1pJ")


def test_a_budget_is_held_against_the_deployed_network(exported):
    """The trace of this network has 5 SynOps in 3 timesteps (``test_the_trace_adds_up``)."""
    export, page = exported / "network.h5", exported / "r.html"
    options = (export, "--spikes", exported / "in.npz", *BUDGET)
    done = run(*options, "--html", page, "--json")
    assert done.exit_code == 6
    record = json.loads(done.stdout)
    limits = record["limits"]
    assert limits["synops"] == {"limit": 1.5, "used": pytest.approx(5 / 3), "unit": "", "met": False}
    assert limits["cores"] == {"limit": 1, "used": 1, "unit": "", "met": True}
    assert limits["energy"]["used"] == record["sparse"]["energy_pj_per_step"]["high"]
    first, second = done.stderr.splitlines()  # the furthest over first
    assert first.startswith(f"error: budget-not-met: {export}, --budget energy: ")
    assert second.startswith(f"error: budget-not-met: {export}, --budget synops: synops 1.667 of 1.5; ")
    assert "The limits that were asked for" in page.read_text(encoding="utf-8")
    shown = run(*options)
    assert shown.exit_code == 6
    assert "budget  synops 1.667 of 1.5, NOT MET" in shown.stdout
    assert "budget  cores 1 of 1, met" in shown.stdout


def test_without_input_a_budget_is_held_against_the_worst_case(exported):
    """Every input and neuron spikes in every step: all 5 synapses of the network are fetched."""
    page = exported / "r.html"
    done = run(exported, "--budget", "synops=5", "--html", page, "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["limits"]["synops"]["used"] == 5
    assert "In the worst case, without input" in page.read_text(encoding="utf-8")


def test_a_budget_that_is_met_exits_0(exported):
    done = run(exported, "--spikes", exported / "in.npz", "--budget", "synops=2", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["limits"]["synops"]["met"]
    assert json.loads(run(exported, "--json").stdout)["limits"] is None


def test_every_export_is_held_to_the_budget(exported):
    done = run(exported / "network.h5", exported, "--budget", "cores=1", "--budget", "memory=1B", "--json")
    assert done.exit_code == 6
    assert done.stderr.count("--budget memory") == 2
    assert [export["limits"]["cores"]["met"] for export in json.loads(done.stdout)["exports"]] == [True, True]


def test_a_wrong_budget_is_refused_before_anything_runs(exported):
    done = run(exported, "--budget", "energy=1", "--budget", "speed=3", "--html", exported / "r.html")
    assert done.exit_code == 2
    assert "budget-unit: --budget energy=1: no unit; allowed: pJ, nJ, uJ, µJ; fix: write one" in done.stderr
    assert "budget-name: --budget speed=3: 'speed'" in done.stderr
    assert not (exported / "r.html").exists()


def test_what_does_not_fit_exits_6_with_every_limit(exported):
    text = (files("lbi.hardware") / "loihi1.toml").read_text(encoding="utf-8")
    tiny = text.replace("input_axons_per_core = { value = 4096", "input_axons_per_core = { value = 1")
    tiny = tiny.replace("capacity = { value = 1048576", "capacity = { value = 100")
    (exported / "tiny.toml").write_text(tiny, encoding="utf-8")
    done = run(exported / "network.h5", "--chip", exported / "tiny.toml")
    assert done.exit_code == 6
    assert "fan-in:" in done.stderr
    assert "fan-in-memory:" in done.stderr
    assert done.stderr.count("fix:") >= 2
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("nowhere.h5",), 3, "file-missing"),
        (("network.h5", "--chip", "loihi9"), 2, "unknown-chip"),
        (("network.h5", "--spikes", "nowhere.npz"), 3, "file-missing"),
        (("network.h5", "--dataset", "digits", "--spikes", "in.npz"), 2, "both given"),
        (("network.h5", "--trace", "t.csv"), 2, "no input to trace"),
        (("network.h5", "--samples", "3"), 2, "--samples: no input to take them from"),
        (("network.h5", "--html", "missing/r.html"), 3, "folder-missing"),
        (
            ("network.h5", "--spikes", "in.npz", "--trace", "t.csv", "--html", "./t.csv"),
            3,
            "given for two outputs",
        ),
        (("network.h5", "--spikes", "in.npz", "--trace", "in.npz"), 3, "same-file: in.npz: the input"),
        (("network.h5", "--dataset", "digits"), 3, "spikes-width"),
        ((), 2, "usage"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_wrong_use_is_one_line_with_its_exit_code(exported, monkeypatch, arguments, code, words):
    monkeypatch.chdir(exported)
    done = run(*arguments)
    assert done.exit_code == code, done.output
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (exported / "t.csv").exists()


def test_an_export_for_a_chip_of_the_users_own_asks_for_its_file(two_layers, tmp_path):
    save(dataclasses.replace(two_layers[0], chip="mychip"), tmp_path / "network.h5")
    done = run(tmp_path / "network.h5")
    assert done.exit_code == 2
    assert "made for the chip 'mychip'" in done.output
    assert "fix: name the file: --chip PATH/mychip.toml" in done.output
    assert run(tmp_path / "network.h5", "--chip", "loihi1").exit_code == 0


@pytest.mark.parametrize("mu", ["u", "\N{MICRO SIGN}", "\N{GREEK SMALL LETTER MU}"])
def test_micro_in_every_spelling(exported, mu):
    done = run(exported, "--budget", f"time=1000{mu}s", "--json")
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["limits"]["time"]["met"]
