"""Refusals that lead to the cause: encodings and random numbers in forward, and outputs that are not spikes in their order."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import peers
from torch import nn
from torch.nn import functional

from lbi.errors import InputError
from lbi.importers import from_torch
from lbi.simulation import oracle

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers' own

N_IN, N_HIDDEN, N_OUT, SAMPLES, STEPS = 12, 10, 6, 3, 30


def same(x):
    return x


class Net(nn.Module):
    """Two layers of snnTorch in a loop; functions for the input, between the layers, and for the output."""

    def __init__(self, before=None, between=None, output=None):
        super().__init__()
        snn = peers.package("snntorch")
        torch.manual_seed(0)
        self.fc1, self.fc2 = peers.linear(N_IN, N_HIDDEN, 3.0), peers.linear(N_HIDDEN, N_OUT, 3.0)
        self.l1, self.l2 = snn.Leaky(beta=0.8), snn.Leaky(beta=0.8)
        self.head = peers.linear(N_OUT, 3, 1.0)
        self.add = snn.Leaky(beta=1.0, reset_mechanism="none", output=True)
        self.before, self.between, self.output = before or same, between or same, output or (lambda net, s: s)

    def forward(self, x):
        x = self.before(x)
        mem1, mem2, spikes = self.l1.init_leaky(), self.l2.init_leaky(), []
        for current in x:
            hidden, mem1 = self.l1(self.fc1(current), mem1)
            out, mem2 = self.l2(self.fc2(self.between(hidden)), mem2)
            spikes.append(out)
        return self.output(self, torch.stack(spikes))


def refusal(model) -> str:
    with pytest.raises(InputError) as caught:
        from_torch(model, N_IN)
    return str(caught.value)


ENCODE = "fix: encode outside of the model, and give it the spikes"


@pytest.mark.parametrize(
    ("encode", "operation"),
    [
        (lambda x: peers.package("snntorch.spikegen").rate(x[0], num_steps=9), "bernoulli"),
        (lambda x: torch.bernoulli(x * 0.5), "bernoulli"),
        (lambda x: (x > 0.5).float(), "gt"),
    ],
)
def test_an_encoding_in_forward_goes_out_of_the_model(encode, operation):
    text = refusal(Net(before=encode))
    assert f"{operation} of the input cannot be followed, in module 'Net'" in text
    assert ENCODE in text


def test_an_encoder_among_the_layers():
    encoding = peers.package("spikingjelly.activation_based.encoding")
    leaky = peers.package("snntorch").Leaky(beta=0.8, init_hidden=True)
    text = refusal(nn.Sequential(encoding.PoissonEncoder(), nn.Linear(N_IN, N_OUT), leaky))
    found = "unknown-module: module '0': spikingjelly.PoissonEncoder cannot be taken over (le); allowed: spikes as input; "
    assert text == found + ENCODE


def test_dropout_that_is_left_on():
    text = refusal(Net(between=lambda spikes: functional.dropout(spikes, 0.5)))
    assert text.startswith(
        "random-numbers: module 'l2': step 0 takes in something else than step 5; bernoulli_ at "
    )
    assert "functional.dropout needs training=self.training" in text


def test_dropout_that_evaluation_turns_off(rng):
    spikes = (rng.random((SAMPLES, STEPS, N_IN)) < 0.4).astype(np.uint8)
    model = Net().eval()
    model.between = lambda hidden: functional.dropout(hidden, 0.5, training=model.training)
    network = from_torch(model, N_IN)
    with torch.no_grad():
        theirs = model(torch.from_numpy(spikes).float().transpose(0, 1)).transpose(0, 1).numpy()
    assert 0.02 < theirs.mean() < 0.95
    assert np.array_equal(oracle.simulate(network, spikes).output, theirs)


@pytest.mark.parametrize(
    "output",
    [
        lambda net, spikes: net.head(spikes[1:].mean(0)),
        lambda net, spikes: torch.cat([-spikes[:3], spikes[3:]]),
    ],
    ids=["some steps", "steps apart"],
)
def test_an_output_behind_the_last_spikes(output):
    text = refusal(Net(output=output))
    found = "holds some of the spikes of module 'l2', in another order, or weighted sums of them"
    assert text.startswith(f"readout: the model's output: {found}; allowed: the spikes of the last layer")
    assert "or weighted sums of spikes with the same weights in each step; " in text
    assert "apply the weights to the spikes of each step, and return the sum of all steps" in text


def test_an_output_that_a_short_run_does_not_have():
    text = refusal(Net(output=lambda net, spikes: spikes[10:].sum(0)))
    assert "holds nothing that depends on the input, in a run of 6 steps" in text


def add_up(net, spikes):
    mem = net.add.init_leaky()
    for step in spikes:
        _, mem = net.add(net.head(step), mem)
    return mem


def test_neurons_without_leak_add_up(rng):
    """In place of a Linear of the mean: its sum over the steps."""
    model = Net(output=add_up)
    network = from_torch(model, N_IN)
    spikes = (rng.random((SAMPLES, STEPS, N_IN)) < 0.4).astype(np.uint8)
    model.output = lambda net, spikes: net.head(spikes.mean(0)) * STEPS
    with torch.no_grad():
        theirs = model(torch.from_numpy(spikes).float().transpose(0, 1)).numpy()
    assert network.readout.kind == "membrane_last"
    assert theirs.std() > 0.1
    np.testing.assert_allclose(oracle.simulate(network, spikes).output[:, -1], theirs, rtol=0, atol=1e-3)


class Second(Net):
    """A model of two inputs."""

    def forward(self, x, context):
        return super().forward(x + context)


def test_a_second_input_is_named():
    text = refusal(Second())
    assert text.startswith("model-fails: module 'Second': TypeError: unsupported operand type(s) for +: ")
    assert (
        "fix: context of forward got None, as states do before the first step: begin with zeros for None; "
        in text
    )
