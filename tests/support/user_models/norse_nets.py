"""norse: a skip connection from the input; a recurrent cell."""

import norse.torch as norse
import torch
from torch import nn


class SkipNet(nn.Module):
    """Takes (steps, samples, 20); the input reaches the last layer twice."""

    def __init__(self):
        super().__init__()
        p = norse.LIFParameters(v_th=torch.tensor(0.1))
        self.l1 = nn.Linear(20, 24)
        self.s1 = norse.LIFCell(p)
        self.l2 = nn.Linear(24, 5)
        self.skip = nn.Linear(20, 5, bias=False)
        self.s2 = norse.LIFCell(p)

    def forward(self, x):
        state1 = state2 = None
        out = []
        for x_step in x:
            z, state1 = self.s1(self.l1(x_step), state1)
            z, state2 = self.s2(self.l2(z) + self.skip(x_step), state2)
            out.append(z)
        return torch.stack(out)


class RecurrentNet(nn.Module):
    """Takes (samples, steps, 20)."""

    def __init__(self):
        super().__init__()
        p = norse.LIFParameters(v_th=torch.tensor(0.1))
        self.recurrent = norse.LIFRecurrentCell(20, 24, p)
        self.readout = nn.Linear(24, 4, bias=False)
        self.lif = norse.LIFCell(p)

    def forward(self, x):
        hidden, last, out = None, None, []
        for t in range(x.shape[1]):
            z, hidden = self.recurrent(x[:, t], hidden)
            z, last = self.lif(self.readout(z), last)
            out.append(z)
        return torch.stack(out, dim=1)


def skip():
    return SkipNet()


def recurrent():
    return RecurrentNet()
