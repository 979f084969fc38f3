"""Random torch models: read by ``from_torch`` and equal to their own forward on other spikes, or refused.

    python tests/fuzz_models.py --seed 1 --count 500

Model ``i`` of a seed is always the same; ``--first`` starts the numbers elsewhere. Prints how many are equal, how many
are refused, by code, and each difference or crash; exit code 1 if there is any.
"""

from __future__ import annotations

import argparse
import collections
import sys
import warnings
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parent))
from support import random_models

from lbi.errors import InputError
from lbi.importers import from_torch
from lbi.simulation import oracle

RATES, STEPS = (0.08, 0.3, 0.6, 0.9), 35


def held_out(n_in: int, seed: int) -> np.ndarray:
    """Random spikes (samples, steps, n_in) uint8 of several rates, other than those of an import's own comparison."""
    draws = np.random.default_rng((seed, 77)).random((len(RATES), STEPS, n_in))
    return (draws < np.array(RATES)[:, None, None]).astype(np.uint8)


def outcome(seed: int, number: int) -> tuple[str, str, int]:
    """(equal, quiet, differing or a refusal's codes; the model's features and what differs; its output's spikes)."""
    case = random_models.make(seed, number)
    try:
        network = from_torch(case.model, (case.n_in,))
    except InputError as error:
        return "refused " + "+".join(sorted({problem.code for problem in error.problems})), case.name, 0
    spikes = held_out(case.n_in, number)
    theirs = case.run(torch.from_numpy(spikes).double()).numpy()
    output = oracle.simulate(network, spikes).output
    if network.readout.kind == "membrane_last":  # weighted sums of spikes, added up
        output = np.diff(output, axis=1, prepend=0.0)
    ours = case.of_spikes(torch.from_numpy(output).double()).numpy()
    if theirs.shape != ours.shape:
        return "differing", f"{case.name}: shape {ours.shape} for {theirs.shape}", 0
    different = int(np.count_nonzero(np.abs(theirs - ours) > 1e-9))
    if different:
        return "differing", f"{case.name}: {different} of {ours.size}", int(np.count_nonzero(theirs))
    return "equal" if np.ptp(theirs) else "equal, constant output", case.name, int(np.count_nonzero(theirs))


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Random torch models, imported and compared with themselves."
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="number of the first model (default 0)")
    parser.add_argument("--verbose", action="store_true", help="print every model")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    counts: collections.Counter[str] = collections.Counter()
    for number in range(args.first, args.first + args.count):
        try:
            said, text, _ = outcome(args.seed, number)
        except Exception as error:
            said, text = "crashed", f"{type(error).__name__}: {error}"
        counts[said] += 1
        if args.verbose or said in ("differing", "crashed"):
            sys.stdout.write(f"model {number}: {said}: {text}\n")
            sys.stdout.flush()
    for said, n in sorted(counts.items()):
        sys.stdout.write(f"{said}: {n}\n")
    return 1 if counts["differing"] or counts["crashed"] else 0


if __name__ == "__main__":
    sys.exit(main())
