"""``lbi-export``: its files, its output, and that bad input leaves nothing behind."""

from __future__ import annotations

import json
import pickle
import re
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.sparse
from lbi.exporters import lava, loihi
from support import cases
from support.command import call
from support.networks import random_network

import lbi
from lbi.chip.load import profile_names
from lbi.cli.export import main as lbi_export
from lbi.deploy.job import ExportJob
from lbi.deploy.targets import TARGETS
from lbi.files import network_h5
from lbi.network.fixed import FixedPopulation, FixedProjection, SignMode
from lbi.network.neurons import FIXED_MODELS, LifRefractory
from lbi.simulation import oracle

CONTRACT = {
    "target",
    "chip",
    "path",
    "files",
    "fits",
    "violations",
    "notes",
    "populations",
    "projections",
    "n_cores",
}
PROJECTION = {"name", "shape", "nnz", "density", "format", "bits", "weight_exp"}


def saved(folder: Path, name: str) -> Path:
    fixed, _ = cases.make(name)
    network_h5.save(fixed, folder / f"{name}.h5")
    return folder / f"{name}.h5"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_loihi_folder_holds_what_the_contract_says(tmp_path):
    done = call(lbi_export, saved(tmp_path, "recurrent"), "--target", "loihi")
    assert (done.code, done.errors) == (0, [])
    folder = tmp_path / "recurrent.loihi"
    assert sorted(contents(folder)) == [
        "network.h5",
        "network.net",
        "report.json",
        "run_lava.py",
        "summary.txt",
    ]
    fixed, spikes = cases.make("recurrent")
    loaded = lbi.load(folder)
    assert np.array_equal(
        oracle.simulate(loaded, spikes).output_spikes, oracle.simulate(fixed, spikes).output_spikes
    )
    lava.write_script(tmp_path / "run_lava.py")
    assert (folder / "run_lava.py").read_bytes() == (tmp_path / "run_lava.py").read_bytes()
    for projection in fixed.projections:
        line = next(line for line in done.out.splitlines() if line.startswith(projection.name))
        rows, columns = projection.weights.shape
        expected = [f"{rows}×{columns}", f"{projection.weights.nnz:,}", f"{projection.weights.density:.4f}"]
        assert line.split()[1:4] == expected
        assert line.split()[5:7] == [str(projection.num_weight_bits), str(projection.weight_exp)]


def test_the_memory_format_is_shown_and_stored(tmp_path):
    """A full matrix is cheaper dense, a sparse one indexed, by the chip's memory model."""
    full = np.full((64, 40), 2)
    thin = np.zeros((64, 64), int)
    thin[::8, ::8] = 4
    network_h5.save(cases.chain([full, thin], [SignMode.EXCITATORY] * 2), tmp_path / "two.h5")
    options = ("--target", "loihi", "--json", "--chip", "loihi1", "--no-compact")
    done = call(lbi_export, tmp_path / "two.h5", *options)
    assert [record["format"] for record in done.json["projections"]] == ["dense", "indexed"]
    with h5py.File(tmp_path / "two.loihi" / "network.h5") as file:
        stored = [file["projections"][name].attrs["memory_format"] for name in ("w0", "w1")]
    assert stored == ["dense", "indexed"]


def test_json_has_the_contracts_keys(tmp_path):
    done = call(lbi_export, saved(tmp_path, "skip"), "--target", "loihi", "--json")
    assert done.code == 0
    assert set(done.json) >= CONTRACT
    assert all(set(projection) >= PROJECTION for projection in done.json["projections"])
    assert done.json["fits"] is True
    assert sorted(done.json["files"]) == sorted(contents(tmp_path / "skip.loihi"))
    report = json.loads((tmp_path / "skip.loihi" / "report.json").read_text())
    assert report["projections"] == done.json["projections"]
    assert report["netx"]["written"] is False
    assert "not-a-chain" in report["netx"]["reasons"][0]


@pytest.mark.parametrize("target", ["loihi", "lava", "netx", "csr"])
def test_same_input_same_bytes(target, tmp_path):
    for where in ("a", "b"):
        (tmp_path / where).mkdir()
        done = call(lbi_export, saved(tmp_path / where, "delay"), "--target", target)
        assert done.code == 0, done.errors
    (one,), (other,) = ([p for p in (tmp_path / w).iterdir() if p.suffix != ".h5"] for w in ("a", "b"))
    if one.is_dir():
        assert contents(one) == contents(other)
    else:
        assert one.read_bytes() == other.read_bytes()


def test_nothing_is_overwritten_without_force(tmp_path):
    source = saved(tmp_path, "feed_forward")
    assert call(lbi_export, source, "--target", "loihi").code == 0
    folder = tmp_path / "feed_forward.loihi"
    (folder / "note").write_text("mine")
    done = call(lbi_export, source, "--target", "loihi")
    assert (done.code, len(done.errors)) == (3, 1)
    assert done.errors[0].startswith("error: exists:")
    assert "--force" in done.errors[0]
    assert (folder / "note").exists()
    assert call(lbi_export, source, "--target", "loihi", "--force").code == 0
    assert (folder / "note").read_text() == "mine"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["feed_forward.h5", "feed_forward.loihi"]


def test_force_spares_what_is_no_export(tmp_path):
    source = saved(tmp_path, "feed_forward")
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("x")
    done = call(lbi_export, source, "--target", "loihi", "-o", tmp_path / "home", "--force")
    assert done.code == 3
    assert "not-an-export" in done.errors[0]
    assert (tmp_path / "home" / "thesis.tex").exists()


def test_a_failing_export_leaves_nothing(tmp_path, monkeypatch):
    def fail(job, path):
        path.mkdir()
        (path / "half").write_text("x")
        raise OSError(28, "No space left on device", str(path))

    source = saved(tmp_path, "feed_forward")
    monkeypatch.setattr(loihi, "export", fail)
    done = call(lbi_export, source, "--target", "loihi")
    assert done.code == 3
    assert "No space left" in done.errors[0]
    assert [p.name for p in tmp_path.iterdir()] == ["feed_forward.h5"]


def test_check_lists_every_reason_and_writes_nothing(tmp_path):
    fixed, _ = cases.make("inhibitory")
    biased = tuple(
        replace(p, neuron=replace(p.neuron, bias_mant=p.neuron.bias_mant + 1)) for p in fixed.populations
    )
    again = replace(
        fixed.projections[0],
        name="skip",
        target="p1",
        weights=lbi.CsrMatrix.from_dense(np.full((8, 12), 2, np.int16)),
        delay=1,
    )
    network_h5.save(
        replace(fixed, populations=biased, projections=(*fixed.projections, again)), tmp_path / "bad.h5"
    )
    done = call(lbi_export, tmp_path / "bad.h5", "--target", "netx", "--check")
    codes = [line.split(": ")[1] for line in done.errors]
    assert done.code == 3
    assert sorted(codes) == ["bias-grid", "bias-grid", "netx-inexact", "not-a-chain"]
    assert [p.name for p in tmp_path.iterdir()] == ["bad.h5"]
    assert call(lbi_export, tmp_path / "bad.h5", "--target", "loihi", "--check").code == 0
    assert [p.name for p in tmp_path.iterdir()] == ["bad.h5"]


@pytest.mark.parametrize("flags", [(), ("--check",)])
def test_what_the_folder_cannot_do_is_said(flags, tmp_path):
    network = lbi.Network(
        (4,),
        (lbi.Population("p", (2,), LifRefractory(0.5, 0.5, 1.0)),),
        (lbi.Projection("w", "input", "p", lbi.CsrMatrix.from_dense(np.ones((2, 4)))),),
        lbi.Readout("p"),
    )
    network_h5.save(lbi.quantize(network), tmp_path / "late.h5")
    done = call(lbi_export, tmp_path / "late.h5", "--target", "loihi", *flags)
    assert done.code == 0
    lava, netx = done.out.splitlines()[-2:]
    assert lava.startswith("run_lava.py cannot run it: neuron-model: population 'p'")
    assert netx.startswith("no network.net")
    done = call(lbi_export, saved(tmp_path, "feed_forward"), "--target", "loihi", *flags)
    assert not {line.split(" ")[0] for line in done.out.splitlines()} & {"run_lava.py", "no"}


def test_check_lists_seven_reasons_in_one_pass(tmp_path, rng):
    """Everything that can stand against netx at once, and the chip's limit besides."""
    fixed, _ = cases.make("inhibitory")  # p1's weights: netx-inexact
    driven, held = fixed.populations
    matrix = lbi.CsrMatrix.from_dense
    adaptive = replace(cases.make("adaptive")[0].populations[0], name="p2", latency=3)  # neuron-model
    n = adaptive.n
    driven = replace(
        driven, neuron=replace(driven.neuron, bias_mant=driven.neuron.bias_mant + 1)
    )  # bias-grid
    again = FixedProjection(
        "again", "p0", "p0", matrix(np.full((10, 10), 2, np.int16)), SignMode.EXCITATORY, delay=2
    )
    odd = FixedProjection(
        "odd", "p1", "p2", matrix(np.full((n, 8), 3, np.int16)), SignMode.EXCITATORY, weight_exp=-1
    )
    skip = FixedProjection(
        "skip", "input", "p2", matrix(np.full((n, 12), 2, np.int16)), SignMode.EXCITATORY, delay=2
    )
    bad = replace(
        fixed,
        populations=(driven, held, adaptive),
        projections=(*fixed.projections, again, odd, skip),
        readout=lbi.Readout("p1"),
    )
    network_h5.save(bad, tmp_path / "bad.h5")
    options = ("--target", "netx", "--check", "--json", "--chip", "loihi1", "--no-compact")
    done = call(lbi_export, tmp_path / "bad.h5", *options)
    codes = {line.split(": ")[1] for line in done.errors}
    assert done.code == 3
    assert codes >= {
        "netx-inexact",
        "neuron-model",
        "bias-grid",
        "delay-in-recurrent-layer",
        "exponent",
        "not-a-chain",
        "readout-inside",
    }
    assert len(done.json["violations"]) == len(done.errors)
    assert all("; fix: " in line for line in done.errors)


def test_a_target_that_takes_floats_shows_the_float_network(tmp_path):
    """No bits, exponents or chip, as none is written; and a file's name only once."""
    pytest.importorskip("nir")
    source = saved(tmp_path, "feed_forward")
    done = call(lbi_export, source, "--target", "nir", "--dt", "0.001")
    assert done.code == 0, done.errors
    lines = done.out.splitlines()
    network = lbi.load(source)
    assert lines[0] == f"{network.n_in} inputs, {network.n_neurons} neurons in 3 populations, in floats"
    assert lines[2].split() == ["projection", "shape", "nnz", "density"]
    assert f"wrote {source.with_suffix('.nir')}" in lines


def test_what_does_not_fit_the_chip_exits_6(tmp_path):
    """5000 synapses on one neuron: more than the 4096 input axons of a Loihi 1 core."""
    wide = cases.chain([np.full((1, 5000), 2)], [SignMode.EXCITATORY])
    network_h5.save(wide, tmp_path / "wide.h5")
    done = call(lbi_export, tmp_path / "wide.h5", "--target", "loihi", "--chip", "loihi1", "--json")
    assert done.code == 6
    assert any("fan-in" in line for line in done.errors)
    assert not (tmp_path / "wide.loihi").exists()
    checked = call(
        lbi_export, tmp_path / "wide.h5", "--target", "loihi", "--chip", "loihi1", "--check", "--json"
    )
    assert checked.code == 6
    assert checked.json["fits"] is False
    assert len(checked.json["violations"]) == len(checked.errors) == len(done.errors)


def test_integers_may_go_to_another_chip(tmp_path):
    """What was quantized for one chip and fits another is marked as made for that one."""
    source = saved(tmp_path, "feed_forward")
    assert lbi.load(source).chip == "loihi2"
    assert call(lbi_export, source, "--target", "lava", "--chip", "loihi1").code == 0
    assert lbi.load(tmp_path / "feed_forward.lava").chip == "loihi1"


def rebuilt(folder: Path) -> lbi.FixedNetwork:
    """The network from a csr export, with scipy and json alone."""
    manifest = json.loads((folder / "manifest.json").read_text())
    populations, projections = [], []
    for record in manifest["populations"]:
        model = FIXED_MODELS[record["model"]]
        values = {
            field.name: np.load(folder / value) if isinstance(value := record[field.name], str) else value
            for field in fields(model)
        }
        populations.append(
            FixedPopulation(
                record["name"], tuple(record["shape"]), model(**values), record["scale"], record["latency"]
            )
        )
    for record in manifest["projections"]:
        matrix = scipy.sparse.load_npz(folder / record["weights"])
        delay = record["delay"]
        projections.append(
            FixedProjection(
                record["name"],
                record["source"],
                record["target"],
                lbi.CsrMatrix.from_scipy(matrix),
                SignMode[record["sign_mode"].upper()],
                record["weight_exp"],
                record["num_weight_bits"],
                np.load(folder / delay) if isinstance(delay, str) else delay,
            )
        )
    return lbi.FixedNetwork(
        tuple(manifest["input_shape"]),
        tuple(populations),
        tuple(projections),
        lbi.Readout(**manifest["readout"]),
        manifest["chip"],
    )


@pytest.mark.parametrize("name", sorted(cases.CASES))
def test_csr_holds_everything(name, tmp_path):
    fixed, spikes = cases.make(name)
    done = call(lbi_export, saved(tmp_path, name), "--target", "csr")
    assert done.code == 0, done.errors
    again = rebuilt(tmp_path / f"{name}.csr")
    assert np.array_equal(oracle.simulate(again, spikes).output, oracle.simulate(fixed, spikes).output)


@pytest.mark.parametrize("name", sorted(cases.CASES))
@pytest.mark.parametrize("target", ["loihi", "lava"])
def test_folders_hold_everything(name, target, tmp_path):
    fixed, spikes = cases.make(name)
    assert call(lbi_export, saved(tmp_path, name), "--target", target).code == 0
    again = lbi.load(tmp_path / f"{name}.{target}")
    assert np.array_equal(oracle.simulate(again, spikes).output, oracle.simulate(fixed, spikes).output)
    assert (tmp_path / f"{name}.{target}" / "network.net").exists() == (
        target == "loihi" and name not in cases.NETX_REFUSES
    )


@pytest.mark.parametrize("name", sorted(set(cases.CASES) - set(cases.NETX_REFUSES)))
def test_netx_is_read_back(name, tmp_path):
    """(tests/exporters/test_lava.py runs the same files in unmodified lava-dl.)"""
    fixed, spikes = cases.make(name)
    assert call(lbi_export, saved(tmp_path, name), "--target", "netx").code == 0
    again = lbi.load(tmp_path / f"{name}.net")
    assert np.array_equal(oracle.simulate(again, spikes).output, oracle.simulate(fixed, spikes).output)


def test_the_account_says_what_each_parameter_became(rng):
    network = random_network(rng, (6, 5, 3), bias=True)
    job = ExportJob(network, lbi.load_profile("loihi2"), compact=False)
    rows = {(row["where"], row["parameter"]): row for row in job.summary["account"]}
    for before, after in zip(network.populations, job.fixed.populations, strict=True):
        where = f"population {before.name}"
        row = rows[where, "threshold → vth"]
        assert row["integer"] == after.neuron.vth
        assert row["error"] == after.neuron.vth / after.scale - before.neuron.threshold
        assert rows[where, "current_decay → du"]["error"] == 0  # random_network stays on the 1/4096 grid
        bias = after.neuron.bias / (after.scale * 64)
        error = np.sqrt(np.mean((bias - before.neuron.bias) ** 2))
        assert rows[where, "bias → bias_mant << bias_exp"]["error"] == pytest.approx(error, rel=1e-12)
    for before, after in zip(network.projections, job.fixed.projections, strict=True):
        dense = np.zeros(after.weights.shape)
        unit = job.fixed.population(after.target).scale / 2.0**after.weight_exp
        dense[after.weights.to_csr().row_of(), after.weights.to_csr().indices] = (
            after.weights.to_csr().data / unit
        )
        stored = before.weights.to_dense()
        error = np.sqrt(np.mean((dense - stored)[stored != 0] ** 2))
        assert rows[f"projection {before.name}", "weights"]["error"] == pytest.approx(error, rel=1e-9)


@pytest.fixture
def bad_models(tmp_path):
    """Files that must not become an export, by the start of the one line that says why."""
    torch = pytest.importorskip("torch")
    good = {"format": "lbi.model", "version": 1, "config": {}, "state_dict": {}}
    torch.save(good, tmp_path / "good.pt")
    (tmp_path / "truncated.pt").write_bytes((tmp_path / "good.pt").read_bytes()[:200])
    torch.save(torch.nn.Linear(2, 2), tmp_path / "module.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps({"a": 1}))
    (tmp_path / "empty.pt").write_bytes(b"")
    from lbi.train.layers.model import ModelConfig, PopulationConfig, SpikingNetwork
    from lbi.train.model_pt import save_model

    model = SpikingNetwork(ModelConfig((4,), (PopulationConfig("output", 3, (0.5,), (0.1,)),)))
    with torch.no_grad():
        next(p for p in model.parameters() if p.ndim == 2)[0, 0] = float("nan")
    save_model(model, tmp_path / "nan.pt")
    return tmp_path


@pytest.mark.parametrize("name", ["truncated", "module", "pickle", "empty", "missing", "nan"])
def test_bad_models_are_refused_in_one_line(name, bad_models):
    before = sorted(p.name for p in bad_models.iterdir())
    done = call(lbi_export, bad_models / f"{name}.pt", "--target", "loihi")
    assert done.code == 3
    assert len(done.errors) == 1
    assert done.errors[0].startswith("error: ")
    assert f"{name}.pt" in done.errors[0]
    assert sorted(p.name for p in bad_models.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--target", "xyz"), f"error: unknown-target: --target: 'xyz'; allowed: {', '.join(TARGETS)}"),
        (
            ("--target", "loihi2"),
            f"error: unknown-target: --target: 'loihi2'; allowed: {', '.join(TARGETS)}; "
            "fix: the chip is another option: --target loihi --chip loihi2",
        ),
        (
            ("--target", "loihi", "--chip", "loihi9"),
            f"error: unknown-chip: --chip: 'loihi9'; allowed: {', '.join(profile_names())}",
        ),
        (("--bogus",), "error: usage: lbi-export: No such option"),
        ((), "error: usage: lbi-export: Missing option '--target'"),
    ],
)
def test_bad_usage_exits_2(arguments, message, tmp_path):
    done = call(lbi_export, saved(tmp_path, "feed_forward"), *arguments)
    assert done.code == 2
    assert len(done.errors) == 1
    assert done.errors[0].startswith(message)
    assert [p.name for p in tmp_path.iterdir()] == ["feed_forward.h5"]


def test_an_output_folder_that_is_missing(tmp_path):
    done = call(
        lbi_export, saved(tmp_path, "feed_forward"), "--target", "csr", "-o", tmp_path / "no" / "x.csr"
    )
    assert done.code == 3
    assert done.errors[0].startswith("error: folder-missing:")


def test_an_output_never_replaces_an_input(tmp_path):
    """Not the model itself, nor a folder that holds the model or the chip, not even with --force."""
    source = saved(tmp_path, "recurrent")
    assert call(lbi_export, source, "--target", "loihi", "-o", tmp_path / "a.loihi").code == 0
    inside = tmp_path / "a.loihi" / "network.h5"
    chip = tmp_path / "a.loihi" / "mine.toml"
    chip.write_text(
        (Path(lbi.__file__).parents[2] / "hardware" / "loihi2.toml").read_text(), encoding="utf-8"
    )
    before = contents(tmp_path)
    for arguments, message in (
        ((source, "-o", source), "same-file: .*recurrent.h5: the input of this command"),
        ((tmp_path / "a.loihi",), "same-file: .*a.loihi: the input of this command"),
        ((inside, "-o", tmp_path / "a.loihi"), "same-file: .*a.loihi: holds the input .*network.h5"),
        (
            (source, "--chip", chip, "-o", tmp_path / "a.loihi"),
            "same-file: .*a.loihi: holds the input .*mine",
        ),
    ):
        done = call(lbi_export, *arguments, "--target", "loihi", "--force")
        assert done.code == 3
        assert re.search(message, done.errors[0])
    assert contents(tmp_path) == before


@pytest.mark.parametrize(("chip", "warned"), [("loihi1", False), ("loihi2", True), (None, False)])
def test_a_network_trained_to_a_budget_on_another_chip_is_a_warning(chip, warned, tmp_path):
    use = {"limit": 40.0, "used": 30.0, "unit": "nJ", "met": True, "costs": "davies2018"}
    training = {"budget": {"energy": use}, "config": {"chip": "loihi1"}}
    fixed = replace(cases.make("feed_forward")[0], chip="loihi1", provenance={"training": training})
    network_h5.save(fixed, tmp_path / "n.h5")
    option = () if chip is None else ("--chip", chip)
    done = call(lbi_export, tmp_path / "n.h5", "--target", "csr", *option, "-o", tmp_path / "out")
    assert done.code == 0
    assert done.errors == warned * [
        f"warning: budget-chip: {tmp_path / 'n.h5'}: trained to a budget (energy) on loihi1; allowed: the same chip: on loihi2 "
        "nothing holds it to that budget; fix: --chip loihi1, or compare with lbi-estimate --budget"
    ]
