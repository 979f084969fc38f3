"""Exports run in Lava and Lava-DL with the same spikes as the plain oracles."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
import sys
from argparse import ArgumentTypeError
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import h5py
import numpy as np
import pytest
from lbi.exporters import lava, netx
from support import cases, chip_oracle, random_chip, random_kernels
from support.handmade_networks import population, projection
from support.networks import random_spikes

from lbi import FixedNetwork, Readout
from lbi.files import network_h5
from lbi.files.netx import reader
from lbi.simulation import oracle
from lbi.simulation.run import simulate
from lbi.system.supervisor import run_script

pytest.importorskip("lava.magma")
pytestmark = pytest.mark.lava

from lbi.exporters import run_lava  # noqa: E402

EXPORTERS = Path(netx.__file__).parent
RANDOM = {f"random_{number}": number for number in range(10)}
"""Networks of ``tests/oracle_sweep.py --seed 1 --lava``, which runs hundreds."""

RUNNABLE_BY_NETX = sorted(set(cases.CASES) - set(cases.NETX_REFUSES))


class WheelNet(NamedTuple):
    """A trained net that the lava-dl wheel brings, how many of its layers are read, and the samples to run."""

    file: str
    n_layers: int | None = None
    n_samples: int = 2


WHEEL_NETS = {
    "tiny": WheelNet("tiny.net"),
    "mnist": WheelNet("mnist.net"),  # its last layer never spikes: voltages are compared
    "ntidigits": WheelNet(
        "gts/ntidigits/ntidigits.net", 5
    ),  # the sixth is an average, which netx cannot load
    "pilotnet": WheelNet("gts/pilotnet_lif/network.net", 9, 1),  # the tenth spikes too rarely
}


def made(name: str):
    """A case, or a net of the lava-dl wheel with input spikes."""
    if name in cases.CASES:
        return cases.make(name)
    if name in RANDOM:
        return random_chip.make(1, RANDOM[name], random_chip.IN_LAVA)
    net = WHEEL_NETS[name]
    (package,) = find_spec("lava.lib.dl").submodule_search_locations  # importing its netx takes seconds
    path = Path(package).parents[2] / "tests/lava/lib/dl/netx" / net.file
    if not path.exists():
        pytest.skip("the lava-dl wheel's nets are not installed")
    fixed = reader.load(path, n_layers=net.n_layers)
    return fixed, random_spikes(np.random.default_rng(5), net.n_samples, 12, fixed.n_in)


def run_all(folder: Path, names: list[str], suffix: str, script: str) -> dict[str, np.ndarray]:
    """Every case's output (n_samples, n_steps, n_out) from one child."""
    for name in names:
        fixed, spikes = made(name)
        path = folder / f"{name}{suffix}"
        (network_h5.save if suffix == ".h5" else netx.write)(fixed, path)
        np.savez(path.with_suffix(".npz"), spikes=spikes)
    runner = Path(__file__).parents[1] / "support" / "run_cases.py"
    if script == lava.SCRIPT:
        lava.write_script(folder / script)
    else:  # beside lava.py it would find that instead of Lava
        shutil.copyfile(EXPORTERS / script, folder / script)
    run_script(runner, [str(folder / script), suffix, str(folder)], where=script, timeout_s=400)
    return {name: np.load(folder / f"{name}.out.npz")["output"] for name in names}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """``run_all`` by Lava and by netx, side by side; a failure of one is not the other's."""
    kinds = {"lava": ([*sorted(cases.CASES), *RANDOM], ".h5", "run_lava.py")}
    if find_spec("lava.lib") and find_spec("lava.lib.dl"):
        kinds["netx"] = ([*RUNNABLE_BY_NETX, *WHEEL_NETS], ".net", "run_netx.py")
    with ThreadPoolExecutor() as pool:
        return {
            kind: pool.submit(run_all, tmp_path_factory.mktemp(kind), *what) for kind, what in kinds.items()
        }


@pytest.fixture(scope="module")
def lava_outputs(runs):
    return runs["lava"].result()


@pytest.fixture(scope="module")
def netx_outputs(runs):
    pytest.importorskip("lava.lib.dl")
    return runs["netx"].result()


def expected(name: str) -> np.ndarray:
    fixed, spikes = cases.make(name)
    output = oracle.simulate(fixed, spikes).output
    assert np.unique(output).size > 1, "the case must tell a broken network from a right one"
    return output


@pytest.mark.parametrize("name", sorted(cases.CASES))
def test_lava_runs_the_same_spikes(name, lava_outputs):
    assert np.abs(lava_outputs[name].astype(int) - expected(name)).sum() == 0


@pytest.mark.parametrize("name", ["feedback", "feedback_over_layers", *RANDOM])
def test_lava_runs_what_plain_integers_say(name, lava_outputs):
    """In the chip's own time: each message is taken in only if its source stands in the target's sample."""
    fixed, spikes = made(name)
    wanted = np.array(chip_oracle.output(fixed, chip_oracle.run(fixed, spikes)))
    assert np.abs(lava_outputs[name].astype(int) - wanted).sum() == 0


def test_feedback_to_an_earlier_layer_starts_every_sample_from_rest(lava_outputs):
    assert lava_outputs["feedback"][:, :6, 0].tolist() == [[0, 0, 1, 1, 1, 1]] * cases.N_SAMPLES


@pytest.mark.parametrize("name", RUNNABLE_BY_NETX)
def test_netx_runs_the_same_spikes(name, netx_outputs):
    assert np.abs(netx_outputs[name].astype(int) - expected(name)).sum() == 0


@pytest.mark.parametrize("name", sorted(WHEEL_NETS))
@pytest.mark.filterwarnings("ignore::lbi.simulation.run.SaturationWarning")
def test_the_wheels_nets_read_and_written_again(name, netx_outputs):
    """lava-dl's own trained files: import → .net → unmodified netx: the output of the import."""
    fixed, spikes = made(name)
    output = simulate(fixed, spikes).output
    assert np.unique(output).size > 1
    assert np.abs(netx_outputs[name].astype(int) - output).sum() == 0


@pytest.mark.parametrize("name", sorted(cases.NETX_REFUSES))
def test_netx_refuses_what_it_would_run_wrong(name):
    codes = {problem.code for problem in netx.check_network(cases.make(name)[0])}
    assert codes == cases.NETX_REFUSES[name]


WIRED = """
import json, sys
import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lbi.files import network_h5
from lbi.exporters.lava import process

path, spikes_path, out = sys.argv[1:]
fixed = network_h5.load(path)
spikes = np.load(spikes_path)["spikes"][0]
first, second = process(fixed), process(fixed)
source, one, two = Source(data=spikes.T.astype(np.int32)), Sink(shape=(fixed.n_out,), buffer=len(spikes)), None
two = Sink(shape=(fixed.n_out,), buffer=len(spikes))
source.s_out.connect(first.inp)
source.s_out.connect(second.inp)
first.out.connect(one.a_in)
second.out.connect(two.a_in)
try:
    source.run(condition=RunSteps(num_steps=len(spikes)), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
    results = one.data.get().T, two.data.get().T
finally:
    source.stop()
np.savez(out, one=results[0], two=results[1])
"""


def test_the_process_wires_into_a_larger_application(tmp_path):
    """Two copies on one source, in raw chip time: each gives the aligned output, later by the latency."""
    fixed, spikes = cases.make("skip")
    network_h5.save(fixed, tmp_path / "network.h5")
    np.savez(tmp_path / "in.npz", spikes=spikes)
    (tmp_path / "wired.py").write_text(WIRED)
    arguments = [str(tmp_path / name) for name in ("network.h5", "in.npz", "out.npz")]
    run_script(tmp_path / "wired.py", arguments, where="wired", timeout_s=100)
    latency = fixed.population(fixed.readout.population).latency
    aligned = oracle.simulate(fixed, spikes[:1]).output_spikes[0]
    with np.load(tmp_path / "out.npz") as out:
        for name in ("one", "two"):
            assert np.abs(out[name][latency:] - aligned[: len(aligned) - latency]).sum() == 0
            assert out[name][:latency].sum() == 0


def run_without(package, folder, *arguments):
    """A script in ``folder``, run there by an interpreter that refuses to import ``package``."""
    (folder / "sitecustomize.py").write_text(f"import sys\nsys.modules[{package!r}] = None\n")
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={"PYTHONPATH": str(folder), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_script_runs_without_this_package(tmp_path):
    fixed, spikes = cases.make("recurrent_bias")
    network_h5.save(fixed, tmp_path / "network.h5")
    lava.write_script(tmp_path / "run_lava.py")
    labels = oracle.simulate(fixed, spikes).output_spikes.sum(axis=1).argmax(axis=1)
    np.savez(tmp_path / "in.npz", spikes=spikes, labels=labels)
    options = ("--spikes", "in.npz", "-o", "out.npz", "--samples", "3")
    done = run_without("lbi", tmp_path, "run_lava.py", *options)
    assert done.returncode == 0, done.stderr
    assert "accuracy 1.0000 on 3 samples" in done.stdout
    with np.load(tmp_path / "out.npz") as out:
        assert np.array_equal(out["spikes"], oracle.simulate(fixed, spikes[:3]).output_spikes)
        assert np.array_equal(out["labels"], labels[:3])
    with h5py.File(tmp_path / "network.h5", "a") as file:
        file[f"populations/{fixed.populations[0].name}/bias_mant"][0] += 1
    done = run_without("lbi", tmp_path, "run_lava.py", *options)
    assert (done.returncode, done.stderr.split(": ")[1:]) == (
        1,
        ["damaged, or edited without deleting its attribute sha256\n"],
    )


def without_lava(folder, monkeypatch, *arguments):
    """What ``run_lava.py`` ends with, and its output; Lava itself is not run: the network answers with its input."""
    text = ""
    with monkeypatch.context() as patch:
        patch.setattr(run_lava, "run", lambda _path, spikes, _progress: spikes)
        patch.setattr(sys, "argv", ["run_lava.py", str(folder / "network.h5"), *map(str, arguments)])
        patch.setattr(sys, "stdout", io.StringIO())
        try:
            run_lava.main()
        except SystemExit as end:
            text = str(end)
        return text, sys.stdout.getvalue()


SPIKES = np.zeros((3, 2, 4), np.uint8)
SPIKES[:, 0] = np.eye(4)[:3]

BAD_FILES = [
    ({"spikes": SPIKES, "labels": np.zeros((3, 1), int)}, "labels int64 (3, 1); wanted integers (3,)"),
    ({"spikes": SPIKES, "labels": np.zeros(1, int)}, "labels int64 (1,); wanted integers (3,)"),
    ({"spikes": SPIKES, "labels": np.zeros(3)}, "labels float64 (3,); wanted integers (3,)"),
    ({"spikes": SPIKES[:0]}, "spikes uint8 (0, 2, 4); wanted 0 and 1, (samples, steps, 4)"),
    ({"spikes": SPIKES[:, :, :3]}, "spikes uint8 (3, 2, 3); wanted 0 and 1, (samples, steps, 4)"),
    ({"spikes": SPIKES * 2}, "spikes uint8 (3, 2, 4); wanted 0 and 1, (samples, steps, 4)"),
    ({"x": SPIKES, "y": SPIKES}, "arrays x, y; wanted spikes and optional labels"),
    ({}, "arrays none; wanted spikes and optional labels"),
]


@pytest.mark.parametrize(("arrays", "message"), BAD_FILES)
def test_the_script_refuses_files_that_it_would_misread(arrays, message, tmp_path, monkeypatch):
    """Labels of another shape were broadcast: an accuracy of other pairs than samples and their labels."""
    network_h5.save(one_layer(), tmp_path / "network.h5")
    np.savez(tmp_path / "in.npz", **arrays)
    options = ("--spikes", tmp_path / "in.npz", "-o", tmp_path / "out.npz")
    assert without_lava(tmp_path, monkeypatch, *options) == (f"{tmp_path / 'in.npz'}: {message}", "")
    assert not (tmp_path / "out.npz").exists()


def test_the_script_ends_in_a_line_and_keeps_its_inputs(tmp_path, monkeypatch):
    network_h5.save(one_layer(), tmp_path / "network.h5")
    labels = np.array([0, 1, 3])
    np.savez(tmp_path / "in.npz", spikes=SPIKES, labels=labels)
    before, given = (tmp_path / "in.npz").read_bytes(), ("--spikes", tmp_path / "in.npz", "-o")
    for output in (tmp_path / "in.npz", tmp_path / "in"):  # numpy adds .npz
        found, _ = without_lava(tmp_path, monkeypatch, *given, output)
        assert found == f"{tmp_path / 'in.npz'}: is an input; choose another output"
    found, _ = without_lava(tmp_path, monkeypatch, *given, tmp_path / "no" / "out.npz")
    assert found == f"{tmp_path / 'no' / 'out.npz'}: cannot be written; choose another output"
    (tmp_path / "text.npz").write_text("none")
    found, _ = without_lava(tmp_path, monkeypatch, "--spikes", tmp_path / "text.npz", "-o", tmp_path / "out")
    assert found.startswith(f"{tmp_path / 'text.npz'}: not a readable .npz (")
    np.save(tmp_path / "one.npy", SPIKES)
    found, _ = without_lava(tmp_path, monkeypatch, "--spikes", tmp_path / "one.npy", "-o", tmp_path / "out")
    assert found == f"{tmp_path / 'one.npy'}: one array; wanted an .npz with spikes and optional labels"
    assert (tmp_path / "in.npz").read_bytes() == before
    assert without_lava(tmp_path, monkeypatch, *given, tmp_path / "out") == (
        "",
        "accuracy 0.6667 on 3 samples\n",
    )
    with np.load(tmp_path / "out.npz") as out:
        assert np.array_equal(out["labels"], labels)
        assert np.array_equal(out["predictions"], [0, 1, 2])
    found, _ = without_lava(tmp_path, monkeypatch, *given, tmp_path / "out.npz", "--samples", 1)
    assert found == ""
    with np.load(tmp_path / "out.npz") as out:
        assert out["spikes"].shape == (1, 2, 4)
    (tmp_path / "network.h5").write_bytes(b"none")
    found, _ = without_lava(tmp_path, monkeypatch, *given, tmp_path / "out")
    assert found.startswith(f"{tmp_path / 'network.h5'}: not readable as HDF5 (")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "in.npz", "network.h5", "one.npy", "out.npz", "text.npz"
    ]  # fmt: skip


@pytest.mark.parametrize("number", ["0", "-1", "x", "1.5"])
def test_the_script_takes_a_number_of_samples_from_1(number):
    with pytest.raises(ArgumentTypeError, match="is not a number of at least 1"):
        run_lava.at_least_one(number)


def one_layer():
    """4 inputs, 4 relays."""
    weights = projection("input", "a", 2 * np.eye(4))
    return FixedNetwork((4,), (population("a", 4, latency=1),), (weights,), Readout("a"), "loihi1")


@pytest.mark.parametrize("script", ["run_lava.py", "run_netx.py"])
def test_the_scripts_say_that_lava_is_missing(script, tmp_path):
    if script == "run_lava.py":
        lava.write_script(tmp_path / script)
    else:
        shutil.copy(Path(lava.__file__).with_name(script), tmp_path)
    done = run_without("lava", tmp_path, script, "network", "--spikes", "in.npz")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("Lava is missing: pip install ")


def test_many_samples_are_split_over_several_lava_runs(tmp_path):
    fixed, spikes = cases.make("single_neuron")
    network_h5.save(fixed, tmp_path / "network.h5")
    np.savez(tmp_path / "in.npz", spikes=spikes)
    # Lava imports every file beside the script in search of models: hence the guard.
    code = f"""
import numpy as np, run_lava
if __name__ == "__main__":
    run_lava.SOURCE_ELEMENTS = 2 * {cases.N_STEPS + fixed.depth}
    sizes = []
    once = run_lava.run_once
    run_lava.run_once = lambda path, spikes, progress: sizes.append(len(spikes)) or once(path, spikes, progress)
    np.savez("out.npz", spikes=run_lava.run("network.h5", np.load("in.npz")["spikes"]), sizes=sizes)
"""
    (tmp_path / "split.py").write_text(code)
    lava.write_script(tmp_path / "run_lava.py")
    run_script(tmp_path / "split.py", [], where="split", timeout_s=100)
    with np.load(tmp_path / "out.npz") as out:
        assert out["sizes"].tolist() == [2, 2]
        assert np.array_equal(out["spikes"], oracle.simulate(fixed, spikes).output_spikes)


def test_lava_refuses_a_neuron_it_has_not(monkeypatch):
    fixed, _ = cases.make("single_neuron")
    monkeypatch.setattr(type(fixed.populations[0].neuron), "model", "something_else")
    (problem,) = lava.check_network(fixed)
    assert problem.code == "neuron-model"
    assert json.dumps("something_else").strip('"') in problem.found


def test_the_notes_name_the_process_that_the_script_chooses(rng):
    """The exporter and the script, which must run alone, each decide for themselves whether ``Conv`` is exact."""
    from lbi.exporters import run_lava

    chosen = set()
    for number in range(300):
        weights = random_kernels.convolution(rng, (int(rng.integers(1, 4)), 9, 9))
        kernel = weights.convolution.kernel.astype(np.int64) << int(rng.integers(0, 16))
        own = weights.convolution._replace(kernel=np.clip(kernel, -(2**15), 2**15 - 1).astype(np.int16))
        if number % 3 == 0:  # any geometry; that it fits the map does not matter here
            own = own._replace(
                padding=(0, int(rng.integers(60, 67))), stride=(1, int(rng.integers(126, 130)))
            )
        exponent = int(rng.integers(-1, 9))
        note = lava._why_unrolled(SimpleNamespace(convolution=own), exponent, 0)
        assert (not note) == run_lava.exact_in_conv(own, exponent)
        chosen.add(bool(note))
    assert chosen == {True, False}
