"""Models that run on a short sample, and fail or change on several samples or more steps, end in an InputError."""

from __future__ import annotations

import pytest
import torch
from support import peers
from torch import nn

from lbi.errors import InputError
from lbi.importers import from_torch

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers' own

N_IN, N_HIDDEN, N_OUT = 12, 10, 5
CUBA = {"threshold": 1.25, "current_decay": 0.25, "voltage_decay": 0.05, "requires_grad": False}


class Slayer(nn.Module):
    """Two blocks of lava-dl, and a third that only some models call; ``run`` is their forward."""

    samples, steps = 0, -1

    def __init__(self, run):
        super().__init__()
        dense = peers.package("lava.lib.dl.slayer").block.cuba.Dense
        torch.manual_seed(1)
        self.a, self.b, self.other = (dense(CUBA, *sizes, weight_scale=2) for sizes in self.sizes)
        self.run = run

    sizes = ((N_IN, N_HIDDEN), (N_HIDDEN, N_OUT), (N_IN, N_HIDDEN))

    def forward(self, x):
        return self.run(self, x)


class Jelly(Slayer):
    """The same of spikingjelly's neurons, with all steps in a call, time first."""

    samples, steps = 1, 0

    def __init__(self, run):
        nn.Module.__init__(self)
        layer, neuron, functional = (
            peers.package(f"spikingjelly.activation_based.{name}")
            for name in ("layer", "neuron", "functional")
        )
        torch.manual_seed(1)
        self.a, self.b, self.other = (
            nn.Sequential(layer.Linear(*sizes), neuron.LIFNode()) for sizes in self.sizes
        )
        self.run = run
        functional.set_step_mode(self, "m")


def merged(net, x):
    """All samples as one, of as many steps as all of them have."""
    shape = (1, N_IN, -1) if net.steps == -1 else (-1, 1, N_IN)
    return net.b(net.a(x.reshape(shape)))


def fixed(net, x):
    """A batch of 1 written into the shape."""
    n_steps = x.shape[net.steps]
    return net.b(net.a(x.reshape((1, N_IN, n_steps) if net.steps == -1 else (n_steps, 1, N_IN))))


def first(net, x):
    """One sample of the batch."""
    return net.b(net.a(x.narrow(net.samples, 0, 1)))


def skips(net, x):
    """No second layer where there are several samples."""
    hidden = net.a(x)
    return net.b(hidden) if x.shape[net.samples] == 1 else hidden


def other(net, x):
    """Another first layer where there are several samples."""
    return net.b((net.a if x.shape[net.samples] == 1 else net.other)(x))


def short(net, x):
    """No long samples."""
    if x.shape[net.steps] > 20:
        raise RuntimeError("too many steps")
    return net.b(net.a(x))


def cut(net, x):
    """Fewer steps where there are several samples."""
    return net.b(net.a(x if x.shape[net.samples] == 1 else x.narrow(net.steps, 0, 6)))


def twice(net, x):
    """One more call of the first layer where there are several samples."""
    if x.shape[net.samples] > 1:
        net.a(x)
    return net.b(net.a(x))


ONE_BATCH = r"; fix: let forward take any number of samples and steps: keep the batch's dimension"
SLAYER = {
    merged: r"call: module 'a': takes in shape \(1, 12, 160\) in a run of 4 samples; .*keep all samples apart",
    fixed: r"model-fails: module 'Slayer': RuntimeError: shape .* with 4 samples of 40 steps; 1 of 6 steps ran; .*"
    + ONE_BATCH,
    first: r"call: module 'a': takes in shape \(1, 12, 40\) in a run of 4 samples; ",
    skips: r"call: module 'b': takes 0 steps of 40; ",
    other: r"call: module 'other': runs with 4 samples or more steps, and not in a short run of one sample; ",
    short: r"model-fails: .*too many steps, at .*, with 4 samples of 40 steps; 1 of 6 steps ran; .*"
    + ONE_BATCH,
    cut: r"call: module 'a': takes 6 steps of 40; ",
    twice: r"call: module 'a': takes 80 steps of 40; ",
}


@pytest.mark.lava
@pytest.mark.parametrize("run", SLAYER, ids=lambda run: run.__name__)
def test_slayer_models_are_refused_with_what_was_found(run):
    with pytest.raises(InputError, match=SLAYER[run]):
        from_torch(Slayer(run), N_IN)


REFUSED = {
    skips: r"call: module 'b\.1': takes 0 steps of 40; ",
    short: r"model-fails: .*too many steps, at .*, with 1 sample of 40 steps; 1 of 6 steps ran; .*"
    + ONE_BATCH,
    cut: r"call: module 'a\.1': takes 6 steps of 40; ",
    twice: r"call: module 'a\.1': takes more than the 40 steps that it is given; ",
}


@pytest.mark.parametrize("run", REFUSED, ids=lambda run: run.__name__)
def test_models_of_other_frameworks_are_refused_with_what_was_found(run):
    with pytest.raises(InputError, match=REFUSED[run]):
        from_torch(Jelly(run), N_IN)


@pytest.mark.parametrize("run", [merged, fixed, first, other], ids=lambda run: run.__name__)
def test_models_that_run_on_one_sample_are_proven_on_single_ones(run):
    network = from_torch(Jelly(run), N_IN)
    assert [population.n for population in network.populations] == [N_HIDDEN, N_OUT]


def test_a_module_that_only_long_samples_leave_out_is_found():
    def run(net, x):
        hidden = net.a(x)
        return torch.zeros(len(x), x.shape[1], N_OUT) if len(x) > 100 else net.b(hidden)

    with pytest.raises(InputError, match=r"call: module 'b\.1': takes 0 steps of 160; "):
        from_torch(Jelly(run), N_IN)


def test_samples_of_different_length_are_found():
    runs = []

    def run(net, x):
        """Every second long sample is cut."""
        runs.append(len(x))
        return net.b(net.a(x[: 6 if len(runs) % 2 else len(x)].narrow(1, 0, 1)))

    with pytest.raises(InputError, match=r"takes 6 steps of one sample and 40 of another; "):
        from_torch(Jelly(run), N_IN)
