"""A maximum of anything but spikes is refused: with its place, and with where to pool instead."""

from __future__ import annotations

import pytest
import torch
from support import peers
from support.pooled_models import IMAGE, drawn, in_turn, leaky, loop
from torch import nn
from torch.nn import functional as F  # noqa: N812 - as users write it

from lbi.errors import InputError
from lbi.importers import from_torch
from lbi.importers.torch import pooling
from lbi.network import Readout

pytestmark = pytest.mark.filterwarnings("ignore")  # the frameworks' own


def of_currents(self, x):
    return self.lif1(F.max_pool2d(self.conv1(x), 2))


def of_scaled_spikes(self, x):
    return F.max_pool2d(2.0 * self.lif1(self.conv1(x)), 2)


def of_voltages(self, x):
    self.lif1(self.conv1(x))
    return F.max_pool2d(self.lif1.mem, 2)


def of_sums(self, x):
    first = self.lif1(self.conv1(x))
    return F.max_pool2d(first + self.lif2(self.conv2(first)), 2)


def of_averages(self, x):
    return F.max_pool2d(F.avg_pool2d(self.lif1(self.conv1(x)), 2), 2)


def of_shifted_spikes(self, x):
    return F.max_pool2d(self.lif1(self.conv1(x)) + 0.5, 2)


FIX = (
    "pool spikes of 0 and 1, directly behind the neurons and before anything is added to them or multiplied by them; or pool with"
    " an average (torch.nn.AvgPool2d, torch.nn.functional.avg_pool2d), and train again"
)


def refused(step):
    with pytest.raises(InputError, match=r".") as caught:
        from_torch(loop(step), IMAGE)
    (problem,) = caught.value.problems
    return problem


@pytest.mark.parametrize(
    "step",
    [of_currents, of_scaled_spikes, of_voltages, of_sums, of_averages, of_shifted_spikes],
    ids=lambda step: step.__name__,
)
def test_a_maximum_of_anything_else_is_refused(step):
    problem = refused(step)
    assert problem.found == ("max_pool2d of spikes or currents cannot be followed, in module 'Model'")
    assert "maximum pooling of spikes" in problem.allowed
    assert problem.remedy == FIX
    assert problem.where.startswith(f"{__file__}:")


def test_a_module_is_refused_by_its_path():
    model = in_turn(nn.Conv2d(1, 3, 3), nn.MaxPool2d(2), leaky())
    with pytest.raises(InputError, match=r"module '1'.*MaxPool2d cannot be taken over") as caught:
        from_torch(model, IMAGE)
    assert caught.value.problems[0].remedy == FIX


def test_places_of_the_maxima_are_refused():
    def unpooled(self, x):
        spikes, places = F.max_pool2d(self.lif1(self.conv1(x)), 2, return_indices=True)
        return F.max_unpool2d(spikes, places, 2)

    def gathered(self, x):
        spikes = self.lif1(self.conv1(x))
        _, places = F.max_pool2d(spikes, 2, return_indices=True)
        return spikes.flatten(2).gather(2, places.flatten(2))

    def counted(self, x):
        return F.max_pool2d(self.lif1(self.conv1(x)), 2, return_indices=True)[1].float()

    assert "max_unpool2d of spikes or currents cannot be followed" in refused(unpooled).found
    assert "gather of spikes or currents cannot be followed" in refused(gathered).found
    assert refused(counted).found == "takes in 'indices', a state of the maximum 'lif1_pooled'"


def test_a_maximum_as_output_is_added_up():
    network = from_torch(in_turn(nn.Conv2d(1, 3, 3), leaky(), nn.MaxPool2d(2)), IMAGE)
    assert [population.neuron.model for population in network.populations[-2:]] == ["cuba_lif", "integrator"]
    assert network.readout == Readout("readout", "membrane_last")


def test_a_maximum_of_some_steps_as_output_is_refused():
    class Some(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.lif = nn.Conv2d(1, 3, 3), leaky()

        def forward(self, x):
            self.lif.reset_mem()
            spikes = torch.stack([self.lif(self.conv(current)) for current in x])
            return torch.stack([F.max_pool2d(step, 2) for step in spikes])[1:]

    with pytest.raises(InputError, match="holds what the maximum of 'lif' pools of spikes"):
        from_torch(drawn(Some()), IMAGE)


def test_a_window_that_a_current_cannot_hold_is_refused():
    side = 23
    assert side**2 > pooling.MOST_IN_WINDOW
    model = in_turn(nn.Conv2d(1, 2, 1), leaky(), nn.MaxPool2d(side), nn.Flatten(), nn.Linear(2, 3), leaky())
    with pytest.raises(InputError, match="module '2': 529 neurons in a window; allowed: up to 512"):
        from_torch(model, (1, side, side))


def test_a_maximum_inside_of_a_neuron_is_refused():
    snn = peers.package("snntorch")
    neuron = snn.RLeaky(
        beta=0.5,
        conv2d_channels=1,
        kernel_size=3,
        init_hidden=True,
        reset_mechanism="zero",
        reset_delay=False,
    )
    neuron.recurrent = nn.Sequential(nn.MaxPool2d(3, 1, 1), nn.Conv2d(1, 1, 3, padding=1))
    with pytest.raises(InputError, match="the maximum of a layer's own spikes cannot be followed"):
        from_torch(drawn(nn.Sequential(neuron)), IMAGE)


def test_a_window_that_depends_on_spikes_is_refused():
    def step(self, x):
        spikes = self.lif1(self.conv1(x))
        return F.max_pool2d(spikes, 3, 1, 1) if spikes.sum().item() > 1e5 else F.max_pool2d(spikes, 1)

    assert "item of spikes or currents cannot be followed" in refused(step).found
