"""lbi-sweep: a sweep is continued only with the files that its finished trials read."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from support.command import call

pytest.importorskip("torch")
pytest.importorskip("ray")

from lbi.cli import sweep
from lbi.cli.sweep_files import Digest
from lbi.cli.sweep_trial import run_trial
from lbi.datasets.npz import load_npz
from lbi.errors import InputError
from lbi.train.session.config import make_config
from lbi.train.session.run import Outputs, complete, prepare

OPTIONS = ("--hidden", "4", "--epochs", "1", "-o", "sweep", "--json")


def write_spikes(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    spikes = (rng.random((20, 6, 8)) < 0.3).astype(np.uint8)
    np.savez(path, spikes=spikes, labels=np.arange(20) % 2)


def write_model(path: Path, seed: int) -> None:
    outputs = Outputs(path)
    config = make_config("data.npz", None, {"hidden": (4,), "epochs": 0, "seed": seed})
    complete(prepare(config, outputs), outputs)


def own_chip(path: Path, rows: int) -> None:
    text = files("lbi.hardware").joinpath("loihi1.toml").read_text(encoding="utf-8")
    path.write_text(f"{text}\n# {rows}\n", encoding="utf-8")


CHANGES = {
    "data": ((), "data set data.npz", lambda: write_spikes(Path("data.npz"), 2)),
    "chip": (("--chip", "own.toml"), "chip .*own.toml", lambda: own_chip(Path("own.toml"), 2)),
    "teacher": (("--set", "teacher=model.pt"), "teacher model.pt", lambda: write_model(Path("model.pt"), 2)),
    "start": (("--from", "model.pt"), "--from .*model.pt", lambda: write_model(Path("model.pt"), 2)),
    "config": (
        ("--config", "own.toml"),
        "--config .*own.toml",
        lambda: Path("own.toml").write_text("lr = 0.02\n"),
    ),
}


def in_this_process(trials, folder, chip, _address, _jobs, digests):
    for trial in trials:
        yield trial.name, run_trial(str(folder / "trials" / trial.name), trial.arguments, chip, digests)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sweep, "_run", in_this_process)
    monkeypatch.setattr("lbi.cli.sweep_results.write_plots", lambda *_: [])
    monkeypatch.setattr("lbi.cli.sweep_trial.source", lambda: {"version": "0", "commit": None})
    write_spikes(tmp_path / "data.npz", 1)
    return tmp_path


def run(*arguments):
    return call(sweep.main, "--dataset", "data.npz", *OPTIONS, *arguments)


@pytest.mark.parametrize("name", CHANGES)
def test_a_file_that_was_changed_ends_a_sweep_that_is_continued(name, folder):
    arguments, named, change = CHANGES[name]
    if name == "chip":
        own_chip(folder / "own.toml", 1)
    elif name == "config":
        (folder / "own.toml").write_text("lr = 0.01\n")
    elif name != "data":
        write_model(folder / "model.pt", 1)
    assert run(*arguments).json["n_reused"] == 0
    assert run(*arguments).json["n_reused"] == 1
    results = (folder / "sweep" / "results.csv").read_bytes()
    change()
    done = run(*arguments)
    assert done.code == 3
    assert len(done.errors) == 1
    (line,) = done.errors
    assert re.match(
        rf"error: sweep-files: {named}: changed after trials .*-\w{{12}}; allowed: .*SHA-256 [0-9a-f]{{16}}",
        line,
    )
    assert (folder / "sweep" / "results.csv").read_bytes() == results
    (trial,) = (folder / "sweep" / "trials").iterdir()
    shutil.rmtree(trial)  # as the error says
    assert run(*arguments).json["n_reused"] == 0


def test_digests_are_those_of_sha256sum_and_stand_in_plan_and_result(folder):
    run()
    entry = json.loads((folder / "sweep" / "sweep.json").read_text())["files"]["data set data.npz"]
    assert entry["sha256"] == hashlib.sha256((folder / "data.npz").read_bytes()).hexdigest()
    (result,) = (folder / "sweep" / "trials").glob("*/result.json")
    assert json.loads(result.read_text())["files"] == {"data set data.npz": entry["sha256"]}


def test_equal_content_written_again_is_no_change(folder):
    run()
    content = (folder / "data.npz").read_bytes()
    (folder / "data.npz").unlink()
    (folder / "data.npz").write_bytes(content)
    os.utime(folder / "data.npz", (1, 1))
    assert run().json["n_reused"] == 1


def test_a_checkpoint_of_other_data_is_not_continued(folder):
    run()
    (trial,) = (folder / "sweep" / "trials").iterdir()
    (trial / "result.json").unlink()
    write_spikes(folder / "data.npz", 2)
    assert "changed after trials had read it" in run().errors[0]


def test_data_of_trials_that_all_failed_may_be_corrected(folder):
    assert run("--lr", "1e38").code == 3
    write_spikes(folder / "data.npz", 2)
    assert "sweep-files" not in "".join(run("--lr", "1e38").errors)


@pytest.mark.parametrize("files", [None, 1, {"data set data.npz": 1}, {"data set data.npz": {"sha256": "x"}}])
def test_a_sweep_of_an_earlier_version_is_continued_with_one_line(files, folder):
    run()
    marker = folder / "sweep" / "sweep.json"
    plan = json.loads(marker.read_text())
    plan.pop("files")
    marker.write_text(json.dumps(plan if files is None else {**plan, "files": files}))
    done = run()
    assert [line[:40] for line in done.errors] == ["warning: sweep-files: data set data.npz:"]
    assert done.json["n_reused"] == 1
    write_spikes(folder / "data.npz", 2)
    assert run().code == 3


def test_a_file_that_changes_during_a_trial_fails_it_and_leaves_no_model(folder, monkeypatch):
    from lbi.cli import sweep_trial

    deployed = sweep_trial._deployed

    def change(*arguments):
        write_spikes(folder / "data.npz", 2)
        return deployed(*arguments)

    monkeypatch.setattr(sweep_trial, "_deployed", change)
    done = run()
    assert (done.code, done.json["trials"][0]["status"]) == (3, "failed")
    assert "sweep-files: data set data.npz: changed after the sweep was started" in done.errors[0]
    assert not list((folder / "sweep" / "trials").glob("*/model.pt"))


def test_several_files_have_one_digest_and_are_read_again_only_after_a_change(tmp_path, monkeypatch):
    (tmp_path / "sub").mkdir()
    paths = [tmp_path / "sub" / "b", tmp_path / "a"]
    for path in paths:
        path.write_bytes(path.name.encode())
    first = Digest.of(paths)
    lines = "".join(f"{hashlib.sha256(n[-1:].encode()).hexdigest()}  {n}\n" for n in ("a", "sub/b"))
    assert first.sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert Digest.of(paths[::-1]) == first
    monkeypatch.setattr("lbi.cli.sweep_files._sha256", lambda path: "other")
    assert Digest.of(paths, first) is first
    os.utime(paths[0], (1, 1))
    assert Digest.of(paths, first).sha256 != first.sha256


def test_a_digest_names_every_file_that_is_missing(tmp_path):
    with pytest.raises(InputError, match=r"a: does not exist.*\n.*b: does not exist"):
        Digest.of([tmp_path / "a", tmp_path / "b"])


def test_data_sets_name_the_files_that_they_read(tmp_path):
    write_spikes(tmp_path / "data.npz", 1)
    assert load_npz(tmp_path / "data.npz").files == (tmp_path / "data.npz",)
