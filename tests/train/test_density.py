import io
import math

import numpy as np
import pytest
import torch
from torch import nn

from lbi import datasets
from lbi.datasets import Dataset
from lbi.errors import InputError, UsageError
from lbi.train import (
    L1,
    AdaBreg,
    DensityController,
    GroupL1,
    LinBreg,
    ProxSGD,
    param_groups,
    sparse_init_,
)
from lbi.train.session.config import make_config
from lbi.train.session.loop import Trainer

DENSITIES = [0.5, 0.2, 0.1, 0.05]


# --- on a task ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def psdigits() -> Dataset:
    whole = datasets.load("psdigits", code="on_off")
    splits = {"train": whole.train.subset(np.arange(480)), "test": whole.test}
    return Dataset(
        whole.name, splits, n_classes=10, n_steps=64, input_shape=whole.input_shape, encoding=whole.encoding
    )


@pytest.mark.parametrize(
    ("optimizer", "density"),
    [*(("adabreg", density) for density in DENSITIES), ("linbreg", 0.5), ("linbreg", 0.05)],
)
def test_reaches_and_holds_every_density_on_psdigits(psdigits, density, optimizer):
    options = {"density": density, "optimizer": optimizer, "hidden": (48,), "epochs": 14, "settle": 0.0}
    options |= {"schedule": "cosine", "average": 0.0}  # λ comes to rest as the learning rate falls
    trainer = Trainer(make_config("psdigits", None, options), psdigits)
    start = trainer.model.n_active()
    trainer.run()
    assert trainer.density() == pytest.approx(density, rel=0.1)
    log = trainer.controller.log
    assert [record.step for record in log] == list(range(10, 14 * 15 + 1, 10))
    assert log[-1].density == trainer.density()
    assert log[-1].lamda == trainer.optimizer.param_groups[0]["reg"].lamda
    # Every entry and every leave is counted.
    change = sum(record.entered - record.left for record in log)
    assert start + change == round(log[-1].density * trainer.model.n_weights())
    # At the end it holds: always within the limits, λ almost at rest and not to and fro.
    end = log[-len(log) // 3 :]
    assert all(record.density == pytest.approx(density, rel=0.1) for record in end)
    moves = np.diff([record.lamda for record in end])
    moves = np.sign(moves[moves != 0])
    assert (np.diff(moves) != 0).sum() <= 1
    assert abs(math.log(end[-1].lamda / end[0].lamda)) < 0.15


# --- on noise: duals that drift and diffuse, without a model --------------------------------------------


def noisy(reg, density=1.0, lr=0.01, shape=(60, 50), kind=AdaBreg, seed=0):
    """An optimizer on one weight and one bias, and a function that does one step on random gradients."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator).mul_(0.1).requires_grad_()
    sparse_init_(weight, density, generator)
    bias = torch.zeros(shape[0], requires_grad=True)
    optimizer = kind([{"params": [weight], "reg": reg, "name": "w"}, {"params": [bias], "name": "b"}], lr=lr)
    pull = torch.randn(shape, generator=generator)

    def step():
        weight.grad = 0.3 * pull + torch.randn(shape, generator=generator)
        bias.grad = torch.randn(shape[0], generator=generator)
        optimizer.step()

    return optimizer, weight, step


@pytest.mark.parametrize("kind", [AdaBreg, LinBreg])
@pytest.mark.parametrize("lamda", [1e-6, 0.05, 10.0])
@pytest.mark.parametrize("initial", [0.02, 1.0])
@pytest.mark.parametrize("density", DENSITIES)
def test_finds_the_way_from_any_start(kind, lamda, initial, density):
    optimizer, weight, step = noisy(L1(lamda), initial, kind=kind)
    controller = DensityController(optimizer, density)
    for _ in range(400):
        step()
        controller.step()
    assert float((weight != 0).float().mean()) == pytest.approx(density, rel=0.1)
    assert controller.density() == controller.log[-1].density


@pytest.mark.parametrize(
    "reg", [GroupL1(0.05), GroupL1(0.05, over=(2, 2)), L1(0.05, nonneg=True), L1(0.05, elastic=1)]
)
def test_controls_any_regularizer(reg):
    optimizer, weight, step = noisy(reg, shape=(200, 20))
    controller = DensityController(optimizer, 0.2)
    for _ in range(200):
        step()
        controller.step()
    assert float((weight != 0).float().mean()) == pytest.approx(0.2, rel=0.1)
    assert optimizer.param_groups[0]["reg"] == reg.with_lamda(controller.log[-1].lamda)


def test_too_many_weights_are_cut_at_once_and_the_optimizer_agrees():
    optimizer, weight, step = noisy(L1(1e-3))
    controller = DensityController(optimizer, 0.25, every=1)
    step()
    dual = optimizer.state[weight]["dual"].clone()
    controller.step()
    # λ is the 0.75 quantile of |v|; the dual is untouched, the weights are its prox.
    lamda = optimizer.param_groups[0]["reg"].lamda
    assert lamda == pytest.approx(float(dual.abs().ravel().sort().values[round(0.75 * dual.numel()) - 1]))
    assert torch.equal(optimizer.state[weight]["dual"], dual)
    assert torch.equal(weight, L1(lamda).prox(dual))
    assert int((weight != 0).sum()) in range(round(0.25 * dual.numel()) - 1, round(0.25 * dual.numel()) + 2)


@pytest.mark.parametrize("reg", [L1(0.5), L1(0.5, elastic=0.3), GroupL1(0.2), GroupL1(0.2, over=(3, 4))])
def test_a_falling_lamda_leaves_living_weights_where_they_are(reg):
    optimizer, weight, step = noisy(reg, 0.02)
    controller = DensityController(optimizer, 0.9, every=1, rate=0.3)
    step()
    before, dual = weight.detach().clone(), optimizer.state[weight]["dual"].clone()
    controller.step()
    after = optimizer.param_groups[0]["reg"]
    assert after.lamda == pytest.approx(reg.lamda * math.exp(-0.3))
    alive = before != 0
    # Some five roundings of 2^-24 on numbers up to λ√n + |v| < 4.
    torch.testing.assert_close(weight[alive], before[alive], rtol=0, atol=5 * 4 * 2.0**-24)
    assert torch.equal(optimizer.state[weight]["dual"][~alive], dual[~alive])
    assert torch.equal(weight, after.prox(optimizer.state[weight]["dual"]))


def test_hysteresis_acts_outside_the_band_and_stops_within_half_of_it():
    weight = torch.zeros(1000, requires_grad=True)
    optimizer = AdaBreg([weight], lr=0.0, reg=L1(1.0))
    weight.grad = torch.zeros(1000)
    optimizer.step()
    controller = DensityController(optimizer, 0.1, every=1, band=0.1)

    def look(alive):
        """The controller's λ after seeing ``alive`` of 1000 weights, whose duals end at 2; others' at 0.5."""
        dual = torch.linspace(0.4, 0.5, 1000)
        dual[:alive] = torch.linspace(1.2, 2.0, alive)
        optimizer.param_groups[0]["reg"] = L1(1.0)
        optimizer.state[weight]["dual"].copy_(dual)
        optimizer.step()
        controller.step()
        return optimizer.param_groups[0]["reg"].lamda

    assert look(108) > 1  # it begins by acting, as 8 % is beyond half the band
    assert look(104) == 1  # within half: at rest
    assert look(108) == 1  # at rest it takes no notice of 8 %
    assert look(112) > 1  # outside the band
    assert look(107) > 1  # and goes on
    assert look(96) == 1
    assert look(88) < 1
    assert look(94) < 1
    assert look(99) == 1


def test_one_lamda_per_layer_or_one_factor_for_all():
    def net_of(lamdas):
        torch.manual_seed(0)
        net = nn.Sequential(nn.Linear(40, 60), nn.Tanh(), nn.Linear(60, 30))
        groups = param_groups(net, L1(1.0), per_layer=True)
        for group, lamda in zip(groups, lamdas, strict=False):
            group["reg"] = L1(lamda)
        return net, AdaBreg(groups, lr=0.01)

    def run(net, controller, steps=200):
        generator = torch.Generator().manual_seed(0)
        for _ in range(steps):
            for p in net.parameters():
                p.grad = torch.randn(p.shape, generator=generator)
            controller.optimizer.step()
            controller.step()

    net, optimizer = net_of([0.1, 0.4])
    controller = DensityController(optimizer, {"0.weight": 0.3, "2.weight": 0.05})
    run(net, controller)
    assert float((net[0].weight != 0).float().mean()) == pytest.approx(0.3, rel=0.1)
    assert float((net[2].weight != 0).float().mean()) == pytest.approx(0.05, rel=0.1)
    assert {record.unit for record in controller.log} == {"0.weight", "2.weight"}

    net, optimizer = net_of([0.1, 0.4])
    controller = DensityController(optimizer, 0.1)
    run(net, controller)
    n_alive = sum(int((layer.weight != 0).sum()) for layer in (net[0], net[2]))
    assert n_alive / (40 * 60 + 60 * 30) == pytest.approx(0.1, rel=0.1)
    first, second = (group["reg"].lamda for group in optimizer.param_groups[:2])
    assert second / first == pytest.approx(4.0)
    assert first != 0.1


def test_state_resumes_bit_for_bit_also_between_two_looks():
    def run(controller, step, steps):
        for _ in range(steps):
            step()
            controller.step()

    optimizer, weight, step = noisy(L1(0.05))
    controller = DensityController(optimizer, 0.2)
    run(controller, step, 43)
    file = io.BytesIO()
    torch.save([weight, optimizer.state_dict(), controller.state_dict()], file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    run(controller, step, 57)

    resumed, twin, twin_step = noisy(L1(7.0))
    successor = DensityController(resumed, 0.2)
    for _ in range(43):  # only to bring the random gradients to the same place
        twin_step()
    with torch.no_grad():
        twin.copy_(saved[0])
    resumed.load_state_dict(saved[1])
    successor.load_state_dict(saved[2])
    run(successor, twin_step, 57)
    assert torch.equal(weight, twin)
    assert successor.log == controller.log
    assert successor.log[4].step == 50

    other = DensityController(noisy(L1(0.1))[0], {"w": 0.2})
    other.load_state_dict(saved[2])
    net = nn.Linear(3, 3)
    several = DensityController(AdaBreg([{"params": [p], "reg": L1(0.1)} for p in net.parameters()]), 0.2)
    with pytest.raises(UsageError, match=r"1 units over 1 weight tensors; allowed: 1 units over 2"):
        several.load_state_dict(saved[2])


@pytest.mark.parametrize("steps", [0, 3, 200])
@pytest.mark.parametrize("reg", [L1(0.05), L1(0.05, elastic=1), GroupL1(0.05), GroupL1(0.05, over=(2, 2))])
def test_settling_keeps_the_strongest_weights_as_they_are(reg, steps):
    optimizer, weight, step = noisy(reg, shape=(200, 20))
    controller = DensityController(optimizer, 0.203)
    for _ in range(steps):
        step()
        controller.step()
    before = weight.detach().clone()
    controller.settle()
    alive = weight != 0
    if isinstance(reg, L1):
        assert int(alive.sum()) == min(math.floor(0.203 * 4000), int((before != 0).sum()))
        assert before[alive].abs().min() >= before[~alive].abs().max()
    else:
        assert 0.203 - 20 / 4000 < float(alive.float().mean()) <= 0.203 or torch.equal(weight, before)
    assert torch.equal(weight[alive], before[alive])
    assert optimizer.param_groups[0]["reg"] == reg.with_lamda(0)


@pytest.mark.parametrize("kind", [AdaBreg, LinBreg])
@pytest.mark.parametrize("delta", [1.0, 0.5])
def test_settled_weights_move_as_torchs_own_optimizers_move_them(kind, delta):
    optimizer, weight, step = noisy(L1(0.05), kind=kind)
    group = optimizer.param_groups[0]
    group["delta"] = delta
    if kind is LinBreg:
        group["momentum"] = 0.9
    controller = DensityController(optimizer, 0.2)
    for _ in range(100):
        step()
        controller.step()
    controller.settle()
    support, twin = weight != 0, weight.detach().clone().requires_grad_()
    lr = group["lr"] * delta
    other = (
        torch.optim.Adam([twin], lr=lr) if kind is AdaBreg else torch.optim.SGD([twin], lr=lr, momentum=0.9)
    )
    own = {key: value for key, value in optimizer.state[weight].items() if key != "dual"}
    other.state[twin] = {
        key: value.clone() if torch.is_tensor(value) else torch.tensor(float(value))
        for key, value in own.items()
    }
    for _ in range(30):
        step()
        controller.step()
        twin.grad = weight.grad.clone()
        other.step()
        with torch.no_grad():
            twin.mul_(support)
        assert torch.equal(weight != 0, support)
    # 30 steps, each of a few roundings of 2^-24 on numbers below 4
    torch.testing.assert_close(weight, twin, rtol=0, atol=30 * 4 * 4 * 2.0**-24)


def test_a_settled_controller_resumes_settled():
    optimizer, weight, step = noisy(L1(0.05))
    controller = DensityController(optimizer, 0.2)
    for _ in range(50):
        step()
        controller.step()
    controller.settle()
    successor = DensityController(noisy(L1(0.05))[0], 0.2)
    successor.load_state_dict(controller.state_dict())
    successor.optimizer = optimizer
    alive = weight != 0
    for _ in range(5):
        step()
        successor.step()
    assert torch.equal(weight != 0, alive)
    assert successor.log == controller.log


@pytest.mark.parametrize("settled", [False, True])
@pytest.mark.parametrize("what", ["duals", "weights"])
def test_divergence_ends_control_with_an_error(what, settled):
    optimizer, weight, step = noisy(L1(0.05))
    controller = DensityController(optimizer, 0.2, every=2)
    step()
    controller.step()
    if settled:
        controller.settle()
        step()
    (optimizer.state[weight]["dual"] if what == "duals" else weight.data).view(-1)[:3] = math.nan
    with pytest.raises(InputError, match=rf"step 2, param_groups\[0\]: 3 {what} are NaN or infinite"):
        controller.step()


def test_errors_name_everything():
    optimizer = noisy(L1(0.1))[0]
    with pytest.raises(UsageError, match=r"(?s)every: 0;.*band: 2;.*rate: 0;.*density of model: 1\.5"):
        DensityController(optimizer, 1.5, every=0, band=2, rate=0)
    with pytest.raises(UsageError, match=r"density\['v'\]: no regularized group of this name; allowed: w"):
        DensityController(optimizer, {"v": 0.1})
    with pytest.raises(UsageError, match=r"param_groups\[0\]\.reg\.lamda: 0; allowed: a number > 0"):
        DensityController(noisy(L1(0.0))[0], 0.1)
    with pytest.raises(UsageError, match="ProxSGD with 1 regularized groups; allowed: a LinBreg or AdaBreg"):
        DensityController(ProxSGD([torch.ones(2, requires_grad=True)], reg=L1(0.1)), 0.1)
    with pytest.raises(UsageError, match="Adam with 0 regularized groups"):
        DensityController(torch.optim.Adam([torch.ones(2, requires_grad=True)]), 0.1)


# --- the proposal -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [AdaBreg, LinBreg])
def test_stepping_the_support_alone_gives_the_weights_of_holding_all_others_at_zero(make):
    """With gradients at all weights, over loading and tightening."""
    runs = []
    for fused in (True, False):
        model = nn.Sequential(nn.Linear(40, 30), nn.Linear(30, 20))
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in model.parameters():
                p.copy_(torch.randn(p.shape, generator=generator))
        optimizer = make(param_groups(model, L1(0.1), per_layer=True), lr=0.01, fused=fused)
        control = DensityController(optimizer, {"0.weight": 0.1, "1.weight": 0.6})
        for step in range(12):
            for p in model.parameters():
                p.grad = torch.randn(p.shape, generator=generator)
            if step == 3:
                control.settle()
            if step == 6:
                control.load_state_dict(control.state_dict())
            if step == 9:
                control.tighten(0.05)
            optimizer.step()
            control.step()
            assert [optimizer.holds(layer.weight) for layer in model] == [fused and step >= 3] * 2
        runs.append([p.detach().clone() for p in model.parameters()])
    for p, q in zip(*runs, strict=True):
        assert torch.equal(p, q)
    assert [int(p.count_nonzero()) for p in runs[0][::2]] == [60, 30]
