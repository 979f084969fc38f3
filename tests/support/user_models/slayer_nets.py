"""SLAYER: a list of dense blocks with delays and weight norm; a recurrent block."""

import lava.lib.dl.slayer as slayer
from torch import nn

NEURON = {
    "threshold": 1.25,
    "current_decay": 0.25,
    "voltage_decay": 0.03,
    "tau_grad": 0.1,
    "scale_grad": 1.0,
    "requires_grad": False,
}


class DenseNet(nn.Module):
    """Takes (samples, 24, steps); returns the spikes and how many each block sent."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(
            [
                slayer.block.cuba.Dense(NEURON, 24, 32, weight_scale=2, weight_norm=True, delay=True),
                slayer.block.cuba.Dense(NEURON, 32, 16, weight_scale=3, weight_norm=True),
                slayer.block.cuba.Dense(NEURON, 16, 6, weight_scale=4),
            ]
        )

    def forward(self, spike):
        count = []
        for block in self.blocks:
            spike = block(spike)
            count.append(spike.detach().mean())
        return spike, count


class RecurrentNet(nn.Module):
    """Takes (samples, 24, steps)."""

    def __init__(self):
        super().__init__()
        self.hidden = slayer.block.cuba.Recurrent(NEURON, 24, 20, weight_scale=2)
        self.output = slayer.block.cuba.Dense(NEURON, 20, 5, weight_scale=4)

    def forward(self, x):
        return self.output(self.hidden(x))


def dense():
    return DenseNet()


def recurrent():
    return RecurrentNet()
