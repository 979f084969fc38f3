"""A last layer of leaky voltages that plain torch computes: neurons that never spike have them, step by step as in the model."""

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

FLOAT32 = 2.0**-24 * 30 * 20 * STEPS * 10
"""Voltages are sums of up to 20 weights and a bias, at most 30 a step, kept for up to 10 steps by each leak: rounded to 2^-24 each."""


class Net(HiddenLayer):
    """Two layers, the outputs' weights without a mean, so that samples have many classes."""

    def layers(self):
        self.fc, self.head = nn.Linear(N_IN, N_HIDDEN), nn.Linear(N_HIDDEN, N_OUT)
        nn.init.normal_(self.fc.weight, 0.0, 1.0)  # as many classes as samples differ in
        nn.init.normal_(self.head.weight, 0.0, 1.0)
        with torch.no_grad():
            self.head.weight -= self.head.weight.mean(dim=1, keepdim=True)
            self.head.bias *= 0.2
        self.leak = nn.Parameter(torch.tensor(1.2))


class Jelly(InOneCall, Net):
    """The same of spikingjelly."""


def voltages(update, n_states=1, first=False):
    """Function of (model, spikes) that returns the voltages of all steps; ``update(net, states, h)`` returns the next states, last the voltage."""

    def run(net, spikes):
        states = (spikes.new_zeros(spikes.shape[1], N_OUT),) * n_states
        found = [states[-1]] if first else []
        for step in spikes:
            states = update(net, states, net.head(step))
            found.append(states[-1])
        return torch.stack(found)

    return run


def leaky(net, states, h):
    return (0.9 * states[0] + h,)


def time_constant(net, states, h):
    return (states[0] + (h - states[0]) / 4.0,)


def trained(net, states, h):
    beta = torch.sigmoid(net.leak)
    return (beta * states[0] + (1 - beta) * h,)


def current_first(net, states, h):
    current = 0.7 * states[0] + h
    return current, 0.9 * states[1] + current


def zenke(net, states, h):
    """SpyTorch: the voltage takes in the current of the step before."""
    return 0.7 * states[0] + h, 0.9 * states[1] + states[0]


def one_time_constant(net, states, h):
    current = 0.8 * states[0] + h
    return current, 0.8 * states[1] + current


def no_leak(net, states, h):
    return (states[0] + h,)


def own_bias(net, states, h):
    current = 0.7 * states[0] + h
    return current, 0.9 * states[1] + current + torch.arange(N_OUT)


def in_place(net, states, h):
    return (states[0].clone().mul_(0.9).add_(h),)


RULES = {
    "leaky": (voltages(leaky), 0, 1 - 0.9),
    "time constant": (voltages(time_constant), 0, 1 - 0.75),
    "trained": (voltages(trained), 0, None),
    "in place": (voltages(in_place), 0, 1 - 0.9),
    "no leak": (voltages(no_leak), 0, 0.0),
    "current first": (voltages(current_first, 2), 0.7, 1 - 0.9),
    "zenke": (voltages(zenke, 2, first=True), 0.7, 1 - 0.9),
    "one time constant": (voltages(one_time_constant, 2), 0.8, 1 - 0.8),
    "own bias": (voltages(own_bias, 2), 0.7, 1 - 0.9),
}
READS = {
    "every": (lambda v: v, "membrane_mean", "every step's"),
    "sum": (lambda v: v.sum(0), "membrane_mean", "the sum over the steps of"),
    "mean": (lambda v: v.mean(0), "membrane_mean", "the mean over the steps of"),
    "last": (lambda v: v[-1], "membrane_last", "the last step's"),
    "max": (lambda v: v.max(dim=0)[0], "membrane_max", "the maximum over the steps of"),
    "amax": (lambda v: v.transpose(0, 1).amax(1), "membrane_max", "the maximum over the steps of"),
}
CASES = [(rule, read) for rule in ("leaky", "zenke") for read in READS]
CASES += [
    ("time constant", "mean"),
    ("trained", "last"),
    ("in place", "every"),
    ("no leak", "every"),
    ("no leak", "max"),
]
CASES += [
    ("current first", "sum"),
    ("one time constant", "mean"),
    ("one time constant", "max"),
    ("own bias", "max"),
]


def input_spikes(rng, n_steps=STEPS):
    """Random spikes, each channel of a sample with a rate of its own."""
    rates = rng.random((SAMPLES, 1, N_IN))
    return (rng.random((SAMPLES, n_steps, N_IN)) < rates).astype(np.uint8)


def read_of(network, output):
    """The score of each class."""
    read = {
        "membrane_mean": output.sum(axis=1),
        "membrane_max": output.max(axis=1),
        "membrane_last": output[:, -1],
    }
    return read[network.readout.kind]


def check(network, theirs, spikes, factor=1.0):
    """Scores and classes of the imported network are those of the model's own forward in float32."""
    output = oracle.simulate(network, spikes).output
    np.testing.assert_allclose(read_of(network, output) * factor, theirs, rtol=0, atol=FLOAT32)
    assert np.array_equal(network.readout.classify(output), theirs.argmax(axis=1))
    assert np.unique(theirs.argmax(axis=1)).size > 1, "several classes"


def returned(model, spikes):
    with torch.no_grad():
        return model(torch.from_numpy(spikes).float().transpose(0, 1).contiguous())


@pytest.mark.parametrize(("rule", "read"), CASES)
def test_every_form_is_the_models_class_and_score(rule, read, rng):
    (run, kept, decay), (output, kind, said) = RULES[rule], READS[read]
    model, spikes = Net(lambda net, spikes: output(run(net, spikes))), input_spikes(rng)
    network = from_torch(model, N_IN)
    assert network.readout == lbi.network.Readout("readout", kind)
    neuron = network.population("readout").neuron
    decay = 1 - float(torch.sigmoid(model.leak.double())) if decay is None else decay
    np.testing.assert_allclose(
        (neuron.current_decay, neuron.voltage_decay), (1 - kept, decay), rtol=0, atol=1e-12
    )
    (note,) = network.meta["notes"]
    assert note.startswith(
        f"the model returns {said} voltages that it computes itself of weighted sums of spikes (5"
    )
    theirs = returned(model, spikes)
    theirs = theirs.sum(0) if read == "every" else theirs
    n_summed = STEPS + (rule == "zenke") if read == "mean" else 1
    check(network, theirs.numpy(), spikes, 1 / n_summed)


def test_decays_of_few_digits_are_as_they_were_written():
    network = from_torch(Net(RULES["zenke"][0]), N_IN)
    neuron = network.population("readout").neuron
    assert (neuron.current_decay, neuron.voltage_decay) == (1 - 0.7, 1 - 0.9)


def test_another_framework(rng):
    model, spikes = Jelly(lambda net, spikes: RULES["leaky"][0](net, spikes).amax(0)), input_spikes(rng)
    network = from_torch(model, N_IN)
    peers.package("spikingjelly.activation_based.functional").reset_net(model)
    check(network, returned(model, spikes).numpy(), spikes)


def test_voltages_beside_hidden_spikes_and_in_a_list(rng):
    spikes = input_spikes(rng)
    for output in (
        lambda net, s: (list(RULES["zenke"][0](net, s)), s),
        lambda net, s: (RULES["leaky"][0](net, s), s),
    ):
        model = Net(output)
        theirs, _ = returned(model, spikes)
        theirs = torch.stack(list(theirs)).sum(0)
        check(from_torch(model, N_IN), theirs.numpy(), spikes)


def test_the_maximum_is_read_where_voltages_are_returned_too(rng):
    def output(net, spikes):
        v = RULES["leaky"][0](net, spikes)
        return v, v.max(0)[0]

    model, spikes = Net(output), input_spikes(rng)
    network = from_torch(model, N_IN)
    assert network.readout.kind == "membrane_max"
    check(network, returned(model, spikes)[1].numpy(), spikes)


def test_the_maximum_of_a_frameworks_neurons(rng):
    class Known(Net):
        def build(self):
            super().build()
            self.last = peers.package("snntorch").Leaky(beta=0.7, reset_mechanism="none", output=True)

    def output(net, spikes):
        mem, found = net.last.init_leaky(), []
        for step in spikes:
            _, mem = net.last(net.head(step), mem)
            found.append(mem)
        return 2.0 * torch.stack(found).max(0).values

    model, spikes = Known(output), input_spikes(rng)
    network = from_torch(model, N_IN)
    assert network.readout == lbi.network.Readout("last", "membrane_max")
    check(network, returned(model, spikes).numpy(), spikes, 2.0)


class Integrator(nn.Module):
    """A module of a user's with its voltage in an attribute."""

    def __init__(self):
        super().__init__()
        self.v = None

    def forward(self, x):
        self.v = x if self.v is None else 0.9 * self.v + x
        return self.v


def test_a_module_that_keeps_its_voltage(rng):
    class Own(Net):
        def build(self):
            super().build()
            self.readout = Integrator()

    def output(net, spikes):
        net.readout.v = None
        return torch.stack([net.readout(net.head(step)) for step in spikes]).mean(0)

    model, spikes = Own(output), input_spikes(rng)
    check(from_torch(model, N_IN), returned(model, spikes).numpy(), spikes, 1 / STEPS)


class PerStep(nn.Module):
    """One call per step, with the states handed out and in; the first output is zeros."""

    def __init__(self):
        super().__init__()
        self.inner = Net(None)

    def forward(self, x, mem=None, u=None, v=None):
        zeros = x.new_zeros(len(x), N_OUT)
        spikes, mem = self.inner.lif(self.inner.fc(x), self.inner.lif.init_leaky() if mem is None else mem)
        u, v = (zeros, zeros) if u is None else (u, v)
        u, v = zenke(self.inner, (u, v), self.inner.head(spikes))
        return v, mem, u, v


def test_a_model_that_is_called_once_per_step(rng):
    model, spikes, state, total = PerStep(), input_spikes(rng), (), 0
    with torch.no_grad():
        for step in torch.from_numpy(spikes).float().unbind(1):
            v, *state = model(step, *state)
            total = total + v
    check(from_torch(model, N_IN), total.numpy(), spikes)


class Static(nn.Module):
    """One input for a number of steps that is the model's own."""

    def __init__(self, output):
        super().__init__()
        self.inner = Net(output)

    def forward(self, x):
        return self.inner(x.unsqueeze(0).repeat(STEPS, 1, 1))


@pytest.mark.parametrize("read", ["mean", "last"])
def test_a_number_of_steps_of_the_models_own(read, rng):
    model = Static(lambda net, spikes: READS[read][0](RULES["leaky"][0](net, spikes)))
    spikes = np.repeat(input_spikes(rng, 1), STEPS, axis=1)
    network = from_torch(model, N_IN)
    with torch.no_grad():
        theirs = model(torch.from_numpy(spikes[:, 0]).float()).numpy()
    check(network, theirs, spikes)
    assert ("its own number of steps" in network.meta["notes"][0]) == (read == "mean")


def with_first(net, spikes):
    v = RULES["leaky"][0](net, spikes)
    return torch.cat([torch.zeros_like(v[:1]), v]).max(0)[0]


def by_neuron(net, states, h):
    return (torch.linspace(0.5, 0.9, N_OUT) * states[0] + h,)


def late(net, spikes):
    beta = 0.9 if len(spikes) < 100 else 0.8
    return voltages(lambda net, states, h: (beta * states[0] + h,))(net, spikes)


def reset_once(net, spikes):
    count = iter(range(1000))
    return voltages(lambda net, states, h: ((0.9 if next(count) != 20 else 0.0) * states[0] + h,))(
        net, spikes
    )


REFUSED = {
    "decays by neuron": (
        voltages(by_neuron),
        r"mixed-decays: the model's output: keeps 5 different parts of itself, by neuron; .* train the last layer with one decay",
    ),
    "growing": (
        voltages(lambda net, states, h: (1.1 * states[0] + h,)),
        r"decay-range: the model's output: keeps 1\.1 times itself from step to step; allowed: 0 to 1; fix: .*sigmoid",
    ),
    "alternating": (
        voltages(lambda net, states, h: (h - 0.5 * states[0],)),
        r"decay-range: the model's output: keeps -0\.5 times itself",
    ),
    "zeros before the first step": (
        with_first,
        r"readout: the model's output: holds the maximum of voltages and of the zeros before the first step; .*begin with an empty one",
    ),
    "the maximum of sums": (
        lambda net, spikes: net.head(spikes).max(0)[0],
        r"untraceable: .*max of spikes or currents cannot be followed.* fix: take a maximum over the steps of voltages alone",
    ),
    "the maximum of spikes": (
        lambda net, spikes: spikes.max(0)[0],
        r"untraceable: .*max of spikes or currents cannot be followed",
    ),
    "the maximum over neurons": (
        lambda net, spikes: RULES["leaky"][0](net, spikes).max(-1)[0],
        r"untraceable: .*max of spikes or currents cannot be followed",
    ),
    "more than a maximum": (
        lambda net, spikes: RULES["leaky"][0](net, spikes).max(0)[0] + 1,
        r"readout: the model's output: holds something else than the maximum over the steps; ",
    ),
    "places of the maximum": (
        lambda net, spikes: RULES["leaky"][0](net, spikes).max(0)[1].float(),
        r"readout: the model's output: holds something else than the maximum over the steps; ",
    ),
    "some steps": (
        lambda net, spikes: RULES["leaky"][0](net, spikes)[-5:].sum(0),
        r"readout: the model's output: holds some of the spikes of module 'lif'",
    ),
    "another leak later": (
        late,
        r"readout: the model's output: sums to .* where its voltages sum to .* over 160 steps",
    ),
    "a reset": (
        reset_once,
        r"readout: the model's output: sums to .* where its voltages sum to .* over 40 steps",
    ),
    "samples turned": (
        lambda net, spikes: RULES["leaky"][0](net, spikes).max(0)[0].flip(0),
        r"readout: the model's output: of shape \(8, 5\) holds the values of 8 samples at other places",
    ),
    "other weights with more steps": (
        lambda net, spikes: RULES["leaky"][0](net, spikes)[-1] * len(spikes) ** 2,
        r"readout: the model's output: holds something else of voltages in a run of one step more; ",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_no_voltage_is_is_refused(name):
    output, text = REFUSED[name]
    with pytest.raises(InputError, match=rf"^{text}"):
        from_torch(Net(output), N_IN)


class Onward(Net):
    """Spikes of neurons that take in what ``between`` makes of the voltages of all steps."""

    def build(self):
        super().build()
        self.after = peers.package("snntorch").Leaky(beta=0.5, reset_mechanism="zero")

    def forward(self, x):
        mem, found = self.after.init_leaky(), []
        for step in self.output(self, self.spikes(x)):
            spikes, mem = self.after(step, mem)
            found.append(spikes)
        return torch.stack(found)


def test_voltages_that_flow_on_are_refused():
    with pytest.raises(InputError, match=r"module 'after': step 0 takes in something else than step 5"):
        from_torch(Onward(RULES["leaky"][0]), N_IN)


def test_a_maximum_that_flows_on_is_refused():
    def repeated(net, spikes):
        return RULES["leaky"][0](net, spikes).max(0)[0].expand(len(spikes), -1, -1)

    with pytest.raises(InputError, match=r"call: module 'after': takes in at step 0 what comes at step 5"):
        from_torch(Onward(repeated), N_IN)


@pytest.mark.lava
def test_exported_it_runs_in_lava_as_in_the_simulator(tmp_path, rng):
    pytest.importorskip("lava.magma")
    network = from_torch(Net(lambda net, spikes: RULES["zenke"][0](net, spikes).max(0)[0]), N_IN)
    lbi.save(lbi.quantize(network, "loihi2"), tmp_path / "network.h5")
    np.savez(tmp_path / "spikes.npz", spikes=input_spikes(rng)[:4])
    done = call(lbi_export, tmp_path / "network.h5", "--target", "loihi", "-o", tmp_path / "net.loihi")
    assert (done.code, done.errors) == (0, [])
    done = call(lbi_run, tmp_path / "net.loihi", "--spikes", tmp_path / "spikes.npz", "--verify", "--json")
    assert (done.code, done.errors) == (0, [])
