"""What compaction saves: neurons removed from trained models, updates and energy before and after, outputs compared.

    python benchmarks/compaction.py --chip loihi1 --dataset shd --data DIR MODEL.pt …

Every model is quantized, compacted, and both networks run on the test set in the simulator; any difference between their
outputs ends the script with exit code 1. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

import lbi
from lbi import datasets
from lbi.costing.result import hull
from lbi.quantization.compaction import compaction


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description="What compaction saves on trained models.")
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--chip", default="loihi1")
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--data", default=None)
    options = parser.parse_args()
    print(
        "| model | accuracy | hidden neurons removed (silent, unreachable) | updates a step | energy, nJ a step |"
    )
    print("|---|---|---|---|---|")
    n_different = 0
    for path in options.models:
        network = lbi.load(path)
        encoding = {key: value for key, value in network.meta.get("dataset", {}).items() if key != "name"}
        test = datasets.load(options.dataset, options.data, **encoding).test
        before = lbi.quantize(network, options.chip)
        found = compaction(before)
        outputs, costs = [], []
        for fixed in (before, found.network):
            outputs.append(lbi.simulate(fixed, test.spikes).output)
            costs.append(lbi.estimate(fixed, spikes=test.spikes, chip=options.chip))
        n_different += int(np.count_nonzero(outputs[0] != outputs[1]))
        right = before.readout.classify(outputs[1]) == test.labels
        why = [
            sum(found.removed(p.name)[reason] for p in before.populations)
            for reason in ("silent", "unreachable")
        ]
        updates = " → ".join(f"{cost.sparse.neuron_updates:,.0f}" for cost in costs)
        bands = [hull(cost.sparse.energy) for cost in costs]
        energy = " → ".join("–" if b is None else f"{b.low / 1e3:.1f} – {b.high / 1e3:.1f}" for b in bands)
        print(
            f"| {path.stem} | {right.mean():.2%} | {found.n_removed} of {before.n_neurons - before.n_out}"
            f" ({why[0]}, {why[1]}) | {updates} | {energy} |",
            flush=True,
        )
    print(f"\n{n_different} outputs differ on the test set")
    return 1 if n_different else 0


if __name__ == "__main__":
    sys.exit(main())
