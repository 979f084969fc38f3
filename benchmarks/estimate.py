"""The estimator against SANA-FE, against published measurements, and on a million neurons.

    python benchmarks/estimate.py --sanafe PYTHON [--scale] [EXPORT ...]

``--sanafe`` names a Python that has the package ``sanafe`` (2.2.9 here; GPL, so it runs as a separate
program: benchmarks/sanafe_side.py). Exports made by lbi-export are compared too, on their own test set.
Prints Markdown; benchmarks/estimate.md is its output.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lbi import CsrMatrix, FixedCubaLif, FixedNetwork, FixedPopulation, FixedProjection, Readout, SignMode
from lbi.chip.load import load_profile, profile_names
from lbi.chip.placement import Placement, place
from lbi.costing.checkpoints import check_points
from lbi.costing.estimation import estimate
from lbi.network.graph import INPUT
from lbi.simulation.run import simulate


def network(
    rng: np.random.Generator, n_in: int, sizes: tuple[int, ...], fan_in: int, recurrent: bool
) -> FixedNetwork:
    """A chain of leaky neurons with ``fan_in`` inputs from each source, in raw chip time."""
    populations, projections = [], []
    source, n_source = INPUT, n_in
    for i, n in enumerate(sizes):
        name = f"l{i}"
        neuron = FixedCubaLif(
            du=4095, dv=int(rng.integers(100, 2000)), vth=300, bias_mant=np.zeros(n, np.int32)
        )
        populations.append(FixedPopulation(name, (n,), neuron))
        projections.append(projection(f"p{i}", source, name, n, n_source, fan_in, rng))
        if recurrent and i < len(sizes) - 1:
            projections.append(projection(f"r{i}", name, name, n, n, fan_in // 2, rng))
        source, n_source = name, n
    return FixedNetwork((n_in,), tuple(populations), tuple(projections), Readout(source), "loihi1")


def projection(
    name: str, source: str, target: str, n: int, n_source: int, fan_in: int, rng: np.random.Generator
) -> FixedProjection:
    """``fan_in`` distinct sources per neuron, one from each of as many equal ranges; weights mostly positive."""
    k = min(fan_in, n_source)
    edges = np.linspace(0, n_source, k + 1).astype(np.int64)
    indices = edges[:-1] + rng.integers(0, 1 << 30, (n, k)) % np.diff(edges)
    data = 2 * rng.integers(-30, 60, n * k)
    data[data == 0] = 2
    indptr = np.arange(0, n * k + 1, k)
    weights = CsrMatrix(data.astype(np.int16), indices.ravel().astype(np.int32), indptr, (n, n_source))
    return FixedProjection(name, source, target, weights, SignMode.MIXED)


# --- SANA-FE ---------------------------------------------------------------------------------------------


def job(fixed: FixedNetwork, placement: Placement, spikes: np.ndarray, dense: bool, out: Path) -> dict:
    """The job for sanafe_side.py: groups with cores (column, row, slot), connections, input spikes of one sample."""
    per_tile = int(load_profile("loihi1").mesh.cores_per_tile.number)

    def where(core: int) -> list[int]:
        return [int(placement.positions[core, 1]), int(placement.positions[core, 2]), core % per_tile]

    free = placement.n_cores % per_tile
    last = where(placement.n_cores - 1)[:2] if free else [7, 3]
    groups: dict = {
        INPUT: {"n": fixed.n_in, "cores": [[*last, free]] * fixed.n_in, "spikes": (spikes.T != 0).tolist()}
    }
    for population in fixed.populations:
        neuron = population.neuron
        groups[population.name] = {
            "n": population.n,
            "cores": [where(int(core)) for core in placement.core_of(population.name)],
            "attributes": {
                "threshold": float(neuron.vth),
                "reset": 0.0,
                "leak_decay": float((4096 - neuron.dv) / 4096),
                "input_decay": float((4095 - neuron.du) / 4096),
            },
        }
    connections = []
    for p in fixed.projections:
        if dense:
            full = p.weights.to_dense()
            target, source = (axis.ravel() for axis in np.indices(full.shape))
            values = full.ravel()
        else:
            target, source, values = p.weights.row_of(), p.weights.indices, p.weights.data
        pairs = np.stack([source, target], axis=1).tolist()
        connections.append([p.source, p.target, pairs, values.astype(float).tolist()])
    synapse = "loihi_dense_synapse" if dense else "loihi_sparse_synapse"
    return {
        "n_steps": int(spikes.shape[0]),
        "synapse": synapse,
        "groups": groups,
        "connections": connections,
        "out": str(out),
    }


def run_sanafe(
    python: str, fixed: FixedNetwork, placement: Placement, spikes: np.ndarray, dense: bool
) -> dict:
    """The result of one sample in SANA-FE, run in a separate process."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "result.json"
        side = Path(__file__).with_name("sanafe_side.py")
        text = json.dumps(job(fixed, placement, spikes, dense, out))
        done = subprocess.run(
            [python, str(side)], input=text, capture_output=True, text=True, check=False, timeout=600
        )
        if done.returncode:
            raise SystemExit(f"SANA-FE failed:\n{done.stderr[-2000:]}")
        return json.loads(out.read_text(encoding="utf-8"))


def differing_spikes(fixed: FixedNetwork, theirs: dict, recorded: dict) -> int:
    """Number of population spikes that occur in only one of the two."""
    n_steps = len(theirs["spikes"])
    other = {name: np.zeros((n_steps, fixed.population(name).n), bool) for name, _ in recorded}
    for step, events in enumerate(theirs["spikes"]):
        for name, neuron in events:
            if name != INPUT:
                other[name][step, neuron] = True
    return sum(int((other[name] != (values[0] != 0)).sum()) for (name, _), values in recorded.items())


def compare(python: str, label: str, fixed: FixedNetwork, spikes: np.ndarray) -> Iterator[str]:
    """Table rows for one network and one sample (1, n_steps, n_in), sparse then dense."""
    fixed = dataclasses.replace(
        fixed, populations=tuple(dataclasses.replace(p, latency=0) for p in fixed.populations), chip="loihi1"
    )
    profile = load_profile("loihi1")
    activity = simulate(fixed, spikes, record=("spikes", "active"))
    result = estimate(fixed, activity, profile, spikes=spikes)
    recorded = {key: values for key, values in activity.recorded.items() if key[1] == "spikes"}
    n_steps = spikes.shape[1]
    for dense in (False, True):
        costs = result.dense if dense else result.sparse
        if not dense and set(costs.placement.formats.values()) != {"indexed"}:
            continue
        theirs = run_sanafe(python, fixed, costs.placement, spikes[0], dense)
        wrong = differing_spikes(fixed, theirs, recorded)
        ours_j = costs.energy["sanafe"].high * n_steps * 1e-12
        parts = costs.parts["sanafe"]
        ours_ns = costs.time["sanafe"]
        theirs_ns = theirs["sim_time_s"] * 1e9 / n_steps
        total = theirs["energy_j"]["total"]
        lookups = round(theirs["totals"]["spikes"])
        synapse = parts["synapses"] * n_steps * 1e-12 / theirs["energy_j"]["synapse"]
        yield (
            f"| {label} | {'dense' if dense else 'sparse'} | {costs.placement.n_cores} | {wrong} of "
            f"{int(sum(values.sum() for values in recorded.values())):,} | {round(costs.synops_fetched * n_steps):,} / {lookups:,} | "
            f"{ours_j * 1e6:.3f} / {total * 1e6:.3f} µJ | **{ours_j / total - 1:+.2%}** | {synapse - 1:+.2%} | "
            f"{ours_ns.low:,.0f} – {ours_ns.high:,.0f} / {theirs_ns:,.0f} ns |"
        )


def sanafe_table(python: str, exports: list[Path]) -> None:
    """Print the comparison with SANA-FE."""
    print("## Against SANA-FE 2.2.9 with its Loihi profile, same placement and spikes\n")
    print(
        "ours / SANA-FE's; energy with the `sanafe` cost set. Time per step: our bounds / its simple timing model.\n"
    )
    print(
        "| network | weights | cores | spikes that differ | synaptic lookups | energy | difference | of synapses | time per step |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    cases = {
        "200-256-10, fan-in 30": (200, (256, 10), 30, False),
        "300-(600)-(600)-20, fan-in 60, recurrent": (300, (600, 600, 20), 60, True),
        "400-1500-1500-10, fan-in 80": (400, (1500, 1500, 10), 80, False),
    }
    for label, (n_in, sizes, fan_in, recurrent) in cases.items():
        rng = np.random.default_rng(5)
        fixed = network(rng, n_in, sizes, fan_in, recurrent)
        spikes = (rng.random((1, 50, n_in)) < 0.08).astype(np.uint8)
        for row in compare(python, label, fixed, spikes):
            print(row, flush=True)
    for path in exports:
        fixed, spikes = load_export(path)
        for row in compare(python, f"export {path.stem}, first test sample", fixed, spikes[:1]):
            print(row, flush=True)


def load_export(path: Path) -> tuple[FixedNetwork, np.ndarray]:
    """An export and the test set it was trained for."""
    from lbi import datasets
    from lbi.files import network_h5

    fixed = network_h5.load(path / "network.h5" if path.is_dir() else path)
    encoding = dict(fixed.provenance["dataset"])
    return fixed, datasets.load(encoding.pop("name"), None, **encoding).test.spikes


# --- published measurements ------------------------------------------------------------------------------


def checkpoint_table() -> None:
    """Print each check point of the profiles: the range from our constants, and the measured value."""
    print("\n## Published check points\n")
    print("| workload | inside the measurement | costs | ours | measured | ours / measured | verdict |")
    print("|---|---|---|---|---|---|---|")
    for chip in profile_names():
        for found in check_points(load_profile(chip)):
            point, ratio = found.point, found.ratio
            print(
                f"| {load_profile(chip).title}: {point.label} ({point.measured.source}, {point.measured.confidence}) | "
                f"{point.boundary} | {point.costs.label} | {found.ours.low / 1e6:,.1f} – {found.ours.high / 1e6:,.1f} µJ | "
                f"{point.measured.number / 1e6:,.1f} µJ | {ratio.low:.2f} – {ratio.high:.2f} | "
                f"{found.verdict if found.inside else f'**{found.verdict}**'} |"
            )


# --- scale -----------------------------------------------------------------------------------------------


def scale_table() -> None:
    """Print the placement of a million neurons with 100 million random synapses (the worst case for sharing)."""
    print("\n## A million neurons, 100 million synapses, connected at random\n")
    print("| chip | cores | chips | seconds |\n|---|---|---|---|")
    rng = np.random.default_rng(0)
    fixed = network(rng, 1000, (250_000,) * 4, 100, False)
    assert sum(p.weights.nnz for p in fixed.projections) == 100_000_000
    for chip in profile_names():
        start = time.perf_counter()
        placement = place(fixed, load_profile(chip))
        print(
            f"| {chip} | {placement.n_cores:,} | {placement.n_chips:,} | {time.perf_counter() - start:.0f} |",
            flush=True,
        )


def main() -> None:
    """Print all requested tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sanafe", metavar="PYTHON", help="a Python that has sanafe")
    parser.add_argument("--scale", action="store_true", help="place a million neurons (minutes, 8 GB)")
    parser.add_argument("exports", nargs="*", type=Path, metavar="EXPORT")
    arguments = parser.parse_args()
    if arguments.sanafe:
        sanafe_table(arguments.sanafe, arguments.exports)
    checkpoint_table()
    if arguments.scale:
        scale_table()


if __name__ == "__main__":
    main()
