"""Random and hand-made networks for the tests (imported by path: the folder is no package)."""

from __future__ import annotations

import numpy as np

from lbi import CsrMatrix, CubaLif, Network, Population, Projection, Readout


def random_network(
    rng: np.random.Generator,
    sizes: tuple[int, ...] = (12, 16, 8, 4),
    *,
    density: float = 0.3,
    recurrent: bool = False,
    bias: bool = False,
    skip: bool = False,
) -> Network:
    """A chain input → … → output with spiking activity, optionally with recurrence, biases and a skip."""
    populations, projections = [], []
    names = ["input", *(f"layer{i}" for i in range(1, len(sizes)))]
    for i in range(1, len(sizes)):
        n, name = sizes[i], names[i]
        neuron = CubaLif(
            current_decay=float(rng.integers(1, 4097)) / 4096,
            voltage_decay=float(rng.integers(0, 2048)) / 4096,
            threshold=float(rng.uniform(0.5, 1.5)),
            bias=rng.normal(0, 0.05, n) if bias else None,
        )
        populations.append(Population(name, (n,), neuron))
        projections.append(
            Projection(
                f"{names[i - 1]}_{name}", names[i - 1], name, random_csr(rng, n, sizes[i - 1], density)
            )
        )
        if recurrent and i < len(sizes) - 1:
            projections.append(Projection(f"{name}_rec", name, name, random_csr(rng, n, n, density / 2)))
    if skip:
        projections.append(
            Projection("skip", names[0], names[-1], random_csr(rng, sizes[-1], sizes[0], density))
        )
    return Network((sizes[0],), tuple(populations), tuple(projections), Readout(names[-1]))


def random_csr(rng: np.random.Generator, rows: int, cols: int, density: float) -> CsrMatrix:
    """Normal weights of the given density, scaled so that a neuron of that fan-in is driven."""
    mask = rng.random((rows, cols)) < density
    return CsrMatrix.from_dense(np.where(mask, rng.normal(0.15, 0.6, (rows, cols)), 0.0))


def random_spikes(rng: np.random.Generator, n_samples: int, n_steps: int, n_in: int, rate: float = 0.3):
    """Bernoulli spikes (n_samples, n_steps, n_in) uint8."""
    return (rng.random((n_samples, n_steps, n_in)) < rate).astype(np.uint8)
