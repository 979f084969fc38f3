"""Models as users write them, from a saved state to Lava: equal to the framework's forward, then to Lava."""

from __future__ import annotations

import importlib
import shutil
from math import prod
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from lbi.exporters import lava
from support import peers, user_models
from support.command import call

from lbi.cli.export import main as lbi_export
from lbi.files import network_h5
from lbi.importers.torch import saved
from lbi.simulation import oracle
from lbi.simulation.run import simulate
from lbi.system.supervisor import run_script

pytestmark = pytest.mark.filterwarnings("ignore")  # the frameworks' own

ROOT = Path(user_models.__file__).parent
N_SAMPLES, N_STEPS = 3, 20


class Case(NamedTuple):
    """A function of a file in ``support/user_models``, and how its model takes samples and steps.

    ``order`` places (samples, steps, neurons) in the model's input; ``late`` is the steps by which the model's
    own output follows the network's.
    """

    package: str
    file: str
    function: str
    shape: tuple[int, ...]
    order: str = "time first"
    gain: float = 1.0
    late: int = 0


CASES = {
    "snntorch loop": Case("snntorch", "snntorch_nets", "loop", (24,), gain=2.0),
    "snntorch conv": Case("snntorch", "snntorch_nets", "conv", (1, 6, 6), gain=2.5),
    "norse skip": Case("norse", "norse_nets", "skip", (20,), gain=1.5),
    "norse recurrent": Case("norse", "norse_nets", "recurrent", (20,), "batch first", gain=2.0),
    "spikingjelly conv": Case("spikingjelly", "spikingjelly_nets", "conv", (1, 6, 6), gain=4.0),
    "spikingjelly residual": Case("spikingjelly", "spikingjelly_nets", "residual", (20,), gain=2.5),
    "sinabs conv": Case("sinabs", "sinabs_nets", "conv", (1, 6, 6), "batch first", gain=2.0),
    "sinabs recurrent": Case("sinabs", "sinabs_nets", "recurrent", (20,), "batch first", gain=3.0),
    "slayer dense": Case("lava.lib.dl.slayer", "slayer_nets", "dense", (24,), "time last", late=3),
    "slayer recurrent": Case("lava.lib.dl.slayer", "slayer_nets", "recurrent", (24,), "time last", late=2),
    "spikingjelly maxima": Case("spikingjelly", "spikingjelly_nets", "maxima", (1, 6, 6), gain=4.0),
}


class Saved(NamedTuple):
    """A saved state, its ``--arch``, and the model in its own framework with that state."""

    path: Path
    arch: str
    model: torch.nn.Module


def save(name: str, folder: Path) -> Saved:
    """The state of a case with seeded weights; SLAYER's blocks keep their own initial ones."""
    case = CASES[name]
    peers.package(case.package)
    torch.manual_seed(list(CASES).index(name))
    model = getattr(importlib.import_module(f"support.user_models.{case.file}"), case.function)()
    if case.order != "time last":
        for weight in model.parameters():
            if weight.dim() > 1:
                n_in = weight[0].numel()
                torch.nn.init.normal_(weight, case.gain / n_in, 2 * case.gain / n_in**0.5)
    path = folder / f"{case.file}_{case.function}.pt"
    torch.save(model.state_dict(), path)
    return Saved(path, f"{ROOT / case.file}.py:{case.function}", model.eval())


def input_spikes(name: str) -> np.ndarray:
    """Random spikes (n_samples, n_steps, n_in)."""
    rng = np.random.default_rng(list(CASES).index(name))
    return (rng.random((N_SAMPLES, N_STEPS, prod(CASES[name].shape))) < 0.3).astype(np.uint8)


def own_forward(case: Case, model: torch.nn.Module, spikes: np.ndarray) -> np.ndarray:
    """The model's output (n_samples, n_steps, n_out) by its own code."""
    x = torch.from_numpy(spikes).float().reshape(N_SAMPLES, N_STEPS, *case.shape)
    with torch.no_grad():
        if case.order == "time last":
            result = model(x.movedim(1, -1))
        else:
            result = model(x.transpose(0, 1) if case.order == "time first" else x)
    output = result[0] if isinstance(result, tuple) else result
    moved = {
        "time first": lambda y: y.transpose(0, 1),
        "batch first": lambda y: y,
        "time last": lambda y: y.movedim(-1, 1),
    }
    return moved[case.order](output).numpy()


NAMES = [pytest.param(name, marks=pytest.mark.lava) if CASES[name].late else name for name in CASES]


@pytest.mark.parametrize("name", NAMES)
def test_import_equals_the_frameworks_forward(name, tmp_path):
    case = CASES[name]
    path, arch, model = save(name, tmp_path)
    network = saved.load(path, arch, case.shape)
    spikes = input_spikes(name)
    ours = oracle.simulate(network, spikes).output_spikes
    theirs = own_forward(case, model, spikes)
    assert 0.02 < ours.mean() < 0.95
    assert np.abs(theirs[:, case.late :] - ours[:, : N_STEPS - case.late]).sum() == 0


@pytest.mark.lava
def test_every_export_runs_in_lava_with_the_same_spikes(tmp_path):
    """From ``lbi-export`` each; all of them in one child, because starting Lava takes seconds."""
    pytest.importorskip("lava.magma")
    runs = tmp_path / "runs"
    runs.mkdir()
    for name, case in CASES.items():
        path, arch, _ = save(name, tmp_path)
        folder = tmp_path / f"{path.stem}.loihi"
        shape = ",".join(map(str, case.shape))
        done = call(
            lbi_export, path, "--arch", arch, "--input-shape", shape, "--target", "loihi", "-o", folder
        )
        assert (done.code, done.errors) == (0, []), (name, done.errors)
        shutil.copyfile(folder / "network.h5", runs / f"{path.stem}.h5")
        np.savez(runs / f"{path.stem}.npz", spikes=input_spikes(name))
    script = tmp_path / "run_lava.py"
    lava.write_script(script)
    runner = ROOT.parent / "run_cases.py"
    run_script(runner, [str(script), ".h5", str(runs)], where="run_lava.py", timeout_s=300)
    for name, case in CASES.items():
        stem = f"{case.file}_{case.function}"
        ours = simulate(network_h5.load(runs / f"{stem}.h5"), input_spikes(name)).output
        with np.load(runs / f"{stem}.out.npz") as file:
            assert int((file["output"] != ours).sum()) == 0, name
        assert np.unique(ours).size > 1, name
