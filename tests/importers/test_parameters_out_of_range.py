"""Parameters that no neuron of the chip has: refused with the place, the values, the allowed ones and the fix."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import peers
from torch import nn

from lbi.errors import InputError
from lbi.importers import from_torch, load_nir

pytestmark = pytest.mark.filterwarnings("ignore")  # snnTorch's own

DECAY = (
    "; allowed: 0 to 1 (lost per step): for a time constant τ and steps of dt that is dt/τ;"
    " fix: take a smaller step, or larger time constants"
)
THRESHOLD = "; allowed: finite numbers above 0; fix: train with such a threshold"


@pytest.mark.parametrize("threshold", [0.0, -1.0, float("nan")])
def test_a_threshold_that_is_not_above_0(threshold):
    neuron = peers.package("snntorch").Leaky(beta=0.9, threshold=threshold, init_hidden=True)
    with pytest.raises(InputError) as caught:
        from_torch(nn.Sequential(nn.Linear(8, 4), neuron), 8)
    found = f"threshold-range: module '1': thresholds {threshold:g} to {threshold:g}{THRESHOLD}"
    assert str(caught.value) == found


def test_a_time_constant_below_a_step_in_torch():
    snn = peers.package("snntorch")
    model = nn.Sequential(nn.Linear(8, 4), snn.Lapicque(R=0.5, C=1.0, init_hidden=True))
    with torch.no_grad(), pytest.raises(InputError) as caught:
        from_torch(model, 8)
    assert str(caught.value) == f"decay-range: module '1': decays of a voltage, 2 to 2{DECAY}"


@pytest.mark.parametrize(
    ("tau", "found"),
    [(0.5, "0.125 to 2"), (0.0, "0.125 to inf"), (-2.0, "-0.5 to 0.25")],
)
def test_a_time_constant_below_a_step_in_nir(tau, found, tmp_path):
    nir = pytest.importorskip("nir")
    lif = nir.LIF(tau=np.array([tau, 4.0, 8.0]), r=np.ones(3), v_leak=np.zeros(3), v_threshold=np.ones(3))
    path = tmp_path / "net.nir"
    nir.write(path, nir.NIRGraph.from_list(nir.Linear(np.ones((3, 4))), lif))
    with pytest.raises(InputError) as caught:
        load_nir(path, dt=1.0)
    assert str(caught.value) == f"decay-range: {path}, node 'lif': decays of a voltage, {found}{DECAY}"
