"""The table of targets, targets from other packages, and the files that ``lbi.load`` reads or refuses."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import numpy as np
import pytest
import torch
from lbi.exporters import netx
from support import cases, peers
from support.command import call

import lbi
from lbi.cli.export import main as lbi_export
from lbi.deploy import targets
from lbi.errors import InputError, UsageError

PLUGIN = '''
"""A target in one file: the number of synapses, as text."""
from lbi.errors import Problem

TITLE = "synapse count"
SUFFIX = ".count"
TAKES = "fixed"

def check(job):
    if len(job.fixed.populations) > 2:
        return [Problem("too-deep", "network", "more than two populations", "two")]
    return []

def export(job, path):
    path.write_text(f"{sum(p.weights.nnz for p in job.fixed.projections)}\\n")
'''


@pytest.fixture
def plugged(tmp_path, monkeypatch):
    """Another package with a good target, one that cannot be imported and one that is half done."""
    (tmp_path / "count_target.py").write_text(PLUGIN)
    (tmp_path / "broken_target.py").write_text("import package_that_is_not_there\n")
    (tmp_path / "half_target.py").write_text("TITLE = 'half'\nSUFFIX = '.half'\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    entries = [
        EntryPoint(name, f"{name}_target", targets.ENTRY_POINTS) for name in ("count", "broken", "half")
    ]
    entries.append(EntryPoint("loihi", "count_target", targets.ENTRY_POINTS))
    monkeypatch.setattr(targets, "entry_points", lambda group: entries if group == "lbi.exporters" else [])
    return tmp_path


@pytest.fixture
def network_file(tmp_path) -> Path:
    fixed, _ = cases.make("recurrent")
    lbi.save(fixed, tmp_path / "net.h5")
    return tmp_path / "net.h5"


@pytest.mark.parametrize("name", sorted(targets.TARGETS))
def test_every_target_in_the_table_is_whole(name):
    module = targets.exporter(name)
    assert module.TITLE
    assert module.SUFFIX.startswith(".")
    assert module.TAKES in ("fixed", "float")
    assert callable(module.check)
    assert callable(module.export)


def test_a_target_of_another_package_is_used(plugged, network_file):
    done = call(lbi_export, network_file, "--target", "count")
    assert done.code == 0, done.errors
    fixed = lbi.load(network_file)
    assert (plugged / "net.count").read_text() == f"{sum(p.weights.nnz for p in fixed.projections)}\n"


def test_its_reasons_are_shown(plugged, tmp_path):
    fixed, _ = cases.make("feed_forward")
    lbi.save(fixed, tmp_path / "deep.h5")
    done = call(lbi_export, tmp_path / "deep.h5", "--target", "count")
    assert (done.code, done.errors) == (
        3,
        ["error: too-deep: network: more than two populations; allowed: two"],
    )
    assert not (tmp_path / "deep.count").exists()


def test_list_targets_shows_them_all(plugged):
    done = call(lbi_export, "--list-targets")
    assert done.code == 0
    lines = done.out.splitlines()
    assert [line.split()[0] for line in lines] == [*targets.TARGETS, "broken", "count", "half"]
    assert "synapse count (*.count)  [count_target]" in done.out
    assert "package_that_is_not_there" in lines[len(targets.TARGETS)]
    assert "has no TAKES" in lines[-1]


def test_list_targets_as_json(plugged, monkeypatch):
    monkeypatch.setattr("sys.argv", ["lbi-export", "--list-targets", "--json"])
    rows = {row["name"]: row for row in call(lbi_export, "--list-targets", "--json").json["targets"]}
    assert list(rows) == [*targets.TARGETS, "broken", "count", "half"]
    assert rows["count"] == {
        "name": "count",
        "title": "synapse count",
        "suffix": ".count",
        "origin": "count_target",
        "error": None,
    }
    assert rows["loihi"]["origin"] is None
    assert "package_that_is_not_there" in rows["broken"]["error"]


def test_a_target_of_another_package_replaces_none_of_ours(plugged):
    assert targets.exporter("loihi").TITLE != "synapse count"


def test_a_broken_target_is_named(plugged):
    with pytest.raises(
        UsageError, match=r"plugin-broken: target 'broken' .*No module named 'package_that_is_not"
    ):
        targets.exporter("broken")
    with pytest.raises(UsageError, match="has no check") as caught:
        targets.exporter("half")
    assert len(caught.value.problems) == 3


def test_load_reads_an_export_a_folder_and_a_net(tmp_path, network_file):
    fixed, _ = cases.make("recurrent")
    (tmp_path / "folder.loihi").mkdir()
    lbi.save(fixed, tmp_path / "folder.loihi" / "network.h5")
    for path in (network_file, tmp_path / "folder.loihi"):
        loaded = lbi.load(path)
        assert isinstance(loaded, lbi.FixedNetwork)
        assert loaded.projections[1].weights == fixed.projections[1].weights


def test_load_refuses(tmp_path):
    (tmp_path / "empty").mkdir()
    for name in ("file.txt", "state.safetensors", "state.npz"):
        (tmp_path / name).write_text("x")
    (tmp_path / "damaged.h5").write_bytes(b"\x89HDF\r\n\x1a\n" + b"0" * 100)
    for name, message in {
        "missing.pt": "file-missing",
        "empty": "not-an-export: .*is a folder without network.h5; allowed: a folder made by lbi-export, or a file",
        "file.txt": r"file-kind: .*suffix '.txt'; allowed: .ckpt, .h5, .net, .nir, .pt, .pth.*fix: if it is a file of torch",
        "state.safetensors": r"file-kind: .*fix: if it holds a model's state: torch\.save\(safetensors\.torch\.load_file",
        "state.npz": r"file-kind: .*fix: if it holds a model's state: torch\.save\(.*numpy\.load",
        "damaged.h5": "file-damaged",
    }.items():
        with pytest.raises(InputError, match=message):
            lbi.load(tmp_path / name)


@pytest.mark.filterwarnings("ignore")  # snnTorch's own
def test_a_checkpoint_of_lightning_is_read_under_its_own_suffix(tmp_path):
    peers.package("snntorch")
    (tmp_path / "net.py").write_text(
        "import torch, snntorch\n"
        "def build():\n"
        "    neuron = snntorch.Leaky(beta=0.9, reset_mechanism='zero', init_hidden=True)\n"
        "    return torch.nn.Sequential(torch.nn.Linear(4, 3), neuron)\n"
    )
    weight = torch.tensor([[0.5, 0.0, 1.0, -2.0]] * 3)
    neuron = {"threshold": 1.0, "graded_spikes_factor": 1.0, "reset_mechanism_val": 1, "beta": 0.9}
    state = {"model.0.weight": weight, "model.0.bias": torch.zeros(3)}
    state |= {f"model.1.{name}": torch.tensor(value) for name, value in neuron.items()}
    torch.save({"epoch": 3, "state_dict": state, "hyper_parameters": {"lr": 0.1}}, tmp_path / "last.ckpt")
    network = lbi.load(tmp_path / "last.ckpt", arch=f"{tmp_path / 'net.py'}:build")
    assert np.array_equal(network.projections[0].weights.to_dense(), weight.double().numpy())


def test_netx_knows_the_du_offset():
    """netx hands Lava du = iDecay − 1, and Lava adds one: the factor is (4096 − iDecay) / 4096."""
    assert [netx.current_decay(du) for du in (0, 1, 4095)] == [1, 2, 4096]
