"""Random convolution networks: the simulator against the reference, and with ``--lava`` real Lava.

python tests/kernel_sweep.py --seed 1 --first 0 --number 2000
python tests/kernel_sweep.py --seed 2 --first 0 --number 50 --lava
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from support import random_kernels

from lbi import save
from lbi.deploy.backends import RunOptions, open_export, run
from lbi.simulation import columns, oracle
from lbi.simulation.run import SaturationWarning, simulate


def differences(seed: int, number: int, *, lava: bool) -> tuple[int, bool]:
    """Output values that differ from the reference, and whether the output varies."""
    network, spikes = random_kernels.make(seed, number)
    expected = oracle.simulate(network, spikes, record=["u", "v"])
    n_different = 0
    for columns.CACHED_BYTES in (0, 1 << 22):
        found = simulate(network, spikes, record=["u", "v"])
        n_different += sum(
            np.count_nonzero(found.recorded[key] != trace) for key, trace in expected.recorded.items()
        )
        n_different += np.count_nonzero(found.output_spikes != expected.output_spikes)
        columns_of_plan_forgotten(network)
    if lava:
        with TemporaryDirectory() as folder:
            path = Path(folder) / "network.h5"
            save(network, path)
            in_lava = run(open_export(path), spikes, "lava", RunOptions(timeout_s=600))
        n_different += int(np.count_nonzero(in_lava != expected.output_spikes))
    return n_different, np.unique(expected.output_spikes).size > 1


def columns_of_plan_forgotten(network: object) -> None:
    """Drop the network's kept plan, so that the next run chooses its formats again."""
    from lbi.simulation.layout import _plans

    _plans.pop(id(network), None)


def main() -> int:
    """The command line; exit code 1 if any output differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--number", type=int, default=2000)
    parser.add_argument("--lava", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore", SaturationWarning)
    n_bad = n_telling = 0
    for number in range(options.first, options.first + options.number):
        n_different, telling = differences(options.seed, number, lava=options.lava)
        n_bad, n_telling = n_bad + (n_different > 0), n_telling + telling
        if n_different:
            sys.stdout.write(f"network {number}: {n_different} values differ\n")
    where = " in Lava" if options.lava else ""
    sys.stdout.write(
        f"{options.number} networks of seed {options.seed}{where}: {n_bad} differ; {n_telling} outputs are not constant\n"
    )
    return int(n_bad > 0)


if __name__ == "__main__":
    sys.exit(main())
