"""Penalties, statistics and checks that a model computes beside its spikes: imported if nothing depends on them, refused otherwise."""

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


def hard(u):
    return (u > 0).to(u.dtype)


def penalty(model, v, z):
    model.loss = torch.relu(z.mean(0) - 0.1).pow(2).sum() + torch.sigmoid(v).std()


def entropy(model, v, z):
    model.log = -(torch.softmax(v, -1) * torch.log_softmax(v, -1)).sum()


def histogram(model, v, z):
    model.log = torch.histc(v.float(), 10), v.topk(2), functional.cosine_similarity(v, z, dim=-1)


def in_place(model, v, z):
    model.log = v.clone().relu_().sum()


def counted(model, v, z):
    model.log = (v > 0.5).float().sum(), torch.where(v > 0.3, v, torch.zeros_like(v)).sum()


def counted_by_python(model, v, z):
    model.log = int((v > 0.5).sum()), torch.sigmoid(v).mean().item(), f"{torch.tanh(v).max():.3f}"


def as_array(model, v, z):
    model.log = torch.relu(v).detach().cpu().numpy().max()


def asserted(model, v, z):
    assert not torch.isnan(v).any()
    assert torch.isfinite(v).all(), "not finite"


def raised(model, v, z):
    if torch.isnan(v).any():
        raise ValueError("a voltage is not a number")
    if v.abs().max() > 1e6:
        raise RuntimeError(f"a voltage of {v.abs().max().item()}")


HARMLESS = (
    penalty,
    entropy,
    histogram,
    in_place,
    counted,
    counted_by_python,
    as_array,
    asserted,
    raised,
)


def halved(condition):
    """A function that halves the voltage where a condition holds for all of it."""

    def beside(model, v, z):
        return 0.5 * v if condition(v) else v

    return beside


def after_a_check(model, v, z):
    assert not torch.isnan(v).any()
    return 0.5 * v if int(hard(v - 0.9).sum()) > 3 else v


def remembered(model, v, z):
    model.mean = 0.9 * getattr(model, "mean", 0.0) + torch.sigmoid(v).mean()
    return v - 0.3 * model.mean


def in_places(model, v, z):
    v = v.clone()
    v[torch.sigmoid(v) > 0.7] = 0.2
    return v


def other_threshold(model, v, z):
    return v - 0.5 * (v > 0.5).to(v.dtype)


HARMFUL = {
    "condition": halved(lambda v: torch.sigmoid(v).mean() > 0.5),
    "float": halved(lambda v: float(v.max()) > 0.6),
    "shape": halved(lambda v: torch.nonzero(torch.relu(v - 0.6)).shape[0] > 0),
    "selection": halved(lambda v: torch.relu(v)[torch.relu(v) > 0.6].numel() > 0),
    "unique": halved(lambda v: len(torch.unique(torch.relu(v))) > 5),
    "equal": halved(lambda v: torch.equal(torch.relu(v), v)),
    "allclose": halved(lambda v: torch.allclose(torch.relu(v), v)),
    "array": halved(lambda v: torch.relu(v).numpy().max() > 0.6),
    "list": halved(lambda v: max(torch.relu(v).flatten().tolist()) > 0.6),
    "count": halved(lambda v: (torch.tanh(v) > 0.7).sum() > 3),
    "after_a_check": after_a_check,
    "remembered": remembered,
    "in_places": in_places,
    "other_threshold": other_threshold,
}


class Model(nn.Module):
    """Two layers of neurons; ``beside`` may return another voltage of the first."""

    def __init__(self, beside) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.second = nn.Linear(N_IN, 12), nn.Linear(12, 3)
        for layer in (self.first, self.second):
            nn.init.normal_(layer.weight, 0.1, 0.6, generator=generator)
            nn.init.zeros_(layer.bias)
        self.beside = beside

    def forward(self, x):
        self.__dict__.pop("mean", None)
        v = torch.zeros(x.shape[1], 12, dtype=x.dtype)
        w, found = torch.zeros(x.shape[1], 3, dtype=x.dtype), []
        for step in x:
            v = 0.9 * v + self.first(step)
            z = hard(v - 1.0)
            other = self.beside(self, v, z)
            v = (v if other is None else other) * (1.0 - z)
            w = 0.9 * w + self.second(z)
            found.append(hard(w - 1.0))
            w = w * (1.0 - found[-1])
        return torch.stack(found)


@pytest.mark.parametrize("beside", HARMLESS, ids=lambda beside: beside.__name__)
def test_what_nothing_depends_on_changes_no_spike(beside):
    x = (np.random.default_rng(0).random((4, 40, N_IN)) < 0.4).astype(np.uint8)
    network = from_torch(Model(beside), (N_IN,))
    assert len(network.populations) == 2
    found = oracle.simulate(network, x, record=("spikes",)).recorded[network.readout.population, "spikes"]
    model = Model(beside).double()
    with torch.no_grad():
        wanted = model(torch.from_numpy(x).double().transpose(0, 1)).transpose(0, 1).numpy()
    assert 0.02 < wanted.mean() < 0.98
    np.testing.assert_array_equal(found.reshape(wanted.shape), wanted)


@pytest.mark.parametrize("beside", HARMFUL.values(), ids=HARMFUL.keys())
def test_what_spikes_depend_on_is_refused(beside):
    with pytest.raises(InputError):
        from_torch(Model(beside), (N_IN,))


def test_a_check_that_fails_on_the_input_itself_is_the_model_s_own():
    def fails(model, v, z):
        assert torch.isnan(v).any(), "no voltage is a NaN"

    with pytest.raises(InputError, match="no voltage is a NaN"):
        from_torch(Model(fails), (N_IN,))


def test_beside_a_framework_s_neurons():
    snn = peers.package("snntorch")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer, self.neurons = nn.Linear(N_IN, 5), snn.Leaky(beta=0.9, reset_mechanism="zero")

        def forward(self, x):
            mem, found, self.penalty = self.neurons.init_leaky(), [], 0.0
            for step in x:
                spikes, mem = self.neurons(self.layer(step), mem)
                assert not torch.isnan(mem).any()
                self.penalty = self.penalty + functional.softplus(mem).mean() + (mem > 0.2).float().mean()
                found.append(spikes)
            return torch.stack(found)

    assert [population.n for population in from_torch(Net(), (N_IN,)).populations] == [5]
