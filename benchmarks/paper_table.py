#!/usr/bin/env python3
"""Accuracy against density, as the Bregman papers tabulate it: one named data set, several optimizers and seeds.

Trains dense Adam, LinBreg, AdaBreg, and magnitude pruning with fine-tuning (dense Adam for the first half of the
epochs, then the smallest weights are removed and the rest is trained on), quantizes each network for a chip,
runs the integers on the test set in the bit-exact simulator, and writes table.md, table.csv and plot.png.
Every finished run is a line in runs.jsonl: the same command continues an interrupted series.

usage: paper_table.py --dataset psdigits -o OUT [--data DIR] [--densities 0.25,0.1,0.05] [--seeds 0,1,2]
                      [--optimizers adam,adabreg,linbreg,prune] [--epochs N] [--config FILE.toml]
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

import lbi
from lbi import datasets
from lbi.train import network_of
from lbi.train.session.config import TrainConfig, make_config
from lbi.train.session.loop import Trainer, evaluate

COLUMNS = (
    "optimizer",
    "density",
    "n_seeds",
    "accuracy",
    "accuracy_std",
    "accuracy_integer",
    "n_active",
    "n_active_integer",
    "firing_rate",
    "synops",
)


class PruningTrainer(Trainer):
    """Train with dense Adam for half of the epochs, then keep only the largest fraction ``density`` of all weights."""

    masks: list[torch.Tensor] | None = None

    def _epoch(self) -> None:
        if self.masks is None and 2 * self.progress.epoch >= self.config.epochs:
            weights = list(self.model.weights().values())
            every = torch.cat([weight.detach().abs().ravel() for weight in weights])
            n_cut = every.numel() - math.floor(self.config.density * every.numel())
            limit = every.kthvalue(max(1, n_cut)).values
            self.masks = [(weight.detach().abs() > limit).to(weight.dtype) for weight in weights]
        super()._epoch()

    def _batch(self, chosen: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
        record = super()._batch(chosen, rng)
        if self.masks is not None:
            with torch.no_grad():
                for weight, mask in zip(self.model.weights().values(), self.masks, strict=True):
                    weight.mul_(mask)
        return record


def one_run(config: TrainConfig, dataset: datasets.Dataset, *, prune: bool) -> dict[str, Any]:
    """Train, quantize and run the integers; returns one record of runs.jsonl."""
    started = time.perf_counter()
    trainer = (PruningTrainer if prune else Trainer)(config, dataset)
    trainer.run()
    fixed = lbi.quantize(network_of(trainer.model))
    activity = lbi.simulate(fixed, dataset.test.spikes)
    n_samples = len(dataset.test)
    right = fixed.readout.classify(activity.output_spikes) == dataset.test.labels
    updates = n_samples * dataset.n_steps * sum(population.n for population in fixed.populations)
    return {
        "accuracy": evaluate(trainer.model, dataset.test),
        "accuracy_train": evaluate(trainer.model, trainer.train),
        "accuracy_integer": float(right.mean()),
        "n_weights": trainer.model.n_weights(),
        "n_active": trainer.model.n_active(),
        "n_active_integer": sum(projection.weights.nnz for projection in fixed.projections),
        "firing_rate": activity.n_spikes / updates,
        "synops": activity.n_synops / n_samples,
        "seconds": time.perf_counter() - started,
    }


def plan(arguments: argparse.Namespace) -> Iterator[tuple[str, float, int]]:
    """Every (optimizer, density, seed) of the table, ordered by seed so that partial tables are balanced."""
    for seed in arguments.seeds:
        for optimizer in arguments.optimizers:
            for density in [1.0] if optimizer == "adam" else arguments.densities:
                yield optimizer, density, seed


def load_runs(path: Path) -> dict[str, dict[str, Any]]:
    """Finished runs by key; an incomplete last line is ignored."""
    runs = {}
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            run = json.loads(line)
        except json.JSONDecodeError:
            continue
        runs[run["key"]] = run
    return runs


def tabulate(runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row per optimizer and density: means over seeds."""
    rows = []
    for optimizer, density in dict.fromkeys((run["optimizer"], run["density"]) for run in runs):
        group = [run for run in runs if (run["optimizer"], run["density"]) == (optimizer, density)]

        def mean(name: str, group: list[dict[str, Any]] = group) -> float:
            return float(np.mean([run[name] for run in group]))

        accuracies = [run["accuracy"] for run in group]
        rows.append(
            {
                "optimizer": optimizer,
                "density": mean("n_active") / group[0]["n_weights"],
                "n_seeds": len(group),
                "accuracy": mean("accuracy"),
                "accuracy_std": float(np.std(accuracies, ddof=1)) if len(group) > 1 else 0.0,
                **{name: mean(name) for name in COLUMNS[5:]},
            }
        )
    return sorted(rows, key=lambda row: (row["optimizer"] != "adam", row["optimizer"], -row["density"]))


def write(rows: list[dict[str, Any]], out: Path) -> None:
    """Write table.csv and table.md."""
    with (out / "table.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    lines = [
        "| optimizer | density | seeds | test accuracy: float | integer | active weights | after rounding | firing rate | SynOps per inference |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {row['optimizer']} | {row['density']:.3f} | {row['n_seeds']} | {row['accuracy']:.2%} ± {row['accuracy_std']:.2%}"
        f" | {row['accuracy_integer']:.2%} | {row['n_active']:,.0f} | {row['n_active_integer']:,.0f}"
        f" | {row['firing_rate']:.2%} | {row['synops']:,.0f} |"
        for row in rows
    ]
    (out / "table.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


def plot(rows: list[dict[str, Any]], path: Path, title: str) -> bool:
    """Plot accuracy against density, if matplotlib is installed."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        return False
    figure, axes = pyplot.subplots(figsize=(6, 4), layout="constrained")
    for optimizer in dict.fromkeys(row["optimizer"] for row in rows):
        mine = [row for row in rows if row["optimizer"] == optimizer]
        axes.errorbar(
            [row["density"] for row in mine],
            [100 * row["accuracy"] for row in mine],
            [100 * row["accuracy_std"] for row in mine],
            marker="o",
            capsize=3,
            label=optimizer,
        )
    axes.set(
        xscale="log", xlabel="density (active weights / weights)", ylabel="test accuracy (%)", title=title
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120, metadata={"Software": None})
    pyplot.close(figure)
    return True


def numbers(kind: type) -> Any:
    """A converter of "a,b,c"."""
    return lambda text: [kind(part) for part in text.split(",")]


def main() -> int:
    """Run the plan, then write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", default="psdigits")
    parser.add_argument("--data")
    parser.add_argument("--optimizers", type=numbers(str), default=["adam", "adabreg", "linbreg", "prune"])
    parser.add_argument("--densities", type=numbers(float), default=[0.25, 0.1, 0.05])
    parser.add_argument("--seeds", type=numbers(int), default=[0, 1, 2])
    parser.add_argument("--epochs", type=int)
    parser.add_argument(
        "--config", type=Path, help="TOML with options that differ from the data set's defaults"
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    common = {
        key: value
        for key, value in (("data", arguments.data), ("epochs", arguments.epochs))
        if value is not None
    }
    log = arguments.output / "runs.jsonl"
    done, wanted = load_runs(log), []
    dataset = None
    for optimizer, density, seed in plan(arguments):
        options = {
            "optimizer": "adam" if optimizer == "prune" else optimizer,
            "density": density,
            "seed": seed,
            **common,
        }
        config = make_config(arguments.dataset, arguments.config, options)
        key = json.dumps(
            [optimizer, {k: v for k, v in config.to_dict().items() if k != "data"}], sort_keys=True
        )
        if key not in done:
            dataset = dataset or datasets.load(config.dataset, config.data, **config.encoding)
            result = one_run(config, dataset, prune=optimizer == "prune")
            done[key] = {"key": key, "optimizer": optimizer, "density": density, "seed": seed, **result}
            with log.open("a", encoding="utf-8") as file:
                file.write(json.dumps(done[key]) + "\n")
        wanted.append(done[key])
        run = done[key]
        print(
            f"{optimizer:8} density {run['n_active'] / run['n_weights']:.3f} seed {seed}: accuracy {run['accuracy']:.2%}"
            f" (integer {run['accuracy_integer']:.2%}), {run['synops']:,.0f} SynOps, {run['seconds']:.0f} s",
            flush=True,
        )
        rows = tabulate(wanted)
        write(rows, arguments.output)
    if not plot(tabulate(wanted), arguments.output / "plot.png", arguments.dataset):
        print("no plot: matplotlib is not installed (pip install 'lbi-snn[report]')", file=sys.stderr)
    print((arguments.output / "table.md").read_text(encoding="utf-8"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
