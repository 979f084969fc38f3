"""Options of a run that go with a budget: settings that it brings along, and what it does not go with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lbi.chip.profile import HardwareProfile
from lbi.chip.rules import runs_model
from lbi.costing.budget import Budget
from lbi.errors import LbiError, Problems, Rule
from lbi.network.neurons import MODELS
from lbi.train.layers.mantissas import CHIP, trains_in
from lbi.train.optim.choices import OPTIMIZERS

COST_OF_SPIKES = ("energy", "synops", "time")
"""Budgets of what grows with the spikes."""

RATE_PENALTY = {"activity": 10.0, "rate_high": 0.05}
"""Under such a budget: the loss penalizes firing rates above a twentieth (docs/results.md says what that gains)."""

BUDGETED = Rule(
    "option",
    "adabreg or linbreg",
    "leave --optimizer at adabreg, or drop the earlier run's budget: --set budget=[] --set chip=null",
)
SETTLED = Rule("option", "above 0 with a budget", "leave settle at its preset")
PRICED = Rule(
    "option",
    "0 without an energy budget, with convolutions or pooling, and with groups",
    "leave it out; with --from a run that has it, set it to 0",
)
SHARED = Rule(
    "option",
    "1 without an energy budget, and with convolutions or pooling",
    "leave it out; with --from a run that has it, set it to 1",
)

ON_CHIP = Rule(
    "option",
    'a chip with the numbers of {chip}, in which precision = "chip" trains',
    "leave precision at float: lbi-export rounds to the chip's numbers",
)


def under_budget(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that a budget brings along, unless they are chosen.

    Args:
        asked: options of the file and the command, among them ``budget``.

    Returns:
        Option → value.
    """
    spends = bool(_names(asked.get("budget", ())) & set(COST_OF_SPIKES))
    return dict(RATE_PENALTY) if spends and not RATE_PENALTY.keys() & asked.keys() else {}


def check_budget(config: Any, problems: Problems) -> None:
    """Note everything that is wrong with a run's budget, and options that do not go with it.

    Args:
        config: the ``TrainConfig``.
        problems: receives the problems.
    """
    try:
        budget = Budget.read(config.budget, config.chip)
    except LbiError as error:
        problems.take(error)
    else:
        same = budget is None or config.precision == "float" or trains_in(budget.profile.formats)
        ON_CHIP.check(problems, same, "precision", f"'chip' with the chip {config.chip!r}", chip=CHIP)
        if budget is not None and config.neuron in MODELS:
            check_models(config, budget.profile, problems)
    sparse = not config.budget or OPTIMIZERS[config.optimizer].sparse
    BUDGETED.check(problems, sparse, "budget", f"with {config.optimizer!r}")
    SETTLED.check(problems, not config.budget or config.settle > 0, "settle", "0 with a budget")
    dense = all(isinstance(layer, int) for layer in config.hidden)  # no weights that neurons share
    counted = dense and "energy" in _names(config.budget)
    priced = counted and config.regularizer == "L1"
    PRICED.check(problems, priced or config.price_updates == 0, "price_updates", config.price_updates)
    SHARED.check(problems, counted or config.update_share == 1, "update_share", config.update_share)


def check_models(config: Any, profile: HardwareProfile, problems: Problems) -> None:
    """Note neuron models that a chip does not run.

    Args:
        config: the ``TrainConfig``.
        profile: the chip.
        problems: receives the problems.
    """
    runs_model(config.neuron, "neuron", profile, problems)
    runs_model(config.output_neuron, f"readout {config.readout!r}", profile, problems)


def _names(budget: Any) -> set[str]:
    """The names of the limits, well-formed or not."""
    return {str(text).split("=")[0].strip() for text in budget}
