"""An estimate of a run that is not the network's is refused; its figures would be another network's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.networks import random_network, random_spikes

import lbi
from lbi.errors import InputError, UsageError


def test_runs_of_other_networks_are_refused():
    rng = np.random.default_rng(3)
    fixed = lbi.quantize(random_network(rng, (12, 9, 4)))
    spikes = random_spikes(rng, 2, 8, 12)
    lbi.estimate(fixed, lbi.simulate(fixed, spikes))
    wider = lbi.quantize(random_network(rng, (12, 30, 4), bias=True))
    renamed = replace(
        fixed,
        populations=tuple(replace(p, name=f"{p.name}_") for p in fixed.populations),
        projections=tuple(
            replace(p, target=f"{p.target}_", source=p.source if p.source == "input" else f"{p.source}_")
            for p in fixed.projections
        ),
        readout=replace(fixed.readout, population=f"{fixed.readout.population}_"),
    )
    for other in (wider, renamed):
        activity = lbi.simulate(other, spikes, record=("spikes", "active"))
        with pytest.raises(UsageError, match="activity-network"):
            lbi.estimate(fixed, activity)


@pytest.mark.parametrize("shape", [(0, 8), (2, 0)])
def test_an_empty_run_has_no_figures_per_step(shape):
    rng = np.random.default_rng(3)
    fixed = lbi.quantize(random_network(rng, (12, 9, 4)))
    with pytest.raises(InputError, match="no-activity: spikes"):
        lbi.estimate(fixed, spikes=np.zeros((*shape, 12), np.uint8))
    with pytest.raises((InputError, UsageError)):
        lbi.estimate(fixed, lbi.simulate(fixed, np.zeros((*shape, 12), np.uint8)))
