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


@pytest.mark.parametrize("record", [(), ("spikes", "active")])
def test_a_run_of_other_weights_is_refused(record):
    rng = np.random.default_rng(5)
    sparse = random_network(rng, (12, 9, 4))
    dense = replace(
        sparse,
        projections=tuple(
            replace(
                p, weights=lbi.CsrMatrix.from_dense(rng.normal(0, 1, p.weights.shape)), pattern=None, delay=0
            )
            for p in sparse.projections
        ),
    )
    spikes = random_spikes(rng, 3, 8, 12)
    activity = lbi.simulate(lbi.quantize(dense), spikes, record=record)
    with pytest.raises(UsageError, match=r"activity-network: activity, projection .*other weights"):
        lbi.estimate(lbi.quantize(sparse), activity)


@pytest.mark.parametrize("record", [(), ("spikes", "active")])
def test_other_spikes_than_those_of_the_run_are_refused(record):
    rng = np.random.default_rng(6)
    fixed = lbi.quantize(random_network(rng, (12, 9, 4)))
    spikes = random_spikes(rng, 3, 8, 12)
    activity = lbi.simulate(fixed, spikes, record=record)
    lbi.estimate(fixed, activity, spikes=spikes)
    wrong = {
        "activity-spikes": (spikes * 0, 1 - spikes),
        "spikes-value": (spikes * 0.5, spikes.astype(np.int64) * 256, spikes * 3),
        "spikes-shape": (spikes[:1],),
        "spikes-rank": (np.ones((1, 1), np.uint8),),
    }
    for code, given in wrong.items():
        for other in given:
            with pytest.raises(InputError, match=code):
                lbi.estimate(fixed, activity, spikes=other)


def test_events_are_the_same_spikes_as_their_array():
    rng = np.random.default_rng(7)
    fixed = lbi.quantize(random_network(rng, (12, 9, 4)))
    spikes = random_spikes(rng, 3, 8, 12)
    events = lbi.SpikeEvents(*np.nonzero(spikes), spikes.shape)
    assert np.array_equal(events.to_dense(), spikes)
    one, other = lbi.estimate(fixed, spikes=spikes), lbi.estimate(fixed, spikes=events)
    assert one.to_dict() == other.to_dict()
    recorded = lbi.simulate(fixed, events, record=("spikes", "active"))
    assert lbi.estimate(fixed, recorded, spikes=events).to_dict()["sparse"] == one.to_dict()["sparse"]
