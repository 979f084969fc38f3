"""Pruning and regrowth against the equations of their papers, and as options of a run."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from lbi import datasets  # noqa: E402
from lbi.errors import UsageError  # noqa: E402
from lbi.train.optim.choices import OPTIMIZERS  # noqa: E402
from lbi.train.optim.gradual_pruning import cubic_sparsity  # noqa: E402
from lbi.train.optim.masks import largest, layer_densities  # noqa: E402
from lbi.train.optim.regrowth import rigl_exchange, rigl_share, set_dropped  # noqa: E402
from lbi.train.session.config import make_config  # noqa: E402
from lbi.train.session.loop import Trainer  # noqa: E402
from lbi.train.session.run import read_checkpoint, save_checkpoint  # noqa: E402

METHODS = [name for name, choice in OPTIMIZERS.items() if choice.masks is not None]
SHAPES = [(20, 30), (20, 20), (5, 20)]


def control_of(name, density=0.2, n_steps=100, **options):
    defaults = {
        "layer_densities": "auto",
        "prune_from": 0.1,
        "shrink": 0.6,
        "settle": 0.25,
        "update_every": 10,
        "drop": 0.3,
        "rewiring_l1": 0.0,
        "temperature": 0.0,
        "seed": 0,
    }
    rng = torch.Generator().manual_seed(1)
    weights = {
        str(i): torch.nn.Parameter(torch.randn(shape, generator=rng)) for i, shape in enumerate(SHAPES)
    }
    optimizer = torch.optim.AdamW(weights.values(), lr=0.01)
    settings = SimpleNamespace(**{**defaults, **options})
    control = OPTIMIZERS[name].masks(optimizer, weights, density, n_steps, settings)
    control.begin(torch.Generator().manual_seed(2))
    return control


def one_step(control, generator):
    gradients = [torch.randn(weight.shape, generator=generator) for weight in control.weights]
    for weight, gradient in zip(control.weights, gradients, strict=True):
        weight.grad = gradient.clone()
    control.before_step()
    control.optimizer.step()
    control.step()
    return gradients


@pytest.mark.parametrize("n", [0, 1, 3, 6])
def test_the_largest_are_those_of_a_sort(n):
    scores = torch.tensor([[3.0, 1.0, 3.0], [0.0, 2.0, 5.0]])
    among = torch.tensor([[True, True, True], [True, True, False]])
    order = sorted(range(6), key=lambda i: (-scores.reshape(-1)[i].item(), i))
    assert largest(scores, n).reshape(-1).nonzero().reshape(-1).tolist() == sorted(order[:n])
    left = [i for i in order if among.reshape(-1)[i]]
    assert largest(scores, min(n, 5), among).reshape(-1).nonzero().reshape(-1).tolist() == sorted(
        left[: min(n, 5)]
    )


def test_the_cubic_schedule_is_equation_1_of_zhu_and_gupta():
    assert [cubic_sparsity(step, 10, 50, 0.8) for step in (0, 10, 50, 90)] == [0, 0, 0.8, 0.8]
    assert cubic_sparsity(30, 10, 50, 0.8) == pytest.approx(0.8 + (0 - 0.8) * (1 - 20 / 40) ** 3, abs=1e-15)


@pytest.mark.parametrize("distribution", ["global", "uniform"])
def test_pruning_removes_the_smallest_weights_on_schedule(distribution):
    control = control_of("prune", 0.1, layer_densities=distribution)
    generator = torch.Generator().manual_seed(3)
    n = sum(weight.numel() for weight in control.weights)
    for step in range(80):
        before = [weight.detach().clone() for weight in control.weights]
        old = [mask.clone() for mask in control.masks]
        one_step(control, generator)
        if step % 10 == 0:
            sparsity = cubic_sparsity(step, 10, 60, 0.9)
            groups = [range(3)] if distribution == "global" else [[0], [1], [2]]
            for group in groups:
                size = sum(before[i].numel() for i in group)
                alive = torch.cat([control.masks[i].reshape(-1) for i in group])
                magnitude = torch.cat([before[i].reshape(-1).abs() for i in group])
                was = torch.cat([old[i].reshape(-1) for i in group])
                assert int(alive.sum()) == math.floor(size * (1 - sparsity) + 1e-9)
                assert not (alive & ~was).any()
                if (was & ~alive).any():
                    assert magnitude[alive].min() >= magnitude[was & ~alive].max()
        for weight, mask in zip(control.weights, control.masks, strict=True):
            assert not weight.detach()[~mask].any()
    assert sum(int(mask.sum()) for mask in control.masks) <= 0.1 * n


def test_rigl_drops_and_grows_as_algorithm_1():
    rng = np.random.default_rng(0)
    weight, gradient = rng.normal(size=(6, 7)), rng.normal(size=(6, 7))
    mask = rng.random((6, 7)) < 0.5
    weight *= mask
    n_alive, share = int(mask.sum()), 0.3
    k = int(share * n_alive)
    # Algorithm 1, in plain Python
    alive = sorted(np.flatnonzero(mask), key=lambda i: abs(weight.flat[i]))
    kept = set(alive[k:])
    free = sorted(set(range(42)) - kept, key=lambda i: -abs(gradient.flat[i]))
    new, grown = rigl_exchange(*map(torch.from_numpy, (weight, gradient, mask)), share)
    assert set(grown.reshape(-1).nonzero().reshape(-1).tolist()) == set(free[:k])
    assert set(new.reshape(-1).nonzero().reshape(-1).tolist()) == kept | set(free[:k])


def test_rigl_decays_its_exchange_by_a_cosine():
    shares = [rigl_share(step, 75, 0.3) for step in (0, 75 / 2, 75, 100)]
    assert shares == pytest.approx([0.3, 0.15, 0, 0], abs=1e-15)


def test_rigl_grows_weights_from_zero_and_moves_none_in_that_step():
    control, generator = control_of("rigl"), torch.Generator().manual_seed(4)
    for _ in range(10):
        one_step(control, generator)
    before, masks = [w.detach().clone() for w in control.weights], [m.clone() for m in control.masks]
    gradients = one_step(control, generator)
    share = rigl_share(10, 75, 0.3)
    for weight, old, mask, new, gradient in zip(
        control.weights, before, masks, control.masks, gradients, strict=True
    ):
        expected, grown = rigl_exchange(old, gradient, mask, share)
        assert torch.equal(new, expected)
        assert grown.any()
        assert torch.equal(weight.detach(), old * (new & ~grown))
        assert not control.optimizer.state[weight]["exp_avg"][grown].any()


def test_set_removes_the_weights_nearest_to_zero_of_each_sign():
    weight = torch.tensor([[0.1, 0.2, 0.3, 0.4], [-0.5, -0.1, -0.2, 9.0]])
    mask = torch.tensor([[True, True, True, True], [True, True, True, False]])
    dropped = set_dropped(weight, mask, 0.5)
    assert dropped.tolist() == [[True, True, False, False], [False, True, False, False]]


def test_set_grows_as_many_at_free_places():
    control, generator = control_of("set"), torch.Generator().manual_seed(4)
    for _ in range(10):
        one_step(control, generator)
    before, masks = [w.detach().clone() for w in control.weights], [m.clone() for m in control.masks]
    one_step(control, generator)
    for old, mask, new in zip(before, masks, control.masks, strict=True):
        gone = set_dropped(old, mask, 0.3)
        assert int((new & ~mask).sum()) == int(gone.sum()) > 0
        assert torch.equal(mask & ~new, gone)


def test_deep_r_is_algorithm_1():
    control, generator = control_of("deepr", rewiring_l1=3.0), torch.Generator().manual_seed(4)
    n_kept = [int(mask.sum()) for mask in control.masks]
    signs = [np.where(positive, 1.0, -1.0) for positive in control.positive]
    n_gone = 0
    for _ in range(20):
        before, masks = [w.detach().clone() for w in control.weights], [m.clone() for m in control.masks]
        plain = [torch.nn.Parameter(w.clone()) for w in before]
        adam = torch.optim.AdamW(plain, lr=0.01)
        for mine, theirs in zip(control.weights, plain, strict=True):
            state = control.optimizer.state.get(mine)
            if state:
                adam.state[theirs] = {name: value.clone() for name, value in state.items()}
        gradients = one_step(control, generator)
        for parameter, mask, gradient in zip(plain, masks, gradients, strict=True):
            parameter.grad = gradient * mask
        adam.step()
        for i, (weight, mask) in enumerate(zip(control.weights, control.masks, strict=True)):
            theta = signs[i] * plain[i].detach().numpy() - 0.01 * 3.0  # line 4 of Algorithm 1, without noise
            stays = masks[i].numpy() & (theta >= 0)
            woken = mask.numpy() & ~stays
            expected = np.where(stays, signs[i] * theta, 0)
            np.testing.assert_allclose(weight.detach().numpy(), expected, atol=1e-6)
            assert not control.optimizer.state[weight]["exp_avg"][~mask | torch.from_numpy(woken)].any()
            assert int(mask.sum()) == n_kept[i]
            n_gone += int((masks[i].numpy() & ~stays).sum())
    assert n_gone > 100


def test_deep_r_adds_noise_of_its_temperature():
    control = control_of("deepr", temperature=0.02)
    for weight, mask, positive in zip(control.weights, control.masks, control.positive, strict=True):
        weight.data = torch.where(mask, positive * 20.0 - 10.0, 0.0)
    moved = []
    for _ in range(50):
        before = control.weights[0].detach().clone()
        one_step(control, torch.Generator().manual_seed(0))
        here = control.masks[0] & (before.abs() > 5)
        adams = control.optimizer.state[control.weights[0]]
        step = (
            0.01
            * (adams["exp_avg"] / (1 - 0.9 ** adams["step"]))
            / ((adams["exp_avg_sq"] / (1 - 0.999 ** adams["step"])).sqrt() + 1e-8)
        )
        moved.append((control.weights[0].detach() - before + step + 1e-4 * before)[here])
    noise = torch.cat(moved)
    assert noise.mean().abs() < 4 * noise.std() / noise.numel() ** 0.5
    assert float(noise.std()) == pytest.approx((2 * 0.01 * 0.02) ** 0.5, rel=0.03)


def test_deep_r_wakes_all_dormant_connections_equally_often():
    control, generator = control_of("deepr", rewiring_l1=1e6), torch.Generator().manual_seed(4)
    counts, n_steps = torch.zeros(SHAPES[0]), 500
    for _ in range(n_steps):
        one_step(control, generator)
        counts += control.masks[0]
    share = control.masks[0].double().mean()
    deviations = (counts - n_steps * share) / (n_steps * share * (1 - share)).sqrt()
    assert deviations.abs().max() < 5
    assert deviations.std() == pytest.approx(1, abs=0.15)


def test_signs_of_deep_r_are_kept_until_it_settles():
    control, generator = control_of("deepr"), torch.Generator().manual_seed(4)
    for _ in range(30):
        one_step(control, generator)
        for weight, positive in zip(control.weights, control.positive, strict=True):
            assert not ((weight > 0) & ~positive).any()
            assert not ((weight < 0) & positive).any()
    control.settle()
    masks = [mask.clone() for mask in control.masks]
    for _ in range(30):
        one_step(control, generator)
    assert all(map(torch.equal, masks, control.masks))


@pytest.mark.parametrize(("entry", "found"), [("masks", "masks of"), ("positive", "signs of")])
def test_states_of_other_networks_are_refused(entry, found):
    control = control_of("deepr")
    state = control.state_dict()
    with pytest.raises(UsageError, match=found):
        control.load_state_dict({**state, entry: [bits[:-1] for bits in state[entry]]})


@pytest.mark.parametrize("density", [0.05, 0.2, 0.7, 1.0])
def test_erdos_renyi_densities_add_up_and_follow_the_layers_sizes(density):
    densities = layer_densities(SHAPES, density, "erdos_renyi")
    sizes = [math.prod(shape) for shape in SHAPES]
    assert sum(d * s for d, s in zip(densities, sizes, strict=True)) == pytest.approx(density * sum(sizes))
    free = [(d, sum(shape) / size) for d, shape, size in zip(densities, SHAPES, sizes, strict=True) if d < 1]
    assert all(d / share == pytest.approx(free[0][0] / free[0][1]) for d, share in free)
    assert max(densities) <= 1


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits", n_steps=8)


@pytest.mark.parametrize("method", METHODS)
def test_a_method_ends_at_its_density_and_resumes_bit_for_bit(method, digits, tmp_path):
    options = {"encoding": {"n_steps": 8}, "hidden": (24,), "epochs": 3, "batch_size": 128, "update_every": 4}
    config = make_config("digits", None, {**options, "optimizer": method, "density": 0.1, "average": 0.1})

    def save(trainer):
        if trainer.progress.epoch == 1:
            save_checkpoint(trainer, tmp_path / "part.ckpt")

    whole = Trainer(config, digits, on_epoch=save)
    whole.run()
    assert 0.09 < whole.density() <= 0.1
    resumed = Trainer(config, digits)
    resumed.restore(read_checkpoint(tmp_path / "part.ckpt"))
    resumed.run()
    for key, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[key]), key


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"optimizer": "rigl", "layer_densities": "global"}, "layer_densities: 'global' with rigl"),
        ({"optimizer": "deepr", "layer_densities": "global"}, "layer_densities: 'global' with deepr"),
        ({"optimizer": "deepr", "temperature": -1, "rewiring_l1": -1}, "rewiring_l1.*\n.*temperature"),
        ({"optimizer": "prune", "prune_from": 0.7}, "prune_from: 0.7"),
        ({"update_every": 0}, "update_every"),
    ],
)
def test_wrong_options_are_named(options, match):
    with pytest.raises(UsageError, match=match):
        make_config("digits", None, options)
