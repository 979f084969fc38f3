"""Adding one thing touches one place: each addition of ``support/additions`` through the whole pipeline.

The names of the tests count the files that were touched.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from lbi.exporters import lava
from project import test_conformance
from support import cases, neuron_models
from support.additions import lif
from support.command import call

import lbi
from lbi.chip import memory, rules
from lbi.chip.load import load_profile
from lbi.chip.placement import place
from lbi.cli.estimate import main as lbi_estimate
from lbi.cli.export import main as lbi_export
from lbi.cli.run import main as lbi_run
from lbi.deploy import targets
from lbi.network.fixed import SignMode
from lbi.network.neurons import MODELS
from lbi.quantization.to_floats import dequantize
from lbi.simulation import oracle
from lbi.simulation.bounds import state_bounds

ROOT = Path(__file__).parents[2]


@pytest.fixture
def registered(monkeypatch):
    """The row of the neuron model in the registry."""
    monkeypatch.setitem(MODELS, "lif", lif.MODEL)


def trained(folder: Path, *options: str) -> Path:
    """A model.pt of one epoch on a few samples, by ``lbi-train``."""
    pytest.importorskip("torch")
    from lbi.cli.train import main as lbi_train

    rng = np.random.default_rng(0)
    labels = np.arange(48) % 2
    rates = np.where(np.arange(8) // 4 == labels[:, None], 0.7, 0.1)
    spikes = (rng.random((48, 12, 8)) < rates[:, None, :]).astype(np.uint8)
    np.savez(folder / "data.npz", spikes=spikes, labels=labels)
    arguments = [
        "--dataset",
        folder / "data.npz",
        "--hidden",
        "6",
        "--epochs",
        "2",
        "--batch-size",
        "8",
        *options,
    ]
    done = call(lbi_train, *arguments, "-o", folder / "model.pt", "--quiet")
    assert done.code == 0, done.errors
    return folder / "model.pt"


def test_a_neuron_model_is_one_file_and_one_row(registered, tmp_path):
    """Train → quantize → simulate → save and load → export → Lava → NIR → estimate, with no other file touched."""
    model = trained(tmp_path, "--neuron", "lif", "--recurrent", "--density", "0.6")
    network = lbi.load(model)
    assert isinstance(network.population("hidden").neuron, lif.Lif)
    done = call(
        lbi_export,
        model,
        "--target",
        "loihi",
        "--chip",
        "loihi2",
        "--no-compact",
        "-o",
        tmp_path / "out",
        "--json",
    )
    assert done.code == 0, done.errors
    assert not any("run_lava.py" in note for note in done.json["notes"])
    fixed = lbi.load(tmp_path / "out")
    assert isinstance(fixed.population("hidden").neuron, lif.FixedLif)
    with np.load(tmp_path / "data.npz") as data:
        spikes = data["spikes"][:3]
    activity = lbi.simulate(fixed, spikes, record="v")
    slow = oracle.simulate(fixed, spikes, record=["v"])
    assert activity.populations["hidden"].spikes.sum() > 0
    assert np.array_equal(activity.recorded["hidden", "v"], slow.recorded["hidden", "v"])
    assert np.isfinite(state_bounds(fixed)["hidden"].voltage).all()
    narrow = [problem.code for problem in rules.check(fixed, load_profile("loihi1"))]
    assert "neuron-model" in narrow
    estimated = call(lbi_estimate, tmp_path / "out", "--spikes", tmp_path / "data.npz", "--json")
    assert estimated.code == 0, estimated.errors
    if find_spec("nir"):
        done = call(lbi_export, model, "--target", "nir", "-o", tmp_path / "out.nir")
        assert done.code == 0, done.errors
        again = lbi.load(tmp_path / "out.nir")
        outputs = [oracle.simulate(one, spikes).output_spikes for one in (network, again)]
        assert np.array_equal(*outputs)
    if find_spec("lava"):
        done = call(
            lbi_run,
            tmp_path / "out",
            "--spikes",
            tmp_path / "data.npz",
            "--samples",
            "2",
            "--verify",
            "--json",
        )
        assert done.code == 0, done.errors
        assert done.json["verified"] is True


def test_a_neuron_model_without_a_current_keeps_its_bias_in_nir(registered, tmp_path):
    pytest.importorskip("nir")
    fixed = neuron_models.feed_forward("lif")
    assert fixed.populations[0].neuron.bias.any()
    lbi.save(fixed, tmp_path / "network.h5")
    done = call(lbi_export, tmp_path / "network.h5", "--target", "nir", "-o", tmp_path / "out.nir")
    assert done.code == 0, done.errors
    _, spikes = neuron_models.network("lif")
    outputs = [
        oracle.simulate(net, spikes).output for net in (dequantize(fixed), lbi.load(tmp_path / "out.nir"))
    ]
    assert outputs[0].any()
    assert np.array_equal(*outputs)


def test_without_its_row_a_neuron_model_is_unknown(tmp_path):
    assert "lif" not in lava.processes()
    pytest.importorskip("torch")
    from lbi.cli.train import main as lbi_train

    done = call(lbi_train, "--neuron", "lif", "-o", tmp_path / "model.pt")
    assert done.code == 2
    assert done.errors[0].startswith("error: option: neuron: 'lif'; allowed: cuba_lif")


def test_a_chip_is_one_file(tmp_path):
    """A TOML file, given by its path: quantize → rules → placement → estimate."""
    text = (ROOT / "hardware" / "loihi2.toml").read_text(encoding="utf-8")
    text = text.replace('name = "loihi2"', 'name = "small"')
    text = text.replace("threshold = { min = 0, max = 131071", "threshold = { min = 0, max = 200")
    chip = tmp_path / "small.toml"
    chip.write_text(text, encoding="utf-8")
    fixed, spikes = cases.make("recurrent")
    assert max(population.neuron.vth for population in fixed.populations) > 200
    lbi.save(fixed, tmp_path / "network.h5")
    np.savez(tmp_path / "in.npz", spikes=spikes)
    arguments = ["--target", "loihi", "--chip", chip]
    done = call(lbi_export, tmp_path / "network.h5", *arguments, "-o", tmp_path / "out")
    assert done.code == 6
    assert any("vth-range" in line and "0 to 200" in line for line in [*done.errors, *done.out.splitlines()])
    small = lbi.quantize(dequantize(fixed), str(chip))
    assert 100 < max(population.neuron.vth for population in small.populations) <= 200
    lbi.save(small, tmp_path / "small.h5")
    done = call(lbi_export, tmp_path / "small.h5", *arguments, "-o", tmp_path / "small.loihi")
    assert done.code == 0, done.errors
    done = call(
        lbi_estimate, tmp_path / "small.loihi", "--spikes", tmp_path / "in.npz", "--chip", chip, "--json"
    )
    assert done.code == 0, done.errors
    assert done.json["chip"] == "small"


def test_a_chip_with_four_weight_bits_is_one_file(tmp_path):
    """Grids and stored bits of weights in the TOML: rules → quantize → memory → simulate → Lava's own truncation."""
    text = (ROOT / "hardware" / "loihi2.toml").read_text(encoding="utf-8")
    changes = {
        'name = "loihi2"': 'name = "nibble"',
        "weight_mixed = { min = -256, max = 254, step = 2": "weight_mixed = { min = -256, max = 224, step = 32",
        "weight_excitatory = { min = 0, max = 255": "weight_excitatory = { min = 0, max = 240, step = 16",
        "weight_inhibitory = { min = -255, max = 0": "weight_inhibitory = { min = -240, max = 0, step = 16",
        "weight_bits = { value = [1, 2, 3, 4, 5, 6, 7, 8]": "weight_bits = { value = [4]",
    }
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new)
    chip = tmp_path / "nibble.toml"
    chip.write_text(text, encoding="utf-8")
    fixed, spikes = cases.make("recurrent")
    lbi.save(fixed, tmp_path / "network.h5")
    done = call(
        lbi_export, tmp_path / "network.h5", "--target", "loihi", "--chip", chip, "-o", tmp_path / "out"
    )
    assert done.code == 6
    printed = [*done.errors, *done.out.splitlines()]
    assert any("weight-mantissa" in line and "-256 to 224 in steps of 32" in line for line in printed)
    nibble, byte = (lbi.quantize(dequantize(fixed), name) for name in (str(chip), "loihi2"))
    for projection in nibble.projections:
        step = 32 if projection.sign_mode is SignMode.MIXED else 16
        assert np.any(projection.weights.data)
        assert np.all(projection.weights.data % step == 0)
        assert projection.num_weight_bits <= 4
    assert place(nibble, load_profile(str(chip))).n_cores >= 1
    sizes = memory.sizes(nibble)
    bits = [
        sum(memory.projection_bits(p, sizes, load_profile(name)).dense for p in network.projections)
        for network, name in ((nibble, str(chip)), (byte, "loihi2"))
    ]
    assert bits[0] < bits[1]
    assert lbi.simulate(nibble, spikes).n_synops > 0
    lavas = pytest.importorskip("lava.utils.weightutils")
    for projection in nibble.projections:
        mode = lavas.SignMode(int(projection.sign_mode))
        kept = lavas.truncate_weights(projection.weights.data.astype(int), mode, 4)
        assert np.array_equal(kept, projection.weights.data)


def test_a_target_is_one_file_and_one_row(monkeypatch, tmp_path):
    """A module with five names; the row is in ``TARGETS``, or in an entry point of another package."""
    monkeypatch.setitem(targets.TARGETS, "edges", "support.additions.edge_list")
    fixed, _ = cases.make("recurrent")
    lbi.save(fixed, tmp_path / "network.h5")
    done = call(lbi_export, tmp_path / "network.h5", "--target", "edges", "-o", tmp_path / "out.edges")
    assert done.code == 0, done.errors
    lines = (tmp_path / "out.edges").read_text().splitlines()
    assert len(lines) == sum(projection.weights.nnz for projection in fixed.projections)
    assert "edges" in call(lbi_export, "--list-targets").out


def test_the_example_of_a_target_passes_the_suite_of_targets(monkeypatch, tmp_path):
    """As a reader of docs/adding-a-target.md lists it; its suffix is one that a page names."""
    page = (ROOT / "docs" / "adding-a-target.md").read_text(encoding="utf-8")
    (tmp_path / "synapses_target.py").write_text(page.partition("```python\n")[2].partition("```")[0])
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(targets.TARGETS, "synapses", "synapses_target")
    test_conformance.test_a_target_writes_the_same_bytes_twice("synapses", tmp_path)
    test_conformance.test_a_target_is_listed_and_documented("synapses")
    fixed, _ = cases.make("delay")
    lbi.save(fixed, tmp_path / "delay.h5")
    done = call(lbi_export, tmp_path / "delay.h5", "--target", "synapses")
    assert done.code == 3
    assert done.errors[0].startswith("error: delayed: projection ")


def test_a_regularizer_is_one_class_in_one_file(tmp_path):
    """A subclass registers itself by its name: train → load → simulate."""
    pytest.importorskip("torch")
    from support.additions import even_rows

    from lbi.train.optim.regularizers import Regularizer

    try:
        model = trained(
            tmp_path, "--set", "regularizer=EvenRows", "--set", 'regularizer_options={"elastic": 0.02}'
        )
        network = lbi.load(model)
        config = network.meta["training"]["config"]
        assert (config["regularizer"], config["regularizer_options"]) == ("EvenRows", {"elastic": 0.02})
        fixed = lbi.quantize(network)
        assert lbi.simulate(fixed, np.ones((1, 5, 8), np.uint8)).n_samples == 1
    finally:
        Regularizer.kinds.pop(even_rows.EvenRows.__name__)
