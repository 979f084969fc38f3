"""The simulator against Lava's own process models: spikes, currents and voltages, zero differences."""

from __future__ import annotations

import importlib.util
import os
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.random_fixed import any_neuron, networks, random_neuron, spikes_for

from lbi import CsrMatrix, FixedCubaLif, FixedNetwork, FixedPopulation, FixedProjection, Readout, SignMode
from lbi.network.neurons import FixedLifRefractory
from lbi.simulation.run import SaturationWarning, simulate

if importlib.util.find_spec("lava") is None:
    pytest.skip("lava-nc is not installed", allow_module_level=True)

EXAMPLES = int(os.environ.get("LBI_EXAMPLES", "60"))
"""Random networks per property; LBI_EXAMPLES=5000 is the thorough run (minutes)."""


def run_quietly(network, spikes, more=()):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SaturationWarning)
        return simulate(network, spikes, record=("spikes", "u", "v", *more))


def model_of_lava(draw, rng, n):
    """Any model that Lava has in fixed point, so not LIFRefractory."""
    neuron = any_neuron(draw, rng, n)
    return random_neuron(draw, rng, n) if neuron.model == "lif_refractory" else neuron


@settings(max_examples=EXAMPLES)
@given(st.data())
@pytest.mark.filterwarnings("ignore")  # numpy reports Lava's intended int32 overflow
def test_random_networks_equal_lavas_process_models(data):
    from support import lava_direct

    network = data.draw(networks(neuron=model_of_lava))
    spikes = data.draw(spikes_for(network))
    variables = {variable for p in network.populations for variable in p.neuron.state_variables}
    ours = run_quietly(network, spikes, sorted(variables - {"u", "v"})).recorded
    for sample, one in enumerate(spikes):
        for key, expected in lava_direct.run(network, one).items():
            np.testing.assert_array_equal(ours[key][sample], expected, err_msg=str(key))


def wired(rng: np.random.Generator, exponent: int, extreme: bool) -> FixedNetwork:
    """Recurrence, a skip, a parallel delayed projection, biases, all three sign modes."""

    def csr(n_out: int, n_in: int, mode: SignMode) -> CsrMatrix:
        grid = mode.lava_format.symmetric
        values = rng.integers(grid.minimum // grid.step, grid.maximum // grid.step + 1, (n_out, n_in))
        return CsrMatrix.from_dense(
            np.where(rng.random(values.shape) < 0.5, values * grid.step, 0).astype(np.int16)
        )

    def projection(name, source, target, shape, mode, delay=0):
        weights = csr(*shape, mode)
        if delay:
            delay = rng.integers(0, delay + 1, weights.nnz).astype(np.uint8)
        return FixedProjection(name, source, target, weights, mode, exponent, delay=delay)

    neuron = FixedCubaLif(
        900, 50, 20 if extreme else 2000, rng.integers(-4096, 4096, 12), 7 if extreme else 2
    )
    return FixedNetwork(
        (10,),
        (
            FixedPopulation("a", (12,), neuron),
            FixedPopulation("b", (6,), FixedCubaLif(4095, 0, 500, np.zeros(6))),
        ),
        (
            projection("in", "input", "a", (12, 10), SignMode.MIXED),
            projection("rec", "a", "a", (12, 12), SignMode.INHIBITORY, delay=3),
            projection("on", "a", "b", (6, 12), SignMode.EXCITATORY),
            projection("late", "a", "b", (6, 12), SignMode.MIXED, delay=5),
            projection("skip", "input", "b", (6, 10), SignMode.MIXED),
        ),
        Readout("b"),
        "loihi2",
    )


@pytest.mark.lava
@pytest.mark.parametrize(("exponent", "extreme"), [(0, False), (-3, False), (7, True)])
def test_real_lava_runs_are_equal(rng, tmp_path, exponent, extreme):
    from lbi.system.supervisor import run_script

    network = wired(rng, exponent, extreme)
    spikes = (rng.random((60, 10)) < 0.4).astype(np.uint8)
    job, out = tmp_path / "job.pickle", tmp_path / "out.npz"
    job.write_bytes(pickle.dumps((network, spikes)))
    run_script(
        Path(__file__).parents[1] / "support" / "lava_real.py",
        [str(job), str(out)],
        where="lava",
        timeout_s=120,
    )
    activity = run_quietly(network, spikes[None])
    assert activity.n_spikes > 0
    assert (sum(p.n_wraps for p in activity.populations.values()) > 0) == extreme
    with np.load(out) as lavas:
        for (name, variable), ours in activity.recorded.items():
            np.testing.assert_array_equal(ours[0], lavas[f"{name}/{variable}"], err_msg=f"{name} {variable}")


@pytest.mark.parametrize(("dv", "period"), [(0, 1), (0, 4), (4096, 3)])
def test_refractoriness_is_lavas_rule(rng, dv, period):
    # Lava has LIFRefractory in floating point only; with these decays and even sums both are exact.
    from lava.proc.lif.models import PyLifRefractoryModelFloat
    from lava.proc.lif.process import LIFRefractory
    from support import lava_direct

    n, n_steps, vth = 6, 80, 300
    weights = CsrMatrix.from_dense(rng.integers(-60, 127, (n, 8)).astype(np.int16) * 2)
    neuron = FixedLifRefractory(4095, dv, vth, period, rng.integers(0, 50, n), 6)
    network = FixedNetwork(
        (8,),
        (FixedPopulation("a", (n,), neuron),),
        (FixedProjection("w", "input", "a", weights, SignMode.MIXED),),
        Readout("a"),
        "loihi2",
    )
    spikes = (rng.random((n_steps, 8)) < 0.3).astype(np.uint8)
    process = LIFRefractory(
        shape=(n,), du=1.0, dv=dv / 4096, vth=vth << 6, bias_mant=neuron.bias, refractory_period=period
    )
    model = lava_direct.build(process, PyLifRefractoryModelFloat, {"a_in": n, "s_out": n})
    ours = simulate(network, spikes[None], record=("spikes", "u", "v")).recorded
    assert ours["a", "spikes"].sum() > 20
    for t in range(n_steps):
        model.time_step = t + 1
        arriving = weights.to_dense().astype(np.int32) @ spikes[t - 1] if t else np.zeros(n, np.int32)
        model.a_in.send(arriving << 6)
        model.run_spk()
        np.testing.assert_array_equal(ours["a", "spikes"][0, t], model.s_out.data)
        np.testing.assert_array_equal(ours["a", "u"][0, t], model.u)
        np.testing.assert_array_equal(ours["a", "v"][0, t], model.v)


def test_starting_each_sample_at_rest_is_lavas_lif_reset(rng):
    # Samples one after the other, padded by the layer's latency, in one run of Lava's LIFReset.
    from lava.proc.lif.models import PyLifResetModelBitAcc
    from lava.proc.lif.process import LIFReset
    from support import lava_direct

    n, n_samples, n_steps, latency = 5, 4, 9, 1
    neuron = FixedCubaLif(100, 20, 120, rng.integers(-300, 300, n), 3)
    weights = CsrMatrix.from_dense(rng.integers(-60, 127, (n, 8)).astype(np.int16) * 2)
    projection = FixedProjection("w", "input", "a", weights, SignMode.MIXED)
    network = FixedNetwork(
        (8,), (FixedPopulation("a", (n,), neuron, latency=latency),), (projection,), Readout("a"), "loihi2"
    )
    spikes = (rng.random((n_samples, n_steps, 8)) < 0.3).astype(np.uint8)
    recorded = simulate(network, spikes, record=("spikes", "u", "v")).recorded
    assert recorded["a", "spikes"].sum() > 10
    process = LIFReset(
        shape=(n,),
        du=neuron.du,
        dv=neuron.dv,
        vth=neuron.vth,
        bias_mant=neuron.bias_mant,
        bias_exp=3,
        reset_interval=n_steps + latency,
        reset_offset=latency + 1,
    )
    model = lava_direct.build(process, PyLifResetModelBitAcc, {"a_in": n, "s_out": n})
    synapse = lava_direct.synapse(projection)
    for sample in range(n_samples):
        for step in range(-latency, n_steps):
            model.time_step = sample * (n_steps + latency) + latency + step + 1
            model.a_in.send(synapse.a_buff)
            model.run_spk()
            now = step + latency
            synapse.s_in.send(spikes[sample, now] if now < n_steps else np.zeros(8, dtype=np.uint8))
            synapse.run_spk()
            if step >= 0:
                for variable, values in (("spikes", model.s_out.data), ("u", model.u), ("v", model.v)):
                    np.testing.assert_array_equal(recorded["a", variable][sample, step], values)
