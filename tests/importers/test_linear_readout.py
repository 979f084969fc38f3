"""A last Linear with no neuron behind it: an integrator without leak adds up what the model returns, class by class the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import peers
from support.command import call
from support.hidden_layer import HiddenLayer, InOneCall
from torch import nn

import lbi
from lbi.cli.export import main as lbi_export
from lbi.cli.run import main as lbi_run
from lbi.errors import InputError
from lbi.importers import from_torch
from lbi.simulation import oracle

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers' own

N_IN, N_HIDDEN, N_OUT, SAMPLES, STEPS = 12, 20, 5, 40, 30

FLOAT32 = 30 * STEPS * 2.0**-24 * 20
"""STEPS sums of 20 weights and a bias, at most 30 in all, each rounded to 2^-24 of it: what float32 can differ by."""


class Net(HiddenLayer):
    """Two layers, the outputs' with a bias or without."""

    def __init__(self, output, bias=True):
        self.bias = bias
        super().__init__(output)

    def layers(self):
        self.fc, self.head = peers.linear(N_IN, N_HIDDEN, 4.0), nn.Linear(N_HIDDEN, N_OUT, bias=self.bias)
        nn.init.normal_(self.fc.weight, 0.0, 1.0)  # as many classes as samples differ in
        nn.init.normal_(self.head.weight, 0.0, 1.0)


class Jelly(InOneCall, Net):
    """The same of spikingjelly."""


class Norse(Net):
    """norse's neurons, all steps in a call."""

    def build(self):
        norse = peers.package("norse.torch")
        self.lif = norse.LIF(norse.LIFParameters(v_th=torch.tensor(0.1)))

    def spikes(self, x):
        return self.lif(self.fc(x))[0]


class Sinabs(Net):
    """sinabs's neurons, batch first inside."""

    def build(self):
        layers, activation = peers.package("sinabs.layers"), peers.package("sinabs.activation")
        hard = {"spike_fn": activation.SingleSpike, "reset_fn": activation.MembraneReset()}
        self.lif = layers.LIF(tau_mem=5.0, **hard)

    def spikes(self, x):
        return self.lif(self.fc(x).transpose(0, 1)).transpose(0, 1)


class PerStep(nn.Module):
    """One call per step, with the state handed out and in."""

    def __init__(self):
        super().__init__()
        self.inner = Net(None)

    def forward(self, x, mem=None):
        spikes, mem = self.inner.lif(self.inner.fc(x), self.inner.lif.init_leaky() if mem is None else mem)
        return self.inner.head(spikes), mem


class Static(nn.Module):
    """One input for a number of steps that is the model's own, and the mean of what the last layer returns."""

    def __init__(self):
        super().__init__()
        self.inner = Net(lambda net, spikes: net.head(spikes).mean(0))

    def forward(self, x):
        return self.inner(x.unsqueeze(0).repeat(STEPS, 1, 1))


def loop(net, spikes):
    """Added up in a loop, as plain torch does."""
    total = 0
    for step in spikes:
        total = total + net.head(step)
    return total


def as_list(net, spikes):
    return [net.head(step) for step in spikes]


FORMS = {
    "sum": lambda net, spikes: net.head(spikes).sum(0),
    "mean": lambda net, spikes: net.head(spikes).mean(0),
    "loop": loop,
    "loop, averaged": lambda net, spikes: loop(net, spikes) / len(spikes),
    "every step": lambda net, spikes: net.head(spikes),
    "every step, batch first": lambda net, spikes: net.head(spikes).transpose(0, 1),
    "every step, in a list": as_list,
    "of the mean": lambda net, spikes: net.head(spikes.mean(0)),
    "beside hidden spikes": lambda net, spikes: (net.head(spikes).sum(0), spikes),
    "behind hidden spikes": lambda net, spikes: (spikes, net.head(spikes).sum(0)),
    "twice": lambda net, spikes: (net.head(spikes).mean(0), net.head(spikes)),
    "beside the last step": lambda net, spikes: (net.head(spikes), net.head(spikes)[-1]),
    "votes": lambda net, spikes: spikes.unflatten(-1, (N_OUT, -1)).mean(-1).mean(0),
    "negative": lambda net, spikes: -spikes[..., :N_OUT].sum(0),
}
STEPWISE = {"every step", "every step, batch first", "every step, in a list", "twice", "beside the last step"}


def input_spikes(rng, n_steps=STEPS):
    """Random spikes, each channel of a sample with a rate of its own."""
    rates = rng.random((SAMPLES, 1, N_IN))
    return (rng.random((SAMPLES, n_steps, N_IN)) < rates).astype(np.uint8)


def ours_and_theirs(model, total, rng):
    """The imported network, its last voltages, and the model's sum over the steps by its own forward in float32."""
    spikes = input_spikes(rng)
    network = from_torch(model, N_IN)
    with torch.no_grad():
        theirs = total(model, torch.from_numpy(spikes).float()).numpy()
    output = oracle.simulate(network, spikes).output
    assert network.readout == lbi.network.Readout("readout", "membrane_last")
    assert np.array_equal(network.readout.classify(output), theirs.argmax(axis=1))
    assert np.unique(theirs.argmax(axis=1)).size > 1, "several classes"
    return network, output[:, -1], theirs


def total_of(form):
    """The sum over the steps, from what a model of this form returns for (samples, steps, n)."""

    def total(model, x):
        found = model(x.transpose(0, 1).contiguous())
        if isinstance(found, tuple):
            found = found[1] if form in ("behind hidden spikes", "twice") else found[0]
        found = torch.stack(found) if isinstance(found, list) else found
        if form in STEPWISE:
            return found.sum(1 if form.endswith("batch first") else 0)
        return found * x.shape[1] if form in ("mean", "of the mean", "loop, averaged", "votes") else found

    return total


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_the_models_class_and_sum(form, rng):
    network, ours, theirs = ours_and_theirs(Net(FORMS[form]), total_of(form), rng)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=FLOAT32)
    neuron = network.population("readout").neuron
    assert (neuron.model, neuron.current_decay, neuron.voltage_decay) == ("integrator", 1.0, 0.0)
    (note,) = network.meta["notes"]
    said = "the mean over" if form in ("mean", "of the mean", "loop, averaged", "votes") else "the sum over"
    assert note.startswith(f"the model returns {'every step' if form in STEPWISE else said}")
    assert "population 'readout' adds them up without leak" in note


@pytest.mark.parametrize("make", [Jelly, Norse, Sinabs])
@pytest.mark.parametrize("form", ["sum", "mean", "every step"])
def test_other_frameworks(make, form, rng):
    reset = peers.package("sinabs").reset_states if make is Sinabs else lambda model: None

    def total(model, x):
        if make is Jelly:
            peers.package("spikingjelly.activation_based.functional").reset_net(model)
        reset(model)
        return total_of(form)(model, x)

    _, ours, theirs = ours_and_theirs(make(FORMS[form]), total, rng)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=FLOAT32)


def test_a_model_that_is_called_once_per_step(rng):
    def total(model, x):
        found, mem = 0, None
        for step in x.unbind(1):
            out, mem = model(step, mem)
            found = found + out
        return found

    _, ours, theirs = ours_and_theirs(PerStep(), total, rng)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=FLOAT32)


def test_a_number_of_steps_of_the_models_own(rng):
    spikes = np.repeat(input_spikes(rng, 1), STEPS, axis=1)
    model = Static()
    network = from_torch(model, N_IN)
    with torch.no_grad():
        theirs = model(torch.from_numpy(spikes[:, 0]).float()).numpy()
    output = oracle.simulate(network, spikes).output
    np.testing.assert_allclose(output[:, -1], theirs, rtol=0, atol=FLOAT32)
    assert network.meta["notes"][0].startswith(
        "the model returns the sum or mean over its own number of steps"
    )


def test_the_name_is_one_that_no_layer_has():
    class Named(Net):
        def build(self):
            self.readout = peers.package("snntorch").Leaky(beta=0.8, reset_mechanism="zero")

        lif = property(lambda self: self.readout)

    network = from_torch(Named(FORMS["sum"]), N_IN)
    assert [population.name for population in network.populations] == ["readout", "readout_2"]
    assert network.readout.population == "readout_2"


def test_what_a_maximum_pools_is_added_up(rng):
    def total(model, x):
        return total_of("sum")(model, x)

    pooled = Net(lambda net, spikes: net.head(nn.functional.max_pool1d(spikes, 2).repeat(1, 1, 2)).sum(0))
    network, ours, theirs = ours_and_theirs(pooled, total, rng)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=FLOAT32)
    assert [p.name for p in network.populations] == ["lif", "lif_pooled", "readout"]


REFUSED = {
    "the last step": (
        lambda net, spikes: net.head(spikes[-1]),
        r"holds weighted sums of the last step's spikes alone; .*1/4096 of itself; fix: return the sum or the mean",
    ),
    "a bias once": (
        lambda net, spikes: net.head(spikes.sum(0)),
        r"with a bias that enters once; .*; fix: apply the layer in each step and add up .*bias=False",
    ),
    "steps apart": (
        lambda net, spikes: sum(net.head(step) * (1 + at) for at, step in enumerate(spikes)),
        r"weighted sums of them; .*same weights in each step; .*fix: .*apply the weights to the spikes of each step",
    ),
    "two heads": (
        lambda net, spikes: (net.head(spikes).sum(0), net.head(spikes).flip(-1).sum(0)),
        r"holds weighted sums of spikes and other weighted sums; .*return one of them alone",
    ),
    "over the samples": (
        lambda net, spikes: (net.head(spikes) + net.head(spikes).mean(1, keepdim=True)).sum(0),
        r"holds the values of [0-9]+ samples at other places",
    ),
    "samples turned": (
        lambda net, spikes: net.head(spikes).sum(0).flip(0),
        r"holds the values of [0-9]+ samples at other places",
    ),
    "late": (
        lambda net, spikes: net.head(spikes).sum(0) * (1.0 if len(spikes) < 100 else 2.0),
        r"where its weighted sums sum to .* over 160 steps",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_integrator_holds_is_refused(name):
    output, text = REFUSED[name]
    with pytest.raises(InputError, match=rf"^readout: the model's output: .*{text}"):
        from_torch(Net(output), N_IN)


def test_without_bias_the_layer_may_follow_the_sum(rng):
    model = Net(lambda net, spikes: net.head(spikes.sum(0)), bias=False)
    _, ours, theirs = ours_and_theirs(model, total_of("sum"), rng)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=FLOAT32)


def test_a_rate_beside_the_last_spikes_is_no_class():
    network = from_torch(Net(lambda net, spikes: (spikes, spikes.mean())), N_IN)
    assert network.readout == lbi.network.Readout("lif", "spike_count")


def weights_into(fixed, name):
    (projection,) = [p for p in fixed.projections if p.target == name]
    return projection.weights.to_scipy().astype(np.int64).toarray(), projection.weight_exp


def test_in_integers_the_last_voltage_is_the_exact_sum(rng):
    fixed = lbi.quantize(from_torch(Net(FORMS["mean"]), N_IN), "loihi2")
    spikes = input_spikes(rng)
    activity = lbi.simulate(fixed, spikes, record=("spikes",))
    hidden = activity.recorded["lif", "spikes"].astype(np.int64)
    weights, exponent = weights_into(fixed, "readout")
    bias = fixed.population("readout").neuron.bias.astype(np.int64)
    total = (hidden.sum(axis=1) @ weights.T) * (64 * 2**exponent if exponent >= 0 else 64) + STEPS * bias
    assert exponent >= 0
    assert np.array_equal(activity.output[:, -1], total)
    assert np.array_equal(fixed.readout.classify(activity.output), total.argmax(axis=1))


@pytest.mark.lava
def test_exported_it_runs_in_lava_as_in_the_simulator(tmp_path, rng):
    pytest.importorskip("lava.magma")
    fixed = lbi.quantize(from_torch(Net(FORMS["mean"]), N_IN), "loihi2")
    lbi.save(fixed, tmp_path / "network.h5")
    np.savez(tmp_path / "spikes.npz", spikes=input_spikes(rng)[:4])
    done = call(lbi_export, tmp_path / "network.h5", "--target", "loihi", "-o", tmp_path / "net.loihi")
    assert (done.code, done.errors) == (0, [])
    done = call(lbi_run, tmp_path / "net.loihi", "--spikes", tmp_path / "spikes.npz", "--verify", "--json")
    assert (done.code, done.errors) == (0, [])
