"""Models of snnTorch whose spikes are pooled by their maximum, for tests of what is imported and of what is refused."""

from __future__ import annotations

import torch
from torch import nn

from support import peers

IMAGE, ROW = (1, 8, 8), (2, 12)
"""Shapes of a sample in a step."""


def drawn(model: nn.Module, gain: float = 1.0) -> nn.Module:
    """The model with weights of both signs, at which its neurons spike now and then."""
    torch.manual_seed(0)
    for weight in model.parameters():
        if weight.dim() > 1:
            n_in = weight[0].numel()
            nn.init.normal_(weight, 0.6 * gain / n_in, 1.6 * gain / n_in**0.5)
    return model.eval()


def leaky(**options):
    return peers.package("snntorch").Leaky(beta=0.7, threshold=0.6, init_hidden=True, **options)


def in_turn(*layers):
    """Layers of snnTorch, of which each run starts from rest."""
    return drawn(nn.Sequential(*layers))


class Loop(nn.Module):
    """snnTorch's neurons in a loop over time, with what a subclass does in each step."""

    def __init__(self):
        super().__init__()
        self.conv1, self.lif1 = nn.Conv2d(1, 3, 3, padding=1), leaky()
        self.conv2, self.lif2 = nn.Conv2d(3, 3, 3, padding=1), leaky()
        self.fc, self.out = nn.LazyLinear(5), leaky()

    def forward(self, x):
        for neuron in (self.lif1, self.lif2, self.out):
            neuron.reset_mem()
        self.before = None
        return torch.stack([self.out(self.fc(self.step(current).flatten(1))) for current in x])


def loop(step, gain=1.0):
    """``Loop`` with another step."""
    model = type("Model", (Loop,), {"step": step})()
    with torch.no_grad():
        model(torch.zeros(2, 1, *IMAGE))  # the shape of the last weights
    model.before = None
    return drawn(model, gain)
