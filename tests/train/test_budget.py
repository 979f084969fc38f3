"""Budgets: how they are read, what a network uses, and runs that meet them, cannot, and resume."""

from __future__ import annotations

import itertools
import json
from importlib.resources import files

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from support.command import call  # noqa: E402

import lbi  # noqa: E402
from lbi import datasets  # noqa: E402
from lbi.cli.estimate import main as lbi_estimate  # noqa: E402
from lbi.cli.export import main as lbi_export  # noqa: E402
from lbi.cli.train import main as lbi_train  # noqa: E402
from lbi.costing.budget import Budget, Limit, Use, worst  # noqa: E402
from lbi.errors import UsageError  # noqa: E402
from lbi.train.session import budget_control  # noqa: E402
from lbi.train.session.budget import measure  # noqa: E402
from lbi.train.session.budget_control import BudgetController, as_network  # noqa: E402
from lbi.train.session.config import make_config  # noqa: E402
from lbi.train.session.loop import Trainer  # noqa: E402


def options(*budget, epochs=8, **more):
    return make_config("digits", None, {"budget": budget, "chip": "loihi1", "epochs": epochs, **more})


@pytest.fixture(scope="module")
def digits():
    return datasets.load("digits")


@pytest.mark.parametrize(
    ("text", "chip", "code"),
    [
        ("energy=40", "loihi1", "budget-unit"),
        ("energy=40J", "loihi1", "budget-unit"),
        ("memory=64", "loihi1", "budget-unit"),
        ("cores=1KiB", "loihi1", "budget-unit"),
        ("time=5", "loihi1", "budget-unit"),
        ("synops=0", "loihi1", "budget-value"),
        ("synops=1e999", "loihi1", "budget-value"),
        ("synops=1-2", "loihi1", "budget-value"),
        ("power=1mW", "loihi1", "budget-name"),
        ("cores", "loihi1", "budget"),
        ("cores=-nan", "loihi1", "budget-value"),
        ("energy=40nJ@guess", "loihi1", "budget-costs"),
        ("energy=40nJ", "loihi2", "budget-costs"),
        ("time=5us@sanafe", "loihi1", "budget-costs"),
        ("cores=1", None, "budget-chip"),
    ],
)
def test_a_wrong_budget_is_named(text, chip, code):
    with pytest.raises(UsageError, match=f"{code}:"):
        Budget.read((text,), chip)


def test_neuron_models_that_the_chip_does_not_run_are_refused_before_training():
    with pytest.raises(UsageError) as raised:
        options("energy=40nJ", neuron="atrlif", readout="membrane_last")
    assert [(problem.code, problem.where) for problem in raised.value.problems] == [
        ("neuron-model", "neuron"),
        ("neuron-model", "readout 'membrane_last'"),
    ]
    options("cores=1", chip="loihi2", neuron="atrlif", readout="membrane_last")


def test_all_that_is_wrong_is_named_at_once():
    with pytest.raises(UsageError) as raised:
        Budget.read(("energy=40", "cores=1", "cores=2", "x=1"), "loihi1")
    assert [problem.code for problem in raised.value.problems] == [
        "budget-unit",
        "budget-name",
        "budget-name",
    ]


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("energy=40", "no unit; allowed: pJ, .*fix: write one behind the number"),
        ("cores=1KiB", "'KiB'; allowed: none: a plain number; fix: leave it out: cores=1"),
    ],
)
def test_a_wrong_unit_is_answered_with_what_to_write(text, fix):
    with pytest.raises(UsageError, match=f"{fix}$"):
        Budget.read((text,), "loihi1")


def test_a_chip_alone_and_a_dense_optimizer_are_refused():
    with pytest.raises(UsageError, match="no --chip without --budget"):
        make_config("digits", None, {"chip": "loihi1"})
    with pytest.raises(UsageError, match="adabreg or linbreg"):
        options("cores=1", optimizer="adam")


def test_units_and_a_scenario():
    budget = Budget.read(("memory=2KiB", "energy=3uJ@loihi1_constants", "time=4ms"), "loihi2")
    assert [(limit.name, limit.limit, limit.unit, limit.costs) for limit in budget.limits] == [
        ("memory", 2.0, "KiB", ""),
        ("energy", 3.0, "uJ", "loihi1_constants"),
        ("time", 4.0, "ms", ""),
    ]


def test_use_is_what_the_estimate_of_the_export_says(tmp_path, digits):
    names = ("cores=1", "memory=1B", "synops=1", "energy=1pJ", "time=1ns")
    budget = Budget.read(names, "loihi1")
    trainer = Trainer(options("cores=1", epochs=1), digits)
    trainer.run()
    spikes = digits.train.spikes[:20]
    uses = {use.limit.name: use for use in measure(budget, as_network(trainer.model), spikes)}
    torch_model = tmp_path / "model.pt"
    from lbi.train.model_pt import save_model

    save_model(trainer.model, torch_model)
    np.savez(tmp_path / "in.npz", spikes=spikes)
    assert call(lbi_export, torch_model, "--target", "loihi", "--chip", "loihi1").code == 0
    done = call(lbi_estimate, tmp_path / "model.loihi", "--spikes", tmp_path / "in.npz", "--json")
    sparse = done.json["sparse"]
    assert uses["cores"].used == sparse["n_cores"]
    assert uses["memory"].used == sparse["synaptic_memory_bits"] / 8
    assert uses["synops"].used == sparse["synops_fetched_per_step"]
    assert uses["energy"].used == sparse["energy_pj_per_step"]["high"]
    assert uses["time"].used == sparse["time_ns_per_step"]["high"]
    assert not worst(tuple(uses.values())).met


def test_a_run_meets_its_budget_and_resumes_bit_for_bit(digits):
    config = options("memory=1KiB", "cores=1", epochs=6)
    whole = Trainer(config, digits)
    checkpoints = []

    def keep(trainer):
        if trainer.progress.epoch == 3:
            checkpoints.append({key: clone(value) for key, value in trainer.checkpoint().items()})

    whole.on_epoch = keep
    whole.run()
    assert all(use.met for use in whole.uses)
    fixed = lbi.compact(lbi.quantize(as_network(whole.model), "loihi1"))
    assert lbi.estimate(fixed).sparse.placement.synaptic_bits <= 8192
    assert whole.uses[0].used == lbi.estimate(fixed).sparse.placement.synaptic_bits / 8192
    again = Trainer(config, digits)
    again.restore(checkpoints[0])
    again.run()
    assert again.budget.history == whole.budget.history
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value), name


def clone(value):
    if isinstance(value, dict):
        return {key: clone(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [clone(entry) for entry in value]
    return value.clone() if isinstance(value, torch.Tensor) else value


@pytest.mark.parametrize(
    ("budget", "given", "activity"),
    [
        (["energy=40nJ"], {}, 10.0),
        (["cores=1", "synops=100"], {}, 10.0),
        (["time=5us"], {"activity": 0.0}, 0.0),
        (["cores=1", "memory=1KiB"], {}, 0.0),
        ([], {}, 0.0),
    ],
)
def test_budgets_of_what_spikes_cost_penalize_high_rates(budget, given, activity):
    config = make_config("digits", None, {"budget": budget, "chip": "loihi1" if budget else None, **given})
    assert config.activity == activity
    assert make_config(None, None, {}, config.to_dict()) == config


def test_a_budget_penalizes_rates_in_fine_tuning_too_and_leaves_own_settings_alone():
    saved = make_config("digits", None, {}).to_dict()
    spending = {"budget": ["energy=12nJ"], "chip": "loihi1"}
    assert make_config("digits", None, spending, saved).activity == 10.0
    own = make_config("digits", None, {**spending, "activity": 0.5})
    assert (own.activity, own.rate_high) == (0.5, 1.0)


class Law:
    """Budget, network and its density control in one: the use is a power of the density, and 1 at 0.02."""

    def __init__(self, power):
        self.power, self.now, self.settled = power, 1.0, False

    def uses(self):
        return (Use(Limit("synops", 1.0, ""), (self.now / 0.02) ** self.power),)

    def density(self):
        return self.now

    def tighten(self, density):
        self.now = density


@pytest.fixture
def by_law(monkeypatch):
    monkeypatch.setattr(budget_control, "as_network", lambda law: law)
    monkeypatch.setattr(budget_control, "measure", lambda law, network, spikes: law.uses())


@pytest.mark.usefixtures("by_law")
@pytest.mark.parametrize("power", [0.5, 0.8, 1.2])
def test_a_shrinking_network_is_led_to_the_density_that_meets_its_budget(power):
    law = Law(power)
    control = BudgetController(law, 1.0, np.zeros((1, 1, 1), np.uint8), 50)
    aims, followed = [], []
    for epoch in range(1, 41):
        control.after_epoch(epoch, law, law)
        left = max(0.0, 1 - epoch / 30) ** 3
        law.now = control.density + left * max(0.0, 1 - control.density)
        aims.append(control.density)
        followed.append(law.now)
    assert law.now == pytest.approx(0.02, rel=0.05)
    assert min(followed) > 0.014
    assert all(0.014 < aim < 0.03 for aim in aims[11:])  # known long before the network is that sparse


@pytest.mark.usefixtures("by_law")
def test_a_settled_network_over_its_budget_is_cut_in_small_steps():
    law = Law(0.8)
    control = BudgetController(law, 1.0, np.zeros((1, 1, 1), np.uint8), 50)
    law.now, law.settled = 0.03, True
    sizes = [law.now]
    while control.after_epoch(2 * len(sizes), law, law):
        sizes.append(law.now)
    assert 0.95 * 0.02 < law.now <= 0.02
    assert all(after >= 0.9 * before for before, after in itertools.pairwise(sizes))


def test_the_density_holds_too(digits):
    trainer = Trainer(options("memory=64KiB", epochs=3, density=0.05), digits)
    trainer.run()
    assert trainer.density() <= 0.05
    assert trainer.uses[0].met


def test_a_budget_that_cannot_be_met_ends_with_6_and_a_model(tmp_path):
    arguments = ("--dataset", "digits", "--epochs", "2", "--budget", "energy=1pJ", "--budget", "cores=1")
    done = call(lbi_train, *arguments, "--chip", "loihi1", "-o", tmp_path / "model.pt", "--json")
    assert done.code == 6
    (line,) = done.errors
    assert line.startswith("error: budget-not-met: --budget energy: energy ")
    record = json.loads(done.out)["budget"]
    assert (record["energy"]["met"], record["cores"]["met"]) == (False, True)
    assert record["energy"]["costs"] == "highest cost set"
    assert lbi.load(tmp_path / "model.pt").meta["training"]["budget"] == record


def test_chip_precision_trains_for_chips_with_its_numbers(tmp_path):
    options = {"precision": "chip", "budget": ("cores=1",)}
    for chip in ("loihi1", "loihi2"):
        make_config("digits", None, {**options, "chip": chip})
    text = (files("lbi.hardware") / "loihi1.toml").read_text(encoding="utf-8")
    narrow = tmp_path / "narrow.toml"
    narrow.write_text(text.replace("max = 254, step = 2", "max = 240, step = 16"))
    make_config("digits", None, {**options, "precision": "float", "chip": str(narrow)})
    with pytest.raises(UsageError, match=r"option: precision: 'chip' with the chip .*narrow\.toml.*loihi2"):
        make_config("digits", None, {**options, "chip": str(narrow)})
