"""Equivalent ways to write a model: functions that leave spikes as they are, resets by the other comparison, constant currents,
methods of a project's own; and windows of the output that only a long run shows."""

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

N_IN = 8


def wide(n_in: int, n_out: int) -> nn.Linear:
    return peers.linear(n_in, n_out, 4.0, bias=True)


def check(model: nn.Module) -> None:
    """The network of a model of time-first input has its spikes."""
    x = (np.random.default_rng(1).random((4, 40, N_IN)) < 0.4).astype(np.uint8)
    network = from_torch(model, (N_IN,))
    found = oracle.simulate(network, x, record=("spikes",)).recorded[network.readout.population, "spikes"]
    for module in model.modules():
        module.training = False
    with torch.no_grad():
        wanted = model(torch.from_numpy(x).float().transpose(0, 1)).transpose(0, 1).numpy()
    assert 0.02 < wanted.mean() < 0.98
    np.testing.assert_array_equal(found.reshape(wanted.shape), wanted)


class Leaky(nn.Module):
    """Two layers of snnTorch's neurons, with a function of the spikes between them."""

    def __init__(self, between=lambda spikes: spikes, read=lambda spikes, voltages: spikes) -> None:
        super().__init__()
        snn = peers.package("snntorch")
        torch.manual_seed(0)
        self.first, self.second = wide(N_IN, 12), wide(12, 3)
        self.one, self.two = (snn.Leaky(beta=0.9, reset_mechanism="zero") for _ in range(2))
        self.between, self.read = between, read

    def forward(self, x):
        one, two, found, voltages = self.one.init_leaky(), self.two.init_leaky(), [], []
        for step in x:
            spikes, one = self.one(self.first(step), one)
            out, two = self.two(self.second(self.between(spikes)), two)
            found.append(out)
            voltages.append(two)
        return self.read(torch.stack(found), torch.stack(voltages))


SAME = {
    "relu": torch.relu,
    "relu6": functional.relu6,
    "relu in place": lambda spikes: functional.relu(spikes.clone(), inplace=True),
    "clamp": lambda spikes: spikes.clamp(0, 1),
    "abs": torch.abs,
    "sign": torch.sign,
    "square": lambda spikes: spikes**2,
    "truth values": lambda spikes: spikes.bool().to(spikes.dtype),
    "not 0": lambda spikes: (spikes != 0).to(spikes.dtype),
    "above 0": lambda spikes: (spikes > 0).to(spikes.dtype),
    "1": lambda spikes: (spikes == 1).to(spikes.dtype),
}


@pytest.mark.parametrize("between", SAME.values(), ids=SAME.keys())
def test_a_function_that_leaves_0_and_1_adds_nothing(between):
    model = Leaky(between)
    assert len(from_torch(model, (N_IN,)).populations) == 2
    check(model)


@pytest.mark.parametrize(
    "between",
    [lambda s: torch.relu(s - 0.5), lambda s: s.clamp(0.2, 1), lambda s: torch.relu(s.roll(1, -1) + s)],
)
def test_a_function_that_changes_them_is_refused(between):
    with pytest.raises(InputError, match="of spikes or currents cannot be followed"):
        from_torch(Leaky(between), (N_IN,))


WINDOWS = {
    "last 50": lambda spikes, voltages: spikes[-50:].sum(0),
    "first 50": lambda spikes, voltages: spikes[:50].sum(0),
    "mean of the last 100": lambda spikes, voltages: spikes[-100:].mean(0),
    "step 60": lambda spikes, voltages: voltages[min(60, len(voltages) - 1)],
}


@pytest.mark.parametrize("read", WINDOWS.values(), ids=WINDOWS.keys())
def test_a_window_longer_than_the_trace_is_refused(read):
    with pytest.raises(InputError, match="the model's output"):
        from_torch(Leaky(read=read), (N_IN,))


class Written(nn.Module):
    """Two layers of neurons in plain torch; ``reset`` makes the spikes and the voltage after them."""

    def __init__(self, reset, current=lambda x: x) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = wide(N_IN, 12), wide(12, 3)
        self.reset, self.current = reset, current

    def forward(self, x):
        v, w = torch.zeros(x.shape[1], 12, dtype=x.dtype), torch.zeros(x.shape[1], 3, dtype=x.dtype)
        found = []
        for step in x:
            spikes, v = self.reset(0.9 * v + self.current(self.first(step)))
            out, w = self.reset(0.9 * w + self.second(spikes))
            found.append(out)
        return torch.stack(found)


def spiking(v, spikes, kept):
    return spikes.to(v.dtype), kept


RESETS = {
    "times": lambda v: spiking(v, v > 1, v * (v <= 1)),
    "where": lambda v: spiking(v, v > 1, torch.where(v <= 1, v, torch.zeros_like(v))),
    "where, from the threshold on": lambda v: spiking(v, v >= 1, torch.where(v < 1, v, torch.zeros_like(v))),
    "the other way round": lambda v: spiking(v, torch.lt(1 - v, 0), v * torch.ge(1 - v, 0)),
    "difference": lambda v: spiking(v, v - 1 > 0, v * (1 - v >= 0)),
    "masked": lambda v: spiking(v, v > 1, v.masked_fill(~(v <= 1), 0.0)),
}


@pytest.mark.parametrize("reset", RESETS.values(), ids=RESETS.keys())
def test_a_reset_decided_by_the_other_comparison(reset):
    check(Written(reset))


LEAKS = {
    "taken away": lambda v: v - 0.1 * v,
    "towards rest": lambda v: v + (0.0 - v) / 10.0,
    "twice": lambda v: 0.5 * v + (0.3 * v - 0.1 * v),
}


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS.keys())
def test_a_leak_that_is_written_out_before_the_reset(leak):
    class Leaking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(0)
            self.first, self.second = wide(N_IN, 12), wide(12, 3)

        def forward(self, x):
            v, w = torch.zeros(x.shape[1], 12, dtype=x.dtype), torch.zeros(x.shape[1], 3, dtype=x.dtype)
            z, out, found = torch.zeros_like(v), torch.zeros_like(w), []
            for step in x:
                v = leak(v) * (1 - z) + self.first(step)
                z = (v > 1).to(v.dtype)
                w = leak(w) * (1 - out) + self.second(z)
                out = (w > 1).to(w.dtype)
                found.append(out)
            return torch.stack(found)

    check(Leaking())


@pytest.mark.parametrize("constant", [0.1, 0.125, 1 / 3])
def test_a_constant_current_whose_sums_are_rounded(constant):
    check(Written(lambda v: spiking(v, v > 1, v * (1 - (v > 1).to(v.dtype))), lambda x: x + constant))


@pytest.mark.parametrize("seed", range(3))
def test_a_trained_batch_norm_before_neurons_that_reset_to_0(seed):
    norm = nn.BatchNorm1d(12)
    generator = torch.Generator().manual_seed(seed)
    nn.init.normal_(norm.running_mean, 0.0, 0.3, generator=generator)
    nn.init.uniform_(norm.running_var, 0.3, 2.0, generator=generator)
    nn.init.normal_(norm.bias, 0.0, 0.2, generator=generator)
    model = Written(lambda v: spiking(v, v > 1, v * (1 - (v > 1).to(v.dtype))), norm)
    check(model)


class Frozen(Leaky):
    """A project's way to freeze what ``train`` would change, without its result."""

    def train(self, mode=True):
        super().train(mode)


class OfAProject(Leaky):
    """Methods of a project that have the names of torch's."""

    def train(self, loader, optimizer):
        raise AssertionError("trains")

    def eval(self, loader):
        raise AssertionError("evaluates")


@pytest.mark.parametrize("kind", [Frozen, OfAProject])
def test_a_model_with_its_own_train_and_eval(kind):
    check(kind())
