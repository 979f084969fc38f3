#!/usr/bin/env python3
"""A network of more than a million neurons in feature maps: quantize, export, simulate, place, estimate.

    python benchmarks/vision.py [--chip loihi1|loihi2] [--density D] [--steps N]

2 × 256 × 256 inputs as an event camera has them, 16c3, 16c3s2, 32c3s2, 32c3s2, 32c3s4, 11 dense outputs: 1,048,576 neurons in the first feature
maps. For each step: processor time, and the highest resident memory of the process meanwhile. Nothing is unrolled: kernels are kept from
the file to the estimate. Figures in vision.md.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import numpy as np

from lbi import CsrMatrix, CubaLif, Network, Population, Projection, Readout, load_profile, quantize
from lbi.chip.placement import Placement, place
from lbi.costing.estimation import estimate
from lbi.deploy.job import ExportJob
from lbi.errors import LbiWarning
from lbi.network.convolution import Convolution
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.simulation.run import simulate

INPUT_SHAPE = (2, 256, 256)
LAYERS = ((16, 3, 1), (16, 3, 2), (32, 3, 2), (32, 3, 2), (32, 3, 4))
"""Channels, kernel size and stride of each convolution."""

N_CLASSES = 11
INPUT_RATE = 0.01
"""Share of the inputs that spike in a timestep."""

Result = TypeVar("Result")


def network(density: float) -> Network:
    """Random kernels with zeros, mostly excitatory; thresholds for some activity in every layer."""
    rng = np.random.default_rng(0)
    shape, source = INPUT_SHAPE, "input"
    populations, projections = [], []
    for i, (channels, size, stride) in enumerate(LAYERS, start=1):
        kernel = rng.normal(0.1, 0.3, (channels, shape[0], size, size))
        kernel[rng.random(kernel.shape) >= density] = 0
        own = Convolution(kernel, (stride, stride), (size // 2, size // 2))
        weights = ConvolutionWeights(own, shape)
        shape = weights.output_shape
        populations.append(Population(f"maps{i}", shape, CubaLif(0.5, 0.1, 1.0)))
        projections.append(Projection(f"conv{i}", source, f"maps{i}", weights))
        source = f"maps{i}"
    dense = rng.normal(0, 0.2, (N_CLASSES, populations[-1].n))
    populations.append(Population("classes", (N_CLASSES,), CubaLif(0.5, 0.1, 1.0)))
    projections.append(Projection("dense", source, "classes", CsrMatrix.from_dense(dense)))
    return Network(INPUT_SHAPE, tuple(populations), tuple(projections), Readout("classes"))


def peak_mib(reset: bool = False) -> float:
    """Highest resident memory of this process since the last reset, in MiB (Linux)."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
        return 0.0
    line = next(
        text for text in Path("/proc/self/status").read_text().splitlines() if text.startswith("VmHWM")
    )
    return int(line.split()[1]) / 1024


def timed(label: str, function: Callable[[], Result]) -> Result:
    """The result of a step; prints its processor time and peak memory."""
    peak_mib(reset=True)
    start = time.process_time()
    result = function()
    print(f"| {label} | {time.process_time() - start:.1f} | {peak_mib():,.0f} |", flush=True)
    return result


def describe(placement: Placement) -> str:
    """Cores and memory of a placement, shared and unrolled."""
    shared = placement.synaptic_bits / 8 / 2**20
    unrolled = sum(bits.unrolled for bits in placement.bits.values()) / 8 / 2**20
    most = {name: int(used.max()) for name, used in placement.use.items()}
    return (
        f"{placement.n_cores:,} cores on {placement.n_chips} chips; synapses {shared:.1f} MiB ({unrolled:.1f} MiB unrolled);"
        f" most on a core: {most['compartments']:,} neurons, {most['input_axons']:,} input and {most['output_axons']:,} output axons"
    )


def main() -> int:
    """Print one row per step."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--chip", default="loihi2")
    parser.add_argument("--density", type=float, default=0.3, help="share of nonzero kernel weights")
    parser.add_argument("--steps", type=int, default=4)
    options = parser.parse_args()
    from lbi.exporters import loihi

    warnings.simplefilter("ignore", LbiWarning)
    profile = load_profile(options.chip)
    rng = np.random.default_rng(1)
    spikes = (rng.random((1, options.steps, int(np.prod(INPUT_SHAPE)))) < INPUT_RATE).astype(np.uint8)
    print(f"chip {profile.name}, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'not set')}")
    print("| step | processor time, s | peak memory, MiB |\n|---|---|---|")
    floats = timed("build", lambda: network(options.density))
    fixed = timed("quantize", lambda: quantize(floats, profile))
    placement = timed("place", lambda: place(fixed, profile))
    job = ExportJob(fixed, profile)
    timed("compact", lambda: job.compaction)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "model.loihi"
        timed("export, with placement", lambda: loihi.export(job, folder))
        n_bytes = sum(path.stat().st_size for path in folder.iterdir())
    run = timed(f"simulate {options.steps} steps", lambda: simulate(fixed, spikes))
    result = timed("estimate, with simulation", lambda: estimate(fixed, spikes=spikes, chip=profile))
    n_synapses = sum(projection.weights.nnz for projection in fixed.projections)
    n_weights = sum(projection.weights.n_parameters for projection in fixed.projections)
    print(
        f"\n{fixed.n_neurons:,} neurons, {n_synapses:,} synapses of {n_weights:,} weights; export {n_bytes / 2**20:.1f} MiB"
    )
    print(describe(placement))
    rates = {
        name: f"{record.spikes.mean() / fixed.population(name).n:.3f}"
        for name, record in run.populations.items()
    }
    print(f"spikes per neuron and step: {rates}\n{result!r}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
