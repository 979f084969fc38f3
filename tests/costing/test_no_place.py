"""A dense network that does not fit the chip: what depends on cores is unknown."""

from __future__ import annotations

import numpy as np
import pytest
from support.handmade_networks import population, projection, two_layer_network

from lbi import FixedNetwork, Readout
from lbi.costing.estimation import estimate
from lbi.costing.report.figures import headline


def test_a_dense_network_that_fits_no_core_has_no_axons_and_no_messages():
    """Of 5000 spikes a step, 100 reach the core; neuron 0 is active when they have arrived, in the second step.

    Davies without messages: dense 10,000 · 23.6 + (81 + 3 · 52) / 2, sparse 100 · 23.6 + the same + 100 messages · 1.7
    SANA-FE: dense 10,000 · 35.5 + (72.8 + 3 · 51.2) / 2, and 69.3 per spike
    """
    dense = np.zeros((2, 5000))
    dense[0, :100] = 2
    fixed = FixedNetwork(
        (5000,), (population("a", 2),), (projection("input", "a", dense),), Readout("a"), "loihi1"
    )
    found = estimate(fixed, spikes=np.ones((1, 2, 5000), dtype=np.uint8))
    record = found.to_dict()
    full, sparse = record["dense"], record["sparse"]
    for key in ("messages_per_step", "hops_per_step", "messages_off_chip_per_step", "per_core"):
        assert full[key] is None
    assert (full["energy_with_messages"], sparse["energy_with_messages"]) == (False, True)
    assert (sparse["messages_per_step"], sparse["per_core"]["input_axons"]["total"]) == (100, 100)
    n_spikes = sparse["spikes_per_step"]
    assert full["energy_by_cost_set"]["davies2018"]["low"] == pytest.approx(10_000 * 23.6 + (81 + 3 * 52) / 2)
    assert full["energy_by_cost_set"]["sanafe"]["low"] == pytest.approx(
        10_000 * 35.5 + (72.8 + 3 * 51.2) / 2 + n_spikes * 69.3
    )
    assert sparse["energy_by_cost_set"]["davies2018"]["low"] == pytest.approx(
        100 * 23.6 + (81 + 3 * 52) / 2 + 100 * 1.7
    )
    assert full["energy_parts_pj"]["davies2018"]["hops"] == 0
    lines = {line.key: line for line in headline(found)}
    for key in ("messages", "input_axons", "output_axons", "cores", "time"):
        assert (lines[key].dense, lines[key].ratio) == ("does not fit", ""), key
    assert lines["energy"].dense.startswith("≥ 236 nJ")
    assert lines["energy"].ratio.startswith("≥ ")
    on_loihi2 = {line.key: line for line in headline(estimate(two_layer_network()[0], chip="loihi2"))}
    assert not on_loihi2["scenario.loihi1_constants"].dense.startswith("≥")
