"""Optimizers and controllers used in an order, or with states and options, that they are not made for: an error, and nothing lost."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from lbi.errors import InputError, UsageError  # noqa: E402
from lbi.train import L1, AdaBreg, DensityController, LinBreg, ProxSGD, param_groups  # noqa: E402
from lbi.train.layers.config import PopulationConfig  # noqa: E402
from lbi.train.optim.regularizers import Regularizer  # noqa: E402


def trained(make=AdaBreg, n_in=20, **options):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(n_in, 16), nn.Linear(16, 5))
    optimizer = make(param_groups(model, L1(1e-3)), lr=0.01, **options)
    controller = DensityController(optimizer, 0.3, every=1)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.randn(8, n_in)).pow(2).sum().backward()
        optimizer.step()
        controller.step()
    return model, optimizer, controller


@pytest.mark.parametrize("fused", [True, False])
def test_weights_that_a_graph_still_needs_are_not_changed_unnoticed(fused):
    """torch's own optimizers end in this error: the gradient would be that of other weights."""
    weight = nn.Parameter(torch.randn(200, 200) * 0.1)
    optimizer = AdaBreg([weight], lr=0.01, reg=L1(1e-3), fused=fused)
    loss = (torch.randn(5, 200) @ weight).tanh().matmul(weight).sum()
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@pytest.mark.parametrize("make", [AdaBreg, LinBreg, ProxSGD])
@pytest.mark.parametrize(
    "options",
    [
        {"weight_deacy": 0.1},
        {"lamda": 0.1},
        {"maximize": True},
        {"foreach": True},
        {"lr": "fast"},
        {"learning_rate": 0.1, "lr": -1.0},
    ],
)
def test_options_of_a_group_that_mean_nothing_are_refused(make, options):
    with pytest.raises(UsageError, match=r"optimizer-option: param_groups\[0\]"):
        make([{"params": [nn.Parameter(torch.zeros(3))], **options}])
    make([{"params": [nn.Parameter(torch.zeros(3))], "lr_scale": 0.1, "name": "mine"}])


@pytest.mark.parametrize("betas", [(0.9,), 0.9, "ab", (0.9, 1.0), (0.9, "b")])
def test_betas_are_two_numbers(betas):
    with pytest.raises(UsageError, match=r"optimizer-option: .*betas"):
        AdaBreg([nn.Parameter(torch.zeros(3))], betas=betas)


@pytest.mark.parametrize("other", [torch.optim.Adam, LinBreg, ProxSGD])
def test_the_state_of_another_optimizer_is_refused_and_nothing_changes(other):
    _, optimizer, _ = trained()
    foreign = other([next(iter(group["params"])) for group in optimizer.param_groups], lr=0.5)
    before = copy.deepcopy(optimizer.state_dict())
    with pytest.raises(UsageError, match=r"optimizer-state: .*AdaBreg"):
        optimizer.load_state_dict(foreign.state_dict())
    assert optimizer.state_dict()["param_groups"] == before["param_groups"]


def test_a_state_without_a_later_option_takes_its_default():
    model, optimizer, _ = trained()
    state = copy.deepcopy(optimizer.state_dict())
    for group in state["param_groups"]:
        del group["fused"]
    optimizer.load_state_dict(state)
    model(torch.randn(8, 20)).sum().backward()
    optimizer.step()


@pytest.mark.parametrize("fields", [{"kind": "L1"}, {"kind": "L1", "lamda": 0.1, "shape": 3}, {"kind": "L7"}])
def test_fields_of_a_regularizer(fields):
    with pytest.raises(UsageError, match="regularizer-"):
        Regularizer.from_dict(fields)


def test_settling_twice_changes_nothing():
    model, _, controller = trained()
    controller.settle()
    before = [p.clone() for p in model.parameters()]
    assert 0 < controller.density() <= 0.3
    controller.settle()
    assert all(torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))


def test_densities_are_checked_wherever_they_are_given():
    _, _, controller = trained()
    for density in (-1.0, 0.0, 1.5, float("nan")):
        with pytest.raises(UsageError, match="controller-density"):
            controller.aim(density)
    with pytest.raises(UsageError, match="controller-order"):
        controller.tighten(0.1)
    controller.settle()
    with pytest.raises(UsageError, match="controller-density"):
        controller.tighten(0.0)
    controller.tighten(0.1)
    assert controller.density() <= 0.1


@pytest.mark.parametrize("options", [{}, {"fused": False}])
@pytest.mark.parametrize("make", [AdaBreg, LinBreg])
def test_a_settled_controller_steps_on_without_a_gradient(make, options):
    """A layer that the loss does not reach, or that is frozen once the set of weights is fixed."""
    torch.manual_seed(0)
    model = nn.ModuleList([nn.Linear(20, 16), nn.Linear(16, 5), nn.Linear(5, 5)])
    optimizer = make(param_groups(model, L1(1e-3)), lr=0.01, **options)
    controller = DensityController(optimizer, 0.3, every=1)
    for step in range(6):
        optimizer.zero_grad()
        model[1](model[0](torch.randn(8, 20))).pow(2).sum().backward()
        optimizer.step()
        controller.step()
        if step == 2:
            controller.settle()
            support = [p != 0 for p in model.parameters() if p.ndim == 2]
            model[1].requires_grad_(False)
    weights = [p for p in model.parameters() if p.ndim == 2]
    assert all(not torch.any(p[~held]) for p, held in zip(weights, support, strict=True))


def test_the_state_of_another_networks_controller_is_refused():
    _, _, controller = trained()
    _, _, other = trained(n_in=40)
    before = copy.deepcopy(other.state_dict())
    with pytest.raises(UsageError, match="controller-state"):
        other.load_state_dict(controller.state_dict())
    after = other.state_dict()
    assert after["steps"] == before["steps"]
    assert all(torch.equal(a, b) for a, b in zip(after["support"], before["support"], strict=True))


def test_a_wrong_option_of_a_population_is_named():
    with pytest.raises(
        InputError, match=r"population-option: population 'h': 'recurent'; .*fix: recurrent\?"
    ):
        PopulationConfig("h", 10, (0.5,), (0.25,), (1.0,), recurent=True)
    with pytest.raises(InputError, match=r"'threshold_decays'; .*fix: threshold_decay\?"):
        PopulationConfig("h", 10, (), (0.25,), neuron="atrlif", threshold_decays=(0.1,))


class Dispatching(torch.Tensor):
    """A subclass whose numbers are elsewhere, as those of a DTensor."""

    @staticmethod
    def __new__(cls, inner):
        return torch.Tensor._make_wrapper_subclass(cls, inner.shape, dtype=inner.dtype, device=inner.device)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        raise AssertionError(func)


def test_the_kernels_leave_tensors_that_dispatch_to_others():
    pytest.importorskip("numba")
    from lbi.train.optim.fused_cpu import fusable

    plain = torch.zeros(3)
    assert fusable([plain, torch.nn.Parameter(plain)])
    assert not fusable([Dispatching(plain), plain])
