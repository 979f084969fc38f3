"""Neurons that rest at a voltage other than 0 are imported with voltages measured from there: same spikes."""

from __future__ import annotations

import numpy as np
import pytest
from support import peers

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from lbi.importers import from_torch  # noqa: E402
from lbi.simulation import oracle  # noqa: E402

N_IN, N_HIDDEN, N_OUT, N_STEPS = 12, 16, 5, 60


@pytest.mark.parametrize("decay_input", [True, False])
@pytest.mark.parametrize("rest", [-0.5, 0.25])
@pytest.mark.parametrize("kind", ["LIFNode", "ParametricLIFNode", "IFNode"])
def test_spikingjelly_resets_to_where_it_starts(kind, rest, decay_input, rng):
    neuron = peers.package("spikingjelly.activation_based.neuron")
    peers.package("spikingjelly.activation_based.layer")  # which set_step_mode imports
    functional = peers.package("spikingjelly.activation_based.functional")
    options = {} if kind == "IFNode" else {"decay_input": decay_input}
    torch.manual_seed(1)
    model = nn.Sequential(
        peers.linear(N_IN, N_HIDDEN, 4.0),
        getattr(neuron, kind)(v_reset=rest, **options),
        peers.linear(N_HIDDEN, N_OUT, 4.0),
        getattr(neuron, kind)(v_reset=rest, **options),
    )
    functional.set_step_mode(model, "m")
    spikes = (rng.random((3, N_STEPS, N_IN)) < 0.3).astype(np.uint8)
    network = from_torch(model, (N_IN,))
    functional.reset_net(model)
    with torch.no_grad():
        theirs = model(torch.from_numpy(spikes).float().transpose(0, 1)).transpose(0, 1).numpy()
    ours = oracle.simulate(network, spikes).output_spikes
    assert 0.02 < ours.mean() < 0.95
    assert np.array_equal(theirs, ours)


@pytest.mark.parametrize("kind", ["LIF", "LIFRecurrent"])
def test_norse_resets_to_its_leak(kind, rng):
    module = peers.package("norse.torch")
    parameters = peers.package("norse.torch.functional.lif").LIFParameters(
        v_leak=torch.tensor(-0.25), v_reset=torch.tensor(-0.25)
    )
    torch.manual_seed(1)
    layer = (
        module.LIFRecurrent(N_IN, N_HIDDEN, parameters) if kind == "LIFRecurrent" else module.LIF(parameters)
    )
    model = module.SequentialState(
        *([] if kind == "LIFRecurrent" else [peers.linear(N_IN, N_HIDDEN, 4.0)]),
        layer,
        peers.linear(N_HIDDEN, N_OUT, 4.0),
        module.LIF(parameters),
    )
    with torch.no_grad():
        for parameter in model.parameters():
            parameter *= 2
    spikes = (rng.random((3, N_STEPS, N_IN)) < 0.5).astype(np.uint8)
    network = from_torch(model, (N_IN,))
    with torch.no_grad():
        theirs = model(torch.from_numpy(spikes).float().transpose(0, 1))[0].transpose(0, 1).numpy()
    ours = oracle.simulate(network, spikes).output_spikes
    assert 0.02 < ours.mean() < 0.95
    assert np.array_equal(theirs, ours)
