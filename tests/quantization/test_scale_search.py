"""The search for a scale: its losses are those of the formula, written out, to the bit."""

from __future__ import annotations

import numpy as np
import pytest

import lbi
from lbi.network.graph import Population, Projection
from lbi.quantization import to_integers


def plain_loss(population, projections, scale, profile):
    """The formula on whole arrays, by the format's own rounding."""
    threshold = population.neuron.threshold
    loss = (round(threshold * scale) / (threshold * scale) - 1.0) ** 2
    for projection in projections:
        data = projection.weights.data
        grid = to_integers.weight_grid(to_integers.sign_mode_of(data), profile.formats)
        exponent = 0
        while round(float(np.abs(data).max()) * scale / 2**exponent) > max(grid.maximum, -grid.minimum):
            exponent += 1
        mantissas = grid.round(data * (scale / 2**exponent))
        error = mantissas * (2.0**exponent / scale) - data
        loss += float(np.mean(error**2) / np.mean(data**2))
    return loss


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_losses_equal_the_formula_in_every_bit(dtype, chip, rng):
    profile = lbi.load_profile(chip)
    population = Population("a", (40,), lbi.CubaLif(current_decay=0.5, voltage_decay=0.1, threshold=1.3))
    mixed = rng.normal(0, 1, (40, 1000)).astype(dtype)  # more than two blocks
    positive = np.abs(rng.normal(0, 0.02, (40, 40))).astype(dtype)
    assert mixed.size > 2 * to_integers.BLOCK
    into = [
        Projection("i", "input", "a", lbi.CsrMatrix.from_dense(mixed)),
        Projection("r", "a", "a", lbi.CsrMatrix.from_dense(positive)),
    ]
    scales = 200.0 * 2.0 ** -np.linspace(0.0, 4.0, 17)
    found = to_integers._losses(population, into, scales, profile)
    assert found.tolist() == [plain_loss(population, into, scale, profile) for scale in scales]
    assert np.unique(found).size > 10
