"""Straight-through estimators: spikes with the gradient of a smooth function that their forward adds and takes away again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.handwritten_models import N_IN, of

from lbi.errors import InputError
from lbi.importers import from_torch
from lbi.simulation import oracle

SMOOTH = {
    "sigmoid": lambda u: torch.sigmoid(4 * u),
    "by_hand": lambda u: 1 / (1 + torch.exp(-10 * u)),
    "clamped": lambda u: torch.clamp(u + 0.5, 0, 1),
    "arctan": lambda u: 0.5 + torch.atan(3 * u) / 3,
}


def hard(u):
    return (u > 0).to(u.dtype)


def added_last(u, smooth):
    return (hard(u) - smooth(u)).detach() + smooth(u)


def added_first(u, smooth):
    soft = smooth(u)
    return soft + (hard(u) - soft).detach()


def taken_away(u, smooth):
    soft = smooth(u)
    return soft - (soft - hard(u)).detach()


def one_by_one(u, smooth):
    soft = smooth(u)
    return hard(u).detach() + soft - soft.detach()


def without_grad(u, smooth):
    soft = smooth(u)
    with torch.no_grad():
        left = (torch.heaviside(u, torch.zeros(1, dtype=u.dtype)) - soft).clone()
    return soft + left


def scaled_sum(u, smooth):
    soft = smooth(u)
    return torch.sub(torch.add(hard(u), soft, alpha=2), soft, alpha=2)


ESTIMATORS = (added_last, added_first, taken_away, one_by_one, without_grad, scaled_sum)


def neuron(estimator, smooth):
    def update(x, mem):
        mem = 0.9 * mem + x
        spikes = estimator(mem - 1.0, smooth)
        return spikes, mem * (1.0 - spikes)

    return update


@pytest.mark.parametrize("estimator", ESTIMATORS, ids=lambda estimator: estimator.__name__)
@pytest.mark.parametrize("smooth", SMOOTH)
def test_a_network_has_the_spikes_of_the_model(estimator, smooth):
    model = of(neuron(estimator, SMOOTH[smooth]))
    x = (np.random.default_rng(0).random((4, 40, N_IN)) < 0.3).astype(np.uint8)
    network = from_torch(model, (N_IN,))
    found = oracle.simulate(network, x, record=("spikes",)).recorded[network.readout.population, "spikes"]
    with torch.no_grad():
        wanted = model.double()(torch.from_numpy(x).double().transpose(0, 1)).transpose(0, 1).numpy()
    assert 0.0 < wanted.mean() < 0.95
    np.testing.assert_allclose(found.reshape(wanted.shape), wanted, rtol=0, atol=1e-12)


def half_is_left(u, smooth):
    soft = smooth(u)
    return hard(u) - 0.5 * soft.detach() + soft


def changed_between(u, smooth):
    soft = smooth(u)
    left = (hard(u) - soft).detach()
    soft *= 1.5
    return left + soft


def of_another_value(u, smooth):
    return (hard(u) - smooth(u)).detach() + smooth(1.001 * u)


def of_other_neurons(u, smooth):
    soft = smooth(u)
    return (hard(u) - soft).detach() + soft.flip(-1)


def of_a_random_number(u, smooth):
    return (hard(u) - torch.bernoulli(smooth(u))).detach() + torch.bernoulli(smooth(u))


def also_returned(u, smooth):
    return smooth(u)


REFUSED = (
    half_is_left,
    changed_between,
    of_another_value,
    of_other_neurons,
    of_a_random_number,
    also_returned,
)


@pytest.mark.parametrize("estimator", REFUSED, ids=lambda estimator: estimator.__name__)
def test_a_smooth_function_that_does_not_cancel_is_refused_with_its_line(estimator):
    with pytest.raises(
        InputError, match=r"test_estimators\.py:\d+: sigmoid of spikes or currents cannot be followed"
    ):
        from_torch(of(neuron(estimator, torch.sigmoid)), (N_IN,))


def test_functions_that_exceed_what_a_sum_keeps_of_a_spike_are_refused():
    with pytest.raises(
        InputError, match=r"test_estimators\.py:\d+: exp of spikes or currents cannot be followed"
    ):
        from_torch(of(neuron(added_first, lambda u: torch.exp(1.5 * u))), (N_IN,))


def test_a_smooth_function_that_cancels_somewhere_and_is_returned_elsewhere_is_refused():
    class Returning(torch.nn.Linear):
        def forward(self, x):
            v, found = torch.zeros(x.shape[1], self.out_features, dtype=x.dtype), []
            for step in x:
                v = 0.9 * v + super().forward(step)
                soft = torch.sigmoid(v - 1.0)
                found.append(soft + (hard(v - 1.0) - soft).detach())
                v = v - found[-1]
            return torch.stack(found), soft

    with pytest.raises(InputError, match="sigmoid of spikes or currents cannot be followed"):
        from_torch(Returning(N_IN, 5), (N_IN,))
