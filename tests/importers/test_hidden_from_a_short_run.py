"""What a short run does not show, or another run would show: late behaviour, random numbers, wrappers, order, numbers for Python."""

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

N_IN, N_HIDDEN, N_OUT = 16, 12, 8


def leaky(**options):
    return peers.package("snntorch").Leaky(beta=0.9, reset_mechanism="zero", **options)


class OverTime(nn.Module):
    """Two layers in a loop over steps, time first; subclasses change a part of it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = peers.linear(N_IN, N_HIDDEN, 3.0), peers.linear(N_HIDDEN, N_OUT, 3.0)
        self.hidden, self.out = leaky(), leaky()

    def current(self, x, step):
        return self.first(x)

    def between(self, spikes):
        return spikes

    def returned(self, spikes):
        return spikes

    def forward(self, x):
        states, outputs = [self.hidden.init_leaky(), self.out.init_leaky()], []
        for step in range(len(x)):
            states = self.before(step, states)
            spikes, states[0] = self.hidden(self.current(x[step], step), states[0])
            spikes, states[1] = self.out(self.second(self.between(spikes)), states[1])
            outputs.append(spikes)
        return self.returned(torch.stack(outputs))

    def before(self, step, states):
        return states


def variant(**methods) -> nn.Module:
    return type("Variant", (OverTime,), methods)()


def refused(model, shape=(N_IN,)) -> list:
    with pytest.raises(InputError) as caught:
        from_torch(model, shape)
    return list(caught.value.problems)


def assert_equal(model, rng, n_steps=120):
    spikes = (rng.random((3, n_steps, N_IN)) < 0.4).astype(np.uint8)
    network = from_torch(model, (N_IN,))
    with torch.no_grad():
        theirs = model(torch.from_numpy(spikes).float().transpose(0, 1)).transpose(0, 1).numpy()
    ours = oracle.simulate(network, spikes).output_spikes
    assert 0.02 < ours.mean() < 0.95
    assert np.array_equal(theirs, ours)


# ---- late ----


@pytest.mark.parametrize("steps", [5, 6, 20, 45])
def test_delays_longer_than_a_trace(steps, rng):
    layer = peers.package("spikingjelly.activation_based.layer")
    neuron = peers.package("spikingjelly.activation_based.neuron")
    functional_ = peers.package("spikingjelly.activation_based.functional")
    torch.manual_seed(0)
    first, second = peers.linear(N_IN, N_HIDDEN, 6.0), peers.linear(N_HIDDEN, N_OUT, 6.0)
    model = nn.Sequential(first, neuron.LIFNode(), layer.Delay(steps), second, neuron.LIFNode())
    functional_.set_step_mode(model, "m")
    spikes = (rng.random((3, 100, N_IN)) < 0.4).astype(np.uint8)
    network = from_torch(model, (N_IN,))
    functional_.reset_net(model)
    with torch.no_grad():
        theirs = model(torch.from_numpy(spikes).float().transpose(0, 1)).transpose(0, 1).numpy()
    ours = oracle.simulate(network, spikes).output_spikes
    assert ours.mean() > 0.02
    assert np.array_equal(theirs, ours)


def reset_every_50_steps(self, step, states):
    return [torch.zeros_like(state) for state in states] if step and step % 50 == 0 else states


def weaker_after_60_steps(self, x, step):
    return self.first(x) * (0.5 if step >= 60 else 1.0)


class FirstFifty(OverTime):
    def forward(self, x):
        return super().forward(x[:50])


LATE = {
    "reset": lambda: variant(before=reset_every_50_steps),
    "gain": lambda: variant(current=weaker_after_60_steps),
    "cut off": FirstFifty,
}


@pytest.mark.parametrize("name", LATE)
def test_what_happens_late_is_refused(name):
    codes = {problem.code for problem in refused(LATE[name]())}
    assert codes <= {"not-as-it-runs", "call", "changes-over-time", "state-changed", "readout"}


# ---- random numbers ----

DRAWN = {
    "weights": lambda self, x, step: functional.linear(x, functional.dropout(self.first.weight, 0.5)),
    "noise": lambda self, x, step: (
        self.first(x) + 0.3 * torch.randn_like(self.first.bias) * (0 * x.sum(1, keepdim=True) + 1)
    ),
    "choice": lambda self, x, step: self.first(x) * (0.5 if torch.rand(1) < 0.5 else 1.0),
}


@pytest.mark.parametrize("name", DRAWN)
def test_random_numbers_that_are_drawn_in_forward_are_refused(name):
    assert refused(variant(current=DRAWN[name]))


# ---- wrappers ----


class Halving(nn.DataParallel):
    def forward(self, x):
        return self.module(x * 0.5)


class Wrapped(nn.Module):
    """A class of one's own with the name that torch.compile's wrapper gives its model."""

    def __init__(self, model):
        super().__init__()
        self._orig_mod = model

    def forward(self, x):
        return self._orig_mod(x * 0.5)


@pytest.mark.parametrize("wrap", [Halving, Wrapped])
def test_wrappers_with_a_forward_of_their_own_do_what_it_says(wrap, rng):
    assert_equal(wrap(OverTime()), rng)


@pytest.mark.parametrize("wrap", [nn.DataParallel, torch.compile])
def test_hooks_on_a_wrapper_are_refused(wrap):
    model = wrap(OverTime())
    model.register_forward_pre_hook(lambda module, args: (args[0] * 0.5,))
    assert [problem.code for problem in refused(model)] == ["hooked-wrapper"]
    assert [problem.code for problem in refused(nn.Sequential(model))] == ["hooked-wrapper"]


# ---- the place of each value ----

PLACED = {
    "as stacked": lambda self, out: out,
    "batch first": lambda self, out: out.transpose(0, 1),
    "steps last": lambda self, out: out.permute(1, 2, 0),
    "summed": lambda self, out: out.sum(0),
    "mean": lambda self, out: out.mean(0),
    "flat": lambda self, out: out.flatten(0, 1),
}
MISPLACED = {
    "view for transpose": lambda self, out: out.view(out.shape[1], out.shape[0], -1).sum(1),
    "reshaped": lambda self, out: out.permute(1, 2, 0).reshape(out.shape[1], out.shape[0], -1),
    "samples turned": lambda self, out: out.flip(1),
}


@pytest.mark.parametrize("name", PLACED)
def test_outputs_in_any_order_of_their_dimensions(name):
    from_torch(variant(returned=PLACED[name]), (N_IN,))


@pytest.mark.parametrize("name", MISPLACED)
def test_outputs_with_values_at_other_places_are_refused(name):
    assert {problem.code for problem in refused(variant(returned=MISPLACED[name]))} == {"readout"}


# ---- numbers for Python ----

TAKEN = {
    "numpy": lambda x: x.numpy().sum(),
    "tolist": lambda x: sum(map(sum, x.tolist())),
    "asarray": lambda x: np.asarray(x).sum(),
    "item": lambda x: x.sum().item(),
}


@pytest.mark.parametrize("name", TAKEN)
def test_numbers_of_spikes_may_be_counted_but_not_decide(name, rng):
    def counted(self, spikes):
        self.n_spikes = getattr(self, "n_spikes", 0) + TAKEN[name](spikes)
        return spikes

    def deciding(self, spikes):
        return spikes * 0.5 if TAKEN[name](spikes) > 100 else spikes

    assert_equal(variant(between=counted), rng)
    assert "untraceable" in {problem.code for problem in refused(variant(between=deciding))}


# ---- messages ----


def test_an_error_of_the_users_own_is_the_message():
    def fails(self, spikes):
        raise ValueError("my own")

    (problem,) = refused(variant(between=fails))
    assert problem.code == "model-fails"
    assert "ValueError: my own" in problem.found


def test_neurons_in_a_list_and_layers_without_neurons():
    class Listed(nn.Module):
        def __init__(self):
            super().__init__()
            self.parts = [peers.linear(N_IN, N_OUT, 3.0), leaky(init_hidden=True)]

        def forward(self, x):
            return self.parts[1](self.parts[0](x))

    (problem,) = refused(Listed())
    assert problem.code == "loose-module"
    assert "ModuleList" in problem.remedy
    empty = nn.Sequential(
        nn.Linear(N_IN, 0), leaky(init_hidden=True), nn.Linear(0, 4), leaky(init_hidden=True)
    )
    assert ("no-neurons", "module '1'") in [(problem.code, problem.where) for problem in refused(empty)]


def test_a_number_of_steps_that_is_given_by_name_only(rng):
    class Named(OverTime):
        def forward(self, x, *, num_steps):
            return super().forward(x[:num_steps])

    from_torch(Named(), (N_IN,))
