"""All backends give the same saturation warnings."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest
from support.cases import chain

from lbi import SignMode
from lbi.deploy import backends
from lbi.simulation import run as simulation
from lbi.simulation.run import SaturationWarning


def opened(weight: int, exponent: int = 7, vth: int = 131071) -> backends.Export:
    fixed = chain([np.full((1, 8), weight)], [SignMode.EXCITATORY], exponents=[exponent], vth=vth, dv=0)
    return backends.Export("test", fixed, None, None)


@pytest.fixture
def pretended(monkeypatch):
    """A substitute for the Lava backend, whose output is not used."""
    monkeypatch.setitem(backends.BACKENDS, "lava", lambda export, spikes, _: np.zeros((*spikes.shape[:2], 1)))


def test_lava_alone_warns_with_the_simulators_counts(pretended):
    """Eight synapses of 255 · 2^7 drive the current above 2^23 in one step."""
    spikes = np.ones((2, 6, 8), np.uint8)
    messages = []
    for backend in ("lava", "sim"):
        with pytest.warns(
            SaturationWarning, match=r"population 'p0': the current wrapped \d+ times"
        ) as caught:
            backends.run(opened(255), spikes, backend, backends.RunOptions())
        messages += [str(warning.message) for warning in caught]
    assert messages[0] == messages[1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        backends.run(opened(255), spikes, "lava", backends.RunOptions(watch=False))
        backends.run(opened(255), spikes * 0, "lava", backends.RunOptions())  # could, but does not


def test_the_simulator_is_spared_where_weights_rule_saturation_out(pretended, monkeypatch):
    def fail(*_: object) -> None:
        raise AssertionError("simulated")

    monkeypatch.setattr(simulation, "simulate", fail)
    spikes = np.ones((2, 6, 8), np.uint8)
    backends.run(opened(2, 0, vth=1000), spikes, "lava", backends.RunOptions())
    with pytest.raises(AssertionError, match="simulated"):
        backends.run(opened(255), spikes, "lava", backends.RunOptions())


@pytest.mark.lava
def test_real_lava_saturates_where_the_warning_says(tmp_path):
    """Membranes show it: the voltage stands at the end of its range."""
    pytest.importorskip("lava.magma")
    from lbi import Readout
    from lbi.network.neurons import FixedIntegrator

    fixed = opened(255).fixed
    population = replace(fixed.populations[0], neuron=FixedIntegrator(4095, 0, np.zeros(1, np.int32)))
    fixed = replace(fixed, populations=(population,), readout=Readout("p0", "membrane_max"))
    spikes = np.zeros((1, 6, 8), np.uint8)
    spikes[:, :, :3] = 1
    export = backends.Export("test", fixed, None, None)
    with pytest.warns(
        SaturationWarning, match=r"the voltage saturated (\d) times, first in sample 0, step (\d)"
    ) as one:
        voltage = backends.run(export, spikes, "lava", backends.RunOptions())[0, :, 0]
    at_the_end = np.flatnonzero(voltage == 2**23 - 1)
    assert at_the_end.size > 0
    expected = f"population 'p0': the voltage saturated {at_the_end.size} times, first in sample 0, step {at_the_end[0]}"
    assert str(one[0].message) == expected
