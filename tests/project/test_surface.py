"""The commands on unusual networks, paths and terminals: the same results, no traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from support import cases
from support.cases import SignMode, chain
from support.command import call

from lbi.files import network_h5
from lbi.simulation import oracle

PLACE = "größe 神経 of a net"
COMMANDS = {
    "export": ["net.h5", "--target", "loihi", "-o", "out.loihi", "--force"],
    "run": ["net.h5", "--backend", "sim", "--spikes", "in.npz", "-o", "out.npz"],
    "estimate": ["net.h5", "--spikes", "in.npz", "--trace", "trace.csv"],
}


@pytest.fixture
def folder(tmp_path):
    """A network and spikes in a folder whose name has blanks and is not ASCII."""
    place = tmp_path / PLACE
    place.mkdir()
    fixed, spikes = cases.make("recurrent_bias")
    network_h5.save(fixed, place / "net.h5")
    np.savez(place / "in.npz", spikes=spikes)
    return place


def start(
    name: str, folder: Path, *options: str, python: tuple[str, ...] = (), **more
) -> subprocess.Popen[str]:
    """The command as a separate process, with absolute paths."""
    paths = [
        str(folder / word) if word.endswith((".h5", ".npz", ".csv", ".loihi")) else word
        for word in COMMANDS[name]
    ]
    return subprocess.Popen(
        [sys.executable, *python, "-m", f"lbi.cli.{name}", *paths, *options],
        stderr=subprocess.PIPE,
        text=True,
        **more,
    )


@pytest.mark.parametrize("name", COMMANDS)
def test_an_ascii_terminal_of_twenty_columns(name, folder):
    plain = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", "PYTHONIOENCODING": ""}
    narrow = {"TERM": "dumb", "NO_COLOR": "1", "COLUMNS": "20"}
    environment = {**os.environ, **plain, **narrow}
    text, record = (
        start(name, folder, *options, stdout=subprocess.PIPE, env=environment)
        for options in ((), ("--json",))
    )
    for process in (text, record):
        out, errors = process.communicate()
        assert (process.returncode, errors) == (0, "")
        assert out.isascii()
        assert "\x1b" not in out
        assert process is text or json.loads(out)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_reader_that_has_gone(name, folder):
    reader, writer = os.pipe()
    os.close(reader)
    processes = [start(name, folder, *options, stdout=writer) for options in ((), ("--json",))]
    os.close(writer)
    for process in processes:
        _, errors = process.communicate()
        assert (process.returncode, errors) == (1, "")


@pytest.mark.parametrize("name", COMMANDS)
def test_no_warning_on_the_way(name, folder):
    process = start(name, folder, "--quiet", python=("-W", "error"))
    _, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")


def test_three_exports_to_one_folder(folder):
    """All end well, and the folder is one export, whole."""
    processes = [start("export", folder, "--quiet") for _ in range(3)]
    assert [(process.communicate()[1], process.returncode) for process in processes] == [("", 0)] * 3
    alone = folder / "alone.loihi"
    command = import_module("lbi.cli.export").main
    assert call(command, folder / "net.h5", "--target", "loihi", "-o", alone).code == 0
    found = {path.name: path.read_bytes() for path in (folder / "out.loihi").iterdir()}
    assert found == {path.name: path.read_bytes() for path in alone.iterdir()}
    assert {path.name for path in folder.iterdir()} == {"alone.loihi", "in.npz", "net.h5", "out.loihi"}


ODD = {
    "one neuron": (chain([np.array([[90]])], [SignMode.EXCITATORY]), 3),
    "no weights": (chain([np.zeros((4, 3))], [SignMode.MIXED]), 3),
    "all weights": (chain([np.full((4, 3), 20)], [SignMode.EXCITATORY]), 3),
    "one step": (chain([np.full((4, 3), 20)], [SignMode.EXCITATORY]), 1),
}


@pytest.mark.parametrize("rate", [0, 1])
@pytest.mark.parametrize("name", ODD)
def test_odd_networks_and_inputs(name, rate, tmp_path, monkeypatch):
    fixed, n_steps = ODD[name]
    monkeypatch.chdir(tmp_path)
    spikes = np.full((2, n_steps, fixed.n_in), rate, dtype=np.uint8)
    network_h5.save(fixed, "net.h5")
    np.savez("in.npz", spikes=spikes)
    expected = int(oracle.simulate(fixed, spikes).output_spikes.sum())
    for target in ("loihi", "csr"):
        done = call(import_module("lbi.cli.export").main, "net.h5", "--target", target, "--json")
        assert (done.code, done.errors) == (0, [])
    run = ["net.loihi", "--backend", "sim", "--spikes", "in.npz", "--samples", 10**15, "--json"]
    record = call(import_module("lbi.cli.run").main, *run).json
    assert (record["n_samples"], record["n_output_spikes"]) == (2, expected)
    for options in ([], ["--json"]):
        done = call(import_module("lbi.cli.estimate").main, "net.loihi", "--spikes", "in.npz", *options)
        silent = [
            line.startswith("warning: spikes-silent: in.npz: no spike in 2 samples") for line in done.errors
        ]
        assert (done.code, silent) == (0, [True] * (1 - rate))
    synapses = sum(p.weights.nnz for p in fixed.projections)
    assert done.json["sparse"]["synops_per_step"] == synapses * rate
