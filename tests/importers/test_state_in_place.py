"""Models that change the state of their neurons in place, in buffers and attributes: equal to their own forward, or refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support import peers
from torch import nn

from lbi.errors import InputError
from lbi.importers import from_torch
from lbi.importers.torch.saved import load
from lbi.simulation import oracle

pytestmark = pytest.mark.filterwarnings("ignore")  # the frameworks' own

N_IN = 8


class Buffers(nn.Module):
    """A loop over time with buffers for one sample, which start at zeros and are written in place."""

    persistent = True

    def __init__(self):
        super().__init__()
        leaky = peers.package("snntorch").Leaky
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(N_IN, 6), nn.Linear(6, 3)
        self.l1, self.l2 = (leaky(beta=0.5, threshold=0.3, reset_mechanism="zero") for _ in "12")
        self.register_buffer("mem1", torch.zeros(1, 6), persistent=self.persistent)
        self.register_buffer("mem2", torch.zeros(1, 3), persistent=self.persistent)

    def begin(self):
        self.mem1.zero_()
        self.mem2.zero_()

    def keep(self, state, found):
        state.copy_(found)

    def forward(self, x):
        self.begin()
        spikes = [self.step(current) for current in x]
        return torch.stack(spikes)

    def step(self, x):
        hidden, mem1 = self.l1(self.a(x), self.mem1)
        self.keep(self.mem1, mem1)
        spikes, mem2 = self.l2(self.b(hidden), self.mem2)
        self.keep(self.mem2, mem2)
        return spikes


class NotSaved(Buffers):
    persistent = False


class Slices(Buffers):
    def keep(self, state, found):
        state[:] = found


class Data(Buffers):
    def keep(self, state, found):
        state.data = found.data

    def begin(self):
        self.mem1.data.zero_()
        self.mem2.data.fill_(0.0)


class DataCopy(Buffers):
    def keep(self, state, found):
        state.data.copy_(found.detach())


class Added(Buffers):
    def keep(self, state, found):
        state.zero_().add_(found)


class Multiplied(Buffers):
    def begin(self):
        self.mem1.mul_(0.0)
        self.mem2[...] = 0

    def keep(self, state, found):
        state.mul_(0).add_(found)


class Rows(Buffers):
    """One buffer for the states of both layers, assigned row by row."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mem", torch.zeros(2, 1, 6))
        self.b = nn.Linear(6, 6)

    def begin(self):
        self.mem.zero_()

    def step(self, x):
        hidden, self.mem[0] = self.l1(self.a(x), self.mem[0])
        spikes, self.mem[1] = self.l2(self.b(hidden), self.mem[1])
        return spikes


class Storage(Buffers):
    def keep(self, state, found):
        state.set_(found)


class Resized(Buffers):
    """Buffers that follow the batch, as in training."""

    def begin(self):
        pass

    def forward(self, x):
        if self.mem1.shape[0] != x.shape[1]:
            self.mem1, self.mem2 = torch.zeros(x.shape[1], 6), torch.zeros(x.shape[1], 3)
        self.mem1.zero_()
        self.mem2.zero_()
        return super().forward(x)


class OfABatch(Buffers):
    """Buffers as large as the batches of training."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mem1", torch.zeros(32, 6), self.persistent)
        self.register_buffer("mem2", torch.zeros(32, 3), self.persistent)


class Steps(Buffers):
    """One call per step; the caller resets between samples."""

    def forward(self, x):
        return self.step(x)


class Attributes(Steps):
    """Plain attributes instead of buffers."""

    def __init__(self):
        super().__init__()
        del self.mem1, self.mem2
        self.mem1, self.mem2 = torch.zeros(1, 6), torch.zeros(1, 3)


MODELS = (
    Buffers,
    NotSaved,
    Slices,
    Data,
    DataCopy,
    Added,
    Multiplied,
    Storage,
    Resized,
    Steps,
    Attributes,
    Rows,
)


@pytest.mark.parametrize("make", MODELS)
def test_state_changed_in_place_is_the_models_own(make, rng):
    """Sample by sample, since most of these buffers hold one."""
    spikes = (rng.random((3, 20, N_IN)) < 0.3).astype(np.uint8)
    network = from_torch(make().eval(), (N_IN,))
    theirs = []
    with torch.no_grad():
        for sample in torch.from_numpy(spikes).float():
            model, x = make().eval(), sample[:, None]
            out = torch.stack([model(step) for step in x]) if isinstance(model, Steps) else model(x)
            theirs.append(out[:, 0].numpy())
    ours = oracle.simulate(network, spikes).output_spikes
    assert 0.02 < ours.mean() < 0.98
    assert np.array_equal(np.stack(theirs), ours)


class Decaying(Buffers):
    def keep(self, state, found):
        state.copy_(found)
        state.mul_(0.9)


class Clamped(Buffers):
    def keep(self, state, found):
        state.copy_(found).clamp_(min=0.0)


class Raised(Buffers):
    def begin(self):
        self.mem1.fill_(0.1)


FIX = r"fix: assign what the call returned \(self\.NAME = .*or keep the state in a local variable of forward"


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (
            Decaying,
            r"another state than its last call returned, {0}, changed in place by mul_ at .*\.py:\d+.*" + FIX,
        ),
        (Raised, r"another state than zeros, {0}, changed in place by fill_ at .*\.py:\d+.*" + FIX),
        (OfABatch, r"the state of 32 samples, {0},.* here 1; fix: build the model for one sample"),
        (Clamped, r"untraceable: .*\.py:\d+: clamp_ of {0} cannot be followed"),
    ],
)
def test_another_change_names_attribute_operation_and_line(make, found):
    with pytest.raises(InputError, match=found.format(f"attribute 'mem1' of module '{make.__name__}'")):
        from_torch(make().eval(), (N_IN,))


@pytest.mark.parametrize("make", [Steps, Attributes])
def test_state_left_of_a_run_is_named_and_a_reset_at_the_start_removes_it(make):
    model = make().eval()
    with torch.no_grad():
        model(torch.ones(1, N_IN))
    left = f"attribute 'mem1' of module '{make.__name__}'.*fix: reset the model"
    with pytest.raises(InputError, match=rf"state-changed.*{left}"):
        from_torch(model, (N_IN,))
    resetting = Buffers().eval()
    with torch.no_grad():
        resetting(torch.ones(4, 1, N_IN))
    assert resetting.mem1.any()
    from_torch(resetting, (N_IN,))
    assert resetting.mem1.any()  # the model itself is as it was


ARCH = """
from test_state_in_place import {0}

def build():
    {0}.persistent = {1}
    return {0}().eval()
"""


def test_a_saved_state_of_another_batch_is_named_and_its_fix_works(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Buffers, "persistent", True)
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    torch.save(OfABatch().state_dict(), "state.pt")
    Path("saved.py").write_text(ARCH.format("Buffers", True))
    Path("mended.py").write_text(ARCH.format("Buffers", False))
    with pytest.raises(InputError, match=r"mem1: \(32, 6\); allowed: \(1, 6\).*del state\['mem1'\]"):
        load("state.pt", "saved.py:build")
    state = torch.load("state.pt")
    del state["mem1"], state["mem2"]
    torch.save(state, "state.pt")
    assert [population.n for population in load("state.pt", "mended.py:build").populations] == [6, 3]
