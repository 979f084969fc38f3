"""snnTorch: a loop over time with states passed by hand; a convolution with functional pooling."""

import snntorch as snn
import torch
import torch.nn.functional as F  # noqa: N812 - as users write it
from torch import nn


class LoopNet(nn.Module):
    """Takes (steps, samples, 24); returns the spikes and the voltages of all steps."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(24, 32)
        self.lif1 = snn.Leaky(beta=0.9, reset_mechanism="zero")
        self.fc2 = nn.Linear(32, 6)
        self.lif2 = snn.Leaky(beta=0.8, reset_mechanism="zero")

    def forward(self, x):
        mem1 = self.lif1.init_leaky()
        mem2 = self.lif2.init_leaky()
        spikes, voltages = [], []
        for step in range(x.size(0)):
            spk1, mem1 = self.lif1(self.fc1(x[step]), mem1)
            spk2, mem2 = self.lif2(self.fc2(spk1), mem2)
            spikes.append(spk2)
            voltages.append(mem2)
        return torch.stack(spikes), torch.stack(voltages)


class ConvNet(nn.Module):
    """Takes (steps, samples, 1, 6, 6); pools spikes by a function."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.lif1 = snn.Leaky(beta=0.85, reset_mechanism="zero")
        self.fc = nn.Linear(12, 5)
        self.lif2 = snn.Synaptic(alpha=0.6, beta=0.8, reset_mechanism="zero", reset_delay=False)

    def forward(self, x):
        mem1 = self.lif1.init_leaky()
        syn2, mem2 = self.lif2.init_synaptic()
        out = []
        for step in range(x.shape[0]):
            spk1, mem1 = self.lif1(self.conv(x[step]), mem1)
            pooled = F.avg_pool2d(spk1, 2)
            spk2, syn2, mem2 = self.lif2(self.fc(pooled.flatten(1)), syn2, mem2)
            out.append(spk2)
        return torch.stack(out, dim=0)


def loop():
    return LoopNet()


def conv():
    return ConvNet()
