"""Random integer networks and spikes with edge cases: extreme weights, wraps, clips, all lags."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

from lbi import CsrMatrix, FixedCubaLif, FixedNetwork, FixedPopulation, FixedProjection, Readout, SignMode
from lbi.network.neurons import FixedAtrLif, FixedIntegrator, FixedLifRefractory


def random_neuron(draw, rng: np.random.Generator, n: int):
    """A CUBA-LIF neuron with edge values as likely as any others."""
    biased = draw(st.booleans())
    return FixedCubaLif(
        du=draw(st.sampled_from([0, 1, 409, 4094, 4095]) | st.integers(0, 4095)),
        dv=draw(st.sampled_from([0, 1, 128, 4095, 4096]) | st.integers(0, 4096)),
        vth=draw(st.sampled_from([0, 1, 64, 131071]) | st.integers(0, 2000)),
        bias_mant=rng.choice([-4096, -1, 0, 7, 4095], n) if biased else np.zeros(n, dtype=np.int32),
        bias_exp=draw(st.integers(0, 7)),
    )


def any_neuron(draw, rng: np.random.Generator, n: int):
    """A neuron of any model."""
    base = random_neuron(draw, rng, n)
    model = draw(st.sampled_from(["cuba_lif", "lif_refractory", "integrator", "atrlif"]))
    bias = {"bias_mant": base.bias_mant, "bias_exp": base.bias_exp}
    if model == "cuba_lif":
        return base
    if model == "integrator":
        return FixedIntegrator(du=draw(st.sampled_from([-1, base.du])), dv=base.dv, **bias)
    if model == "lif_refractory":
        period = draw(st.sampled_from([1, 2, 5, 63]))
        return FixedLifRefractory(base.du, base.dv, base.vth, period, **bias)
    decays = [draw(st.sampled_from([0, 1, 700, 4095, 4096])) for _ in range(2)]
    step = draw(st.sampled_from([0, 1, 300, 131071]))
    return FixedAtrLif(base.du, base.dv, *decays, base.vth, step, **bias)


def random_weights(draw, rng: np.random.Generator, sign_mode: SignMode, shape: tuple[int, int]) -> CsrMatrix:
    """Mantissas over the whole range, some at its ends, on a drawn grid, of a drawn density."""
    grid = sign_mode.lava_format.symmetric
    step = grid.step * draw(st.sampled_from([1, 1, 2, 4, 16]))
    values = rng.integers(grid.minimum // step, grid.maximum // step + 1, shape) * step
    extreme = rng.random(shape) < draw(st.sampled_from([0.0, 0.3, 1.0]))
    values = np.where(extreme, rng.choice([grid.minimum, grid.maximum], shape), values)
    values = np.where(grid.holds(values), values, 0)
    present = rng.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    return CsrMatrix.from_dense(np.where(present, values, 0).astype(np.int16))


@st.composite
def networks(draw, aligned: bool = False, neuron=any_neuron) -> FixedNetwork:
    """1 to 5 populations; a chain plus any recurrent, backward, skip and parallel projections.

    aligned: give populations latencies (else all are 0: raw chip time).
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_populations = draw(st.integers(1, 5))
    sizes = [draw(st.integers(1, 9)) for _ in range(n_populations + 1)]
    names = ["input", *(f"p{i}" for i in range(1, n_populations + 1))]
    edges = [(i, i + 1) for i in range(n_populations)]
    edges += draw(
        st.lists(st.tuples(st.integers(0, n_populations), st.integers(1, n_populations)), max_size=5)
    )
    latencies = [0, *(draw(st.integers(0, 3)) if aligned else 0 for _ in range(n_populations))]
    projections = []
    for k, (source, target) in enumerate(edges):
        sign_mode = draw(st.sampled_from(SignMode))
        weights = random_weights(draw, rng, sign_mode, (sizes[target], sizes[source]))
        due = max(0, latencies[target] - latencies[source] - 1)  # no spike may arrive too late
        longest = draw(st.sampled_from([due, due, due + 1, due + 4, 62]))
        several = draw(st.booleans())
        delay = rng.integers(due, longest + 1, weights.nnz).astype(np.uint8) if several else longest
        projections.append(
            FixedProjection(
                f"w{k}",
                names[source],
                names[target],
                weights,
                sign_mode,
                weight_exp=draw(st.integers(-6, 7)),
                delay=delay,
            )
        )
    populations = tuple(
        FixedPopulation(name, (n,), neuron(draw, rng, n), latency=latency)
        for name, n, latency in zip(names[1:], sizes[1:], latencies[1:], strict=True)
    )
    read = populations[draw(st.integers(0, n_populations - 1))]
    membrane = st.sampled_from(["membrane_max", "membrane_mean"])
    readout = Readout(read.name, draw(membrane) if read.neuron.model == "integrator" else "spike_count")
    return FixedNetwork((sizes[0],), populations, tuple(projections), readout, "loihi2")


@st.composite
def spikes_for(draw, network: FixedNetwork, max_steps: int = 24) -> np.ndarray:
    """(n_samples, n_steps, n_in) spikes at a drawn rate, silent and saturated ones included."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, max_steps)), network.n_in)
    return (rng.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))).astype(np.uint8)
