"""Convolutional models of other frameworks: from torch to Lava, and through NIR back into their own readers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from lbi.exporters import nir as exporter
from support import peers
from support.command import call

import lbi
from lbi.cli.export import main as lbi_export
from lbi.cli.run import main as lbi_run
from lbi.importers import from_torch
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.simulation import oracle

torch = pytest.importorskip("torch")
nir = pytest.importorskip("nir")
nn = torch.nn

SHAPE = (2, 8, 8)
N_STEPS = 30


class Framework(NamedTuple):
    """neuron() → a layer of its neurons; run(model, spikes) → output; read(graph) → its model; dt: seconds per step."""

    neuron: Callable[[], Any]
    run: Callable[[Any, Any], Any]
    read: Callable[[Any], Any]
    dt: float = 1e-4


def snntorch() -> Framework:
    snn, reader = peers.package("snntorch"), peers.package("snntorch.import_nir")
    return Framework(
        lambda: snn.Leaky(beta=0.875, reset_mechanism="zero", init_hidden=True, threshold=1.003),
        peers.run_snntorch,
        reader.import_from_nir,
    )


def norse() -> Framework:
    module, reader = peers.package("norse.torch"), peers.package("norse.torch.utils.import_nir")
    parameters = module.LIFBoxParameters(v_th=torch.tensor(0.1003), tau_mem_inv=torch.tensor(125.0))
    return Framework(
        lambda: module.LIFBoxCell(parameters),
        peers.run_norse,
        lambda graph: reader.from_nir(graph, ignore_warnings=True, dt=1e-3),
        1e-3,
    )


def spikingjelly() -> Framework:
    neuron = peers.package("spikingjelly.activation_based.neuron")
    reader = peers.package("spikingjelly.activation_based.nir_exchange")
    return Framework(
        lambda: neuron.LIFNode(tau=8.0, decay_input=False, v_reset=0.0, v_threshold=1.003),
        peers.run_spikingjelly,
        reader.import_from_nir,
    )


FRAMEWORKS = {"snntorch": snntorch, "norse": norse, "spikingjelly": spikingjelly}


def model_of(framework: Framework) -> Any:
    """Convolution, neurons, pooling, convolution, neurons, dense layer, neurons; weights in 1/64, so that sums are exact."""
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, bias=False),
        framework.neuron(),
        nn.AvgPool2d(2),
        nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False),
        framework.neuron(),
        nn.Flatten(),
        nn.Linear(8 * 2 * 2, 5, bias=False),
        framework.neuron(),
    )
    for layer in model:
        if hasattr(layer, "weight"):
            layer.weight.data = torch.randint(-28, 36, layer.weight.shape, generator=generator) / 64
    return model


@pytest.mark.lava
@pytest.mark.filterwarnings("ignore:nirtorch.load is being deprecated")
@pytest.mark.parametrize("name", FRAMEWORKS)
def test_a_convolutional_model_runs_in_lava_and_comes_back(name, tmp_path, rng):
    framework = FRAMEWORKS[name]()
    model = model_of(framework)
    spikes = (rng.random((2, N_STEPS, *SHAPE)) < 0.2).astype(np.uint8)
    with torch.no_grad():
        theirs = framework.run(model, torch.from_numpy(spikes).float()).numpy()
    network = from_torch(model, SHAPE)
    flat = spikes.reshape(2, N_STEPS, -1)
    ours = oracle.simulate(network, flat).output_spikes
    assert 0.02 < ours.mean() < 0.98
    assert np.array_equal(ours, theirs)

    graph = exporter.graph(network, dt=framework.dt)
    nir.write(tmp_path / "m.nir", graph)
    np.savez(tmp_path / "test.npz", spikes=flat)
    assert call(lbi_export, tmp_path / "m.nir", "--target", "loihi", "--json").code == 0
    done = call(lbi_run, tmp_path / "m.loihi", "--spikes", tmp_path / "test.npz", "--verify", "--json")
    assert done.code == 0, done
    assert done.json["verified"] is True
    assert isinstance(lbi.load(tmp_path / "m.loihi").projections[0].weights, ConvolutionWeights)

    back = framework.read(nir.read(tmp_path / "m.nir"))
    assert np.array_equal(run_read(back, spikes), ours)
    if name == "spikingjelly":
        # Its state is an argument: without it, every step starts from rest.
        assert run_read(back, spikes, keep=False).mean() < ours.mean()
        together = peers.package("spikingjelly.activation_based.functional")
        together.set_step_mode(back, "m")
        with torch.no_grad():
            out, _ = back(torch.from_numpy(spikes).float().swapaxes(0, 1), None)
        assert np.array_equal(out.swapaxes(0, 1).numpy(), ours)


def run_read(model: Any, spikes: np.ndarray, keep: bool = True) -> np.ndarray:
    """Output (samples, steps, n) of a model read from NIR, step by step, with its state passed on or dropped."""
    state, outputs = None, []
    with torch.no_grad():
        for t in range(spikes.shape[1]):
            out, state = model(torch.from_numpy(spikes[:, t]).float(), state if keep else None)
            outputs.append(out[0] if isinstance(out, tuple) else out)
    return torch.stack(outputs, dim=1).numpy()
