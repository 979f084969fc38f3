"""Random networks against an oracle in plain Python integers: the simulator, and exports in real Lava.

    python tests/oracle_sweep.py --seed 1 --count 20000           the simulator
    python tests/oracle_sweep.py --seed 1 --count 300 --lava      export, and Lava in supervised children

Network ``i`` of a seed is always the same; ``--first`` starts the numbers elsewhere. Every population's spikes, currents
and voltages are compared with the simulator, and the output with Lava. Prints what was run and each difference;
exit code 1 if there is any.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from support import chip_oracle, random_chip

from lbi import simulate
from lbi.files import network_h5
from lbi.simulation.run import SaturationWarning

PER_CHILD = 25
"""Networks that one child runs: importing Lava takes seconds."""

TIMEOUT_S = 1200


def differing(fixed, spikes, found) -> int:
    """Numbers in which the simulator and the oracle differ, over all populations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SaturationWarning)
        recorded = simulate(fixed, spikes, record=("spikes", "u", "v"), n_threads=1).recorded
    return sum(int(np.count_nonzero(recorded[key] != np.array(values))) for key, values in found.items())


def lava_outputs(cases: dict[int, tuple], folder: Path) -> dict[int, np.ndarray]:
    """Each network's output, from its exported file in one child with real Lava."""
    from lbi.exporters import lava

    from lbi.system.supervisor import run_script

    for number, (fixed, spikes) in cases.items():
        network_h5.save(fixed, folder / f"{number}.h5")
        np.savez(folder / f"{number}.npz", spikes=spikes)
    lava.write_script(folder / "run_lava.py")
    runner = Path(__file__).parent / "support" / "run_cases.py"
    run_script(runner, [str(folder / "run_lava.py"), ".h5", str(folder)], where="lava", timeout_s=TIMEOUT_S)
    return {number: np.load(folder / f"{number}.out.npz")["output"] for number in cases}


def sweep(seed: int, numbers: range, *, lava: bool) -> Iterator[tuple[int, object, np.ndarray, int]]:
    """(number, network, expected output, how many values differ) of each network."""
    models = random_chip.IN_LAVA if lava else random_chip.MODELS
    for begin in range(0, len(numbers), PER_CHILD):
        cases = {
            number: random_chip.make(seed, number, models) for number in numbers[begin : begin + PER_CHILD]
        }
        found = {number: chip_oracle.run(*case) for number, case in cases.items()}
        outputs = {}
        if lava:
            with tempfile.TemporaryDirectory() as folder:
                outputs = lava_outputs(cases, Path(folder))
        for number, (fixed, spikes) in cases.items():
            expected = np.array(chip_oracle.output(fixed, found[number]))
            different = differing(fixed, spikes, found[number])
            if lava:
                different += int(np.count_nonzero(outputs[number] != expected))
            yield number, fixed, expected, different


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Random networks against an oracle in plain Python integers."
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--first", type=int, default=0, help="number of the first network (default 0)")
    parser.add_argument("--lava", action="store_true", help="also export each network and run it in Lava")
    options = parser.parse_args()
    n_back = n_telling = n_wrong = 0
    numbers = range(options.first, options.first + options.count)
    for number, fixed, expected, different in sweep(options.seed, numbers, lava=options.lava):
        n_back += random_chip.feeds_back(fixed)
        n_telling += np.unique(expected).size > 1
        n_wrong += different > 0
        if different:
            print(f"network {number} of seed {options.seed}: {different} values differ")
        if (number + 1) % 1000 == 0 or (options.lava and (number + 1) % PER_CHILD == 0):
            print(f"… {number + 1 - options.first}", file=sys.stderr, flush=True)
    print(
        f"{options.count} networks of seed {options.seed}{' in Lava' if options.lava else ''}: {n_wrong} differ"
        f" ({n_back} feed back to an earlier start, {n_telling} outputs are not constant)"
    )
    return 1 if n_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
