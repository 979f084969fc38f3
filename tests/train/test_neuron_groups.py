"""Neurons as groups of weights: which ones stay, against plain loops; how many an energy budget pays for."""

from __future__ import annotations

import copy
import re
from importlib.resources import files
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from support.handmade_networks import two_layer_network  # noqa: E402

import lbi  # noqa: E402
from lbi import datasets  # noqa: E402
from lbi.costing.budget import Budget, Limit, Use  # noqa: E402
from lbi.errors import InputError, UsageError  # noqa: E402
from lbi.train import L1, AdaBreg, LinBreg  # noqa: E402
from lbi.train.layers.model import SpikingNetwork  # noqa: E402
from lbi.train.optim.neuron_groups import PopulationWeights, keep, set_prices  # noqa: E402
from lbi.train.optim.priced import PricedL1  # noqa: E402
from lbi.train.session.budget_control import BudgetController, as_network  # noqa: E402
from lbi.train.session.config import make_config  # noqa: E402
from lbi.train.session.loop import Trainer  # noqa: E402
from lbi.train.session.setup import make_optimizer  # noqa: E402


def two_hidden(rng, n=(6, 5), n_in=4, n_out=3):
    """Weights of two recurrent hidden populations and an output, half of them 0, by name."""
    shapes = {
        "in": (n[0], n_in),
        "rec0": (n[0], n[0]),
        "between": (n[1], n[0]),
        "rec1": (n[1], n[1]),
        "out": (n_out, n[1]),
    }
    return {
        name: torch.nn.Parameter(torch.tensor(rng.normal(size=shape) * (rng.random(shape) < 0.5)))
        for name, shape in shapes.items()
    }


def loops(weights, n_kept):
    """The same in plain loops: which neurons keep their weights, and the weights then."""
    names = (("in", "rec0", "between"), ("between", "rec1", "out"))
    values = {name: weight.detach().numpy().copy() for name, weight in weights.items()}
    strengths = []
    for k, (before, recurrent, after) in enumerate(names):
        for i in range(values[recurrent].shape[0]):
            enter = sum(abs(w) for w in values[before][i]) + sum(abs(w) for w in values[recurrent][i])
            leave = sum(abs(row[i]) for row in values[after]) + sum(abs(row[i]) for row in values[recurrent])
            strengths.append((enter + leave if enter > 0 and leave > 0 else 0.0, k, i))
    best = [max(s for s in strengths if s[1] == k) for k in (0, 1)]
    others = sorted((s for s in strengths if s not in best), reverse=True)
    kept = {(k, i) for _, k, i in [*best, *others][: max(n_kept, 2)]}
    for k, (before, recurrent, after) in enumerate(names):
        for i in range(values[recurrent].shape[0]):
            if (k, i) not in kept:
                values[before][i, :] = values[recurrent][i, :] = 0
                values[recurrent][:, i] = values[after][:, i] = 0
    return values


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("n_kept", [0, 3, 7, 11, 20])
def test_kept_neurons_are_those_of_plain_loops(seed, n_kept):
    weights = two_hidden(np.random.default_rng(seed))
    expected = loops(weights, n_kept)
    populations = [
        PopulationWeights((weights["in"], weights["rec0"]), (weights["between"], weights["rec0"])),
        PopulationWeights((weights["between"], weights["rec1"]), (weights["out"], weights["rec1"])),
    ]
    before = sum(int((population.strengths() > 0).sum()) for population in populations)
    n_dropped = keep(populations, n_kept, AdaBreg(list(weights.values())))
    for name, weight in weights.items():
        assert np.array_equal(weight.detach().numpy(), expected[name]), name
    assert n_dropped == before - min(before, max(n_kept, 2))


@pytest.mark.parametrize(
    "make",
    [lambda p: AdaBreg(p, 0.01, L1(0.1)), lambda p: LinBreg(p, 0.01, L1(0.1), momentum=0.9)],
    ids=["adabreg", "linbreg"],
)
def test_dropped_neurons_do_not_move_on(make):
    weights = two_hidden(np.random.default_rng(3))
    optimizer = make(list(weights.values()))
    sum((weight * 3 + 1).square().sum() for weight in weights.values()).backward()
    optimizer.step()
    population = PopulationWeights((weights["in"], weights["rec0"]), (weights["between"], weights["rec0"]))
    keep([population], 2, optimizer)
    dropped = population.strengths() == 0
    assert int(dropped.sum()) == 4
    duals = [optimizer.state[weight]["dual"] for weight in weights.values()]
    assert not duals[0][dropped].any()
    assert not duals[1][:, dropped].any()
    assert not duals[2][:, dropped].any()
    for weight in weights.values():
        weight.grad = torch.zeros_like(weight)
    optimizer.step()
    assert torch.equal(population.strengths() == 0, dropped)


def test_an_update_is_priced_by_hand():
    """Six active and three inactive updates (tests/costing/test_estimation.py), of 9 nJ; the dearer list is SANA-FE's."""
    fixed, spikes = two_layer_network()
    cost = lbi.estimate(fixed, spikes=spikes).sparse
    davies, sanafe = (6 * 81 + 3 * 52) / 9, (6 * 72.8 + 3 * 51.2) / 9
    for text, update in (("energy=9nJ@davies2018", davies), ("energy=9nJ", sanafe)):
        (use,) = Budget.read((text,), "loihi1").uses(cost)
        assert use.update == pytest.approx(update / 9000)
        assert use.updates * 3 == pytest.approx(9 * update / 9000)  # per timestep, of three
    for use in Budget.read(("synops=9", "time=9us"), "loihi1").uses(cost):
        assert use.update is None


def test_updates_that_cost_nothing_limit_no_neurons(tmp_path):
    text = (files("lbi.hardware") / "loihi1.toml").read_text()
    free, n = re.subn(r'(update_(?:in)?active = \{ value = )[0-9.]+(, unit = "pJ")', r"\g<1>0\2", text)
    assert n == 4
    (tmp_path / "free.toml").write_text(free)
    fixed, spikes = two_layer_network()
    cost = lbi.estimate(fixed, spikes=spikes, chip=lbi.load_profile(str(tmp_path / "free.toml"))).sparse
    assert Limit("energy", 9.0, "nJ").updates(cost) is None


def priced(weights, rows, columns):
    """An optimizer whose weights have prices of ones where named."""
    groups = [
        {
            "params": [weight],
            "reg": PricedL1(
                0.1,
                rows=(1.0,) * weight.shape[0] if name in rows else (),
                columns=(1.0,) * weight.shape[1] if name in columns else (),
            ),
        }
        for name, weight in weights.items()
    ]
    return AdaBreg(groups, 0.01)


def test_weights_of_neurons_with_few_cost_more_and_keep_their_values():
    weights = two_hidden(np.random.default_rng(5))
    optimizer = priced(weights, ("in", "rec0", "between", "rec1"), ("rec0", "between", "rec1", "out"))
    sum((weight * 3 + 1).square().sum() for weight in weights.values()).backward()
    optimizer.step()
    populations = [
        PopulationWeights((weights["in"], weights["rec0"]), (weights["between"], weights["rec0"])),
        PopulationWeights((weights["between"], weights["rec1"]), (weights["out"], weights["rec1"])),
    ]
    values = {name: weight.detach().numpy().copy() for name, weight in weights.items()}
    prices = []
    for before, recurrent, after in (("in", "rec0", "between"), ("between", "rec1", "out")):
        of_neurons = []
        for i in range(values[recurrent].shape[0]):
            n = sum(
                np.count_nonzero(part)
                for part in (
                    values[before][i],
                    values[recurrent][i],
                    values[recurrent][:, i],
                    values[after][:, i],
                )
            )
            of_neurons.append(min(1 + 20 / max(n, 1), 9.0))
        prices.append(of_neurons)
    shares = {name: optimizer.state[weight]["dual"].abs() / 0.1 for name, weight in weights.items()}
    set_prices(populations, optimizer, 20.0)
    expected = {
        "in": (prices[0], []),
        "rec0": (prices[0], prices[0]),
        "between": (prices[1], prices[0]),
        "rec1": (prices[1], prices[1]),
        "out": ([], prices[1]),
    }
    for group, (name, weight) in zip(optimizer.param_groups, weights.items(), strict=True):
        reg, dual = group["reg"], optimizer.state[weight]["dual"]
        assert reg.rows == pytest.approx(expected[name][0]), name
        assert reg.columns == pytest.approx(expected[name][1]), name
        torch.testing.assert_close(reg.prox(dual), torch.from_numpy(values[name]))
        dead = weight == 0
        torch.testing.assert_close((reg.strength(dual) / reg.lamda)[dead], shares[name][dead])


def test_what_an_update_costs_in_weights():
    """Updates take half of the limit, 50 of them; 300 weights take 0.3 of it: an update is ten weights, and is paid twice."""
    budget, spikes = Budget.read(("energy=10nJ",), "loihi1"), np.zeros((1, 1, 1), np.uint8)
    control = BudgetController(budget, 1.0, spikes, 50, price_updates=2.0)
    model = SimpleNamespace(n_active=lambda: 300)
    energy = Limit("energy", 10.0, "nJ")
    assert control._price(Use(energy, 8.0, updates=0.5, n_updates=50), model) == pytest.approx(20.0)
    assert control._price(Use(energy, 8.0), model) is None
    assert control._price(Use(energy, 5.0, updates=0.5, n_updates=50), model) is None  # no weights left


def test_prices_are_written_only_if_chosen():
    options = {"budget": ["energy=12nJ"], "chip": "loihi1"}
    assert "price_updates" not in make_config("digits", None, options).to_dict()
    chosen = make_config("digits", None, {**options, "price_updates": 6})
    assert make_config(None, None, {}, chosen.to_dict()) == chosen


@pytest.mark.parametrize("options", [{"hidden": ("4c3", "p2", 16)}, {"regularizer": "GroupL1"}])
def test_prices_with_shared_weights_or_groups_are_refused(options):
    given = {"budget": ["energy=12nJ"], "chip": "loihi1", "price_updates": 2, **options}
    with pytest.raises(UsageError, match="price_updates: 2; allowed: 0 without an energy budget"):
        make_config("digits", None, given)


def test_prices_without_an_energy_budget_are_refused():
    with pytest.raises(UsageError, match="price_updates: 2; allowed: 0 without an energy budget"):
        make_config("digits", None, {"budget": ["synops=100"], "chip": "loihi1", "price_updates": 2})


def test_prices_keep_the_options_of_the_regularizer():
    options = {"elastic": 0.25, "nonneg": True}
    given = {"budget": ["energy=12nJ"], "chip": "loihi1", "price_updates": 2, "regularizer_options": options}
    config = make_config("digits", None, given)
    model = SpikingNetwork(config.model((64,), 10))
    regularizers = [group["reg"] for group in make_optimizer(config, model).param_groups]
    priced = [(reg.elastic, reg.nonneg) for reg in regularizers if isinstance(reg, PricedL1)]
    assert priced == [(0.25, True)] * 2


def test_the_number_of_neurons_falls_to_what_the_share_pays():
    """Updates of 0.4 % of the limit: 250, of them 10 of the output; a quarter of the others is 60 hidden neurons."""
    budget = Budget.read(("energy=1nJ",), "loihi1")
    spikes = np.zeros((1, 1, 1), np.uint8)
    control = BudgetController(budget, 1.0, spikes, 50, settling=40, update_share=0.25)
    assert control.allowed(20, 128, 10) == 128  # nothing is measured yet
    control.update = 0.004
    allowed = [control.allowed(epoch, 128, 10) for epoch in range(50)]
    assert allowed[0] == 128
    assert allowed[20] == round(60 + 0.75**2 * 68)
    assert allowed[40:] == [60] * 10
    assert allowed == sorted(allowed, reverse=True)
    control.update = 0.2  # five updates: fewer than the output's
    assert control.allowed(40, 128, 10) == 1
    for update in (1e-4, 5e-324):
        control.update = update
        assert [control.allowed(epoch, 128, 10) for epoch in (0, 20, 40)] == [128] * 3


def test_a_run_keeps_the_neurons_that_its_energy_pays_and_resumes_bit_for_bit():
    digits = datasets.load("digits")
    options = {
        "budget": ["energy=12nJ"],
        "chip": "loihi1",
        "epochs": 6,
        "update_share": 0.2,
        "price_updates": 6,
    }
    config = make_config("digits", None, options)
    whole, checkpoints = Trainer(config, digits), {}
    whole.on_epoch = lambda trainer: checkpoints.update(
        {trainer.progress.epoch: copy.deepcopy(trainer.checkpoint())}
    )
    whole.run()
    assert whole.uses[0].met
    n_paid = 0.2 * (1 / whole.budget.update - 10)
    fixed = lbi.compact(lbi.quantize(as_network(whole.model), "loihi1"))
    assert 20 < fixed.populations[0].n <= round(n_paid) < 40
    again = Trainer(config, digits)
    again.restore(checkpoints[3])
    again.run()
    assert again.budget.state_dict() == whole.budget.state_dict()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name
    assert any(price != 1 for price in whole.optimizer.param_groups[0]["reg"].rows)
    for figure in ("update", "price"):
        broken = {**checkpoints[3], "budget": {**checkpoints[3]["budget"], figure: -0.1}}
        with pytest.raises(InputError, match="a density and finite figures"):
            Trainer(config, digits).restore(broken)


def test_the_share_is_written_only_if_chosen():
    options = {"budget": ["energy=12nJ"], "chip": "loihi1"}
    assert "update_share" not in make_config("digits", None, options).to_dict()
    chosen = make_config("digits", None, {**options, "update_share": 0.2})
    assert make_config(None, None, {}, chosen.to_dict()) == chosen


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"budget": ["synops=100"], "chip": "loihi1"},
        {"budget": ["energy=12nJ"], "chip": "loihi1", "hidden": ("4c3", "p2", 16)},
    ],
)
def test_a_share_of_no_energy_or_of_shared_weights_is_refused(options):
    with pytest.raises(UsageError, match=r"update_share: 0\.2; allowed: 1 without an energy budget"):
        make_config("digits", None, {**options, "update_share": 0.2})
