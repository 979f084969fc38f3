"""Hand-made integer networks with known spikes (imported by path)."""

from __future__ import annotations

import numpy as np

from lbi import CsrMatrix, FixedCubaLif, FixedNetwork, FixedPopulation, FixedProjection, Readout, SignMode


def relay(n: int) -> FixedCubaLif:
    """Spikes in the very step in which its weights sum to at least 2: u = a << 6 ≥ 128 > 64, nothing stays."""
    return FixedCubaLif(du=4095, dv=4095, vth=1, bias_mant=np.zeros(n, np.int32))


def projection(source: str, target: str, dense, **more) -> FixedProjection:
    weights = CsrMatrix.from_dense(np.asarray(dense, dtype=np.int16))
    return FixedProjection(f"{source}_{target}", source, target, weights, SignMode.MIXED, **more)


def population(name: str, n: int, latency: int = 0) -> FixedPopulation:
    return FixedPopulation(name, (n,), relay(n), latency=latency)


def two_layer_network() -> tuple[FixedNetwork, np.ndarray]:
    """3 inputs → a (2) → b (1), three steps: inputs 0 and 2, then none, then input 1."""
    fixed = FixedNetwork(
        (3,),
        (population("a", 2, latency=1), population("b", 1, latency=2)),
        (projection("input", "a", [[2, 0, 2], [0, 2, 0]]), projection("a", "b", [[2, 2]])),
        Readout("b"),
        "loihi1",
    )
    return fixed, np.array([[[1, 0, 1], [0, 0, 0], [0, 1, 0]]], dtype=np.uint8)
