"""sinabs: a convolution with time folded into the batch; a recurrent layer with a skip connection."""

import torch.nn.functional as F  # noqa: N812 - as users write it
from sinabs import layers
from sinabs.activation import MembraneReset, SingleSpike
from torch import nn


class ConvNet(nn.Module):
    """Takes (samples, steps, 1, 6, 6)."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, bias=False)
        self.spike1 = layers.IAFSqueeze(batch_size=1, spike_fn=SingleSpike, reset_fn=MembraneReset())
        self.fc = nn.Linear(12, 5, bias=False)
        self.spike2 = layers.IAFSqueeze(batch_size=1, spike_fn=SingleSpike, reset_fn=MembraneReset())

    def forward(self, x):
        samples, steps = x.shape[:2]
        self.spike1.batch_size = self.spike2.batch_size = samples
        x = self.spike1(self.conv(x.flatten(0, 1)))
        x = F.avg_pool2d(x, 2)
        x = self.spike2(self.fc(x.flatten(1)))
        return x.unflatten(0, (samples, steps))


class RecurrentNet(nn.Module):
    """Takes (samples, steps, 20)."""

    def __init__(self):
        super().__init__()
        hard = {"spike_fn": SingleSpike, "reset_fn": MembraneReset()}
        self.fc1 = nn.Linear(20, 16)
        self.rec = layers.LIFRecurrent(
            tau_mem=10.0, tau_syn=4.0, rec_connect=nn.Linear(16, 16, bias=False), **hard
        )
        self.fc2 = nn.Linear(16, 4)
        self.shortcut = nn.Linear(20, 4, bias=False)
        self.lif = layers.LIF(tau_mem=12.0, norm_input=False, **hard)

    def forward(self, x):
        hidden = self.rec(self.fc1(x))
        return self.lif(self.fc2(hidden) + self.shortcut(x))


def conv():
    return ConvNet()


def recurrent():
    return RecurrentNet()
