"""The compiled simulator against the plain numpy one, hand-computed counts, and its checks."""

from __future__ import annotations

import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import cases
from support.networks import random_network, random_spikes
from support.one_layer import one_layer
from support.random_fixed import networks, spikes_for

from lbi import CsrMatrix, FixedCubaLif, FixedNetwork, FixedPopulation, FixedProjection, Readout, SignMode
from lbi.errors import InputError
from lbi.simulation import columns, oracle
from lbi.simulation.layout import plan_of, stored_bytes
from lbi.simulation.records import DENSE, MASKED, SPARSE
from lbi.simulation.run import SaturationWarning, SpikeEvents, simulate

ALL = ("spikes", "active", "u", "v")


def run_quietly(network, spikes, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SaturationWarning)
        return simulate(network, spikes, **options)


def assert_equal(ours, theirs):
    np.testing.assert_array_equal(ours.output_spikes, theirs.output_spikes)
    np.testing.assert_array_equal(ours.input_spikes, theirs.input_spikes)
    for key, expected in theirs.recorded.items():
        np.testing.assert_array_equal(ours.recorded[key], expected, err_msg=str(key))
    for name, expected in theirs.populations.items():
        np.testing.assert_array_equal(ours.populations[name].spikes, expected.spikes)
        np.testing.assert_array_equal(ours.populations[name].active, expected.active)
    for name, expected in theirs.projections.items():
        np.testing.assert_array_equal(ours.projections[name].events, expected.events)
        np.testing.assert_array_equal(ours.projections[name].synops, expected.synops)


@given(st.data())
def test_equals_the_plain_simulation_with_latencies(data):
    network = data.draw(networks(aligned=True))
    spikes = data.draw(spikes_for(network))
    variables = (
        "spikes",
        "active",
        *{name for p in network.populations for name in p.neuron.state_variables},
    )
    expected = oracle.simulate(network, spikes, record=variables)
    assert_equal(run_quietly(network, spikes, record=variables), expected)
    sample, step, channel = np.nonzero(spikes)
    events = SpikeEvents(sample[::-1], step[::-1], channel[::-1], spikes.shape)
    assert_equal(run_quietly(network, events, record=variables, n_threads=2), expected)


@pytest.mark.parametrize("kind", [DENSE, SPARSE, MASKED])
@pytest.mark.parametrize("density", [0.05, 0.9])
@pytest.mark.parametrize("sign_mode", SignMode)
def test_equals_the_plain_simulation_beyond_one_vector(rng, monkeypatch, density, kind, sign_mode):
    monkeypatch.setattr(columns, "chosen_formats", lambda fixed, projections: [kind])
    grid = sign_mode.lava_format.symmetric
    shape = (150, 300)
    values = rng.integers(grid.minimum // grid.step, grid.maximum // grid.step + 1, shape) * grid.step
    network = one_layer(
        np.where(rng.random(shape) < density, values, 0),
        vth=900,
        du=900,
        dv=100,
        bias=-900,
        sign_mode=sign_mode,
    )
    assert plan_of(network).layout.format.tolist() == [kind]
    spikes = (rng.random((3, 20, 300)) < 0.2).astype(np.uint8)
    assert_equal(run_quietly(network, spikes, record=ALL), oracle.simulate(network, spikes, record=ALL))


def test_more_targets_than_uint16_holds(rng):
    n = 70_000
    rows = np.array([0, 1, 65_535, 65_536, n - 1])
    matrix = CsrMatrix(
        np.full(5, 2, np.int16),
        np.zeros(5),
        np.concatenate([[0], np.cumsum(np.isin(np.arange(n), rows))]),
        (n, 1),
    )
    network = FixedNetwork(
        (1,),
        (FixedPopulation("layer", (n,), FixedCubaLif(4095, 4096, 1, np.zeros(n))),),
        (FixedProjection("w", "input", "layer", matrix, SignMode.MIXED),),
        Readout("layer"),
        "loihi2",
    )
    activity = simulate(network, np.ones((1, 2, 1), np.uint8))
    assert np.flatnonzero(activity.output_spikes[0, 1]).tolist() == rows.tolist()


def test_counts_are_those_of_the_arithmetic():
    # Channel 0 reaches three neurons, channel 1 one, channel 2 none.
    network = one_layer([[2, 0, 0], [4, 2, 0], [2, 0, 0]])
    activity = simulate(network, np.array([[[1, 0, 1], [1, 1, 0], [0, 0, 0], [0, 0, 0]]], np.uint8))
    assert activity.input_spikes.tolist() == [[2, 2, 0, 0]]
    assert activity.projections["w"].events.tolist() == [[2, 2, 0, 0]]
    assert activity.projections["w"].synops.tolist() == [[3, 3 + 1, 0, 0]]
    assert activity.n_synops == 7
    # All weights exceed vth = 1, a step later; the spike resets v, u stays until the next update.
    assert activity.output_spikes.tolist() == [[[0, 0, 0], [1, 1, 1], [1, 1, 1], [0, 0, 0]]]
    assert activity.populations["layer"].active.tolist() == [[0, 3, 3, 3]]
    assert activity.n_spikes == 6


def test_the_right_shift_is_taken_of_the_sum_and_of_each_delay_apart():
    # Σ = −2 − 4 = −6: −6 >> 2 = −2; apart −2 >> 2 = −1, −4 >> 2 = −1, in different steps.
    spikes = np.array([[[1, 1], [0, 0], [0, 0], [0, 0]]], np.uint8)
    together = one_layer([[-2, -4]], exponent=-2)
    apart = one_layer([[-2, -4]], exponent=-2, delay=np.array([0, 1], np.uint8))
    assert simulate(together, spikes, record="u").recorded["layer", "u"].ravel().tolist() == [0, -128, 0, 0]
    assert simulate(apart, spikes, record="u").recorded["layer", "u"].ravel().tolist() == [0, -64, -64, 0]


def test_wraps_and_clips_are_counted_and_warned_of_with_their_place():
    # 254 << 7 = 32512; five of them << 6 = 10404 · 10^3 > 2^23: wraps to −6372800.
    network = one_layer([[254] * 5], exponent=7, vth=131071)
    spikes = np.zeros((2, 4, 5), np.uint8)
    spikes[1, 1] = 1
    with pytest.warns(SaturationWarning, match=r"'layer': the current wrapped 1 times, .* sample 1, step 2"):
        activity = simulate(network, spikes, record=("u",))
    assert activity.populations["layer"].n_wraps == 1
    assert activity.recorded["layer", "u"][1, 2, 0] == ((5 * 254 << 7) << 6) - (1 << 24)
    # 4 · 32512 << 6 = 8323072 stays, twice without decay of v is clipped to 2^23 − 1 (and spikes).
    network = one_layer([[254] * 4], exponent=7, dv=0, vth=131071)
    with pytest.warns(
        SaturationWarning, match=r"'layer': the voltage saturated 1 times, .* sample 0, step 2"
    ):
        activity = simulate(network, np.ones((1, 3, 4), np.uint8), record=("v",))
    assert activity.populations["layer"].n_clips == 1
    assert activity.recorded["layer", "v"].ravel().tolist() == [0, 4 * 32512 << 6, 0]
    assert activity.output_spikes.ravel().tolist() == [0, 0, 1]


def test_input_shift_overflows_as_int32():
    # 300 · 255 << 7 << 6 = 626688000 · … leaves 32 bits: Lava keeps the low 32.
    network = one_layer([[255] * 2000], exponent=7, sign_mode=SignMode.EXCITATORY)
    a = ((2000 * 255) << 7) & 0xFFFFFFFF
    low = ((a << 6) & 0xFFFFFFFF) - (1 << 32) * (((a << 6) >> 31) & 1)
    wrapped = low - (1 << 24) if low > 1 << 23 else low + (1 << 24) if low <= -(1 << 23) else low
    activity = run_quietly(network, np.ones((1, 2, 2000), np.uint8), record="u")
    assert activity.recorded["layer", "u"].ravel().tolist() == [0, wrapped]


def test_records_only_what_is_asked_for(rng):
    network = one_layer([[2, 4], [6, 8]])
    spikes = np.ones((1, 3, 2), np.uint8)
    assert simulate(network, spikes).recorded == {}
    assert set(simulate(network, spikes, record=[("layer", "v")]).recorded) == {("layer", "v")}
    assert set(simulate(network, spikes, record="spikes").recorded) == {("layer", "spikes")}


def test_threads_do_not_change_the_result(rng):
    network = one_layer(rng.integers(-127, 128, (30, 40)) * 2, du=400, dv=30, vth=300)
    spikes = (rng.random((37, 11, 40)) < 0.3).astype(np.uint8)
    one = simulate(network, spikes, record=ALL, n_threads=1)
    assert_equal(simulate(network, spikes, record=ALL, n_threads=5), one)
    assert one.n_spikes > 0
    assert_equal(simulate(network, spikes[4:5], n_threads=3), simulate(network, spikes[4:5], n_threads=1))
    np.testing.assert_array_equal(simulate(network, spikes[4:5]).output_spikes[0], one.output_spikes[4])


@pytest.mark.parametrize("shape", [(0, 5, 2), (3, 0, 2), (9, 0, 2), (0, 0, 2)])
def test_no_samples_or_no_steps(shape):
    activity = simulate(one_layer([[2, 4]]), np.zeros(shape, np.uint8))
    assert activity.output_spikes.shape == (*shape[:2], 1)
    assert activity.n_synops == 0
    for empty in (np.zeros(0, int), []):
        assert_equal(simulate(one_layer([[2, 4]]), SpikeEvents(empty, empty, empty, shape)), activity)


def test_bool_float_read_only_and_strided_spikes_are_read_alike(rng):
    network = one_layer([[2, 4], [6, 8]], vth=3)
    spikes = (rng.random((2, 9, 2)) < 0.5).astype(np.uint8)
    expected = simulate(network, spikes).output_spikes
    assert expected.any()
    locked = spikes.copy()
    locked.flags.writeable = False
    for form in (
        spikes.astype(bool),
        spikes.astype(float),
        locked,
        np.asfortranarray(spikes),
        spikes.tolist(),
    ):
        np.testing.assert_array_equal(simulate(network, form).output_spikes, expected)


def test_all_input_problems_are_named_at_once():
    network = one_layer([[2, 4]])
    spikes = np.full((1, 3, 7), np.nan)
    with pytest.raises(InputError, match="7 channels") as caught:
        simulate(network, spikes, record=("w", ("nowhere", "u")), n_threads=0)
    assert {problem.code for problem in caught.value.problems} == {
        "spikes-width",
        "spikes-value",
        "record-variable",
        "record-population",
        "n-threads",
    }
    with pytest.raises(InputError, match="1 values that are neither 0 nor 1"):
        simulate(network, np.array([[[2, 1]]], np.uint8))
    with pytest.raises(InputError, match="type complex128"):
        simulate(network, np.zeros((1, 1, 2), complex))
    with pytest.raises(InputError, match="n_samples, n_steps, n_in"):
        simulate(network, np.zeros((3, 2), np.uint8))


def test_an_activity_is_shown_by_its_sizes():
    network, spikes = cases.make("recurrent")
    activity = simulate(network, spikes)
    assert (activity.n_spikes, activity.n_synops) != (0, 0)
    shown = repr(activity)
    assert f"{len(spikes)} samples of {spikes.shape[1]} steps" in shown
    assert f"{activity.n_spikes:,} spikes, {activity.n_synops:,} SynOps" in shown
    assert len(shown.splitlines()) == 1


def test_event_lists_are_checked():
    with pytest.raises(InputError, match="1 out of range") as caught:
        SpikeEvents(np.array([0, 1]), np.array([-1, 0]), np.array([0.5, 1]), (1, 3, 2))
    assert {problem.code for problem in caught.value.problems} == {"events-range", "events-dtype"}
    with pytest.raises(InputError, match="1 repeated events"):
        SpikeEvents(np.array([0, 0]), np.array([1, 1]), np.array([1, 1]), (1, 3, 2))
    with pytest.raises(
        InputError, match="1 out of range; allowed: none, where the shape has no place for any"
    ):
        SpikeEvents(np.array([0]), np.array([0]), np.array([0]), (1, 0, 2))
    with pytest.raises(InputError, match=r"events, channel: shape \(1,\); allowed: \(2,\)"):
        SpikeEvents(np.array([0, 0]), np.array([0, 1]), np.array([1]), (1, 2, 2))
    for shape in ((1, 2), (1, -1, 2), (1.0, 2, 2), (1 << 30, 1 << 30, 1 << 30)):
        with pytest.raises(InputError, match="events-sizes: events, shape"):
            SpikeEvents(np.array([0]), np.array([0]), np.array([0]), shape)
    with pytest.raises(InputError, match="2 channels"):
        simulate(one_layer([[2, 4, 6]]), SpikeEvents(*np.zeros((3, 1), int), (1, 3, 2)))


@pytest.mark.parametrize(
    ("density", "sign_mode", "delays"),
    [(1.0, 1, False), (0.3, 1, False), (0.05, 1, False), (0.3, 2, False), (0.1, 2, False), (0.1, 1, True)],
)
def test_a_stored_synapse_takes_at_most_8_bytes(monkeypatch, rng, density, sign_mode, delays):
    monkeypatch.setattr(columns, "CACHED_BYTES", 0)  # as for a network that the caches do not hold
    sign_mode = SignMode(sign_mode)
    dense = rng.integers(1, 128, (400, 500)) * sign_mode.lava_format.symmetric.step
    dense[rng.random(dense.shape) >= density] = 0
    nnz = np.count_nonzero(dense)
    delay = rng.integers(0, 63, nnz).astype(np.uint8) if delays else 0
    layout = plan_of(one_layer(dense, sign_mode=sign_mode, delay=delay)).layout
    assert stored_bytes(layout) <= 8 * nnz


def test_a_plan_lives_as_long_as_its_network():
    from lbi.simulation import layout

    network = one_layer([[2, 4]])
    assert plan_of(network) is plan_of(network)
    key = id(network)
    assert key in layout._plans
    del network
    assert key not in layout._plans


def test_importing_the_simulator_does_not_import_numba():
    code = "import sys, lbi.simulation.run; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_the_oracle_records_the_same_names():
    network = random_network(np.random.default_rng(0), (5, 4, 3))
    spikes = random_spikes(np.random.default_rng(0), 2, 3, 5)
    one, several = (oracle.simulate(network, spikes, record=names) for names in ("spikes", ("spikes",)))
    assert one.recorded.keys() == several.recorded.keys() == {(p.name, "spikes") for p in network.populations}
    with pytest.raises(InputError, match="record-variable: record: 'spike'; allowed: active, spikes, u, v"):
        oracle.simulate(network, spikes, record="spike")
