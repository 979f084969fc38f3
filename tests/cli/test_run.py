"""``lbi-run``: three backends with equal results, their comparison, and all input errors in one pass."""

from __future__ import annotations

import io
import os
import re
import secrets
import stat
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from lbi.exporters import lava, netx
from support import cases
from support.command import call

from lbi.cli.common import progress
from lbi.cli.estimate import main as lbi_estimate
from lbi.cli.run import main as lbi_run
from lbi.deploy import backends
from lbi.errors import LbiWarning, MissingPackageError, Problem
from lbi.files import network_h5
from lbi.simulation import oracle

KEYS = {
    "backend",
    "n_samples",
    "n_steps",
    "accuracy",
    "n_output_spikes",
    "seconds",
    "verified",
    "first_divergence",
}


@pytest.fixture
def export(tmp_path):
    """A network.h5, its spikes with labels, and the output it must give."""
    fixed, spikes = cases.make("recurrent_bias")
    network_h5.save(fixed, tmp_path / "network.h5")
    output = oracle.simulate(fixed, spikes).output_spikes
    labels = output.sum(axis=1).argmax(axis=1)
    labels[0] = (labels[0] + 1) % fixed.n_out
    np.savez(tmp_path / "spikes.npz", spikes=spikes, labels=labels)
    return tmp_path / "network.h5", tmp_path / "spikes.npz", output


def test_sim_gives_the_contracts_record_and_file(export, tmp_path):
    network, spikes, output = export
    done = call(
        lbi_run, network, "--backend", "sim", "--spikes", spikes, "--json", "-o", tmp_path / "out.npz"
    )
    assert (done.code, done.errors) == (0, [])
    record = done.json
    assert set(record) >= KEYS
    assert (record["n_samples"], record["n_steps"]) == output.shape[:2]
    assert record["n_output_spikes"] == output.sum()
    assert record["accuracy"] == (len(output) - 1) / len(output)
    assert record["verified"] is None
    with np.load(tmp_path / "out.npz") as file:
        assert np.array_equal(file["spikes"], output)
        assert np.array_equal(file["predictions"], output.sum(axis=1).argmax(axis=1))
        assert (file["predictions"] != file["labels"]).sum() == 1


def test_samples_takes_the_first(export):
    network, spikes, output = export
    done = call(lbi_run, network, "--backend", "sim", "--spikes", spikes, "--samples", 2, "--json")
    assert (done.json["n_samples"], done.json["n_output_spikes"]) == (2, output[:2].sum())


@pytest.mark.parametrize("recorded", [{"training": {"n_steps": 7}}, {"dataset": {"n_steps": 7}}])
def test_samples_of_another_length_than_in_training_are_noted(recorded, export, tmp_path):
    fixed = replace(network_h5.load(export[0]), provenance=recorded)
    network_h5.save(fixed, export[0])
    for n_steps in (7, 9):
        np.savez(tmp_path / "s.npz", spikes=np.zeros((2, n_steps, fixed.n_in), np.uint8))
        done = call(lbi_run, export[0], "--backend", "sim", "--spikes", tmp_path / "s.npz", "--json")
        expected = [] if n_steps == 7 else ["samples of 9 steps; it was trained on samples of 7"]
        assert done.json["notes"] == expected
        costed = call(lbi_estimate, export[0], "--spikes", tmp_path / "s.npz", "--json").json["notes"]
        assert [note for note in costed if "trained on" in note] == [f"Measured on {e}." for e in expected]
    static = call(lbi_estimate, export[0], "--json").json["notes"]
    assert not any("trained on" in note for note in static)


@pytest.mark.parametrize("command", [lbi_run, lbi_estimate])
def test_samples_without_any_spike_are_a_warning(command, export, tmp_path):
    """A file that was encoded wrongly looks like a network that costs nothing."""
    n_in = network_h5.load(export[0]).n_in
    backend = ("--backend", "sim") if command is lbi_run else ()
    for n_spikes in (0, 1):
        spikes = np.zeros((2, 3, n_in), np.uint8)
        spikes[1, 2, 0] = n_spikes
        np.savez(tmp_path / "s.npz", spikes=spikes)
        done = call(command, export[0], *backend, "--spikes", tmp_path / "s.npz", "--json")
        silent = [line for line in done.errors if "spikes-silent" in line]
        expected = "warning: spikes-silent: s.npz: no spike in 2 samples of 3 steps; allowed: some: all figures are those"
        assert [line[: len(expected)] for line in silent] == ([] if n_spikes else [expected])
        assert done.code == 0


def test_a_net_of_another_network_than_its_export_is_a_warning(tmp_path):
    fixed, _ = cases.make("feed_forward")
    for name, network in (("network.h5", fixed), ("other.h5", changed(fixed))):
        network_h5.save(network, tmp_path / name)
    netx.write(fixed, tmp_path / "network.net")
    backends._warn_of_other_net(backends.open_export(tmp_path))
    backends._warn_of_other_net(backends.open_export(tmp_path / "network.net"))
    (tmp_path / "other.h5").replace(tmp_path / "network.h5")
    with pytest.warns(LbiWarning, match=r"netx-differs: .*network\.net: another network than network\.h5"):
        backends._warn_of_other_net(backends.open_export(tmp_path))


def test_a_script_of_another_version_than_this_is_a_warning(tmp_path):
    """It does not run, so that a stranger's export executes nothing: what is verified is not that script."""
    network_h5.save(cases.make("feed_forward")[0], tmp_path / "network.h5")
    script = tmp_path / "run_lava.py"
    backends._warn_of_other_script(backends.open_export(tmp_path))
    lava.write_script(script)
    backends._warn_of_other_script(backends.open_export(tmp_path))
    script.write_text(script.read_text(encoding="utf-8") + "# edited\n", encoding="utf-8")
    with pytest.warns(
        LbiWarning,
        match=r"script-differs: .*run_lava\.py: another script; allowed: the script of this version",
    ):
        backends._warn_of_other_script(backends.open_export(tmp_path))


def changed(fixed):
    """The network with another threshold."""
    first, *rest = fixed.populations
    neuron = replace(first.neuron, vth=first.neuron.vth + 1)
    return replace(fixed, populations=(replace(first, neuron=neuron), *rest))


def test_the_trained_encoding_is_used_again(tmp_path):
    """Without --dataset or --spikes, the test set that the network was trained on, encoded as then."""
    pytest.importorskip("sklearn")
    from lbi import datasets

    trained = datasets.load("digits", n_steps=9)
    fixed = cases.chain([np.full((10, trained.n_in), 2)], [cases.SignMode.EXCITATORY])
    provenance = {"dataset": {"name": "digits", **trained.encoding}}
    network_h5.save(replace(fixed, provenance=provenance), tmp_path / "network.h5")
    for arguments in ((), ("--dataset", "digits")):
        done = call(
            lbi_run, tmp_path / "network.h5", "--backend", "sim", "--samples", 3, "--json", *arguments
        )
        assert done.code == 0, done.errors
        assert (done.json["n_samples"], done.json["n_steps"]) == (3, 9)


def flipped(_export, spikes, _options):
    output = oracle.simulate(_export.fixed, spikes).output_spikes.copy()
    output[2, 7, 1] ^= 1
    output[2, 8, 0] ^= 1
    output[3, 0, 0] ^= 1
    return output


def test_verify_names_the_first_divergence(export, monkeypatch):
    network, spikes, _ = export
    monkeypatch.setitem(backends.BACKENDS, "lava", flipped)
    for backend, other in (("lava", "sim"), ("sim", "lava")):
        done = call(lbi_run, network, "--backend", backend, "--spikes", spikes, "--verify", "--json")
        assert done.code == 4
        assert done.json["verified"] is False
        first = {"sample": 2, "step": 7, "population": "layer2", "neuron": 1, "n_different": 3}
        assert done.json["first_divergence"] == first
        (line,) = done.errors
        assert line.startswith(
            f"error: not-identical: {backend} against {other}: 3 output spikes differ, the first at"
        )
        assert "sample 2, step 7, population 'layer2', neuron 1" in line


@pytest.mark.lava
def test_lava_verifies(export):
    pytest.importorskip("lava.magma")
    network, spikes, output = export
    done = call(lbi_run, network, "--spikes", spikes, "--verify", "--json")
    assert done.code == 0, done.errors
    assert (done.json["backend"], done.json["verified"]) == ("lava", True)
    assert done.json["n_output_spikes"] == output.sum()


def interpreter(folder: Path, commands: str) -> str:
    path = folder / "python"
    path.write_text(f"#!/bin/sh\n{commands}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return str(path)


def our_children() -> list[str]:
    """Command lines of living processes that lbi-run of this process has started."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            line = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            state = (process / "stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            continue
        if "child.py" in line and f" {os.getpid()} " in line and state not in "ZX":
            found.append(line)
    return found


@pytest.mark.lava
def test_a_lava_that_hangs_ends_at_the_timeout(export, tmp_path, monkeypatch):
    """Real Lava, real processes and shared memory; its neuron model stands still in the fifth step."""
    pytest.importorskip("lava.magma")
    network, spikes, _ = export
    note = tmp_path / "note"
    (tmp_path / "sitecustomize.py").write_text(
        "import time\n"
        "from lbi.system import lava_compat\n"
        "lava_compat.install()\n"
        "from lava.proc.lif.models import PyLifResetModelBitAcc as Model\n"
        "go_on = Model.run_spk\n"
        "def run_spk(self):\n"
        "    if self.time_step == 5:\n"
        f"        open({str(note)!r}, 'w').close()\n"
        "        time.sleep(600)\n"
        "    go_on(self)\n"
        "Model.run_spk = run_spk\n"
    )
    python = interpreter(tmp_path, f'PYTHONPATH={tmp_path} exec {sys.executable} "$@"')
    monkeypatch.setenv("LBI_LAVA_PYTHON", python)
    token = secrets.token_hex(6)  # another run of Lava on this machine has names of its own
    monkeypatch.setattr("lbi.system.supervisor.secrets.token_hex", lambda _n: token)
    for timeout in (12, 120):  # a busy machine may need longer to get as far as the fifth step
        done = call(lbi_run, network, "--spikes", spikes, "--timeout", timeout, "-o", tmp_path / "out.npz")
        if note.exists():
            break
    assert note.exists(), "Lava did not get as far as hanging"
    assert done.code == 5
    assert len(done.errors) == 1
    assert done.errors[0].startswith(f"error: timed-out: backend lava: timed out after {timeout} s")
    assert our_children() == []
    assert [name for name in os.listdir("/dev/shm") if token in name] == []
    assert not (tmp_path / "out.npz").exists()


@pytest.mark.lava
def test_a_lava_that_fails_says_why_at_once(export, tmp_path, monkeypatch):
    """An exception in a process model, which Lava swallows and then waits for: its last lines, exit code 5."""
    pytest.importorskip("lava.magma")
    network, spikes, _ = export
    (tmp_path / "sitecustomize.py").write_text(
        "from lbi.system import lava_compat\n"
        "lava_compat.install()\n"
        "from lava.proc.lif.models import PyLifResetModelBitAcc as Model\n"
        "def run_spk(self):\n"
        "    raise ValueError('a model that cannot run')\n"
        "Model.run_spk = run_spk\n"
    )
    python = interpreter(tmp_path, f'PYTHONPATH={tmp_path} exec {sys.executable} "$@"')
    monkeypatch.setenv("LBI_LAVA_PYTHON", python)
    done = call(lbi_run, network, "--spikes", spikes, "--timeout", 100)
    assert done.code == 5
    assert len(done.errors) == 1
    assert "child-failed: backend lava: failed with exit code 70" in done.errors[0]
    assert "ValueError: a model that cannot run" in done.errors[0]
    assert our_children() == []


def test_a_backend_that_fails(export, tmp_path, monkeypatch):
    network, spikes, _ = export
    monkeypatch.setenv("LBI_LAVA_PYTHON", interpreter(tmp_path, "echo no lava here >&2; exit 7"))
    done = call(lbi_run, network, "--spikes", spikes)
    assert done.code == 5
    assert done.errors == [
        "error: child-failed: backend lava: failed with exit code 7: no lava here; fix: run again with --debug to see its output"
    ]


def test_an_interpreter_that_is_missing(export, monkeypatch):
    network, spikes, _ = export
    monkeypatch.setenv("LBI_LAVA_PYTHON", "/nowhere/python3.10")
    done = call(lbi_run, network, "--spikes", spikes)
    assert done.code == 5
    assert done.errors[0].startswith("error: interpreter: /nowhere/python3.10: cannot be started")


@pytest.mark.parametrize("backend", ["lava", "netx"])
def test_no_lava_here(backend, export, monkeypatch, tmp_path):
    def absent(package, extra):
        raise MissingPackageError(Problem("package-missing", package, "not installed"))

    network, spikes, _ = export
    fixed, _ = cases.make("recurrent")
    network_h5.save(fixed, network)
    monkeypatch.delenv("LBI_LAVA_PYTHON", raising=False)
    monkeypatch.setattr(backends, "require", absent)
    done = call(lbi_run, network, "--spikes", spikes, "--backend", backend)
    assert done.code == 5
    assert len(done.errors) == 1
    assert "set LBI_LAVA_PYTHON to a Python that has lava-nc" in done.errors[0]


def test_netx_refuses_with_every_reason(export):
    pytest.importorskip("lava.lib.dl")
    network, spikes, _ = export
    done = call(lbi_run, network, "--backend", "netx", "--spikes", spikes)
    assert done.code == 3
    assert [line.split(": ")[1] for line in done.errors] == ["bias-grid", "bias-grid"]


BAD_SPIKES = {
    "no_spikes": ({"events": np.zeros((2, 3, 12))}, ["spikes-missing"]),
    "width": ({"spikes": np.zeros((2, 3, 11), np.uint8)}, ["spikes-width"]),
    "rank": ({"spikes": np.zeros((2, 12), np.uint8)}, ["spikes-rank"]),
    "values": ({"spikes": np.full((2, 3, 12), 2, np.uint8)}, ["spikes-value"]),
    "nan": ({"spikes": np.full((2, 3, 12), np.nan)}, ["spikes-value"]),
    "text": ({"spikes": np.full((2, 3, 12), "a")}, ["spikes-dtype"]),
    "object": ({"spikes": np.array([{}, {}], dtype=object)}, ["file-damaged"]),
    "none": ({"spikes": np.zeros((0, 3, 12), np.uint8)}, ["spikes-empty"]),
    "labels": ({"spikes": np.zeros((2, 3, 12), np.uint8), "labels": np.zeros(3, int)}, ["labels-shape"]),
    "three": (
        {"spikes": np.full((2, 3, 11), 7, np.uint8), "labels": np.zeros(3)},
        ["spikes-width", "spikes-value", "labels-shape"],
    ),
}


@pytest.mark.parametrize("name", sorted(BAD_SPIKES))
def test_bad_spikes_are_refused_in_one_pass(name, export, tmp_path):
    arrays, codes = BAD_SPIKES[name]
    np.savez(tmp_path / "bad.npz", **arrays)
    done = call(
        lbi_run, export[0], "--spikes", tmp_path / "bad.npz", "--backend", "sim", "-o", tmp_path / "o.npz"
    )
    assert done.code == 3
    assert [line.split(": ")[1] for line in done.errors] == codes
    assert all(line.startswith("error: ") and "bad.npz" in line for line in done.errors)
    assert not (tmp_path / "o.npz").exists()


def test_one_bare_array_is_named(export, tmp_path):
    np.save(tmp_path / "bare.npy", np.zeros((2, 3, 12)))
    done = call(lbi_run, export[0], "--spikes", tmp_path / "bare.npy", "--backend", "sim")
    assert done.code == 3
    assert "one array, a .npy; allowed: .npz" in done.errors[0]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 truncated", b"not a zip", b"\x93NUMPY"])
def test_damaged_spike_files(content, export, tmp_path):
    (tmp_path / "bad.npz").write_bytes(content)
    done = call(lbi_run, export[0], "--spikes", tmp_path / "bad.npz", "--backend", "sim")
    assert done.code == 3
    assert [line.split(": ")[1] for line in done.errors] == ["file-damaged"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("missing.h5",), 3, "file-missing"),
        (("network.h5", "--spikes", "missing.npz"), 3, "file-missing"),
        (("network.h5",), 2, "no-input"),
        (("network.h5", "--dataset", "digits", "--spikes", "spikes.npz"), 2, "options"),
        (("network.h5", "--dataset", "mnist9"), 2, "unknown-dataset"),
        (("network.h5", "--dataset", "mnist"), 3, "spikes-width"),  # not the files, which could not help
        (("network.h5", "--dataset", "shd", "--data", "nowhere"), 3, "spikes-width"),
        (("network.h5", "--backend", "loihi"), 2, "usage"),
        (("network.h5", "--spikes", "spikes.npz", "--samples", "0"), 2, "usage"),
        (("network.h5", "--spikes", "spikes.npz", "--timeout", "0"), 2, "usage"),
        (("network.h5", "--spikes", "spikes.npz", "--timeout", "nan"), 2, "usage.*'nan' is not a number"),
        (("network.h5", "--spikes", "spikes.npz", "-o", "no/out.npz"), 3, "folder-missing"),
        (("network.h5", "--spikes", "spikes.npz", "-o", "./spikes.npz"), 3, "same-file"),
        (("spikes.npz", "--spikes", "spikes.npz"), 3, "file-kind"),
    ],
)
def test_bad_use(arguments, code, message, export, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    done = call(lbi_run, *arguments)
    assert done.code == code
    assert len(done.errors) == 1
    assert re.match(f"error: {message}", done.errors[0])
    assert sorted(tmp_path.iterdir()) == before


def test_an_interrupted_run_leaves_no_process(export, tmp_path):
    """Ctrl-C while Lava hangs: exit code 130, and the child is gone."""
    import signal
    import subprocess

    network, spikes, _ = export
    note = tmp_path / "pid"
    python = interpreter(tmp_path, f"echo $$ > {note}.tmp; mv {note}.tmp {note}; exec sleep 600")
    command = [
        sys.executable,
        "-c",
        "from lbi.cli.run import main; main()",
        str(network),
        "--spikes",
        str(spikes),
    ]
    running = subprocess.Popen(
        command, env={**os.environ, "LBI_LAVA_PYTHON": python}, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not note.exists():
        assert running.poll() is None, running.stderr.read()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    _, errors = running.communicate(timeout=60)
    assert running.returncode == 130
    assert errors.strip() == "interrupted"
    stat_file = Path(f"/proc/{note.read_text().strip()}/stat")
    assert not stat_file.exists() or stat_file.read_text().rpartition(")")[2].split()[0] in "ZX"


@pytest.mark.parametrize(
    "backend",
    ["sim", pytest.param("lava", marks=pytest.mark.lava), pytest.param("netx", marks=pytest.mark.lava)],
)
def test_samples_done_are_told_while_running(backend, tmp_path):
    """In pieces with progress: the same spikes (recurrence must not leak over their borders)."""
    if backend != "sim":
        pytest.importorskip("lava.lib.dl" if backend == "netx" else "lava.magma")
    fixed, spikes = cases.make("recurrent")
    network_h5.save(fixed, tmp_path / "network.h5")
    told: list[int] = []
    options = backends.RunOptions(timeout_s=200, on_done=told.append)
    output = backends.run(backends.open_export(tmp_path / "network.h5"), spikes, backend, options)
    assert np.array_equal(output, oracle.simulate(fixed, spikes).output_spikes)
    assert sum(told) == len(spikes)
    assert len(told) > 1


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize(("flags", "shown"), [((), True), (("--quiet",), False), (("--json",), False)])
def test_a_terminal_shows_a_bar(flags, shown, export, monkeypatch):
    network, spikes, _ = export
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(SystemExit, match="0"):
        lbi_run.main([str(network), "--backend", "sim", "--spikes", str(spikes), *flags])
    assert ("4/4" in sys.stderr.getvalue()) == shown


@pytest.mark.parametrize("show", [True, False])
def test_what_the_package_logs_is_shown_unless_quiet(show, capsys):
    from lbi.system.numba_cache import LOGGER

    with progress("sim", 1, show=show) as advance:
        LOGGER.info("compiling the simulator")
        advance()
    LOGGER.info("later")
    assert capsys.readouterr().err == ("compiling the simulator\n" if show else "")
