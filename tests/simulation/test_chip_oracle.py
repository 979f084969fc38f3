"""The simulator against plain Python integers in chip time; ``tests/oracle_sweep.py`` runs tens of thousands."""

from __future__ import annotations

import numpy as np
import pytest
from support import cases, chip_oracle, random_chip

from lbi.simulation.run import simulate

N_NETWORKS = 80


@pytest.mark.filterwarnings("ignore::lbi.simulation.run.SaturationWarning")
def test_random_networks_equal_plain_integers():
    n_back = n_telling = 0
    for number in range(N_NETWORKS):
        fixed, spikes = random_chip.make(3, number)
        recorded = simulate(fixed, spikes, record=("spikes", "u", "v")).recorded
        for key, values in chip_oracle.run(fixed, spikes).items():
            np.testing.assert_array_equal(recorded[key], np.array(values), err_msg=f"network {number}, {key}")
        n_back += random_chip.feeds_back(fixed)
        n_telling += int(np.unique(recorded[fixed.readout.population, "v"]).size > 2)
    assert n_back > N_NETWORKS // 8
    assert n_telling > N_NETWORKS // 3


@pytest.mark.parametrize("name", ["feedback", "feedback_over_layers", "adaptive", "membrane_max"])
def test_handmade_networks_equal_plain_integers(name):
    fixed, spikes = cases.make(name)
    expected = np.array(chip_oracle.output(fixed, chip_oracle.run(fixed, spikes)))
    np.testing.assert_array_equal(simulate(fixed, spikes).output, expected)


@pytest.mark.parametrize(
    ("x", "d", "expected"),
    [
        (-1, 1, 0),
        (4096, 4096, 0),
        (-4097, 1, -4095),
        (8388607, 0, 8388607),
        (-8388607, 2048, -4194303),
        (5, 4097, 0),
    ],
)
def test_the_oracles_decay_cuts_toward_zero(x, d, expected):
    assert chip_oracle.shrunk(x, d) == expected


@pytest.mark.parametrize(
    ("total", "expected"),
    [
        (1 << 23, 1 << 23),
        ((1 << 23) + 64, 64 - (1 << 23)),
        (-(1 << 23), 1 << 23),
        (64 - (1 << 23), 64 - (1 << 23)),
    ],
)
def test_the_oracles_current_turns_over_once(total, expected):
    assert chip_oracle.new_current(0, 0, total >> 6) == expected
