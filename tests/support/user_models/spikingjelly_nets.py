"""spikingjelly: a convolution stepped by hand; residual spikes and maxima of spikes in multi-step mode."""

import torch
import torch.nn.functional as F  # noqa: N812 - as users write it
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn


class ConvNet(nn.Module):
    """Takes (steps, samples, 1, 6, 6); single-step modules in a loop."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3, padding=1, stride=2, bias=False)
        self.sn1 = neuron.LIFNode(tau=2.0)
        self.fc = nn.Linear(12, 5)
        self.sn2 = neuron.ParametricLIFNode(init_tau=2.0)

    def step(self, x):
        x = self.sn1(self.conv(x))
        x = F.avg_pool2d(x, kernel_size=2, stride=1)
        return self.sn2(self.fc(torch.flatten(x, 1)))

    def forward(self, x_seq):
        return torch.stack([self.step(x_seq[t]) for t in range(x_seq.shape[0])])


class ResidualNet(nn.Module):
    """Takes (steps, samples, 20); a block's spikes are added to those that enter it."""

    def __init__(self):
        super().__init__()
        self.fc1 = layer.Linear(20, 16)
        self.sn1 = neuron.IFNode()
        self.fc2 = layer.Linear(16, 16)
        self.sn2 = neuron.LIFNode(tau=3.0, decay_input=False)
        self.fc3 = layer.Linear(16, 4)
        self.sn3 = neuron.LIFNode(tau=3.0)
        functional.set_step_mode(self, "m")

    def forward(self, x):
        x = self.sn1(self.fc1(x))
        x = self.sn2(self.fc2(x)) + x
        return self.sn3(self.fc3(x))


class MaximaNet(nn.Module):
    """Takes (steps, samples, 1, 6, 6); pools spikes by their maximum, as spikingjelly's tutorials do."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Sequential(
            layer.Conv2d(1, 3, 3, padding=1, bias=False),
            layer.BatchNorm2d(3),
            neuron.IFNode(),
            layer.MaxPool2d(2, 2),
        )
        self.fc = nn.Sequential(layer.Flatten(), layer.Linear(27, 5, bias=False), neuron.IFNode())
        functional.set_step_mode(self, "m")

    def forward(self, x):
        return self.fc(self.conv(x))


def conv():
    return ConvNet()


def residual():
    return ResidualNet()


def maxima():
    return MaximaNet()
