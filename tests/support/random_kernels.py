"""Random integer networks of convolutions and poolings with a recurrent dense layer behind, and input spikes."""

from __future__ import annotations

import numpy as np

from lbi import CsrMatrix, FixedCubaLif, FixedNetwork, FixedPopulation, FixedProjection, Readout, SignMode
from lbi.network.convolution import Convolution
from lbi.network.convolution_weights import ConvolutionWeights


def make(seed: int, number: int) -> tuple[FixedNetwork, np.ndarray]:
    """Network ``number`` of a seed, 1 to 3 convolutions deep, and spikes (n_samples, n_steps, n_in)."""
    rng = np.random.default_rng((seed, number))
    shape = (int(rng.integers(1, 4)), int(rng.integers(3, 10)), int(rng.integers(3, 10)))
    input_shape, source, populations, projections = shape, "input", [], []
    for depth in range(1, int(rng.integers(2, 5))):
        weights = convolution(rng, shape)
        exponent = int(rng.integers(-2, 4)) if rng.random() < 0.5 else 0
        name = f"maps{depth}"
        mode = SignMode.EXCITATORY if weights.data.min() > 0 else SignMode.MIXED
        delay = int(rng.choice([0, 0, 1, 3]))
        populations.append(
            FixedPopulation(name, weights.output_shape, neuron(rng, weights.shape[0]), latency=depth)
        )
        projections.append(FixedProjection(f"w{depth}", source, name, weights, mode, exponent, delay=delay))
        source, shape = name, weights.output_shape
    n, n_out = populations[-1].n, int(rng.integers(1, 6))
    for name, origin, size in (("dense", source, n), ("recurrent", "out", n_out)):
        matrix = CsrMatrix.from_dense((rng.integers(-90, 128, (n_out, size)) * 2).astype(np.int16))
        projections.append(FixedProjection(name, origin, "out", matrix, SignMode.MIXED))
    populations.append(FixedPopulation("out", (n_out,), neuron(rng, n_out), latency=len(populations) + 1))
    network = FixedNetwork(input_shape, tuple(populations), tuple(projections), Readout("out"), "loihi2")
    spikes = rng.random((int(rng.integers(1, 4)), int(rng.integers(2, 16)), network.n_in)) < rng.uniform(
        0.05, 1
    )
    return network, spikes.astype(np.uint8)


def neuron(rng: np.random.Generator, n: int) -> FixedCubaLif:
    """A CUBA-LIF neuron with any decays and a low threshold."""
    bias = rng.integers(-50, 50, n) if rng.random() < 0.3 else np.zeros(n)
    decays = (int(rng.integers(0, 4096)), int(rng.integers(0, 4096)))
    vth = int(rng.integers(0, rng.choice([30, 100, 400])))
    return FixedCubaLif(*decays, vth, bias.astype(np.int32), int(rng.integers(0, 8)))


def convolution(rng: np.random.Generator, shape: tuple[int, int, int]) -> ConvolutionWeights:
    """A convolution or pooling of maps of that shape: any stride, padding, dilation and groups that leave an output."""
    while True:
        if rng.random() < 0.3:
            size = int(rng.integers(1, 4))
            kernel = np.full((shape[0], 1, size, size), int(rng.choice([1, 64, 200])))
            own = Convolution(kernel, (size, size), (0, 0), groups=shape[0])
        else:
            groups = int(rng.choice([1, shape[0]]))
            sizes = (groups * int(rng.integers(1, 4)), shape[0] // groups, *rng.integers(1, 5, 2))
            kernel = rng.integers(-90, 128, sizes) * 2 * (rng.random(sizes) < rng.choice([0.3, 1.0]))
            steps = [tuple(map(int, rng.integers(low, high, 2))) for low, high in ((1, 4), (0, 4), (1, 4))]
            own = Convolution(kernel, steps[0], steps[1], steps[2], groups)
        if min(own.output_shape(shape)) >= 1 and np.any(own.kernel):
            return ConvolutionWeights(own._replace(kernel=own.kernel.astype(np.int16)), shape)
