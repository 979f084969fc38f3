"""Random integer networks for sweeps: feedback over layers, skips, parallel and long delays, all neuron models.

Half are graphs in chip integers with latencies drawn at random, half float networks that ``quantize`` made fit.
"""

from __future__ import annotations

import numpy as np

from lbi import (
    CsrMatrix,
    CubaLif,
    FixedCubaLif,
    FixedNetwork,
    FixedPopulation,
    FixedProjection,
    Network,
    Population,
    Projection,
    Readout,
    SignMode,
    quantize,
)
from lbi.network.fixed import num_weight_bits
from lbi.network.neurons import (
    AtrLif,
    FixedAtrLif,
    FixedIntegrator,
    FixedLifRefractory,
    Integrator,
    LifRefractory,
)

IN_LAVA = ("cuba_lif", "integrator", "atrlif")
MODELS = (*IN_LAVA, "lif_refractory")


def make(seed: int, number: int, models: tuple[str, ...] = MODELS) -> tuple[FixedNetwork, np.ndarray]:
    """Network ``number`` of a sweep and its input (n_samples, n_steps, n_in), the same in every run."""
    rng = np.random.default_rng([seed, number])
    network = raw(rng, models) if rng.random() < 0.5 else quantized(rng, models)
    shape = (
        int(rng.integers(2, 5)),
        int(rng.choice([1, 3, 6, 10, 14], p=[0.05, 0.15, 0.2, 0.3, 0.3])),
        network.n_in,
    )
    return network, (rng.random(shape) < rng.choice([0.0, 0.2, 0.6, 1.0], p=[0.05, 0.4, 0.5, 0.05])).astype(
        np.uint8
    )


def _edges(rng: np.random.Generator, n: int) -> list[tuple[int, int]]:
    """(source, target) pairs, 0 the input: each population is reached, and any others may be added."""
    edges = [(int(rng.integers(0, target)), target) for target in range(1, n + 1)]
    edges += [(int(rng.integers(0, n + 1)), int(rng.integers(1, n + 1))) for _ in range(rng.integers(0, 5))]
    if n > 1 and rng.random() < 0.7:
        source = int(rng.integers(2, n + 1))
        edges.append((source, int(rng.integers(1, source))))
    return edges


def _sizes(rng: np.random.Generator) -> list[int]:
    return [int(size) for size in rng.integers(1, 7, rng.integers(2, 6))]


def raw(rng: np.random.Generator, models: tuple[str, ...]) -> FixedNetwork:
    """Mantissas up to their ends, latencies in any order: what no float network has, but a file may hold."""
    sizes = _sizes(rng)
    n = len(sizes) - 1
    latency = [0, *(int(x) for x in rng.integers(0, rng.choice([1, 4, 7]), n))]
    if rng.random() < 0.7:
        latency.sort()
    projections = []
    for k, (source, target) in enumerate(_edges(rng, n)):
        mode = SignMode(int(rng.choice([1, 2, 3], p=[0.6, 0.3, 0.1])))
        weights = _mantissas(rng, mode, (sizes[target], sizes[source]))
        due = max(0, latency[target] - latency[source] - 1)
        longest = due + int(rng.choice([0, 1, 3, 9, 62 - due], p=[0.5, 0.15, 0.2, 0.1, 0.05]))
        several = rng.random() < 0.4 and weights.nnz > 0
        projections.append(
            FixedProjection(
                f"w{k}",
                f"p{source}" if source else "input",
                f"p{target}",
                weights,
                mode,
                weight_exp=int(rng.choice([0, 0, 0, 1, 3, 7, -1, -3, -6])),
                num_weight_bits=num_weight_bits(weights.data, mode),
                delay=rng.integers(due, longest + 1, weights.nnz).astype(np.uint8) if several else longest,
            )
        )
    populations = tuple(
        FixedPopulation(
            f"p{i}", (sizes[i],), _integers(rng, sizes[i], str(rng.choice(models))), 1.0, latency[i]
        )
        for i in range(1, n + 1)
    )
    return FixedNetwork((sizes[0],), populations, tuple(projections), _readout(rng, populations), "loihi2")


def _readout(rng: np.random.Generator, populations: tuple) -> Readout:
    read = populations[int(rng.integers(max(0, len(populations) - 2), len(populations)))]
    kind = (
        str(rng.choice(["membrane_max", "membrane_mean"]))
        if read.neuron.model == "integrator"
        else "spike_count"
    )
    return Readout(read.name, kind)


def _mantissas(rng: np.random.Generator, mode: SignMode, shape: tuple[int, int]) -> CsrMatrix:
    grid = mode.lava_format
    step = grid.step * int(rng.choice([1, 1, 1, 2, 8]))
    peak = int(rng.choice([16, 64, 256]))
    low, high = max(grid.minimum, -peak), min(grid.maximum, peak)
    low = (
        low // 2 if mode is SignMode.MIXED and rng.random() < 0.7 else low
    )  # more that drives than holds back
    values = rng.integers(-(-low // step), high // step + 1, shape) * step
    return CsrMatrix.from_dense(
        np.where(rng.random(shape) < rng.choice([0.3, 0.7, 1.0]), values, 0).astype(np.int16)
    )


def _integers(rng: np.random.Generator, n: int, model: str):
    """A neuron of the model, lively for weights of tens, with the ends of each range among its parameters."""
    du, dv = int(rng.choice([4095, 4095, 1800, 900, 0])), int(rng.choice([0, 100, 400, 1500, 4095]))
    vth = int(
        rng.choice([0, 20, 64, 64, 150, 300, 2000, 131071], p=[0.05, 0.25, 0.2, 0.2, 0.16, 0.1, 0.02, 0.02])
    )
    mantissas = rng.integers(-200, 600, n) if rng.random() < 0.5 else np.zeros(n, dtype=np.int32)
    mantissas = rng.choice([-4096, -1, 0, 7, 4095], n) if rng.random() < 0.1 else mantissas
    bias = {"bias_mant": mantissas, "bias_exp": int(rng.choice([0, 2, 4, 7]))}
    if model == "cuba_lif":
        return FixedCubaLif(du, dv, vth, **bias)
    if model == "integrator":
        return FixedIntegrator(int(rng.choice([du, -1])), dv, **bias)
    if model == "lif_refractory":
        return FixedLifRefractory(du, dv, vth, int(rng.choice([1, 2, 5, 63])), **bias)
    deltas = [int(rng.choice([0, 1, 700, 4096])) for _ in range(2)]
    return FixedAtrLif(du, dv, *deltas, vth, int(rng.choice([0, 1, 60, 131071])), **bias)


def quantized(rng: np.random.Generator, models: tuple[str, ...]) -> FixedNetwork:
    """A float network whose feedback is as fast as the chip allows, or slower."""
    sizes = _sizes(rng)
    n = len(sizes) - 1
    edges = _edges(rng, n)
    delays = [int(rng.choice([0, 0, 1, 4])) for _ in edges]
    # The longest way to each population, which quantize makes its latency.
    latency = [0] + [1] * n
    for (source, target), delay in sorted(zip(edges, delays, strict=True), key=lambda edge: edge[0][1]):
        if source < target:
            latency[target] = max(latency[target], latency[source] + (delay == 0))
    projections = []
    for k, ((source, target), more) in enumerate(zip(edges, delays, strict=True)):
        density = rng.choice([0.4, 0.8, 1.0])
        shape = (sizes[target], sizes[source])
        values = np.where(rng.random(shape) < density, rng.normal(0.25, 0.6, shape), 0.0)
        delay = more + (max(0, latency[source] - latency[target]) if source >= target else 0)
        projections.append(
            Projection(
                f"w{k}",
                f"p{source}" if source else "input",
                f"p{target}",
                CsrMatrix.from_dense(values),
                delay,
            )
        )
    populations = tuple(
        Population(f"p{i}", (sizes[i],), _floats(rng, sizes[i], str(rng.choice(models))))
        for i in range(1, n + 1)
    )
    network = Network((sizes[0],), populations, tuple(projections), _readout(rng, populations))
    return quantize(network, exponents=str(rng.choice(["zero", "free"])))


def _floats(rng: np.random.Generator, n: int, model: str):
    current, voltage = float(rng.choice([1.0, 0.5, 0.2])), float(rng.choice([0.0, 0.1, 0.5, 0.9]))
    bias = rng.normal(0.2, 0.4, n) if rng.random() < 0.5 else None
    threshold = float(rng.choice([0.5, 1.0, 2.0]))
    if model == "cuba_lif":
        return CubaLif(current, voltage, threshold, bias)
    if model == "integrator":
        return Integrator(current, voltage, bias)
    if model == "lif_refractory":
        return LifRefractory(current, voltage, threshold, bias, refractory_period=int(rng.integers(1, 5)))
    return AtrLif(current, voltage, 0.1, 0.3, threshold, 0.2, bias)


def feeds_back(fixed: FixedNetwork) -> bool:
    """True if a projection leads from a population to one that begins a sample earlier."""
    return any(
        projection.weights.nnz and fixed.latency(projection.source) > fixed.latency(projection.target)
        for projection in fixed.projections
    )
