"""What every registered neuron model has to have: a new row in the registry joins by being listed."""

from __future__ import annotations

import re
from dataclasses import fields, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from lbi.exporters import lava
from support import neuron_models
from support.command import call

import lbi
from lbi.chip import rules
from lbi.chip.load import load_profile
from lbi.cli.export import main as lbi_export
from lbi.files import network_h5
from lbi.network.fixedpoint import IntFormat
from lbi.network.neurons import MODELS
from lbi.quantization.to_floats import dequantize
from lbi.simulation import oracle
from lbi.simulation.bounds import state_bounds
from lbi.simulation.layout import COMPILED
from lbi.simulation.run import simulate
from lbi.system.supervisor import run_script

ROOT = Path(__file__).parents[2]
LOIHI2 = load_profile("loihi2")
every_model = pytest.mark.parametrize("name", list(MODELS))


@every_model
def test_the_rules_name_every_integer_that_a_chip_cannot_hold(name):
    fixed, _ = neuron_models.network(name)
    neuron = fixed.populations[0].neuron
    assert {entry.name for entry in fields(neuron)} == {entry.name for entry in neuron.integers}
    unchecked = {entry.name for entry in neuron.integers if not entry.chip_format}
    assert unchecked == set(MODELS[name].floats.periods), "a number that no chip format bounds"
    assert not [problem for problem in rules.check(fixed, LOIHI2) if "population" in problem.where]
    for chip_format in {entry.chip_format for entry in neuron.integers} - {""}:
        own = {entry.name for entry in neuron.integers if entry.chip_format == chip_format}
        nothing = replace(
            LOIHI2, formats=replace(LOIHI2.formats, **{chip_format: IntFormat(1 << 20, 1 << 20)})
        )
        named = {problem.where.split(", ")[-1] for problem in rules.check(fixed, nothing)}
        assert named == own


@every_model
def test_the_simulator_equals_the_slow_step(name):
    fixed, spikes = neuron_models.network(name)
    variables = fixed.populations[0].neuron.state_variables
    run, slow = simulate(fixed, spikes, record=variables), oracle.simulate(fixed, spikes, record=variables)
    assert slow.output_spikes.any() == MODELS[name].floats.spikes
    assert np.array_equal(run.output, slow.output)
    assert set(run.recorded) == {("p", variable) for variable in variables}
    for key, trace in run.recorded.items():
        assert np.array_equal(trace, slow.recorded[key]), key
    assert run.n_synops == slow.n_synops


@every_model
@pytest.mark.parametrize("make", [neuron_models.feed_forward, neuron_models.weakly_driven])
def test_states_stay_within_their_bounds(name, make):
    fixed = make(name)
    bound = state_bounds(fixed)["p"]
    loudest = np.ones((1, 200, 12), dtype=np.uint8)
    traces = oracle.simulate(fixed, loudest, record=("u", "v")).recorded
    for variable, (low, high) in (("u", bound.current), ("v", bound.voltage)):
        assert np.isfinite([low, high]).all(), "nothing is proved of this model"
        assert (traces["p", variable] >= low).all()
        assert (traces["p", variable] <= high).all()
    assert not bound.may_wrap.any()


@every_model
def test_a_network_comes_back_from_its_file(name, tmp_path):
    fixed, _ = neuron_models.network(name)
    network_h5.save(fixed, tmp_path / "network.h5")
    before, after = fixed.populations[0].neuron, lbi.load(tmp_path / "network.h5").populations[0].neuron
    assert type(after) is MODELS[name].integers
    for entry in before.integers:
        assert np.array_equal(getattr(before, entry.name), getattr(after, entry.name))


@every_model
def test_floats_become_the_integers_they_stand_for(name):
    fixed, _ = neuron_models.network(name)
    again = lbi.quantize(replace(dequantize(fixed), meta={"scales": {"p": neuron_models.SCALE}}), "loihi2")
    before, after = fixed.populations[0].neuron, again.populations[0].neuron
    for entry in before.integers:
        if not entry.name.startswith("bias"):
            assert getattr(after, entry.name) == getattr(before, entry.name)
    assert np.array_equal(after.bias, before.bias)
    assert set(before.integer_name) == {*MODELS[name].floats.decays, *MODELS[name].floats.levels}


@every_model
def test_an_export_says_what_can_run_it(name, tmp_path):
    fixed, _ = neuron_models.network(name)
    network_h5.save(fixed, tmp_path / "network.h5")
    done = call(lbi_export, tmp_path / "network.h5", "--target", "loihi", "-o", tmp_path / "out", "--json")
    assert done.code == 0, done.errors
    refused = any(note.startswith("run_lava.py cannot run it") for note in done.json["notes"])
    assert refused == (MODELS[name].lava is None)
    assert (f"'{name}': {{'process'" in (tmp_path / "out" / "run_lava.py").read_text()) != refused


@pytest.fixture(scope="module")
def in_lava(tmp_path_factory):
    """The output of every model that has a Lava process, in one child."""
    if not find_spec("lava"):
        pytest.skip("lava-nc is not installed")
    folder = tmp_path_factory.mktemp("lava")
    for name in lava.processes():
        fixed, spikes = neuron_models.network(name)
        network_h5.save(fixed, folder / f"{name}.h5")
        np.savez(folder / f"{name}.npz", spikes=spikes)
    lava.write_script(folder / lava.SCRIPT)
    runner = ROOT / "tests" / "support" / "run_cases.py"
    run_script(runner, [str(folder / lava.SCRIPT), ".h5", str(folder)], where="lava", timeout_s=300)
    return folder


@pytest.mark.parametrize("name", list(lava.processes()))
def test_lava_computes_the_same(name, in_lava):
    fixed, spikes = neuron_models.network(name)
    with np.load(in_lava / f"{name}.out.npz") as file:
        assert np.array_equal(file["output"], oracle.simulate(fixed, spikes).output)


@pytest.mark.parametrize("name", [name for name, model in MODELS.items() if model.nir])
def test_nir_brings_it_back(name, tmp_path):
    pytest.importorskip("nir")
    fixed = neuron_models.feed_forward(name)
    network_h5.save(fixed, tmp_path / "network.h5")
    done = call(
        lbi_export, tmp_path / "network.h5", "--target", "nir", "-o", tmp_path / "out.nir", "--dt", "1"
    )
    assert done.code == 0, done.errors
    before, after = dequantize(fixed), lbi.load(tmp_path / "out.nir")
    _, spikes = neuron_models.network(name)
    outputs = [oracle.simulate(network, spikes).output for network in (before, after)]
    np.testing.assert_allclose(*outputs, rtol=1e-9, atol=1e-9)  # a few roundings of 2^-53 per step


@every_model
def test_the_docs_describe_every_field(name):
    formats = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    described = set()
    for row in re.findall(r"^\| (`.*)$", formats, re.MULTILINE):
        fields_of_row, _, meaning = row.partition(" | ")
        if f"`{name}`" in meaning or "every model" in meaning:
            described |= set(re.findall(r"`(\w+)`", fields_of_row))
    missing = {entry.name for entry in MODELS[name].integers.integers} - described
    assert not missing, f"docs/formats.md needs rows for these parameters of {name}"


@every_model
def test_the_docs_list_what_runs_it(name):
    table = (ROOT / "docs" / "reference" / "neurons.md").read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if line.startswith(f"| `{name}` |")]
    assert len(rows) == 1, f"docs/reference/neurons.md needs one row for {name}"
    cells = [cell.strip() for cell in rows[0].strip("|").split("|")]
    model = MODELS[name]
    process = "–" if model.lava is None else f"`{model.lava.process.rpartition('.')[2]}`"
    nodes = ", ".join(f"`{node}`" for node in model.nir) or "–"
    assert cells[1:4] == [process, nodes, "compiled" if name in COMPILED else "step by step"]
