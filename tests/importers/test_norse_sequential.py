"""Chains of norse's cells in torch's own Sequential, which passes no state, against norse's SequentialState."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import peers
from torch import nn

from lbi import quantize
from lbi.errors import InputError
from lbi.importers import from_torch
from lbi.simulation import oracle

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers' own

N_IN, N_HIDDEN, N_OUT, N_STEPS = 16, 12, 8, 40


def modules(*cells):
    """Linear layers, each in front of a cell, seeded."""
    torch.manual_seed(0)
    norse = peers.package("norse.torch")
    p = peers.package("norse.torch.functional.lif").LIFParameters(v_th=torch.tensor(0.1))
    sizes, found = [N_IN, N_HIDDEN, N_OUT], []
    for number, kind in enumerate(cells):
        cell = getattr(norse, kind)
        found += [peers.linear(*sizes[number : number + 2], 3.0), cell(p) if kind != "LICell" else cell()]
    return found


def spikes():
    return (np.random.default_rng(0).random((3, N_STEPS, N_IN)) < 0.3).astype(np.uint8)


def in_steps(model, x):
    """norse's own SequentialState, which takes and returns the states, one step per call."""
    state, outputs = None, []
    for now in torch.from_numpy(x).float().unbind(1):
        out, state = model(now, state)
        outputs.append(out)
    return torch.stack(outputs, dim=1).detach().numpy()


@pytest.mark.parametrize("nested", [False, True])
def test_cells_that_torch_cannot_chain_pass_their_state_on(nested):
    parts = modules("LIFCell", "LIFCell")
    model = nn.Sequential(nn.Sequential(*parts[:2]), *parts[2:]) if nested else nn.Sequential(*parts)
    with pytest.raises(TypeError):
        model(torch.zeros(1, N_IN))
    network = from_torch(model, (N_IN,))
    ours = oracle.simulate(network, spikes()).output_spikes
    theirs = in_steps(peers.package("norse.torch").SequentialState(*parts), spikes())
    assert 0.05 < ours.mean() < 0.95
    assert np.abs(theirs - ours).sum() == 0
    (note,) = network.meta["notes"]
    assert "cannot run LIFCell" in note
    assert note in quantize(network, "loihi2").provenance["notes"]


@pytest.mark.parametrize("cell", ["LIFCell", "LICell"])
def test_one_cell_at_the_end_starts_from_rest_in_every_call(cell):
    """Ground truth: torch's Sequential gives the same output for the same input, after any other."""
    model = nn.Sequential(*modules(cell))
    x = (torch.rand(20, 1, N_IN, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    first = [model(now)[0] for now in x]
    again = [model(now)[0] for now in x.flip(0)]
    assert all(map(torch.equal, first, reversed(again)))
    with pytest.raises(InputError, match=f"starts its {cell} from rest in every call") as caught:
        from_torch(model, (N_IN,))
    assert "SequentialState" in str(caught.value)


def test_the_refusals_fix_is_exact():
    model = peers.package("norse.torch").SequentialState(*modules("LIFCell"))
    network = from_torch(model, (N_IN,))
    assert np.abs(in_steps(model, spikes()) - oracle.simulate(network, spikes()).output_spikes).sum() == 0
    assert "notes" not in network.meta


def test_a_layer_over_time_at_the_end_needs_no_state():
    """``LIF`` takes all steps in one call, in which its state is its own."""
    model = nn.Sequential(*modules("LIF"))
    network = from_torch(model, (N_IN,))
    theirs = model(torch.from_numpy(spikes()).float().transpose(0, 1))[0].transpose(0, 1).detach().numpy()
    assert np.abs(theirs - oracle.simulate(network, spikes()).output_spikes).sum() == 0
    assert "notes" not in network.meta
