"""Networks are values: nobody changes them from outside, equal ones are equal, and a wrong name is an error."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest
from support.networks import random_network

import lbi
from lbi import CsrMatrix, CubaLif, Projection
from lbi.errors import InputError, UsageError
from lbi.network.spikes import SpikeEvents
from lbi.network.values import read_only


def test_arrays_that_a_network_was_made_of_stay_the_callers():
    data, indices, indptr = np.array([1.0, 2.0]), np.array([0, 1], np.int32), np.array([0, 2], np.int64)
    delay = np.array([1, 2], np.uint8)
    for given in ((data, indices, indptr), (data[:], indices[:], indptr[:])):
        matrix = CsrMatrix(*given, (1, 2))
        projection = Projection("p", "input", "a", matrix, delay)
        data[0], indices[0], delay[0] = 0.0, 7, 200
        assert (matrix.data[0], matrix.indices[0], projection.delay[0]) == (1.0, 0, 1)
        data[0], indices[0], delay[0] = 1.0, 0, 1
    events = SpikeEvents(sample := np.array([0]), np.array([1]), np.array([2]), (1, 2, 3))
    sample[0] = 5
    assert events.sample[0] == 0


def test_an_array_that_nobody_can_write_is_taken_without_a_copy():
    frozen = np.arange(4.0)
    frozen.flags.writeable = False
    assert np.shares_memory(read_only(frozen), frozen)
    view = np.arange(4.0)[1:]
    view.flags.writeable = False  # but its base can be written
    assert not np.shares_memory(read_only(view), view)


@pytest.mark.parametrize("seed", range(4))
def test_equality_is_by_value(seed, tmp_path):
    network = random_network(np.random.default_rng(seed), recurrent=bool(seed % 2), bias=True)
    fixed = lbi.quantize(network)
    lbi.save(fixed, tmp_path / "network.h5")
    for one, same in (
        (network, copy.deepcopy(network)),
        (network, pickle.loads(pickle.dumps(network))),
        (fixed, lbi.quantize(network)),
        (fixed, lbi.load(tmp_path / "network.h5")),
    ):
        assert one == same
    population = network.populations[0]
    other = replace(population.neuron, threshold=population.neuron.threshold * 2)
    changed = replace(network, populations=(replace(population, neuron=other), *network.populations[1:]))
    assert changed != network
    projection = fixed.projections[0]
    delayed = replace(projection, delay=np.full(projection.weights.nnz, projection.delay, np.uint8))
    assert delayed != projection
    assert delayed == copy.deepcopy(delayed)


def test_a_population_that_is_not_there():
    network = random_network(np.random.default_rng(0))
    names = ", ".join(repr(p.name) for p in network.populations)
    for one in (network, lbi.quantize(network)):
        with pytest.raises(UsageError, match=f"no-population: population: 'typo'; allowed: {names}"):
            one.population("typo")


def test_a_decay_per_neuron_is_answered_with_the_way():
    with pytest.raises(InputError, match=r"one-number: voltage_decay: 3 values.*population for each"):
        CubaLif(0.5, np.full(3, 0.25), 1.0)
