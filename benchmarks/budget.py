"""Ways to meet a chip budget, compared at the same budget: plain density, groups, narrower networks.

    python benchmarks/budget.py --budget energy=12nJ --chip loihi1 --seeds 3
    python benchmarks/budget.py --dataset shd --data DIR --budget energy=25nJ --chip loihi1 --seeds 3

Every way trains under ``--budget``, so that density and λ follow the measured use. They differ in what vanishes (single
weights, or also the inputs or outputs of a neuron) and in the width. Prints a Markdown table, one row per way, as soon as it is measured.
"""

from __future__ import annotations

import argparse
import os
import sys

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

from lbi import datasets
from lbi.train.session.config import make_config
from lbi.train.session.loop import Trainer, evaluate

WAYS = {
    "single weights (L1)": {},
    "weights and inputs of a neuron": {
        "regularizer": "SparseGroupL1",
        "regularizer_options": {"over": "rows"},
    },
    "weights and outputs of a neuron": {
        "regularizer": "SparseGroupL1",
        "regularizer_options": {"over": "columns"},
    },
}


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Ways to meet a chip budget, compared at the same budget.")
    parser.add_argument("--dataset", default="digits")
    parser.add_argument("--data", default=None)
    parser.add_argument("--budget", required=True)
    parser.add_argument("--chip", default="loihi1")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--widths", type=int, nargs="*", default=[64, 32, 16])
    options = parser.parse_args()
    ways = {**WAYS, **{f"single weights, {n} hidden neurons": {"hidden": [n]} for n in options.widths}}
    print("| way | test accuracy, mean ± sd | used of the budget | density | seeds that met it |")
    print("|---|---|---|---|---|")
    data = datasets.load(options.dataset, options.data)
    for way, settings in ways.items():
        accuracies, shares, densities, met = [], [], [], 0
        for seed in range(options.seeds):
            given = {"budget": [options.budget], "chip": options.chip, "seed": seed, **settings}
            config = make_config(options.dataset, None, given)
            if config.encoding:
                data = datasets.load(options.dataset, options.data, **config.encoding)
            trainer = Trainer(config, data)
            trainer.run()
            accuracies.append(evaluate(trainer.model, data.test))
            shares.append(trainer.uses[0].used / trainer.uses[0].limit.limit)
            densities.append(trainer.density())
            met += trainer.uses[0].met
        spread = np.std(accuracies, ddof=1) if len(accuracies) > 1 else 0.0
        print(
            f"| {way} | {np.mean(accuracies):.2%} ± {spread:.2%} | {np.mean(shares):.1%} |"
            f" {np.mean(densities):.2%} | {met} of {options.seeds} |",
            flush=True,
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
