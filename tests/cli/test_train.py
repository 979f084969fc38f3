"""``lbi-train``: its output and files, several processes, and fine-tuning of a trained model."""

from __future__ import annotations

import csv
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from support.command import call  # noqa: E402

import lbi  # noqa: E402
from lbi import datasets  # noqa: E402
from lbi.cli import train as command  # noqa: E402
from lbi.simulation import oracle  # noqa: E402
from lbi.train import SpikingNetwork, load_model, save_model  # noqa: E402
from lbi.train.model_pt import load_module  # noqa: E402
from lbi.train.session.config import TrainConfig, make_config  # noqa: E402
from lbi.train.session.run import Outputs, complete, prepare, read_checkpoint, resume_config, save_checkpoint  # noqa: E402
from lbi.train.session.start import Start  # noqa: E402


def test_the_command_prints_json_and_writes_model_and_metrics(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("options.toml").write_text("hidden = [24]\nepochs = 9\n[encoding]\nn_steps = 6\n")
    options = ("--config", "options.toml", "--epochs", 2, "--set", "slope=4", "--metrics", "m.csv")
    done = call(command.main, *options, "--json")
    assert done.code == 0, done.errors
    record = done.json
    assert {
        "dataset",
        "optimizer",
        "seed",
        "n_weights",
        "n_active",
        "density",
        "accuracy",
        "epochs",
        "seconds",
        "model",
    } <= set(record)
    assert record["n_weights"] == 24 * 64 + 10 * 24
    assert (record["epochs"], record["model"]) == (2, "model.pt")
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["m.csv", "model.pt", "options.toml"]
    network = load_model("model.pt")
    assert network.n_active == record["n_active"]
    assert network.meta["training"]["config"]["slope"] == 4
    rows = list(csv.DictReader(Path("m.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert float(rows[1]["density"]) == pytest.approx(record["density"])
    name, encoding = "digits", {"code": "rate", "n_steps": 6}
    assert network.meta["dataset"] == {"name": name, **encoding}
    spikes = datasets.load(name, **encoding).test.spikes[:40]
    assert oracle.simulate(network, spikes).output_spikes.shape == (40, 6, 10)


def test_a_file_in_place_of_tensorboards_folder_is_named_before_the_data_is_read(tmp_path):
    pytest.importorskip("tensorboard")
    (tmp_path / "board").write_text("mine")
    for board, model in (("board", "m.pt"), ("m.pt", "m.pt")):
        where = str(tmp_path / board)
        done = call(
            command.main,
            "--dataset",
            "shd",
            "--data",
            tmp_path,
            "-o",
            tmp_path / model,
            "--tensorboard",
            where,
        )
        assert (done.code, len(done.errors)) == (3, 1)
        assert done.errors[0].startswith(f"error: output: {where}: ")
    assert [path.name for path in tmp_path.iterdir()] == ["board"]


def test_tensorboard_gets_the_figures_of_the_csv_file(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    monkeypatch.chdir(tmp_path)
    done = call(
        command.main,
        "--set",
        'encoding={"n_steps": 4}',
        "--hidden",
        "8",
        "--epochs",
        "3",
        "--validation",
        "0.1",
        "--metrics",
        "m.csv",
        "--tensorboard",
        "board",
        "--quiet",
    )
    assert (done.code, done.errors) == (0, [])
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    board = EventAccumulator("board").Reload()
    rows = list(csv.DictReader(Path("m.csv").read_text().splitlines()))
    assert set(board.Tags()["scalars"]) == set(rows[0]) - {"epoch"}
    for name in board.Tags()["scalars"]:
        written = [(event.step, event.value) for event in board.Scalars(name)]
        assert written == [(int(row["epoch"]), np.float32(row[name])) for row in rows]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="this torch has no distributed package")
def test_two_processes_train_as_one(tmp_path):
    """Two gloo processes, set up as torchrun does, and one global batch: the same training up to the order of sums."""
    arguments = [
        "--set",
        'encoding={"n_steps": 6}',
        "--hidden",
        "24",
        "--epochs",
        "1",
        "--optimizer",
        "adam",
        "--batch-size",
        "150",
        "--json",
    ]
    command_line = [sys.executable, "-m", "lbi.cli.train", *arguments, "-o", str(tmp_path / "two.pt")]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            command_line,
            env={**os.environ, **group, "RANK": rank, "LOCAL_RANK": rank},
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]
    try:
        one = call(command.main, *arguments, "-o", tmp_path / "one.pt")
        outputs = [process.communicate(timeout=600)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [one.code, *(process.returncode for process in processes)] == [0, 0, 0]
    assert outputs[1] == ""  # the second process prints nothing
    records = [one.json, json.loads(outputs[0])]
    assert records[0]["n_active"] == records[1]["n_active"]
    states = [torch.load(tmp_path / name, weights_only=True)["state_dict"] for name in ("one.pt", "two.pt")]
    for key, value in states[0].items():
        # 9 Adam steps of 0.005; the order of float32 sums moves a gradient by ~1e-6 of its size
        torch.testing.assert_close(states[1][key], value, rtol=0, atol=1e-3)
    assert abs(records[0]["accuracy"]["test"] - records[1]["accuracy"]["test"]) <= 0.01


@pytest.mark.parametrize("optimizer", ["adam", "adabreg"])
def test_a_float_model_is_fine_tuned_in_the_chips_integers(optimizer, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = call(
        command.main,
        "--set",
        'encoding={"n_steps": 8}',
        "--hidden",
        "32",
        "--epochs",
        "5",
        "--optimizer",
        optimizer,
        "--recurrent",
        "--set",
        "slope=4",
        "-o",
        "float.pt",
        "--json",
    )
    tuned = call(
        command.main, "--from", "float.pt", "--precision", "chip", "--epochs", "1", "-o", "chip.pt", "--json"
    )
    assert (first.code, tuned.code) == (0, 0), (first, tuned)
    assert (tuned.json["epochs"], tuned.json["n_weights"]) == (1, first.json["n_weights"])
    network = load_model("chip.pt")
    config = network.meta["training"]["config"]
    assert (config["slope"], config["precision"], config["encoding"]) == (4, "chip", {"n_steps": 8})
    assert set(network.meta["scales"]) == {"hidden", "output"}
    # It went on from the float weights: one epoch moves them little, and what was learned is still there.
    before, after = (load_model(name).projections[0].weights.to_dense() for name in ("float.pt", "chip.pt"))
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.8
    assert tuned.json["accuracy"]["test"] > first.json["accuracy"]["test"] - 0.05 > 0.5
    data = datasets.load("digits", n_steps=8).test
    fixed = lbi.quantize(network)
    right = fixed.readout.classify(lbi.simulate(fixed, data.spikes).output) == data.labels
    assert tuned.json["accuracy"]["test"] == right.mean()
    back = call(command.main, "--from", "chip.pt", "--precision", "float", "--epochs", "0", "--json")
    assert "scales" not in load_model(back.json["model"]).meta


def test_a_start_that_does_not_fit_is_refused(tmp_path, monkeypatch, rng):
    monkeypatch.chdir(tmp_path)
    assert call(command.main, "--set", 'encoding={"n_steps": 4}', "--hidden", "8", "--epochs", "0").code == 0
    np.savez("own.npz", spikes=np.ones((20, 4, 6), np.uint8), labels=np.arange(20) % 2)
    save_model(load_module("model.pt")[0], "bare.pt")
    for arguments, code, message in (
        (["--hidden", "9", "--neuron", "atrlif"], 2, "from-network: --from: with another hidden, neuron"),
        (
            ["--dataset", "own.npz"],
            3,
            "from-dataset: model.pt: has 64 inputs and 10 classes; allowed: 6 and 2",
        ),
        (["--resume", "model.pt.ckpt"], 3, "file-missing"),
        (["--set", "slopes=1"], 2, "slopes"),
    ):
        done = call(command.main, "--from", "model.pt", *arguments, "-o", "other.pt")
        assert done.code == code
        assert re.search(message, done.errors[0])
    assert "names no data set" in call(command.main, "--from", "bare.pt").errors[0]
    assert call(command.main, "--from", "bare.pt", "--dataset", "digits", "--epochs", "0").code == 0
    assert not Path("other.pt").exists()


def test_fine_tuning_resumes_too(tmp_path, monkeypatch):
    """Also where the network is not what the options alone would make."""
    save_model(
        SpikingNetwork(TrainConfig(hidden=(12,), slope=7).model((64,), 10), seed=3), tmp_path / "bare.pt"
    )
    monkeypatch.setattr("lbi.train.session.run.CHECKPOINT_EVERY_S", 0.0)
    start = Start.read(tmp_path / "bare.pt")
    config = start.config("digits", None, {"epochs": 1, "encoding": {"n_steps": 4}})
    outputs = Outputs(tmp_path / "model.pt")
    trainer = prepare(config, outputs, start=start)
    trainer.run()
    save_checkpoint(trainer, outputs.checkpoint)
    checkpoint = read_checkpoint(outputs.checkpoint)
    resumed = prepare(resume_config(checkpoint, {"epochs": 2}), outputs, checkpoint)
    assert resumed.model.config == trainer.model.config
    assert torch.equal(resumed.model.layers["hidden"].weight, trainer.model.layers["hidden"].weight)
    assert complete(resumed, outputs)["epochs"] == 2


def test_resuming_for_fewer_epochs_than_are_done_is_a_warning(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outputs = Outputs(Path("model.pt"))
    options = {"epochs": 2, "hidden": (4,), "encoding": {"n_steps": 4}}
    trainer = prepare(make_config("digits", None, options), outputs)
    trainer.run()
    save_checkpoint(trainer, outputs.checkpoint)
    for epochs, warned in ((1, 1), (2, 0)):
        done = call(command.main, "--resume", "model.pt.ckpt", "--epochs", epochs, "-o", f"{epochs}.pt", "-q")
        assert done.code == 0
        assert len(done.errors) == warned
        assert all(line.startswith("warning: resume: --epochs 1: 2 are done") for line in done.errors)


@pytest.mark.parametrize("given", [("--density", "0.1"), ("--set", "density=0.1")])
def test_a_density_that_the_optimizer_ignores_is_a_warning(given, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ("--set", "encoding.n_steps=4", "--hidden", "6", "--epochs", "0", "--quiet")
    done = call(command.main, "--optimizer", "adam", *given, *small)
    assert (done.code, len(done.errors)) == (0, 1)
    assert "option: --density: 0.1 with adam; allowed: 1: adam trains all" in done.errors[0]
    assert "; fix: leave --density out, or choose a sparse --optimizer (linbreg, adabreg, " in done.errors[0]
    Path("options.toml").write_text("density = 0.1\n")  # a file may serve several optimizers
    done = call(command.main, "--optimizer", "adam", "--config", "options.toml", *small)
    assert (done.code, done.errors) == (0, [])


def test_one_epoch_is_one_epoch(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ("--dataset", "digits", "--set", "encoding.n_steps=4", "--hidden", "6")
    for n, words in ((1, "1 epoch in"), (2, "2 epochs in")):
        done = call(command.main, *small, "--epochs", n)
        assert (done.code, f"digits, adabreg, {words} " in done.out) == (0, True), done


def test_the_data_set_is_not_replaced_by_an_output(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    spikes = np.ones((4, 3, 5), np.uint8)
    np.savez("mine.npz", spikes=spikes, labels=np.arange(4) % 2)
    before = (tmp_path / "mine.npz").read_bytes()
    for option in ("-o", "--metrics"):
        done = call(command.main, "--dataset", "mine.npz", "--epochs", "1", option, "mine.npz")
        assert done.code == 3
        assert "same-file: mine.npz: the input of this command" in done.errors[0]
    assert (tmp_path / "mine.npz").read_bytes() == before


@pytest.mark.parametrize("option", ["--from", "--config", "--resume"])
def test_an_output_never_replaces_an_input(option, tmp_path, monkeypatch):
    """The default output is model.pt, so a fine-tuned model.pt needs an output of its own."""
    monkeypatch.chdir(tmp_path)
    Path("model.pt").write_bytes(b"mine")
    done = call(command.main, option, "./model.pt", "--epochs", "1")
    assert done.code == 3
    assert "same-file: model.pt: the input of this command" in done.errors[0]
    assert Path("model.pt").read_bytes() == b"mine"


@pytest.mark.parametrize(
    "given",
    [("--budget", "cores=1", "--chip", "mine"), ("--set", 'teacher="mine"'), ("--set", 'chip="mine"')],
)
@pytest.mark.parametrize("output", ["-o", "--metrics"])
def test_an_output_never_replaces_the_chip_or_the_teacher(given, output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    mine = "mine.pt" if "teacher" in given[1] else "mine.toml"
    chip = Path(lbi.__file__).parents[2] / "hardware" / "loihi1.toml"
    Path(mine).write_bytes(chip.read_bytes() if chip.exists() else b"mine")
    before = Path(mine).read_bytes()
    options = [part.replace("mine", mine) for part in given]
    if "chip=" in given[1]:
        options += ["--budget", "cores=1"]
    done = call(command.main, "--dataset", "digits", "--epochs", "1", *options, output, mine)
    assert done.code == 3
    assert f"same-file: {mine}: the input of this command" in done.errors[0]
    assert Path(mine).read_bytes() == before


def interrupted_training(
    folder: Path, *options: str, n_rows: int, number: int = signal.SIGINT
) -> tuple[int, str]:
    """Train on digits until ``m.csv`` has ``n_rows`` rows; the epochs there and the line that an interruption prints."""
    line = [sys.executable, "-m", "lbi.cli.train", *options, "--metrics", "m.csv", "-o", "my model.pt"]
    metrics = folder / "m.csv"
    with subprocess.Popen(line, stderr=subprocess.PIPE, text=True, cwd=folder) as run:
        until = time.monotonic() + 600
        while time.monotonic() < until and not (
            metrics.exists() and len(metrics.read_text().splitlines()) > n_rows
        ):
            time.sleep(0.05)
        run.send_signal(number)
        assert run.stderr is not None
        said = run.stderr.read()
    assert run.returncode == 130
    assert not (folder / "my model.pt").exists()
    assert said.count("\n") == 1
    return len(metrics.read_text().splitlines()) - 1, said.strip()


LONG = ("--dataset", "digits", "--hidden", "16", "--epochs", "1000")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_keeps_the_last_finished_epoch(number, tmp_path, monkeypatch):
    """Long before the first checkpoint is due: the run resumes, by the command printed, after the epochs of its metrics."""
    rows, said = interrupted_training(tmp_path, *LONG, n_rows=3, number=number)
    epoch = read_checkpoint(tmp_path / "my model.pt.ckpt")["progress"]["epoch"]
    assert rows - 1 <= epoch <= rows
    start, _, resuming = said.partition("; continue with lbi-train ")
    assert start == f"interrupted: {epoch} epochs are kept in my model.pt.ckpt"
    monkeypatch.chdir(tmp_path)
    done = call(command.main, *shlex.split(resuming), "--epochs", str(epoch + 1), "--json")
    assert (done.code, done.json["epochs"], done.json["model"]) == (0, epoch + 1, "my model.pt")
    assert len((tmp_path / "m.csv").read_text().splitlines()) == 1 + epoch + 1


def test_an_interruption_in_the_first_epoch_says_that_nothing_is_kept(tmp_path):
    """``m.csv`` is there before the first epoch, which takes a while with one sample in a batch."""
    slow = (*LONG, "--batch-size", "1", "--set", "encoding.n_steps=200")
    rows, said = interrupted_training(tmp_path, *slow, n_rows=0)
    nothing = "no epoch was complete, so nothing was kept: neither checkpoint nor model was written"
    assert (rows, said) == (0, f"interrupted: {nothing}")
    assert not (tmp_path / "my model.pt.ckpt").exists()
    (tmp_path / "my model.pt.ckpt").write_bytes(b"another run's")
    (tmp_path / "m.csv").unlink()
    rows, said = interrupted_training(tmp_path, *slow, n_rows=0)
    assert (rows, said) == (0, f"interrupted: {nothing}; my model.pt.ckpt is of an earlier run")
    assert (tmp_path / "my model.pt.ckpt").read_bytes() == b"another run's"


def test_a_resumed_run_that_is_interrupted_at_once_keeps_its_checkpoint(tmp_path):
    """Its first epoch is the one in which the interruption comes."""
    trainer = prepare(
        TrainConfig(dataset="digits", batch_size=1, encoding={"n_steps": 200}, epochs=2),
        Outputs(tmp_path / "x.pt"),
    )
    trainer.progress.epoch = 1
    save_checkpoint(trainer, tmp_path / "my model.pt.ckpt")
    before = (tmp_path / "my model.pt.ckpt").read_bytes()
    _, said = interrupted_training(tmp_path, "--resume", "my model.pt.ckpt", n_rows=0)
    assert (
        said == "interrupted: nothing of this run was kept; the checkpoint that it resumed from is unchanged"
    )
    assert (tmp_path / "my model.pt.ckpt").read_bytes() == before


def test_wrong_options_of_every_kind_are_named_in_one_pass(tmp_path):
    done = call(
        command.main, "--density", "7", "--set", "nonsense=1", "--set", "lr=x", "--neuron", "nope", "--hidden", "8,x",
        "--budget", "energy=3", "--budget", "foo=3", "--chip", "loihi1", "-o", tmp_path / "model.pt",
    )  # fmt: skip
    assert done.code == 2
    assert [line.partition("; allowed")[0] for line in done.errors] == [
        "error: option: density: 7.0",
        "error: option-type: lr: 'x'",
        "error: unknown-option: options: has 'nonsense', which this version does not know",
        "error: option: hidden: 'x'",
        "error: option: neuron: 'nope'",
        "error: budget-unit: --budget energy=3: no unit",
        "error: budget-name: --budget foo=3: 'foo'",
    ]
