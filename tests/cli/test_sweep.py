"""lbi-sweep: plans, errors, tables, and a small sweep on Ray that fails in part and is continued."""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.command import call

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from lbi.cli.sweep_plan import configured, parted, plan
from lbi.cli.sweep_results import groups, pareto, row_of, write_plots, write_tables
from lbi.cli.sweep_trial import run_trial
from lbi.errors import BackendError, UsageError
from lbi.train.session.run import Outputs, prepare, save_checkpoint

SMALL = ("--dataset", "digits", "--set", "encoding.n_steps=4", "--hidden", "6", "--epochs", "1")


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.1,0.05", ["0.1", "0.05"]),
        ("[1,2],[3]", ["[1,2]", "[3]"]),
        ('{"a": [1, 2]}, "x,y"', ['{"a": [1, 2]}', '"x,y"']),
        ("256;128,128", ["256", "128,128"]),
    ],
)
def test_lists_are_parted_at_commas_outside_brackets(text, values):
    assert parted(text) == values


def test_a_plan_is_the_product_without_doubles():
    trials = plan({"optimizer": "adam,adabreg", "density": "0.2,0.1", "seed": "0,1", "epochs": "3"})
    found = [(t.config["optimizer"], t.config.get("density"), t.config["seed"]) for t in trials]
    assert found == [
        (optimizer, density, seed)
        for seed in (0, 1)
        for optimizer, density in (("adam", None), ("adabreg", 0.2), ("adabreg", 0.1))
    ]
    assert len({trial.name for trial in trials}) == 6
    assert {trial.config["epochs"] for trial in trials} == {3}


def test_trials_of_earlier_versions_keep_their_names():
    """A sweep of 0.1 is continued, not run again: these names were made by it."""
    trials = plan({"dataset": "digits", "epochs": "1", "density": "0.1,0.2", "chip": "loihi1"})
    assert [trial.name for trial in trials] == ["0.1-4883d300323b", "0.2-68261e59c755"]


def test_a_plan_takes_flags_hidden_layers_and_other_options():
    trials = plan(
        {"recurrent": True, "hidden": "8;4,5", "assignments": ["settle=0.2,0.5", "current_decay=[0.1,0.2]"]}
    )
    found = [(t.config["hidden"], t.config["settle"]) for t in trials]
    assert found == [([8], 0.2), ([8], 0.5), ([4, 5], 0.2), ([4, 5], 0.5)]
    assert all(t.config["recurrent"] and t.config["current_decay"] == [0.1, 0.2] for t in trials)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"density": "0.1,2"}, "density: 2"),
        ({"epochs": "1,few"}, "'few' is not a valid integer"),
        ({"seed": "0,,1"}, "seed: an empty value"),
        ({"assignments": ["nonsense=1,2"]}, "nonsense"),
    ],
)
def test_wrong_options_are_named_before_any_work(given, match):
    with pytest.raises(UsageError, match=match):
        plan(given)


def test_all_wrong_options_are_named_in_one_pass(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    from lbi.cli.sweep import main

    monkeypatch.chdir(tmp_path)
    options = {
        "--density": "0.1,2",
        "--optimizer": "adam,foo",
        "--seed": "x,0,y",
        "--lr": "z",
        "--set": "gain=,1",
    }
    done = call(main, *(part for pair in options.items() for part in pair), "--chip", "loihi9", "-o", "new")
    assert done.code == 2
    for fault in (
        "density: 2",
        "'foo'",
        "--seed x",
        "--seed y",
        "--lr z",
        "gain: an empty value",
        "'loihi9'",
    ):
        assert sum(fault in line for line in done.errors) == 1, fault
    assert len(done.errors) == 7


def result(accuracy, synops):
    figures = {"accuracy_integer": accuracy, "density": 0.1, "n_active": 7, "firing_rate": 0.1}
    return {"accuracy": {"test": accuracy, "train": 1.0}, "synops": synops, **figures}


def test_the_pareto_front_is_what_no_other_row_beats():
    points = [(0.9, 10.0), (0.8, 10.0), (0.8, 5.0), (0.95, 20.0), (0.9, 10.0), (0.1, None)]
    rows = [{"accuracy_test": accuracy, "synops": cost} for accuracy, cost in points]
    beaten = {
        i
        for i, (a, c) in enumerate(points)
        if c is None or any(d is not None and b >= a and d <= c and (b, d) != (a, c) for b, d in points)
    }
    assert pareto(rows, "synops") == set(range(6)) - beaten == {0, 2, 3, 4}


def test_tables_hold_means_over_seeds_and_the_failures(tmp_path):
    pytest.importorskip("matplotlib")
    trials = plan({"optimizer": "adam,adabreg", "seed": "0,1"})
    results = [result(0.5, 10), {"error": ["gradient: too large"]}, result(0.7, 30), result(0.9, 5)]
    rows = [row_of(trial, given) for trial, given in zip(trials, results, strict=True)]
    (adam, adabreg) = groups(rows)
    assert (adam["optimizer"], adam["n_seeds"], adam["accuracy_test"], adam["synops"]) == ("adam", 2, 0.6, 20)
    assert adam["accuracy_spread"] == pytest.approx(0.02**0.5)
    assert (adabreg["n_seeds"], adabreg["accuracy_spread"]) == (1, None)
    assert write_tables(tmp_path, rows, "lbi-sweep …") == ["results.csv", "results.md"]
    assert write_plots(tmp_path, rows) == ["accuracy_density.png", "accuracy_synops.png"]
    text = (tmp_path / "results.md").read_text(encoding="utf-8")
    assert "60.00% ± 14.14%" in text
    assert "3 of 4 trials" in text
    assert "gradient: too large" in text
    assert next(line for line in text.splitlines() if "| adabreg" in line).endswith("★ |")
    with (tmp_path / "results.csv").open(encoding="utf-8") as file:
        read = list(csv.DictReader(file))
    assert [row["status"] for row in read] == ["done", "failed", "done", "done"]
    assert json.loads(read[0]["config"]) == trials[0].config


def test_energies_name_their_sources(tmp_path):
    """Davies 2018 and SANA-FE are the origins of Loihi 1's prices; Loihi 2 has none."""
    (trial,) = plan({})
    named = "Davies 2018, Table 2 (published); SANA-FE fit (third-party)"
    given = {**result(0.5, 10), "energy_nj": {"low": 1.0, "high": 2.0}, "chip": "loihi1"}
    cases = [
        ({**given, "energy_source": named}, f"dynamic, a range over {named}; lbi-estimate --sources lists all."),
        (given, "of an earlier version, which noted no source; without the trials' result.json, the same command computes it again."),
        ({**given, "chip": "loihi2", "energy_nj": None}, "none, as no energy per event is published."),
    ]  # fmt: skip
    for record, line in cases:
        write_tables(tmp_path, [row_of(trial, record)], "lbi-sweep …")
        text = (tmp_path / "results.md").read_text(encoding="utf-8")
        assert f"\nEnergy on {record['chip']}: {line}\n\n| optimizer |" in text
    for chip, source in (("loihi1", named), ("loihi2", None)):
        made = run_trial(
            str(tmp_path / chip), ["--dataset", "digits", "--hidden", "4", "--epochs", "0"], chip
        )
        assert (made["energy_source"], made["energy_nj"] is None) == (source, source is None)


def test_one_failure_does_not_end_a_sweep_and_only_the_rest_is_run_again(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    from lbi.cli import sweep

    out = tmp_path / "sweep"
    arguments = (*SMALL, "--lr", "0.01,1e38", "-o", str(out), "--json")
    done = call(sweep.main, *arguments, "--jobs", "2")
    assert done.code == 3
    record = json.loads(done.out)
    assert [trial["status"] for trial in record["trials"]] == ["done", "failed"]
    assert sum("trial-failed" in line for line in done.errors) == 1
    assert (out / "trials" / record["trials"][1]["trial"] / "error.txt").read_text().startswith("diverged")
    started = []
    monkeypatch.setattr(sweep, "_run", lambda trials, *_: started.extend(trials) or iter(()))
    again = json.loads(call(sweep.main, *arguments).out)
    assert [trial.name for trial in started] == [record["trials"][1]["trial"]]
    assert (again["n_reused"], again["trials"][0]) == (1, record["trials"][0])


def use(limit, used, unit):
    return {"limit": limit, "used": used, "unit": unit, "met": used <= limit}


def test_a_budget_that_was_missed_is_in_all_tables_and_in_the_exit_code(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    from lbi.cli import sweep

    budgets = [
        {"memory": use(1.0, 1.0, "KiB"), "synops": use(9.0, 2.0, "")},
        {"memory": use(1.0, 2.5, "KiB"), "synops": use(9.0, 80.0, "")},
    ]
    counts = {"n_weights": 9, "n_active_integer": 7, "energy_nj": None, "synaptic_memory_bits": 8}
    counts |= {"n_cores": 1, "epochs": 1, "seconds": 1.0}
    made = [{**result(0.5, 10.0), **counts, "budget": budget} for budget in budgets]
    monkeypatch.setattr(
        sweep, "_run", lambda trials, *_: zip([t.name for t in trials], made[: len(trials)], strict=True)
    )
    arguments = (*SMALL, "--budget", "memory=1KiB", "--budget", "synops=9", "-o")
    done = call(sweep.main, *arguments, tmp_path / "both", "--seed", "0,1", "--json")
    assert done.code == 6
    name = done.json["trials"][1]["trial"]
    assert [line.partition("; allowed")[0] for line in done.errors] == [
        f"error: budget-not-met: {name}, --budget synops: synops 80 of 9",
        f"error: budget-not-met: {name}, --budget memory: memory 2.5 of 1 KiB",
    ]
    assert [trial["budget"] for trial in done.json["trials"]] == budgets
    text = (tmp_path / "both" / "results.md").read_text(encoding="utf-8")
    assert "| NOT MET, 1 of 2 | ★ |" in text
    assert f"Budget not met:\n\n- {name}, --budget synops: synops 80 of 9\n" in text
    with (tmp_path / "both" / "results.csv").open(encoding="utf-8") as file:
        assert [json.loads(row["budget"]) for row in csv.DictReader(file)] == budgets
    done = call(sweep.main, *arguments, tmp_path / "one", "--seed", "0")
    assert (done.code, "| met | ★ |" in done.out, "not met" in done.out) == (0, True, False)
    assert any("memory 1 of 1 KiB, met, budget synops 2 of 9, met" in line for line in done.errors)


@pytest.mark.parametrize("name", ["model.pt.ckpt", "model.pt", "metrics.csv", "result.json", "error.txt"])
def test_a_folder_in_place_of_a_trials_file_is_an_error_of_the_trial(name, tmp_path):
    (tmp_path / "trial" / name).mkdir(parents=True)
    arguments = ["--dataset", "digits", "--hidden", "4", "--epochs", "0"]
    result = run_trial(str(tmp_path / "trial"), arguments, "loihi1")
    if name == "error.txt":  # a trial that does not fail needs none
        assert "accuracy" in result
    else:
        assert all(name in line and "internal" not in line for line in result["error"])
    assert (tmp_path / "trial" / name).is_dir()


def test_a_killed_trial_continues_from_what_it_left_with_equal_results(tmp_path):
    arguments = [*SMALL[:-1], "3", "--seed", "4"]
    whole = run_trial(str(tmp_path / "whole"), arguments, "loihi1")
    config, _ = configured(arguments)
    (tmp_path / "part").mkdir()
    outputs = Outputs(tmp_path / "part" / "model.pt")

    class KilledError(Exception):
        pass

    def kill(trainer):
        if trainer.progress.epoch == 2:
            save_checkpoint(trainer, outputs.checkpoint)
            raise KilledError

    trainer = prepare(config, outputs)
    trainer.on_epoch = kill
    with pytest.raises(KilledError):
        trainer.run()
    same = {key: value for key, value in whole.items() if key != "seconds"}
    continued = run_trial(str(tmp_path / "part"), arguments, "loihi1")
    assert {key: value for key, value in continued.items() if key != "seconds"} == same
    (tmp_path / "part" / "result.json").unlink()  # killed between the model and the result
    before = (tmp_path / "part" / "model.pt").stat().st_mtime_ns
    assert run_trial(str(tmp_path / "part"), arguments, "loihi1")["accuracy"] == whole["accuracy"]
    assert (tmp_path / "part" / "model.pt").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("arguments", "code", "match"),
    [
        (["--seed", "1", "-o", "other"], 3, "sweep-folder: other: a sweep with another .*seed"),
        (["-o", "full"], 3, "sweep-folder: full: other files"),
        (["-o", "full/thesis.tex/sweep"], 3, "not-written: full/thesis.tex/sweep: Not a directory"),
        (["--sed", "1", "-o", "new"], 2, "--sed"),
        (["--dataset", "shd", "-o", "new"], 3, "data-missing"),
        (["--chip", "loihi9", "-o", "new"], 2, "loihi9"),
        (["--neuron", "atrlif", "-o", "new"], 2, "neuron-model: neuron: model 'atrlif'; allowed: cuba_lif"),
        (
            ["--readout", "membrane_last", "-o", "new"],
            2,
            "neuron-model: readout 'membrane_last': model 'integrator'",
        ),
        (["--address", "127.0.0.1:1", "-o", "new"], 5, "cluster-unreachable: --address 127.0.0.1:1"),
    ],
)
def test_wrong_sweeps_are_refused_before_any_work(arguments, code, match, tmp_path, monkeypatch):
    pytest.importorskip("ray")
    from lbi.cli.sweep import main

    monkeypatch.chdir(tmp_path)
    for name in ("other", "full"):
        (tmp_path / name).mkdir()
    (tmp_path / "other" / "sweep.json").write_text('{"format": "lbi.sweep", "version": 1, "options": {}}')
    (tmp_path / "full" / "thesis.tex").write_text("")
    before = sorted(map(str, tmp_path.rglob("*")))
    done = call(main, *SMALL, *arguments)
    assert done.code == code
    assert re.search(match, "\n".join(done.errors))
    assert sorted(map(str, tmp_path.rglob("*"))) == before


def test_without_affinity_a_sweep_uses_all_cores(monkeypatch):
    from lbi.system import cores

    monkeypatch.setattr(cores, "cgroup_cpus", lambda: math.inf)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 5)
    assert cores.whole_cores() == 5


def test_without_fcntl_a_sweep_folder_is_not_locked(monkeypatch, tmp_path):
    from lbi.cli import sweep

    monkeypatch.setitem(sys.modules, "fcntl", None)
    with sweep._lock(tmp_path / "lock", tmp_path), sweep._lock(tmp_path / "lock", tmp_path):
        pass


TERMINATED_WHILE_RAY_STARTS = """
import os, signal
from pathlib import Path
import ray
from lbi.cli import sweep

own = ray._private.utils.set_sigterm_handler

def set_handler(handler):
    own(handler)
    os.kill(os.getpid(), signal.SIGTERM)

ray._private.utils.set_sigterm_handler = set_handler
list(sweep._run([None], Path(), "loihi1", None, 1, {}))
"""


def test_sigterm_while_ray_starts_is_an_interruption():
    pytest.importorskip("ray")
    done = subprocess.run(
        [sys.executable, "-c", TERMINATED_WHILE_RAY_STARTS], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr.splitlines()[-1:]) == (130, ["interrupted"])


def test_rays_advice_is_not_shown(monkeypatch, caplog):
    ray = pytest.importorskip("ray")
    from lbi.cli import sweep

    def init(**_):
        logging.getLogger("ray.any").warning("advice")
        logging.getLogger("ray.any").error("error")
        raise RuntimeError("no cluster")

    monkeypatch.setattr(logging.getLogger("ray"), "propagate", True)  # Ray sets it to False when it is loaded
    monkeypatch.setattr(ray, "init", init)
    with pytest.raises(BackendError, match="no cluster"):
        list(sweep._run([None], Path(), "loihi1", None, 1, {}))
    assert {record.message for record in caplog.records} == {
        "error"
    }  # once, or once per logger that propagates
