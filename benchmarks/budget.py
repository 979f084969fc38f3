"""Ways to meet a chip budget, compared at the same budget, on integers and on the test set.

    python benchmarks/budget.py --budget energy=12nJ --seeds 3
    python benchmarks/budget.py --dataset shd --data DIR --budget energy=15nJ --seeds 3
    python benchmarks/budget.py --budget memory=1KiB --budget synops=100 --ways weights     # training samples against the test set

Ways:

- weights: ``lbi-train --budget`` as it is, single weights vanish.
- density: the density that "weights" ended with, of the same seed, given as ``--density`` without a budget.
- bisection: the highest ``--density`` found to meet the budget, by bisection of its logarithm; 0.1 first.
- activity=0: under the budget, without the penalty on firing rates.
- prices: under the budget, λ per weight by what its neuron costs (``price_updates=6``).
- rows, columns: under the budget, also all inputs or all outputs of a neuron as groups.
- neurons: under the budget, only the strongest neurons keep weights (``update_share=0.2``).
- a number: that many hidden neurons under the budget.

Prints a Markdown table, one row per way and budget, as soon as it is measured.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Mapping
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

import lbi
from lbi import datasets
from lbi.costing.budget import Budget, Use
from lbi.system import toml
from lbi.train.session.budget import measure
from lbi.train.session.budget_control import as_network
from lbi.train.session.config import make_config
from lbi.train.session.loop import Trainer, evaluate

BISECTIONS = 4
SETTINGS: dict[str, dict[str, Any]] = {
    "activity=0": {"activity": 0.0},
    "prices": {"price_updates": 6},
    "neurons": {"update_share": 0.2},
    **{
        way: {"regularizer": "SparseGroupL1", "regularizer_options": {"over": way}}
        for way in ("rows", "columns")
    },
}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data", default=None)
    parser.add_argument("--budget", required=True, action="append")
    parser.add_argument("--chip", default="loihi1")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=None, help="hidden neurons instead of the preset's")
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="options as in lbi-train --set"
    )
    parser.add_argument("--ways", nargs="*", default=["weights", "density", "rows", "columns", "64", "32"])
    options = parser.parse_args()
    print(
        "| budget | method | accuracy on the test set, float | on integers | training / limit"
        " | test set / limit | energy (nJ per timestep) | SynOps per timestep | updates per timestep | density | met |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for budget in options.budget:
        densities: dict[int, float] = {}
        for way in options.ways:
            rows = [measured(options, budget, way, seed, densities) for seed in range(options.seeds)]
            floats, integers, trained_on, tested, low, high, synops, updates, density, met = np.array(rows).T
            print(
                f"| {budget} | {way} | {spread(floats)} | {spread(integers)} | {percent(trained_on)} | {percent(tested)} |"
                f" {low.mean():.1f} – {high.mean():.1f} | {synops.mean():.0f} | {updates.mean():.0f} | {density.mean():.2%} | {met.sum():.0f} of {len(rows)} |",
                flush=True,
            )
    return 0


def measured(
    options: argparse.Namespace, budget: str, way: str, seed: int, densities: dict[int, float]
) -> tuple[float, ...]:
    """Train once, and measure on the test set; averages per timestep.

    Returns:
        Accuracy in float and on integers, use on training and on test samples over the limit, lowest and highest energy in nJ (NaN
        without a cost set), SynOps, neuron updates, density, and whether the budget is met.
    """
    given: dict[str, Any] = {
        "seed": seed,
        **toml.parse("\n".join(options.set), "--set"),
        **SETTINGS.get(way, {}),
    }
    if way == "density":
        given["density"] = densities[seed]
    elif way != "bisection":
        given |= {"budget": [budget], "chip": options.chip}
    if way.isdigit() or options.hidden:
        given["hidden"] = [int(way) if way.isdigit() else options.hidden]
    limits = Budget.read((budget,), options.chip)
    assert limits is not None
    if way == "bisection":
        trainer, use = bisected(options, given, limits)
    else:
        trainer, use = trained(options, given, limits)
    densities.setdefault(seed, trainer.density())
    network = as_network(trainer.model)
    data = trainer.dataset
    (tested,) = measure(limits, network, data.test.spikes)
    fixed = lbi.compact(lbi.quantize(network, options.chip))
    activity = lbi.simulate(fixed, data.test.spikes, record=("spikes", "active"))
    right = fixed.readout.classify(activity.output) == data.test.labels
    cost, shares = (
        lbi.estimate(fixed, activity).sparse,
        (use.used / use.limit.limit, tested.used / tested.limit.limit),
    )
    energy = cost.energy_range
    bounds = (np.nan, np.nan) if energy is None else (energy.low / 1e3, energy.high / 1e3)
    accuracies = evaluate(trainer.model, data.test), float(right.mean())
    return *accuracies, *shares, *bounds, cost.synops_fetched, cost.neuron_updates, trainer.density(), use.met


def trained(options: argparse.Namespace, given: Mapping[str, Any], limits: Budget) -> tuple[Trainer, Use]:
    """Train one network; its trainer, and what it uses on training samples."""
    config = make_config(options.dataset, None, given)
    data = datasets.load(options.dataset, options.data, **config.encoding)
    trainer = Trainer(config, data)
    trainer.run()
    (use,) = trainer.uses or measure(limits, as_network(trainer.model), data.train.spikes[:1024])
    return trainer, use


def bisected(options: argparse.Namespace, given: Mapping[str, Any], limits: Budget) -> tuple[Trainer, Use]:
    """Train at densities by hand: a quarter of the last until one meets the budget, then halfway (in logarithms).

    Returns:
        Of the networks that meet the budget the one with the highest density; the last one if none does.
    """
    over, met = 0.2, None
    kept = tried = trained(options, {**given, "density": over / 2}, limits)
    density = over / 2
    for _ in range(BISECTIONS):
        if tried[1].met:
            met, kept = density, tried
        else:
            over = density
        density = over / 4 if met is None else math.sqrt(met * over)
        tried = trained(options, {**given, "density": density}, limits)
    return tried if tried[1].met or met is None else kept


def spread(shares: np.ndarray) -> str:
    """Mean ± standard deviation in percent."""
    return f"{shares.mean():.1%} ± {shares.std(ddof=1):.1%}" if shares.size > 1 else f"{shares.mean():.1%}"


def percent(shares: np.ndarray) -> str:
    """The mean, and the highest if it is another."""
    mean, most = f"{shares.mean():.1%}", f"{shares.max():.1%}"
    return mean if mean == most else f"{mean}, at most {most}"


if __name__ == "__main__":
    sys.exit(main())
