"""Resets by subtraction: what the frameworks compute is what the imported network computes, in floats and on the chip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import peers
from torch import nn

import lbi
from lbi.errors import InputError
from lbi.importers import from_torch
from lbi.network.pattern import density
from lbi.simulation import oracle

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers' own

N_IN, N_HIDDEN, N_OUT, SAMPLES, STEPS = 34, 24, 10, 4, 60

BETAS = torch.linspace(0.3, 0.95, 3).repeat(N_HIDDEN // 3)
THRESHOLDS = torch.linspace(0.5, 2.0, N_HIDDEN)


def chain(neuron, gain: float, last=None) -> nn.Sequential:
    torch.manual_seed(0)
    hidden, out = peers.linear(N_IN, N_HIDDEN, gain), peers.linear(N_HIDDEN, N_OUT, gain)
    return nn.Sequential(hidden, neuron(), out, (last or neuron)())


def snntorch(kind: str = "Leaky", **options):
    snn = peers.package("snntorch")

    def last():
        return snn.Leaky(beta=0.8, init_hidden=True)

    kept = {"beta": 0.9, "init_hidden": True, **options}
    return chain(lambda: getattr(snn, kind)(**kept), 3.0, last), peers.run_snntorch


def spikingjelly(kind: str, **options):
    neuron = peers.package("spikingjelly.activation_based.neuron")
    return chain(lambda: getattr(neuron, kind)(v_reset=None, **options), 8.0), run_spikingjelly


def run_spikingjelly(model, spikes):
    functional = peers.package("spikingjelly.activation_based.functional")
    functional.reset_net(model)
    return torch.stack([model(step) for step in spikes.unbind(1)], dim=1)


def sinabs(kind: str, subtracted=None, **options):
    layers, activation = peers.package("sinabs.layers"), peers.package("sinabs.activation")
    options |= {"spike_fn": activation.SingleSpike, "reset_fn": activation.MembraneSubtract(subtracted)}
    return chain(lambda: getattr(layers, kind)(**options), 10.0), lambda model, spikes: model(spikes)


def norse(**options):
    module = peers.package("norse.torch")
    method = peers.package("norse.torch.functional.reset").reset_subtract
    p = module.LIFBoxParameters(v_th=torch.tensor(0.3), reset_method=method, **options)
    return chain(lambda: module.LIFBoxCell(p), 4.0), run_norse


def run_norse(model, spikes):
    first, hidden, second, out = model
    states, found = [None, None], []
    for step in spikes.unbind(1):
        between, states[0] = hidden(first(step), states[0])
        spiking, states[1] = out(second(between), states[1])
        found.append(spiking)
    return torch.stack(found, dim=1)


class OverTime(nn.Module):
    """A chain of norse's cells in a loop over time, as users write it."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, spikes):
        return run_norse(self.model, spikes.transpose(0, 1)).transpose(0, 1)


MODELS = {
    "snnTorch's default": snntorch,
    "snnTorch, a decay and threshold per neuron": lambda: snntorch(beta=BETAS, threshold=THRESHOLDS),
    "snnTorch, graded spikes": lambda: snntorch(graded_spikes_factor=0.5),
    "snnTorch, no memory": lambda: snntorch(beta=0.0),
    "snnTorch, no leak": lambda: snntorch(beta=1.0),
    "snnTorch, recurrent": lambda: snntorch("RLeaky", linear_features=N_HIDDEN),
    "snnTorch, one-to-one recurrence": lambda: snntorch("RLeaky", all_to_all=False, V=-0.2),
    "snnTorch Lapicque": lambda: snntorch("Lapicque"),
    "snnTorch Lapicque, a circuit of its own": lambda: snntorch(
        "Lapicque", beta=False, R=5.1, C=5e-3, time_step=1e-3, threshold=0.4
    ),
    "spikingjelly LIFNode": lambda: spikingjelly("LIFNode", tau=2.0),
    "spikingjelly LIFNode, input undamped": lambda: spikingjelly("LIFNode", tau=3.0, decay_input=False),
    "spikingjelly ParametricLIFNode": lambda: spikingjelly("ParametricLIFNode", v_threshold=0.7),
    "spikingjelly IFNode": lambda: spikingjelly("IFNode"),
    "sinabs LIF": lambda: sinabs("LIF", tau_mem=5.0),
    "sinabs LIF, another value": lambda: sinabs("LIF", 0.7, tau_mem=5.0, norm_input=False),
    "sinabs IAF": lambda: sinabs("IAF"),
    "norse LIFBoxCell": norse,
}


@pytest.fixture(params=MODELS)
def model(request):
    return MODELS[request.param]()


def test_spikes_are_those_of_the_frameworks_own_forward(model, rng):
    own, run = model
    spikes = (rng.random((SAMPLES, STEPS, N_IN)) < 0.3).astype(np.uint8)
    given = own if run is not run_norse else OverTime(own)
    network = from_torch(given, (N_IN,))
    with torch.no_grad():
        theirs = run(own, torch.from_numpy(spikes).float()).numpy()
    assert 0.02 < (theirs > 0).mean() < 0.98
    assert np.array_equal(theirs, oracle.simulate(network, spikes).output)
    resets = [p for p in network.projections if p.name.endswith("_reset")]
    assert len(resets) >= 2
    assert all(density(projection) == 1.0 for projection in resets), "dense is a synapse per neuron"


def test_on_the_chip_the_weights_keep_their_bits_and_the_threshold_its_value(model, rng):
    """The weight of a reset is as large as the threshold: at exponent 0 it would leave other weights a few bits."""
    own, run = model
    network = from_torch(own if run is not run_norse else OverTime(own), (N_IN,))
    without = replace(
        network, projections=tuple(p for p in network.projections if not p.name.endswith("_reset"))
    )
    fixed, plain = lbi.quantize(network, "loihi1"), lbi.quantize(without, "loihi1")
    scales = {p.name: p.scale for p in plain.populations}
    for before, after in zip(network.projections, fixed.projections, strict=True):
        if before.name.endswith("_reset"):
            unit = 2.0**after.weight_exp / fixed.population(after.target).scale
            assert np.allclose(after.weights.data * unit, before.weights.data, rtol=0, atol=0.51 * unit)
        else:
            assert after.weight_exp == 0
    assert all(p.scale > 0.5 * scales[p.name] for p in fixed.populations)
    spikes = (rng.random((SAMPLES, STEPS, N_IN)) < 0.3).astype(np.uint8)
    ours = oracle.simulate(network, spikes).output_spikes.sum()
    assert abs(int(lbi.simulate(fixed, spikes).output_spikes.sum()) - int(ours)) < 0.06 * ours


def test_a_current_that_cannot_stay_is_noted(rng):
    own, _ = sinabs("IAF")
    fixed = lbi.quantize(from_torch(own, (N_IN,)), "loihi1")
    assert fixed.provenance["notes"] == [
        f"population 'layer{layer}': the current, which never decays, loses 1/4096 a step on the chip"
        for layer in (1, 3)
    ]
    assert "notes" not in lbi.quantize(from_torch(snntorch()[0], (N_IN,)), "loihi1").provenance


@pytest.mark.parametrize(
    ("made", "code"),
    [
        (lambda: snntorch("Synaptic", alpha=0.5), "soft-reset"),
        (lambda: snntorch("RSynaptic", alpha=0.5, linear_features=N_HIDDEN), "soft-reset"),
        (lambda: sinabs("LIF", tau_mem=5.0, tau_syn=3.0), "soft-reset"),
        (lambda: snntorch(reset_delay=False), "reset-delay"),
    ],
)
def test_two_leaky_states_or_two_resets_at_once_are_refused(made, code):
    with pytest.raises(InputError) as caught:
        from_torch(made()[0], (N_IN,))
    assert {problem.code for problem in caught.value.problems} == {code}
    assert "module '1'" in {problem.where for problem in caught.value.problems}
