"""Forward passes before the backward pass of an earlier one: no kernel writes to what that backward still reads."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from lbi.train import ModelConfig, PopulationConfig, SpikingNetwork

N_STEPS, N_IN = 40, 150


def network(density: float = 1.0, seed: int = 0) -> SpikingNetwork:
    """A new network with a recurrent layer, in which ``density`` of the weights are left; other weights for each seed."""
    generator = torch.Generator().manual_seed(seed + 1)  # the weights' own is 0
    hidden = [PopulationConfig(f"hidden{i}", 192, (0.4,), (0.2,), (0.8,), recurrent=i == 0) for i in (0, 1)]
    output = PopulationConfig("output", 20, (0.4,), (0.2,), (0.8,))
    model = SpikingNetwork(ModelConfig((N_IN,), (*hidden, output)))
    with torch.no_grad():
        for weight in model.weights().values():
            weight.copy_(weight[:, torch.randperm(weight.shape[1], generator=generator)])
            kept = torch.rand(weight.shape, generator=generator) < density
            weight.mul_(kept).mul_(density**-0.5)
    for layer in model.populations():
        layer.only_living = density < 1
    return model


def inputs(n_samples: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.rand(n_samples, N_STEPS, N_IN, generator=generator) < 0.1).to(torch.uint8)


def loss(model: SpikingNetwork, x: Tensor) -> Tensor:
    """A loss that every spike and voltage of every layer enters."""
    return torch.stack([(2 * spikes + voltages.cos()).sum() for spikes, voltages in model(x)]).sum()


def gradients(model: SpikingNetwork) -> list[Tensor]:
    grads = [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]
    model.zero_grad(set_to_none=True)
    assert grads
    assert all(grad.abs().max() > 0 for grad in grads)
    return grads


def alone(density: float, x: Tensor, seed: int = 0) -> tuple[Tensor, list[Tensor]]:
    """Loss and gradients of a new network, forward and backward with nothing in between."""
    model = network(density, seed)
    value = loss(model, x)
    value.backward()
    return value.detach(), gradients(model)


def same(found: list[Tensor], expected: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


DENSITIES = pytest.mark.parametrize("density", [1.0, 0.1, 0.02])


@DENSITIES
def test_two_forward_passes_then_two_backward_passes(density):
    """Two networks, as teacher and student, of equal and of different batches; the first backward goes first or last."""
    for n_samples, first_goes_first in ((32, True), (32, False), (20, True), (44, False)):
        first, second = inputs(32, 1), inputs(n_samples, 2)
        one, two = network(density), network(density, seed=1)
        losses = {one: loss(one, first), two: loss(two, second)}
        for model in (one, two) if first_goes_first else (two, one):
            losses[model].backward()
        for model, x, seed in ((one, first, 0), (two, second, 1)):
            value, grads = alone(density, x, seed)
            assert torch.equal(losses[model], value)
            assert same(gradients(model), grads)


@DENSITIES
def test_one_network_twice_in_a_graph(density):
    first, second = inputs(32, 1), inputs(32, 2)
    model = network(density)
    (loss(model, first) + loss(model, second)).backward()
    expected = [a + b for a, b in zip(alone(density, first)[1], alone(density, second)[1], strict=True)]
    assert same(gradients(model), expected)


@DENSITIES
def test_evaluation_between_forward_and_backward(density):
    first, second = inputs(32, 1), inputs(32, 2)
    model = network(density)
    value = loss(model, first)
    kept = [layer.clone() for pair in model(first) for layer in pair]
    with torch.no_grad():
        seen = model(first)
        model(second)
    assert same([layer for pair in seen for layer in pair], kept)
    value.backward(retain_graph=True)
    grads = gradients(model)
    value.backward()  # the saved tensors are read a second time
    assert same(grads, alone(density, first)[1])
    assert same(gradients(model), grads)


@DENSITIES
def test_results_outlive_later_passes(density):
    """Gradients of two batches are added up, as in gradient accumulation; the outputs of the first batch stay the same."""
    first, second = inputs(32, 1), inputs(32, 2)
    model = network(density)
    outputs = model(first)
    kept = [layer.clone() for pair in outputs for layer in pair]
    loss(model, first).backward()
    held = [parameter.grad for parameter in model.parameters()]
    loss(model, second).backward()
    assert all(a is parameter.grad for a, parameter in zip(held, model.parameters(), strict=True))
    expected = [a + b for a, b in zip(alone(density, first)[1], alone(density, second)[1], strict=True)]
    assert same(gradients(model), expected)
    assert same([layer for pair in outputs for layer in pair], kept)


def test_training_in_two_threads():
    """Each thread holds a graph while the other computes."""

    def job(seed: int) -> Callable[[], list[Tensor]]:
        models, xs = (
            [network(density, seed) for density in (1.0, 0.1)],
            [inputs(32, seed), inputs(24, seed + 9)],
        )

        def steps() -> list[Tensor]:
            found = []
            for _ in range(4):
                losses = [loss(model, x) for model, x in zip(models, xs, strict=True)]
                for value in losses:
                    value.backward()
                found += [grad for model in models for grad in gradients(model)]
            return found

        return steps

    jobs = [job(seed) for seed in (1, 2)]
    with ThreadPoolExecutor(2) as pool:
        results = [future.result() for future in [pool.submit(steps) for steps in jobs]]
    for seed, found in zip((1, 2), results, strict=True):
        expected = alone(1.0, inputs(32, seed), seed)[1] + alone(0.1, inputs(24, seed + 9), seed)[1]
        assert same(found, 4 * expected)
