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
from lbi.network.neurons import LifRefractory
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


def test_memory_of_a_tensor_is_copied():
    torch = pytest.importorskip("torch")
    bias = torch.zeros(3, dtype=torch.float64)
    neuron = CubaLif(0.5, 0.25, 1.0, bias=bias)
    bias += 1
    assert not neuron.bias.any()


FRACTIONS = (100.7, np.float32(0.5), np.nan, np.inf, 2**70, "4")


@pytest.mark.parametrize("value", FRACTIONS)
def test_no_integer_is_made_of_anything_else(value):
    one = lbi.FixedCubaLif(du=409, dv=4095, vth=64, bias_mant=np.zeros(2, np.int32), bias_exp=0)
    for name in ("du", "vth", "bias_exp"):
        with pytest.raises(InputError, match=f"whole-numbers: {name}: "):
            replace(one, **{name: value})
    with pytest.raises(InputError, match=r"whole-numbers: bias_mant: 1 of 2 values|bias_mant: type "):
        replace(one, bias_mant=[1, value])
    with pytest.raises(InputError, match="whole-numbers: refractory_period: "):
        LifRefractory(0.5, 0.25, 1.0, refractory_period=value)
    for indices, indptr in (([0, value], [0, 2]), ([0, 1], [0, value])):
        with pytest.raises(InputError, match="whole-numbers: ind"):
            CsrMatrix(np.ones(2), np.array(indices), np.array(indptr), (1, 2))


def test_indices_that_do_not_fit_are_not_wrapped():
    with pytest.raises(InputError, match="whole-numbers: indices: 1 of 1 values, such as 4294967297"):
        CsrMatrix(np.ones(1), np.array([2**32 + 1]), np.array([0, 1]), (1, 2))


def test_whole_numbers_of_any_type_are_taken():
    for dtype in (np.uint8, np.int16, np.uint64, np.float32, np.float64):
        matrix = CsrMatrix(np.ones(2), np.array([0, 1], dtype), np.array([0, 2], dtype), (1, 2))
        assert (matrix.indices.dtype, matrix.indptr.dtype) == (np.int32, np.int64)


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
        with pytest.raises(UsageError, match=f"unknown-population: population: 'typo'; allowed: {names}"):
            one.population("typo")


def test_a_decay_per_neuron_is_answered_with_the_way():
    with pytest.raises(InputError, match=r"one-number: voltage_decay: 3 values.*population for each"):
        CubaLif(0.5, np.full(3, 0.25), 1.0)
