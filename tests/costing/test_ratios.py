"""Ratios of dense and sparse costs: within each cost set, and the range over the sets."""

from __future__ import annotations

import numpy as np
import pytest
from support.handmade_networks import population, projection

from lbi import FixedNetwork, Readout
from lbi.costing.estimation import estimate
from lbi.costing.ranges import Range, ratio
from lbi.costing.report.figures import comparison, headline


def test_ends_of_different_sets_are_not_divided():
    """90 / 40 = 2.25 by set a and 100 / 25 = 4 by set b; the ends of the hulls would give 90 / 25 and 100 / 40."""
    dense = {"a": Range(90.0, 90.0), "b": Range(100.0, 100.0)}
    assert ratio(dense, {"a": Range(40.0, 40.0), "b": Range(25.0, 25.0)}) == Range(2.25, 4.0)
    assert ratio(dense, {"b": Range(25.0, 50.0)}) == Range(2.0, 4.0)
    assert ratio(dense, {"c": Range(1.0, 1.0)}) is None
    assert ratio(dense, {"a": Range(0.0, 0.0)}) is None


def test_the_set_that_is_cheaper_for_dense_may_be_dearer_for_sparse():
    """400 targets of 100 inputs, one weight each, 4 spikes a step; no neuron is ever active, nothing is sent.

    Davies: dense 4 · 400 · 23.6 + 400 · 52 + 4 · 1.7 = 58,566.8, sparse 4 · 4 · 23.6 + 400 · 52 + 4 · 1.7
    SANA-FE: dense 4 · 400 · 35.5 + 400 · 51.2 + 4 · 111 = 77,724, sparse 4 · 4 · 33.6 + 400 · 51.2 + 4 · 111
    """
    weights = np.zeros((400, 100))
    for source in range(100):
        weights[4 * source : 4 * source + 4, source] = 2
    fixed = FixedNetwork(
        (100,), (population("a", 400),), (projection("input", "a", weights),), Readout("a"), "loihi1"
    )
    spikes = np.zeros((1, 1, 100), dtype=np.uint8)
    spikes[0, 0, :4] = 1
    found = estimate(fixed, spikes=spikes)
    davies = (4 * 400 * 23.6 + 400 * 52 + 4 * 1.7, 4 * 4 * 23.6 + 400 * 52 + 4 * 1.7)
    sanafe = (4 * 400 * 35.5 + 400 * 51.2 + 4 * 111, 4 * 4 * 33.6 + 400 * 51.2 + 4 * 111)
    assert [found.dense.energy[name].low for name in ("davies2018", "sanafe")] == pytest.approx(
        [davies[0], sanafe[0]]
    )
    assert davies[1] < sanafe[1]
    expected = sorted((davies[0] / davies[1], sanafe[0] / sanafe[1]))
    shown = found.to_dict()["ratio"]["energy_pj_per_step"]
    assert [shown["low"], shown["high"]] == pytest.approx(expected)
    line = next(line for line in headline(found) if line.key == "energy")
    assert line.ratio == f"{expected[0]:.2f} – {expected[1]:.2f} ×"
    row = next(row for row in comparison([found, found]) if row[0] == "dynamic energy")
    assert row[-1] == "1.00 ×"
