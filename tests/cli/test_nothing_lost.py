"""Outputs never take the place of what the same command reads, nor of what another program or run wrote."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from support.command import call
from support.networks import random_network

import lbi
from lbi.cli.estimate import main as lbi_estimate
from lbi.cli.export import main as lbi_export
from lbi.cli.run import main as lbi_run

CHIP = Path(lbi.__file__).parents[2] / "hardware" / "loihi1.toml"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    fixed = lbi.quantize(random_network(rng, (12, 9, 4)), "loihi1")
    lbi.export(fixed, tmp_path / "net.loihi", "loihi", "loihi1")
    lbi.save(fixed, tmp_path / "network.h5")
    spikes = (rng.random((4, 8, 12)) < 0.3).astype(np.uint8)
    labels = np.array([0, 1, 2, 3])
    np.savez(tmp_path / "s.npz", spikes=spikes, labels=labels, test_spikes=spikes, test_labels=labels)
    text = CHIP.read_text(encoding="utf-8").replace('name = "loihi1"', 'name = "mine"', 1)
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


ESTIMATE = ["net.loihi", "--dataset", "s.npz", "--chip", "mine.toml"]


@pytest.mark.parametrize("option", ["--html", "--trace"])
@pytest.mark.parametrize(
    "target", ["net.loihi/network.h5", "net.loihi/run_lava.py", "mine.toml", "s.npz", "link"]
)
def test_an_estimate_replaces_nothing_that_it_reads(option, target, folder):
    (folder / "link").symlink_to(folder / "net.loihi" / "network.h5")
    before = contents(folder)
    done = call(lbi_estimate, *ESTIMATE, option, target)
    assert done.code == 3
    assert "input of this command" in done.errors[0]
    assert contents(folder) == before


def test_an_estimate_writes_its_report_again(folder):
    for _ in range(2):
        assert call(lbi_estimate, *ESTIMATE, "--html", "net.loihi/report.html", "-q").code == 0
    assert call(lbi_run, "net.loihi", "--spikes", "s.npz", "--backend", "sim", "-o", "o.npz", "-q").code == 0
    assert call(lbi_run, "net.loihi", "--spikes", "s.npz", "--backend", "sim", "-o", "o.npz", "-q").code == 0


@pytest.mark.parametrize("target", ["net.loihi/network.h5", "net.loihi/report.json", "s.npz"])
@pytest.mark.parametrize("option", ["--spikes", "--dataset"])
def test_a_run_replaces_nothing_that_it_reads(option, target, folder):
    before = contents(folder)
    done = call(lbi_run, "net.loihi", option, "s.npz", "--backend", "sim", "-o", target)
    assert done.code == 3
    assert "input of this command" in done.errors[0]
    assert contents(folder) == before


@pytest.mark.parametrize("mark", ["manifest.json", "network.h5"])
def test_force_replaces_exports_only(mark, folder):
    project = folder / "project"
    (project / "src").mkdir(parents=True)
    (project / "src" / "a").write_text("precious")
    (project / mark).write_text("{}")
    (folder / "thesis.tex").write_text("precious")
    before = contents(folder)
    for out, target in (
        ("project", "loihi"),
        ("project", "nir"),
        ("thesis.tex", "csr"),
        ("thesis.tex", "nir"),
    ):
        done = call(lbi_export, "network.h5", "--target", target, "-o", out, "--force")
        assert done.code == 3, out
        assert "not-an-export" in done.errors[0]
        assert contents(folder) == before


def test_force_keeps_what_else_is_in_an_export(folder):
    for target, out in (("loihi", "a"), ("csr", "b"), ("nir", "c.nir"), ("lava", "d")):
        for _ in range(2):
            done = call(lbi_export, "network.h5", "--target", target, "-o", out, "--force", "-q")
            assert done.code == 0, done.errors
    (folder / "a" / "notes.txt").write_text("precious")
    (folder / "a" / "mine").mkdir()
    (folder / "a" / "mine" / "b").write_text("precious too")
    done = call(lbi_export, "network.h5", "--target", "loihi", "-o", "a", "--force")
    assert done.code == 0
    assert (folder / "a" / "notes.txt").read_text() == "precious"
    assert (folder / "a" / "mine" / "b").read_text() == "precious too"
    done = call(lbi_export, "network.h5", "--target", "nir", "-o", "a", "--force")  # a file in their place
    assert done.code == 3
    assert (folder / "a" / "notes.txt").read_text() == "precious"
    (folder / "b" / "manifest.json").write_text("damaged")
    assert call(lbi_export, "network.h5", "--target", "csr", "-o", "b", "--force", "-q").code == 0


def test_force_spares_folders_that_only_look_like_exports(folder):
    (folder / "mine" / "weights").mkdir(parents=True)
    (folder / "mine" / "manifest.json").write_text('{"app": "mine"}')
    (folder / "mine" / "weights" / "a.npz").write_text("precious")
    (folder / "other").mkdir()
    with h5py.File(folder / "other" / "network.h5", "w") as file:
        file["precious"] = 1
    for name in ("mine", "other"):
        for target in ("loihi", "csr"):
            done = call(lbi_export, "network.h5", "--target", target, "-o", name, "--force", "-q")
            assert done.code == 3, done.errors
            assert "not-an-export" in done.errors[0]
    assert (folder / "mine" / "weights" / "a.npz").read_text() == "precious"


def test_force_keeps_other_kinds_of_files_within_an_export(folder):
    assert call(lbi_export, "network.h5", "--target", "csr", "-o", "b", "-q").code == 0
    (inside,) = [entry for entry in (folder / "b").iterdir() if entry.name == "weights"]
    (inside / "notes.txt").write_text("precious")
    assert call(lbi_export, "network.h5", "--target", "csr", "-o", "b", "--force", "-q").code == 0
    assert (inside / "notes.txt").read_text() == "precious"


SMALL = ["--dataset", "s.npz", "--epochs", "0", "--hidden", "4", "-q"]


@pytest.fixture
def lbi_train():
    pytest.importorskip("torch")
    from lbi.cli.train import main

    return main


def test_a_training_replaces_no_model_that_it_starts_from(folder, lbi_train):
    assert call(lbi_train, *SMALL, "-o", "model.pt").code == 0
    shutil.copy("model.pt", "best.ckpt")
    Path("own.ckpt").write_text("epochs = 0\n", encoding="utf-8")
    before = contents(folder)
    for given, out in (
        (["--from", "best.ckpt"], "best"),
        (["--set", "teacher=best.ckpt"], "best"),
        (["--config", "own.ckpt"], "own"),
    ):
        done = call(lbi_train, *SMALL, *given, "-o", out)
        assert done.code == 3, given
        assert "input of this command" in done.errors[0]
        assert contents(folder) == before


def test_the_checkpoint_of_an_earlier_run_is_kept(folder, lbi_train, monkeypatch):
    Path("model.pt.ckpt").write_bytes(b"hours of work")
    Path("model.pt.ckpt.1").write_bytes(b"more of it")
    done = call(lbi_train, *SMALL, "-o", "model.pt")  # too short for a checkpoint of its own
    assert (done.code, done.errors) == (0, [])
    assert Path("model.pt.ckpt").read_bytes() == b"hours of work"
    monkeypatch.setattr("lbi.train.session.run.CHECKPOINT_EVERY_S", -1.0)
    done = call(lbi_train, *SMALL, "--epochs", "1", "-o", "model.pt")
    assert done.code == 0
    assert "--resume model.pt.ckpt.2" in done.errors[0]
    assert Path("model.pt.ckpt.2").read_bytes() == b"hours of work"
    assert Path("model.pt.ckpt.1").read_bytes() == b"more of it"
    assert not Path("model.pt.ckpt").exists()


def test_a_training_replaces_no_file_of_its_data_folder(folder, lbi_train):
    data = folder / "mn"
    data.mkdir()
    (data / "train-images-idx3-ubyte").write_bytes(b"images")
    for option in ("-o", "--metrics"):
        done = call(lbi_train, "--dataset", "mnist", "--data", "mn", option, "mn/train-images-idx3-ubyte")
        assert done.code == 3
        assert "input of this command" in "".join(done.errors)
    assert (data / "train-images-idx3-ubyte").read_bytes() == b"images"


def test_what_is_not_meant_is_not_taken(folder, lbi_train):
    """An unset shell variable, a share that holds out nobody, and another chip under a built-in name."""
    done = call(lbi_train, "--dataset", "", "--epochs", "0", "-o", "e.pt")
    assert done.code == 2
    assert call(lbi_run, "net.loihi", "--dataset", "", "--backend", "sim").code == 2
    done = call(lbi_train, *SMALL, "--validation", "0.01", "--patience", "2", "-o", "e.pt")
    assert (done.code, "option: validation: 0.01 of 4 samples is 0" in done.errors[0]) == (2, True)
    assert not Path("e.pt").exists()
    export = ("network.h5", "--target", "loihi", "--chip", "copy.toml", "--json")
    Path("copy.toml").write_text(CHIP.read_text(encoding="utf-8"), encoding="utf-8")
    assert call(lbi_export, *export, "-o", "same").errors == []
    Path("copy.toml").write_text(CHIP.read_text(encoding="utf-8").replace("23.6", "1000"), encoding="utf-8")
    done = call(lbi_export, *export, "-o", "other")
    assert (done.code, len(done.errors)) == (0, 1)
    assert "chip-name: chip: name = 'loihi1'" in done.errors[0]
    json.dumps(done.json)
