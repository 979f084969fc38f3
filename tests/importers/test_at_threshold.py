"""Neurons that fire at their threshold, not above it, do so in the chip's integers and in float32 as well."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lbi.exporters import nir as exporter
from support import peers
from torch import nn

import lbi
from lbi.importers import from_torch
from lbi.network.neurons.thresholds import in_single, met_at, threshold_to_fixed
from lbi.simulation import oracle

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers' own


def eighths(n_in, n_out, rng) -> nn.Linear:
    layer = nn.Linear(n_in, n_out, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(rng.integers(-2, 4, (n_out, n_in)) / 8))
    return layer


def model_of(kind: str, rng) -> nn.Module:
    neuron = peers.package("spikingjelly.activation_based.neuron")
    layers, activation = peers.package("sinabs.layers"), peers.package("sinabs.activation")
    made = {
        "spikingjelly": neuron.IFNode,
        "sinabs": lambda: layers.IAF(spike_fn=activation.SingleSpike, reset_fn=activation.MembraneReset()),
    }[kind]
    model = nn.Sequential(eighths(16, 12, rng), made(), eighths(12, 8, rng), made())
    peers.package("spikingjelly.activation_based.functional").set_step_mode(model, "m")
    return model


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
@pytest.mark.parametrize("kind", ["spikingjelly", "sinabs"])
def test_voltages_of_round_weights_meet_the_threshold_exactly(kind, chip, rng):
    model = model_of(kind, rng)
    spikes = (rng.random((4, 60, 16)) < 0.4).astype(np.uint8)
    network = from_torch(model, (16,))
    steps = torch.from_numpy(spikes).float()
    with torch.no_grad():
        theirs = model(steps.transpose(0, 1)).transpose(0, 1) if kind == "spikingjelly" else model(steps)
    assert 0.02 < theirs.mean() < 0.95
    assert np.array_equal(theirs.numpy(), oracle.simulate(network, spikes).output)
    assert np.array_equal(theirs.numpy(), lbi.simulate(lbi.quantize(network, chip), spikes).output)


def test_a_nir_file_holds_a_threshold_that_float32_does_not_round_up(rng):
    graph = exporter.graph(from_torch(model_of("spikingjelly", rng), (16,)))
    thresholds = [node.v_threshold for node in graph.nodes.values() if hasattr(node, "v_threshold")]
    assert len(thresholds) == 2
    for values in thresholds:
        assert np.all(values.astype(np.float32) < 1)
        assert np.all(values > 1 - 1e-7)


@given(st.integers(1, 10**6), st.integers(0, 5))
def test_the_number_just_below_a_written_one_stands_for_it(number, digits):
    written = number / 10**digits
    below = float(np.nextafter(written, 0.0))
    assert met_at(below) == written
    assert met_at(written) is None
    assert np.float32(in_single(below)) < np.float32(written)
    assert in_single(written) == written


@given(st.floats(0.01, 100), st.floats(1, 1000))
def test_thresholds_that_are_exceeded_are_rounded_only(threshold, scale):
    single = float(np.float32(threshold))
    for value in (threshold, single):
        if met_at(value) is None:
            assert threshold_to_fixed(value, scale, True) == round(value * scale)
    assert threshold_to_fixed(float(np.nextafter(1.0, 0)), 528.0, True) == 527
    assert threshold_to_fixed(float(np.nextafter(1.0, 0)), 528.0, False) == 528


def above(x):
    return (x > 0).to(x)


def at(x):
    return (x >= 0).to(x)


def with_surrogate(kind: str, fires, rng) -> nn.Module:
    """Neurons of a kind whose spikes are decided by a function of the user's own."""
    if kind == "spikingjelly":
        neuron = peers.package("spikingjelly.activation_based.neuron").IFNode
        made = [neuron(surrogate_function=fires) for _ in "12"]
    else:
        leaky = peers.package("snntorch").Leaky
        options = {"beta": 1.0, "reset_mechanism": "zero", "init_hidden": True}
        made = [leaky(spike_grad=fires, **options) for _ in "12"]
    return nn.Sequential(eighths(16, 12, rng), made[0], eighths(12, 8, rng), made[1]).eval()


@pytest.mark.parametrize("fires", [above, at])
@pytest.mark.parametrize("kind", ["spikingjelly", "snntorch"])
def test_a_surrogate_of_ones_own_decides_at_the_threshold(kind, fires, rng):
    model = with_surrogate(kind, fires, rng)
    spikes = (rng.random((4, 60, 16)) < 0.4).astype(np.uint8)
    network = from_torch(model, (16,))
    with torch.no_grad():
        theirs = torch.stack([model(step) for step in torch.from_numpy(spikes).float().unbind(1)], 1).numpy()
    assert 0.02 < theirs.mean() < 0.95
    assert np.array_equal(theirs, oracle.simulate(network, spikes).output)
    assert np.array_equal(theirs, lbi.simulate(lbi.quantize(network, "loihi2"), spikes).output)
