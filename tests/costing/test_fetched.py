"""Synaptic operations that the chip fetches, projection by projection."""

from __future__ import annotations

import numpy as np
import pytest
from support.handmade_networks import population, projection
from support.random_kernels import make

from lbi import FixedNetwork, Readout
from lbi.costing.estimation import estimate
from lbi.costing.report.figures import projection_lines


def test_a_dense_row_is_fetched_with_its_zeros_and_an_indexed_one_without():
    """One input spike a step. The first row has 63 of 64 weights and is stored dense, the second 2 of 64."""
    full, few = np.full((64, 1), 2), np.zeros((64, 1))
    full[5], few[:2] = 0, 2
    fixed = FixedNetwork(
        (1,),
        (population("a", 64), population("b", 64)),
        (projection("input", "a", full), projection("input", "b", few)),
        Readout("b"),
        "loihi1",
    )
    found = estimate(fixed, spikes=np.ones((1, 4, 1), dtype=np.uint8))
    assert [p.bits.chosen for p in found.projections] == ["dense", "indexed"]
    assert [p.synops_fetched_per_step for p in found.projections] == [64, 2]
    assert [p.synops_effective_per_step for p in found.projections] == [63, 2]
    assert [row[-3:] for row in projection_lines(found)] == [("64", "63", "64"), ("2", "2", "64")]
    assert found.sparse.synops_fetched == 66


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
@pytest.mark.parametrize("seed", range(6))
def test_projections_add_up_to_the_headline(chip, seed):
    fixed, spikes = make(seed, seed)
    found = estimate(fixed, spikes=spikes, chip=chip)
    fetched = sum(p.synops_fetched_per_step for p in found.projections)
    assert fetched == pytest.approx(found.sparse.synops_fetched)
    dense = sum(p.synops_dense_per_step for p in found.projections)
    assert dense == pytest.approx(found.dense.synops_fetched)
    worst = estimate(fixed, chip=chip)
    assert sum(p.synops_fetched_per_step for p in worst.projections) == pytest.approx(
        worst.sparse.synops_fetched
    )
