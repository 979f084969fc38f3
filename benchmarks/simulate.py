"""Lava against ``lbi.simulate``: time per sample, cost curves, memory, start-up. Figures in simulate.md.

    python benchmarks/simulate.py            everything, a few minutes
    python benchmarks/simulate.py --quick    one network of each shape, no large network

Lava runs the same integers in its own processes (``Sparse``, ``LIF``, fixed point) in the same run; its
start-up (one step) is not counted, and every spike of every population must be equal.
"""

from __future__ import annotations

import argparse
import os
import pickle
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from lbi.network.csr import CsrMatrix
from lbi.network.fixed import FixedNetwork, FixedPopulation, FixedProjection, SignMode
from lbi.network.graph import Readout
from lbi.network.neurons import FixedCubaLif
from lbi.simulation.layout import plan_of, stored_bytes
from lbi.simulation.run import SaturationWarning, simulate

SHAPES = {
    "700-256-20": ((700, 256, 20), False),
    "700-256-20 recurrent": ((700, 256, 20), True),
    "700-1024-1024-20": ((700, 1024, 1024, 20), False),
}
DENSITIES = (1.0, 0.5, 0.1)
N_STEPS, RATE, BATCH = 100, 0.03, 256
N_PARTS = 3
HIDDEN_RATE = 0.05
"""Spikes per neuron and step behind the input, as in trained speech nets: thresholds are set for it."""


def random_csr(rng: np.random.Generator, n_out: int, n_in: int, density: float) -> CsrMatrix:
    """Even weights, mostly excitatory, made row by row to avoid a large dense matrix."""
    per_row = max(1, round(density * n_in))
    indices = np.empty((n_out, per_row), dtype=np.int32)
    for row in indices:
        row[:] = np.sort(rng.choice(n_in, per_row, replace=False)) if per_row < n_in else np.arange(n_in)
    data = (rng.integers(1, 64, indices.size) * rng.choice([-2, 2, 2], indices.size)).astype(np.int16)
    return CsrMatrix(data, indices.reshape(-1), np.arange(n_out + 1) * per_row, (n_out, n_in))


def network(
    rng: np.random.Generator, sizes: tuple[int, ...], density: float, recurrent: bool = False
) -> FixedNetwork:
    """A chain in raw chip time; thresholds grow with the fan-in."""
    populations, projections = [], []
    for i, n in enumerate(sizes[1:]):
        name, source = f"layer{i + 1}", f"layer{i}" if i else "input"
        vth = round(14 * density * sizes[i]) + 120
        populations.append(FixedPopulation(name, (n,), FixedCubaLif(1024, 256, vth, np.zeros(n))))
        projections.append(
            FixedProjection(f"w{i}", source, name, random_csr(rng, n, sizes[i], density), SignMode.MIXED)
        )
        if recurrent and i < len(sizes) - 2:
            projections.append(
                FixedProjection(f"r{i}", name, name, random_csr(rng, n, n, density), SignMode.MIXED)
            )
    return FixedNetwork(
        (sizes[0],), tuple(populations), tuple(projections), Readout(populations[-1].name), "loihi2"
    )


def calibrated(fixed: FixedNetwork, spikes: np.ndarray, rate: float = HIDDEN_RATE) -> FixedNetwork:
    """The network with thresholds at which each population spikes at about ``rate`` on these spikes."""
    for index, population in enumerate(fixed.populations):
        low, high = 0, 131071
        while high - low > max(1, low // 50):
            vth = (low + high) // 2
            neuron = replace(population.neuron, vth=vth)
            populations = list(fixed.populations)
            populations[index] = replace(population, neuron=neuron)
            fixed = replace(fixed, populations=tuple(populations))
            found = simulate(fixed, spikes).populations[population.name].spikes.mean() / population.n
            low, high = (vth, high) if found > rate else (low, vth)
    return fixed


def spikes_for(rng: np.random.Generator, n_samples: int, n_in: int, rate: float = RATE) -> np.ndarray:
    """(n_samples, N_STEPS, n_in) Bernoulli spikes."""
    return (rng.random((n_samples, N_STEPS, n_in)) < rate).astype(np.uint8)


def best(run: Callable[[], object], times: int, clock: Callable[[], float] = time.perf_counter) -> float:
    """The shortest of several runs in seconds, as the least disturbed one."""
    durations = []
    for _ in range(times):
        start = clock()
        run()
        durations.append(clock() - start)
    return min(durations)


def lava_child(job: str, out: str) -> None:
    """One sample in Lava: the spikes of all populations, and the seconds taken without start-up.

    The first step starts everything; the rest runs in parts, of which the quickest counts.
    """
    from lava.magma.core.run_conditions import RunSteps
    from lava.magma.core.run_configs import Loihi2SimCfg
    from lava.proc.io.sink import RingBuffer as Sink
    from lava.proc.io.source import RingBuffer as Source
    from lava.proc.lif.process import LIF
    from lava.proc.sparse.process import Sparse
    from lava.utils.weightutils import SignMode as LavaSignMode

    with open(job, "rb") as file:
        fixed, spikes = pickle.load(file)
    source = Source(data=spikes.T.astype(np.int32))
    origins, sinks = {"input": source}, {}
    for population in fixed.populations:
        neuron = population.neuron
        lif = LIF(shape=(population.n,), du=neuron.du, dv=neuron.dv, vth=neuron.vth)
        sinks[population.name] = Sink(shape=(population.n,), buffer=N_STEPS)
        lif.s_out.connect(sinks[population.name].a_in)
        origins[population.name] = lif
    for projection in fixed.projections:
        weights = projection.weights.to_scipy().astype(np.int32)
        synapse = Sparse(weights=weights, sign_mode=LavaSignMode(int(projection.sign_mode)))
        origins[projection.source].s_out.connect(synapse.s_in)
        synapse.a_out.connect(origins[projection.target].a_in)
    config = Loihi2SimCfg(select_tag="fixed_pt")
    try:
        source.run(condition=RunSteps(num_steps=1), run_cfg=config)
        n_each = (N_STEPS - 1) // N_PARTS
        part = partial(source.run, condition=RunSteps(num_steps=n_each), run_cfg=config)
        seconds = best(part, N_PARTS) / n_each * N_STEPS
        result = {name: sink.data.get().T for name, sink in sinks.items()}
    finally:
        source.stop()
    np.savez(out, seconds=seconds, **result)


def lava_seconds(fixed: FixedNetwork, spikes: np.ndarray) -> float:
    """Lava's time for the sample ``spikes`` (N_STEPS, n_in); its spikes must equal the simulator's."""
    from lbi.system.supervisor import run_script

    with tempfile.TemporaryDirectory() as folder:
        job, out = Path(folder, "job.pickle"), Path(folder, "out.npz")
        job.write_bytes(pickle.dumps((fixed, spikes)))
        run_script(Path(__file__), ["--lava", str(job), str(out)], where="lava", timeout_s=300)
        with np.load(out) as lava:
            for (name, _), ours in simulate(fixed, spikes[None], record="spikes").recorded.items():
                if not np.array_equal(ours[0], lava[name]):
                    raise SystemExit(f"{name}: the spikes differ from Lava's")
            return float(lava["seconds"])


def against_lava(rng: np.random.Generator, densities: tuple[float, ...]) -> None:
    """One sample on one core, and a batch on two, against Lava's time for one sample."""
    print(f"\n## Against Lava ({N_STEPS} steps, {RATE:.0%} input rate; all spikes equal)\n")
    print(
        "| network | density | Lava, ms per sample | one sample, one core, µs | × Lava | batch of "
        f"{BATCH}, two cores, µs per sample | × Lava | its CPU time, µs per sample | SynOps per step | hidden rate |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name, (sizes, recurrent) in SHAPES.items():
        for density in densities:
            batch = spikes_for(rng, BATCH, sizes[0])
            fixed = calibrated(network(rng, sizes, density, recurrent), batch[:2])
            lava = lava_seconds(fixed, batch[0])
            one = best(lambda f=fixed, b=batch[:1]: simulate(f, b, n_threads=1), 100)
            both = lambda f=fixed, b=batch: simulate(f, b, n_threads=2)  # noqa: E731
            many = best(both, 9) / BATCH
            cpu = best(both, 5, time.process_time) / BATCH
            activity = simulate(fixed, batch)
            rate = activity.populations["layer1"].spikes.mean() / sizes[1]
            print(
                f"| {name} | {density} | {lava * 1e3:.0f} | {one * 1e6:.0f} | {lava / one:.0f} | {many * 1e6:.0f} | "
                f"{lava / many:.0f} | {cpu * 1e6:.0f} | {activity.n_synops / BATCH / N_STEPS:.0f} | {rate:.1%} |"
            )


def line(x: list[float], y: list[float]) -> tuple[float, float, float]:
    """Slope, intercept and R² of the least-squares line."""
    slope, intercept = np.polyfit(x, y, 1)
    residual = np.asarray(y) - (slope * np.asarray(x) + intercept)
    return float(slope), float(intercept), float(1 - residual.var() / np.var(y))


def cost_curves(rng: np.random.Generator) -> None:
    """Time per step of 700-1024-20 against input rate at several densities, with the line through it."""
    print("\n## Cost per step of 700-1024-20 on one core (batch of 32, CPU time)\n")
    print("| varied | value | SynOps per step | µs per step |\n|---|---|---|---|")
    sizes = (700, 1024, 20)

    def measure(density: float, rate: float) -> tuple[float, float]:
        fixed = calibrated(network(rng, sizes, density), spikes_for(rng, 2, 700), 0.02)
        batch = spikes_for(rng, 32, 700, rate)
        seconds = best(lambda: simulate(fixed, batch, n_threads=1), 25, time.process_time)
        return simulate(fixed, batch).n_synops / 32 / N_STEPS, seconds / 32 / N_STEPS * 1e6

    for title, points in (
        ("input rate, density 0.02, indices", [(0.02, rate) for rate in (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)]),
        ("input rate, density 0.05", [(0.05, rate) for rate in (0.0, 0.02, 0.04, 0.06, 0.08, 0.1)]),
        ("input rate, density 0.1", [(0.1, rate) for rate in (0.0, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1)]),
        ("input rate, density 1, dense rows", [(1.0, rate) for rate in (0.0, 0.02, 0.05, 0.1, 0.2, 0.3)]),
    ):
        measured = [measure(*point) for point in points]
        for (_, rate), (synops, micro) in zip(points, measured, strict=True):
            print(f"| {title} | {rate} | {synops:.0f} | {micro:.2f} |")
        slope, intercept, fit = line([m[0] for m in measured], [m[1] for m in measured])
        print(
            f"| **{title}** | line | **{slope * 1e3:.2f} ns per SynOp** | {intercept:.2f} µs fixed, R² {fit:.3f} |"
        )


def memory(rng: np.random.Generator) -> None:
    """Bytes that the simulator stores per synapse, and a network of 100 million synapses."""
    print("\n## Memory\n\n| network | density | bytes per stored synapse |\n|---|---|---|")
    for density in (1.0, 0.5, 0.2, 0.1, 0.01):
        fixed = network(rng, (700, 1024, 1024, 20), density)
        nnz = sum(projection.weights.nnz for projection in fixed.projections)
        print(f"| 700-1024-1024-20 | {density} | {stored_bytes(plan_of(fixed).layout) / nnz:.2f} |")


def large(rng: np.random.Generator) -> None:
    """100 million synapses: 10 000 inputs, 2 × 20 000 neurons."""
    print("\n## 100 million synapses (10000-20000-20000-20, density 0.167)\n")
    fixed = network(rng, (10_000, 20_000, 20_000, 20), 0.1665)
    nnz = sum(projection.weights.nnz for projection in fixed.projections)
    spikes = spikes_for(rng, 1, 10_000, 0.01)
    start = time.perf_counter()
    layout = plan_of(fixed).layout
    built = time.perf_counter() - start
    seconds = best(lambda: simulate(fixed, spikes, n_threads=1), 5, time.process_time)
    synops = simulate(fixed, spikes).n_synops
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(
        f"{nnz / 1e6:.1f} million synapses, {stored_bytes(layout) / nnz:.2f} bytes each; laid out in {built:.1f} s; "
        f"{N_STEPS} steps with {synops / N_STEPS:.0f} SynOps each in {seconds:.2f} s "
        f"({seconds / synops * 1e9:.2f} ns per SynOp); peak memory of the process {peak:.1f} GiB"
    )


def start_up() -> None:
    """A second process: import and first call, with the compiled kernels on disk."""
    code = (
        "import time; t = time.perf_counter(); import numpy as np\n"
        "from benchmark import network, simulate\n"
        "f = network(np.random.default_rng(0), (50, 40, 5), 0.5); i = time.perf_counter() - t\n"
        "simulate(f, np.ones((1, 10, 50), np.uint8)); c = time.perf_counter() - t\n"
        "print(f'import {i:.2f} s, with the first call {c:.2f} s')"
    ).replace("from benchmark import", f"from {Path(__file__).stem} import")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    runs = [
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env=environment,
        ).stdout
        for _ in range(3)
    ]
    print(f"\n## Start-up of a second process\n\n{min(runs).strip()}")


def main() -> None:
    """Run everything, printing Markdown."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="density 0.1 only, no large network")
    parser.add_argument("--lava", nargs=2, metavar=("JOB", "OUT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.lava:
        lava_child(*options.lava)
        return
    warnings.simplefilter("ignore", SaturationWarning)
    rng = np.random.default_rng(0)
    against_lava(rng, (0.1,) if options.quick else DENSITIES)
    cost_curves(rng)
    memory(rng)
    start_up()
    if not options.quick:
        large(rng)


if __name__ == "__main__":
    main()
