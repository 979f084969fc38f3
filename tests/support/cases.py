"""Integer networks that every exporter must reproduce spike for spike, or refuse with a reason."""

from __future__ import annotations

from dataclasses import replace

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
from lbi.importers.builder import Builder
from lbi.importers.signal import Signal
from lbi.network.convolution import Convolution, expand
from lbi.network.neurons import FixedAtrLif, FixedIntegrator, Integrator
from support.networks import random_csr, random_network, random_spikes

N_SAMPLES, N_STEPS = 4, 20


def chain(
    weights: list[np.ndarray], modes: list[SignMode], *, exponents=None, biases=None, bits=8, vth=100, dv=400
) -> FixedNetwork:
    """A chain of populations with these integer matrices (n_out, n_in)."""
    populations, projections = [], []
    for i, (matrix, mode) in enumerate(zip(weights, modes, strict=True)):
        n = matrix.shape[0]
        bias = np.zeros(n, dtype=np.int32) if biases is None else biases[i]
        neuron = FixedCubaLif(du=1800, dv=dv, vth=vth, bias_mant=bias, bias_exp=0)
        populations.append(FixedPopulation(f"p{i}", (n,), neuron, 64.0, latency=i + 1))
        projections.append(
            FixedProjection(
                f"w{i}",
                f"p{i - 1}" if i else "input",
                f"p{i}",
                CsrMatrix.from_dense(matrix.astype(np.int16)),
                mode,
                weight_exp=0 if exponents is None else exponents[i],
                num_weight_bits=bits,
            )
        )
    return FixedNetwork(
        (weights[0].shape[1],),
        tuple(populations),
        tuple(projections),
        Readout(populations[-1].name),
        "loihi2",
    )


def even(rng: np.random.Generator, rows: int, cols: int, density: float = 0.5) -> np.ndarray:
    """Mixed-sign mantissas of the given density, excitatory on the whole."""
    return rng.integers(-40, 100, (rows, cols)) * 2 * (rng.random((rows, cols)) < density)


def delayed(rng: np.random.Generator, *, per_synapse: bool) -> FixedNetwork:
    network = random_network(rng, (12, 10, 5), recurrent=per_synapse)
    projections = tuple(
        replace(p, delay=rng.integers(0, 7, p.weights.nnz).astype(np.uint8) if per_synapse else 3)
        for p in network.projections
    )
    return quantize(replace(network, projections=projections))


def inhibitory(rng: np.random.Generator) -> FixedNetwork:
    """A driven layer that is held down by a matrix of weights ≤ 0 with zeros among them."""
    negative = -rng.integers(1, 30, (8, 10)) * (rng.random((8, 10)) < 0.4)
    negative[0, 0] = -200
    biases = [np.zeros(10, dtype=np.int32), np.full(8, 60 << 6, dtype=np.int32)]
    return chain([even(rng, 10, 12), negative], [SignMode.MIXED, SignMode.INHIBITORY], biases=biases)


def empty_projections(rng: np.random.Generator) -> FixedNetwork:
    """An all-zero recurrence, and an all-zero projection into a layer that its bias drives."""
    network = chain(
        [even(rng, 10, 12), np.zeros((4, 10))],
        [SignMode.MIXED, SignMode.EXCITATORY],
        biases=[np.zeros(10, np.int32), np.arange(4, dtype=np.int32) * 600],
    )
    nothing = CsrMatrix.from_dense(np.zeros((10, 10), np.int16))
    again = FixedProjection("again", "p0", "p0", nothing, SignMode.MIXED)
    return replace(network, projections=(*network.projections, again))


def with_skip(rng: np.random.Generator) -> FixedNetwork:
    """Two input projections into one population, one of them a skip over two others."""
    return quantize(random_network(rng, (12, 10, 8, 5), recurrent=True, skip=True))


def free_exponents(rng: np.random.Generator) -> FixedNetwork:
    network = chain([even(rng, 10, 12), even(rng, 6, 10)], [SignMode.MIXED] * 2, exponents=[-3, 2], vth=60)
    feedback = even(rng, 10, 10, 0.3).astype(np.int16)
    again = FixedProjection(
        "again", "p0", "p0", CsrMatrix.from_dense(feedback), SignMode.MIXED, weight_exp=-2
    )
    return replace(network, projections=(*network.projections, again))


def in_parts(rng: np.random.Generator) -> FixedNetwork:
    """A recurrent layer whose three parts have decays and thresholds of their own, as lbi-train makes it for speech."""
    names, sizes, back = (
        ["a", "b", "c"],
        [4, 3, 5],
        rng.normal(0.1, 0.4, (12, 12)) * (rng.random((12, 12)) < 0.4),
    )
    ends = np.cumsum([0, *sizes])
    parts = {name: slice(*ends[i : i + 2]) for i, name in enumerate(names)}
    populations = [
        Population(name, (n,), CubaLif(1 / (2 + i), 1 / (4 + 3 * i), 0.8 + 0.2 * i))
        for i, (name, n) in enumerate(zip(names, sizes, strict=True))
    ]
    projections = []
    for i, (name, rows) in enumerate(parts.items()):
        projections.append(Projection(f"in_{name}", "input", name, random_csr(rng, sizes[i], 12, 0.4)))
        projections.append(Projection(f"{name}_out", name, "out", random_csr(rng, 5, sizes[i], 0.5)))
        for k, (source, columns) in enumerate(parts.items()):
            weights = CsrMatrix.from_dense(back[rows, columns])
            projections.append(Projection(f"{source}_{name}", source, name, weights, delay=int(k < i)))
    populations.append(Population("out", (5,), CubaLif(0.3, 0.1, 1.0)))
    return quantize(Network((12,), tuple(populations), tuple(projections), Readout("out")))


def convolutional(rng: np.random.Generator) -> FixedNetwork:
    """Two convolutions, with a bias per neuron, and a dense layer behind them."""
    first = Convolution(even(rng, 3, 2 * 9).reshape(3, 2, 3, 3), (2, 1), (1, 0))
    second = Convolution(rng.integers(1, 40, (2, 3, 2, 2)), (1, 2), (0, 0))
    shapes = [(2, 6, 5)]
    for convolution in (first, second):
        shapes.append(convolution.output_shape(shapes[-1]))
    shapes.append((5,))
    matrices = [
        expand(first, shapes[0]),
        expand(second, shapes[1]),
        CsrMatrix.from_dense(even(rng, 5, int(np.prod(shapes[2])))),
    ]
    biases = [rng.integers(-4, 9, int(np.prod(shape))).astype(np.int32) << 6 for shape in shapes[1:]]
    network = chain(
        [matrix.to_dense() for matrix in matrices],
        [SignMode.MIXED, SignMode.EXCITATORY, SignMode.MIXED],
        biases=biases,
        vth=220,
    )
    populations = tuple(
        replace(p, shape=shape) for p, shape in zip(network.populations, shapes[1:], strict=True)
    )
    return replace(network, input_shape=shapes[0], populations=populations)


def feedback() -> FixedNetwork:
    """A neuron that its bias drives feeds back to one that begins a step earlier; the input is not needed.

    What ``b`` sends in the last step before its own time must not reach ``a``, whose new sample has begun.
    """
    parts = [("input", "a", 0.5, 0), ("a", "b", 0.1, 0), ("b", "a", 2.0, 1)]
    neurons = {"a": CubaLif(1.0, 0.5, 1.0), "b": CubaLif(1.0, 0.5, 1.0, np.array([2.0]))}
    return quantize(
        Network(
            (1,),
            tuple(Population(name, (1,), neuron) for name, neuron in neurons.items()),
            tuple(
                Projection(f"{source}{target}", source, target, CsrMatrix.from_dense(np.array([[w]])), delay)
                for source, target, w, delay in parts
            ),
            Readout("a"),
        )
    )


def feedback_over_layers(rng: np.random.Generator) -> FixedNetwork:
    """From the last of four layers to the first, as fast as the chip can, with slower synapses among them."""
    network = random_network(rng, (6, 7, 6, 5, 4), density=0.6, bias=True)
    weights = random_csr(rng, 7, 4, 0.8)
    delay = rng.choice([3, 3, 3, 5, 9], weights.nnz).astype(np.uint8)
    back = Projection("back", "layer4", "layer1", weights, delay)
    return quantize(replace(network, projections=(*network.projections, back)))


def adaptive(rng: np.random.Generator) -> FixedNetwork:
    """Recurrent neurons with an adaptive threshold, then a CUBA-LIF layer."""
    network = free_exponents(rng)
    neuron = FixedAtrLif(
        delta_i=900,
        delta_v=300,
        delta_theta=200,
        delta_r=600,
        theta_0=100,
        theta_step=40,
        bias_mant=rng.integers(-100, 400, 10).astype(np.int32),
        bias_exp=2,
    )
    first = replace(network.populations[0], neuron=neuron)
    return replace(network, populations=(first, network.populations[1]))


def beside_an_integrator(rng: np.random.Generator) -> FixedNetwork:
    """A readout beside which an integrator is fed: it must change nothing."""
    network = chain([even(rng, 10, 12), even(rng, 6, 10)], [SignMode.MIXED] * 2)
    silent = FixedPopulation("silent", (3,), FixedIntegrator(0, 0, np.zeros(3, np.int32)), 64.0, latency=2)
    feeds = FixedProjection(
        "feeds", "p0", "silent", CsrMatrix.from_dense(even(rng, 3, 10).astype(np.int16)), SignMode.MIXED
    )
    back = FixedProjection(
        "back", "silent", "p1", CsrMatrix.from_dense(even(rng, 6, 3).astype(np.int16)), SignMode.MIXED
    )
    return replace(
        network, populations=(*network.populations, silent), projections=(*network.projections, feeds, back)
    )


def constant_currents(rng: np.random.Generator) -> FixedNetwork:
    """Biases that enter a current: an imported model's, from a neuron that spikes in every step."""
    builder = Builder((12,))
    signal = Signal.spikes("input", (12,))
    for name, n in (("a", 10), ("b", 5)):
        signal = signal.linear(rng.normal(0.1, 0.4, (n, signal.n)), rng.normal(0.02, 0.05, n))
        signal = builder.neurons(name, name, signal, current_decay=0.25, voltage_decay=0.125, threshold=1.5)
    return quantize(builder.network())


def pruned_convolution(rng: np.random.Generator) -> FixedNetwork:
    """A convolution that keeps a third of its kernel, and its pattern; pooling; a linear layer."""
    builder = Builder((2, 6, 5))
    kernel = np.where(rng.random((3, 2, 3, 3)) < 0.3, rng.normal(0.5, 0.4, (3, 2, 3, 3)), 0.0)
    signal = Signal.spikes("input", (2, 6, 5)).conv2d(kernel, padding=1)
    signal = builder.neurons("a", "a", signal, current_decay=0.5, voltage_decay=0.125, threshold=1.0)
    signal = signal.pool2d(2, 2)
    signal = builder.neurons("b", "b", signal, current_decay=0.5, voltage_decay=0.125, threshold=2.0)
    signal = signal.flattened().linear(rng.normal(0.1, 0.4, (5, signal.n)))
    builder.neurons("c", "c", signal, current_decay=0.25, voltage_decay=0.125, threshold=1.5)
    return quantize(builder.network())


def membrane(rng: np.random.Generator, kind: str) -> FixedNetwork:
    """Integrators read out, behind a recurrent layer."""
    network = random_network(rng, (12, 10, 5), recurrent=True)
    output = network.populations[-1]
    bias = rng.normal(0.0, 0.02, output.n) if kind == "membrane_max" else None  # netx's biases are coarse
    integrators = replace(output, neuron=Integrator(0.4, 0.1, bias))
    return quantize(
        replace(
            network, populations=(*network.populations[:-1], integrators), readout=Readout(output.name, kind)
        )
    )


CASES = {
    "feed_forward": lambda rng: quantize(random_network(rng, (12, 10, 8, 5))),
    "recurrent": lambda rng: quantize(random_network(rng, (12, 10, 5), recurrent=True)),
    "recurrent_bias": lambda rng: quantize(random_network(rng, (12, 10, 5), recurrent=True, bias=True)),
    "skip": with_skip,
    "delays": lambda rng: delayed(rng, per_synapse=True),
    "delay": lambda rng: delayed(rng, per_synapse=False),
    "bias_on_netx_grid": lambda rng: chain(
        [even(rng, 10, 12), even(rng, 6, 10)],
        [SignMode.MIXED] * 2,
        biases=[
            rng.integers(-8, 25, 10).astype(np.int32) << 6,
            rng.integers(-8, 25, 6).astype(np.int32) << 6,
        ],
    ),
    "empty_projections": empty_projections,
    "inhibitory": inhibitory,
    "inhibitory_full": lambda rng: chain(
        [even(rng, 10, 12), -rng.integers(1, 4, (8, 10))],
        [SignMode.MIXED, SignMode.INHIBITORY],
        biases=[np.zeros(10, np.int32), np.full(8, 60 << 6, np.int32)],
    ),
    "excitatory_odd": lambda rng: chain(
        [rng.integers(1, 60, (8, 12)), even(rng, 5, 8)], [SignMode.EXCITATORY, SignMode.MIXED], vth=500
    ),
    "single_neuron": lambda rng: chain([np.array([[90]])], [SignMode.EXCITATORY]),
    "one_bit": lambda rng: chain(
        [128 * (rng.random((10, 12)) < 0.3), 128 * (rng.random((4, 10)) < 0.4)],
        [SignMode.EXCITATORY] * 2,
        bits=1,
        vth=1200,
    ),
    "free_exponents": free_exponents,
    "parts": in_parts,
    "convolutions": convolutional,
    "pruned_convolution": pruned_convolution,
    "adaptive": adaptive,
    "feedback": lambda _: feedback(),
    "feedback_over_layers": feedback_over_layers,
    "integrator": beside_an_integrator,
    "constant_currents": constant_currents,
    "membrane_max": lambda rng: membrane(rng, "membrane_max"),
    "membrane_mean": lambda rng: membrane(rng, "membrane_mean"),
}
"""Name → maker of the network."""

NETX_REFUSES = {
    "recurrent_bias": {"bias-grid"},
    "skip": {"not-a-chain"},
    "delays": {"delay-in-recurrent-layer"},
    "empty_projections": {"no-weights", "bias-grid"},
    "inhibitory": {"netx-inexact"},
    "free_exponents": {"exponent"},
    "adaptive": {"neuron-model", "exponent"},
    "feedback": {"not-a-chain", "readout-inside"},
    "feedback_over_layers": {"not-a-chain", "bias-grid"},
    "integrator": {"readout-inside"},
    "constant_currents": {"not-a-chain"},
    "membrane_max": {"bias-grid"},
}
"""Case → codes of the documented refusal."""


def make(name: str) -> tuple[FixedNetwork, np.ndarray]:
    """A case's network and its input (n_samples, n_steps, n_in), the same in every run."""
    rng = np.random.default_rng(sum(name.encode()))
    fixed = CASES[name](rng)
    return fixed, random_spikes(rng, N_SAMPLES, N_STEPS, fixed.n_in)


__all__ = ["CASES", "NETX_REFUSES", "chain", "even", "make", "random_csr"]
