"""Time and memory of an export: python benchmarks/export.py [--synapses 10000000 …].

Each size runs in a separate process; peak memory includes the arrays of the network itself.
The phases are those of ``lbi-export --target loihi``: placement, network.h5, network.net (dense, as netx requires,
with gzip), report. For comparison, the bare arrays are also written with numpy.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from lbi import (
    CsrMatrix,
    FixedCubaLif,
    FixedNetwork,
    FixedPopulation,
    FixedProjection,
    Readout,
    SignMode,
    load_profile,
)
from lbi.deploy.job import ExportJob

DENSITY = 0.1
FAN_OUT = 2
"""Size of the hidden layer relative to the input; the third layer is as large as the input."""


def random_matrix(rng: np.random.Generator, n_rows: int, n_cols: int) -> CsrMatrix:
    """Even mantissas at DENSITY, the same number in every row."""
    per_row = max(1, round(n_cols * DENSITY))
    width = n_cols / per_row  # one synapse in each of per_row slots
    starts = (np.arange(per_row) * width).astype(np.int32)
    indices = starts + rng.integers(0, int(width), (n_rows, per_row), dtype=np.int32)
    data = (rng.integers(1, 127, (n_rows, per_row), dtype=np.int16) * 2).astype(np.int16)
    data[rng.random((n_rows, per_row), dtype=np.float32) < 0.5] *= -1
    indptr = np.arange(n_rows + 1, dtype=np.int64) * per_row
    return CsrMatrix(data.reshape(-1), indices.reshape(-1), indptr, (n_rows, n_cols))


def network(n_synapses: int) -> FixedNetwork:
    """Two layers with about ``n_synapses`` synapses."""
    n_in = int((n_synapses / (2 * FAN_OUT * DENSITY)) ** 0.5)
    sizes = (n_in, FAN_OUT * n_in, n_in)
    rng = np.random.default_rng(0)
    populations, projections = [], []
    for i, n in enumerate(sizes[1:]):
        neuron = FixedCubaLif(du=2047, dv=400, vth=4000, bias_mant=np.zeros(n, dtype=np.int32))
        populations.append(FixedPopulation(f"layer{i}", (n,), neuron, 100.0, latency=i + 1))
        weights = random_matrix(rng, n, sizes[i])
        source = f"layer{i - 1}" if i else "input"
        projections.append(
            FixedProjection(f"{source}_to_layer{i}", source, f"layer{i}", weights, SignMode.MIXED)
        )
    return FixedNetwork((n_in,), tuple(populations), tuple(projections), Readout("layer1"), "loihi2")


def measure(n_synapses: int) -> dict[str, float]:
    """Seconds per phase and peak GiB of one export, in this process."""
    from lbi.exporters import loihi, netx

    from lbi.files import network_h5

    fixed = network(n_synapses)
    nnz = sum(projection.weights.nnz for projection in fixed.projections)
    seconds: dict[str, float] = {}

    def timed(name: str, function) -> None:
        start = time.perf_counter()
        function()
        seconds[name] = time.perf_counter() - start

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        job = ExportJob(fixed, load_profile("loihi2"))
        timed("layout", lambda: job.summary)
        timed("whole folder", lambda: loihi.export(job, folder / "model.loihi"))
        n_bytes = sum(path.stat().st_size for path in (folder / "model.loihi").iterdir())
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        timed("network.h5 alone", lambda: network_h5.save(fixed, folder / "network.h5"))
        timed("network.net alone", lambda: netx.write(fixed, folder / "network.net"))
        arrays = {
            f"{p.name}_{part}": getattr(p.weights, part)
            for p in fixed.projections
            for part in ("data", "indices", "indptr")
        }
        timed("numpy.savez", lambda: np.savez(folder / "bare.npz", **arrays))
    return {"synapses": nnz, "peak_gib": peak, "mib": n_bytes / 2**20, **seconds}


def main() -> None:
    """Measure every size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--synapses", type=int, nargs="+", default=[1_000_000, 10_000_000, 100_000_000])
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(measure(options.synapses[0])))
        return
    columns = (
        "synapses",
        "layout",
        "whole folder",
        "network.h5 alone",
        "network.net alone",
        "numpy.savez",
        "peak_gib",
        "mib",
    )
    print("| " + " | ".join(columns) + " |\n|" + "---|" * len(columns))
    for n_synapses in options.synapses:
        command = [sys.executable, __file__, "--one", "--synapses", str(n_synapses)]
        row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        cells = [f"{row['synapses']:,}", *(f"{row[key]:.2f}" for key in columns[1:])]
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
