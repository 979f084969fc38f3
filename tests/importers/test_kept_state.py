"""Models that keep the state of their neurons as attributes: every run of the import begins from the given state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import peers
from torch import nn

from lbi.errors import InputError
from lbi.importers import from_torch
from lbi.simulation import oracle

pytestmark = pytest.mark.filterwarnings("ignore")  # the frameworks' own

N_IN = 8


class Net(nn.Module):
    """Two layers of snnTorch neurons, whose state the model itself keeps."""

    def __init__(self):
        super().__init__()
        leaky = peers.package("snntorch").Leaky
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(N_IN, 6), nn.Linear(6, 3)
        self.l1, self.l2 = (leaky(beta=0.5, threshold=0.3, reset_mechanism="zero") for _ in "12")
        self.reset()

    def reset(self):
        self.mem1, self.mem2 = self.l1.init_leaky(), self.l2.init_leaky()

    def forward(self, x):
        spikes, self.mem1 = self.l1(self.a(x), self.mem1)
        spikes, self.mem2 = self.l2(self.b(spikes), self.mem2)
        return spikes


class Nothing(Net):
    def reset(self):
        self.mem1 = self.mem2 = None

    def forward(self, x):
        if self.mem1 is None:
            Net.reset(self)
        return super().forward(x)


class Tensors(Net):
    def reset(self):
        self.mem1, self.mem2 = torch.zeros(1, 6), torch.zeros(1, 3)


class Late(Net):
    """Attributes that the first call adds."""

    def reset(self):
        self.__dict__.pop("mem1", None)

    def forward(self, x):
        if not hasattr(self, "mem1"):
            Net.reset(self)
        return super().forward(x)


class Buffers(Net):
    def reset(self):
        self.register_buffer("mem1", torch.zeros(1, 6))
        self.register_buffer("mem2", torch.zeros(1, 3))


class InList(Net):
    def reset(self):
        self.mems = [self.l1.init_leaky(), self.l2.init_leaky()]

    def forward(self, x):
        spikes, self.mems[0] = self.l1(self.a(x), self.mems[0])
        spikes, self.mems[1] = self.l2(self.b(spikes), self.mems[1])
        return spikes


class InDict(Net):
    def reset(self):
        self.mems = {}

    def forward(self, x):
        spikes, self.mems["1"] = self.l1(self.a(x), self.mems.get("1", self.l1.init_leaky()))
        spikes, self.mems["2"] = self.l2(self.b(spikes), self.mems.get("2", self.l2.init_leaky()))
        return spikes


class Counting(Net):
    def reset(self):
        self.n_calls = 0

    def forward(self, x):
        if self.n_calls == 0:
            Net.reset(self)
        self.n_calls += 1
        return super().forward(x)


class Norse(nn.Module):
    def __init__(self):
        super().__init__()
        norse = peers.package("norse.torch")
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(N_IN, 6), nn.Linear(6, 3)
        self.l1, self.l2 = norse.LIFCell(), norse.LIFCell()
        with torch.no_grad():
            self.a.weight.mul_(20), self.b.weight.mul_(20)
        self.states = [None, None]

    def forward(self, x):
        spikes, self.states[0] = self.l1(self.a(x), self.states[0])
        spikes, self.states[1] = self.l2(self.b(spikes), self.states[1])
        return spikes


class Spikingjelly(nn.Module):
    """Neurons that keep their own state, beside a counter of the model."""

    def __init__(self):
        super().__init__()
        neuron = peers.package("spikingjelly.activation_based.neuron")
        torch.manual_seed(0)
        self.a, self.n_calls = nn.Linear(N_IN, 6), 0
        self.l1 = neuron.LIFNode(tau=2.0, v_threshold=0.2, v_reset=0.0)

    def forward(self, x):
        self.n_calls += 1
        if self.n_calls > 600:  # more steps than any sample has
            return torch.zeros(x.shape[0], 6)
        return self.l1(self.a(x))


MODELS = (
    Net,
    Nothing,
    Tensors,
    Late,
    Buffers,
    InList,
    InDict,
    Counting,
    Norse,
    Spikingjelly,
)


@pytest.mark.parametrize("make", MODELS)
def test_state_in_attributes(make, rng):
    spikes = (rng.random((3, 20, N_IN)) < 0.3).astype(np.uint8)
    network = from_torch(make().eval(), (N_IN,))
    model = make().eval()
    with torch.no_grad():
        theirs = torch.stack([model(x) for x in torch.from_numpy(spikes).float().unbind(1)], dim=1).numpy()
    ours = oracle.simulate(network, spikes).output_spikes
    assert 0.02 < ours.mean() < 0.98
    assert np.array_equal(theirs, ours)


def test_the_model_itself_keeps_its_state():
    model = Net().eval()
    before = model.mem1
    from_torch(model, (N_IN,))
    assert model.mem1 is before


@pytest.mark.parametrize(
    ("kind", "name"),
    [(Net, "mem1"), (Buffers, "mem1"), (InList, "mems"), (InDict, "mems"), (Norse, "states")],
)
def test_state_that_is_left_of_training_is_named(kind, name):
    model = kind().eval()
    with torch.no_grad():
        model(torch.ones(1, N_IN))
    with pytest.raises(
        InputError,
        match=rf"state-changed.*attribute '{name}' of module '{kind.__name__}'.*fix: reset the model",
    ):
        from_torch(model, (N_IN,))
    if kind is not Norse:
        model.reset()
        from_torch(model, (N_IN,))


@pytest.mark.parametrize(
    ("value", "found"), [(float("nan"), r"NaN in 2 of [0-9]+ values"), (float("inf"), "infinite in 2 of")]
)
def test_a_state_that_is_no_number_is_named(value, found):
    model = Net().eval()
    with torch.no_grad():
        model(torch.ones(1, N_IN))
        model.mem1 = model.mem1.clone()  # snnTorch's own buffer has the same memory
        model.mem1[0, :2] = value
    with pytest.raises(
        InputError,
        match=rf"state-changed: .*state that is {found}.*attribute 'mem1' of .*reset the model .*train it again",
    ):
        from_torch(model, (N_IN,))


def test_a_buffer_that_is_no_number_may_be_a_state():
    model = Buffers().eval()
    with torch.no_grad():
        model(torch.ones(1, N_IN))
        model.mem1[0, :2] = float("nan")
    with pytest.raises(
        InputError, match=r"not-finite: .*mem1: 2 NaN .*fix: if it is the state of neurons, .*reset the model"
    ):
        from_torch(model, (N_IN,))
