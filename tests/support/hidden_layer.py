"""Models with one hidden layer, of whose spikes a function makes the output."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from support import peers


class HiddenLayer(nn.Module):
    """snnTorch's neurons behind ``fc``; ``output`` makes the result: of the model and their spikes (steps, samples, n)."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.output = output
        self.layers()
        self.build()

    @abstractmethod
    def layers(self) -> None:
        """Set ``fc``, and what ``output`` uses."""

    def build(self) -> None:
        self.lif = peers.package("snntorch").Leaky(beta=0.8, reset_mechanism="zero")

    def spikes(self, x: Tensor) -> Tensor:
        mem, found = self.lif.init_leaky(), []
        for current in x:
            spikes, mem = self.lif(self.fc(current), mem)
            found.append(spikes)
        return torch.stack(found)

    def forward(self, x: Tensor) -> Any:
        return self.output(self, self.spikes(x))


class InOneCall:
    """The same with spikingjelly's neurons, all steps in a call."""

    def build(self) -> None:
        neuron = peers.package("spikingjelly.activation_based.neuron")
        self.lif = neuron.LIFNode(tau=2.0, step_mode="m")

    def spikes(self, x: Tensor) -> Tensor:
        return self.lif(self.fc(x))
