"""Spiking networks without any framework, as people write them in plain torch: one neuron in many forms."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from support.handwritten_neurons import (
    Assigned,
    Step,
    averaging,
    below,
    compared_before,
    from_rest,
    integrate_and_fire,
    interpolated,
    interpolated_in_place,
    losing,
    memoryless,
    never_reset,
    reset_before,
    reset_by_assignment,
    reset_by_comparison_before,
    reset_by_difference,
    reset_by_masked_fill,
    reset_by_product,
    reset_by_where,
    reset_in_place,
    subtracted,
    subtracted_before,
    subtracted_in_units,
    subtracted_late,
    synaptic,
    synaptic_late,
    synaptic_losing,
    to_another_value,
)

N_IN, N_HIDDEN, N_OUT = 12, 20, 5


def linear(n_in: int, n_out: int, gain: float = 3.0, bias: bool = True) -> nn.Linear:
    layer = nn.Linear(n_in, n_out, bias=bias)
    with torch.no_grad():
        layer.weight.mul_(gain)
    return layer


class Stateful(nn.Module):
    """A layer of neurons that keeps its state; ``update`` is one step of (x, state)."""

    def __init__(self, update: Callable, n_states: int = 1, spikes_kept: bool = False):
        super().__init__()
        self.update, self.n_states, self.state = update, n_states + spikes_kept, None

    def reset(self):
        self.state = None

    def forward(self, x):
        state = self.state or tuple(torch.zeros_like(x) for _ in range(self.n_states))
        spikes, *self.state = self.update(x, *state)
        self.state = tuple(self.state)
        return spikes


class TwoLayers(nn.Module):
    """Two layers of the neurons that ``make`` and ``last`` return, run step by step over (steps, samples, n)."""

    def __init__(self, make: Callable[[], nn.Module], gain: float = 3.0, last: Any = None):
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2 = linear(N_IN, N_HIDDEN, gain), linear(N_HIDDEN, N_OUT, gain)
        self.lif1, self.lif2 = make(), (last or make)()

    def forward(self, x):
        self.lif1.reset()
        self.lif2.reset()
        return torch.stack([self.lif2(self.fc2(self.lif1(self.fc1(step)))) for step in x])


def of(update: Callable, n_states: int = 1, spikes_kept: bool = False, gain: float = 3.0) -> TwoLayers:
    return TwoLayers(lambda: Stateful(update, n_states, spikes_kept), gain)


class Stepped(nn.Module):
    """Neurons with states at rest that are not zero."""

    def __init__(self, update, rest):
        super().__init__()
        self.update, self.rest, self.v = update, rest, None

    def reset(self):
        self.v = None

    def forward(self, x):
        v = torch.full_like(x, self.rest) if self.v is None else self.v
        spikes, self.v = self.update(x, v)
        return spikes


class Learned(nn.Module):
    """Decays and thresholds of its own for each neuron, learned."""

    def __init__(self, n: int = 4):
        super().__init__()
        self.decay = nn.Parameter(torch.linspace(-1.0, 3.0, n))
        self.threshold = nn.Parameter(torch.linspace(0.5, 1.5, n))
        self.mem = None

    def reset(self):
        self.mem = None

    def forward(self, x):
        repeats = x.shape[-1] // len(self.decay)
        decay = torch.sigmoid(self.decay).repeat(repeats)
        threshold = self.threshold.repeat(repeats)
        mem = x if self.mem is None else decay * self.mem + x
        spikes = Step.apply(mem - threshold)
        self.mem = mem * (1 - spikes)
        return spikes


def mem_update(layer, x, mem, spikes):
    mem = mem * 0.5 * (1.0 - spikes) + layer(x)
    return mem, Step.apply(mem - 0.5)


class Inline(nn.Module):
    """STBP's form: a function updates any layer, and the model holds voltages and spikes; rates are returned."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2 = linear(N_IN, N_HIDDEN), linear(N_HIDDEN, N_OUT)

    def forward(self, x):
        n_samples = x.shape[1]
        h1_mem = h1_spike = torch.zeros(n_samples, N_HIDDEN)
        h2_mem = h2_spike = h2_sum = torch.zeros(n_samples, N_OUT)
        for step in x:
            h1_mem, h1_spike = mem_update(self.fc1, step, h1_mem, h1_spike)
            h2_mem, h2_spike = mem_update(self.fc2, h1_spike, h2_mem, h2_spike)
            h2_sum = h2_sum + h2_spike
        return h2_sum / len(x)


class LayerByLayer(nn.Module):
    """Each layer runs all steps of (samples, steps, n) before the next one, as in TET."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2 = linear(N_IN, N_HIDDEN), linear(N_HIDDEN, N_OUT)

    def spikes(self, x):
        mem, found = 0, []
        for t in range(x.shape[1]):
            mem = mem * 0.75 + x[:, t, ...]
            spike = Step.apply(mem - 1.0)
            mem = (1 - spike) * mem
            found.append(spike)
        return torch.stack(found, dim=1)

    def forward(self, x):
        return self.spikes(self.fc2(self.spikes(self.fc1(x))))


class SpyTorch(nn.Module):
    """The tutorial's network with a recurrent hidden layer, and spikes as output."""

    def __init__(self, recurrent: bool = True):
        super().__init__()
        torch.manual_seed(0)
        self.w1 = nn.Parameter(torch.randn(N_IN, N_HIDDEN))
        self.w2 = nn.Parameter(torch.randn(N_HIDDEN, N_OUT))
        self.v1 = nn.Parameter(torch.randn(N_HIDDEN, N_HIDDEN) * 0.3) if recurrent else None

    def layer(self, current, v=None):
        shape = (current.shape[0], current.shape[2])
        syn, mem, out, found = torch.zeros(shape), torch.zeros(shape), torch.zeros(shape), []
        for t in range(current.shape[1]):
            total = current[:, t] if v is None else current[:, t] + torch.einsum("ab,bc->ac", (out, v))
            mthr = mem - 1.0
            out = Assigned.apply(mthr)
            reset = out.detach()
            new_syn = 0.8 * syn + total
            new_mem = (0.9 * mem + syn) * (1.0 - reset)
            found.append(out)
            mem, syn = new_mem, new_syn
        return torch.stack(found, dim=1)

    def forward(self, x):
        hidden = self.layer(torch.einsum("abc,cd->abd", (x, self.w1)), self.v1)
        return self.layer(torch.einsum("abc,cd->abd", (hidden, self.w2)))


class DeepSpyTorch(SpyTorch):
    """More layers, each of which is two steps later: the last one is silent for longer than a short trace."""

    def __init__(self):
        super().__init__()
        sizes = [N_IN, N_HIDDEN, 12, 8, N_OUT]
        self.layers = nn.ParameterList([torch.randn(a, b) for a, b in pairwise(sizes)])

    def forward(self, x):
        for number, weights in enumerate(self.layers):
            x = self.layer(torch.einsum("abc,cd->abd", (x, weights)), None if number else self.v1)
        return x


class Recurrent(nn.Module):
    """Feedback of the spikes of the step before through a layer of their own."""

    def __init__(self, update=reset_by_product):
        super().__init__()
        torch.manual_seed(0)
        self.fc, self.rec = linear(N_IN, N_OUT), linear(N_OUT, N_OUT, 1.0)
        self.update = update

    def forward(self, x):
        spikes = mem = torch.zeros(x.shape[1], N_OUT)
        found = []
        for step in x:
            spikes, mem = self.update(self.fc(step) + self.rec(spikes), mem)
            found.append(spikes)
        return torch.stack(found)


class Listed(nn.Module):
    """Layers of equal size in a list, in one loop: the same lines for all of them."""

    def __init__(self, depth: int = 3):
        super().__init__()
        torch.manual_seed(0)
        sizes = [N_IN] + [8] * depth
        self.layers = nn.ModuleList([linear(a, b) for a, b in pairwise(sizes)])

    def forward(self, x):
        mems = [torch.zeros(x.shape[1], 8) for _ in self.layers]
        found = []
        for spikes in x:
            for i, layer in enumerate(self.layers):
                mems[i] = 0.85 * mems[i] + layer(spikes)
                spikes = Step.apply(mems[i] - 1.0)
                mems[i] = mems[i] * (1.0 - spikes)
            found.append(spikes)
        return torch.stack(found), torch.stack(mems[-1:])


class Convolutional(nn.Module):
    """Convolutions, pooling and batch norm between hand-written neurons."""

    shape = (1, 6, 6)

    def __init__(self, update=reset_by_product):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(1, 4, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(4)
        self.fc = linear(4 * 9, N_OUT)
        with torch.no_grad():
            self.conv.weight.mul_(4)
        self.lif1, self.lif2 = Stateful(update), Stateful(subtracted)
        self.eval()

    def forward(self, x):
        self.lif1.reset()
        self.lif2.reset()
        found = []
        for step in x:
            spikes = functional.max_pool2d(self.lif1(self.norm(self.conv(step))), 2)
            found.append(self.lif2(self.fc(spikes.flatten(1))))
        return torch.stack(found).sum(0)


class Static(nn.Module):
    """The same input in every step, a number of steps of its own."""

    def __init__(self, update=reset_by_product, n_states: int = 1):
        super().__init__()
        torch.manual_seed(0)
        self.fc1, self.fc2 = linear(N_IN, N_HIDDEN), linear(N_HIDDEN, N_OUT)
        self.lif1, self.lif2 = Stateful(update, n_states), Stateful(update, n_states)

    def forward(self, x, num_steps=8):
        self.lif1.reset()
        self.lif2.reset()
        return torch.stack([self.lif2(self.fc2(self.lif1(self.fc1(x)))) for _ in range(num_steps)])


class Repeated(Static):
    """The same, repeated along the time that the layers take in at once; the first voltage is the first current itself."""

    def neurons(self, currents):
        mem, found = 0, []
        for step in range(currents.shape[1]):
            mem = mem * 0.5 + currents[:, step]
            spikes = Step.apply(mem - 1.0)
            mem = (1 - spikes) * mem
            found.append(spikes)
        return torch.stack(found, 1)

    def forward(self, x, num_steps=8):
        x = x.unsqueeze(1).repeat(1, num_steps, 1)
        for fc in (self.fc1, self.fc2):
            x = self.neurons(fc(x.flatten(0, 1)).unflatten(0, (len(x), num_steps)))
        return x.transpose(0, 1)


FORMS = {
    **{
        update.__name__: lambda update=update: of(update)
        for update in (
            reset_by_product,
            reset_by_difference,
            reset_by_where,
            reset_by_masked_fill,
            reset_by_assignment,
            reset_in_place,
            reset_by_comparison_before,
            subtracted,
            subtracted_before,
            subtracted_in_units,
            integrate_and_fire,
            to_another_value,
            averaging,
            interpolated,
            interpolated_in_place,
            never_reset,
            below,
            compared_before,
        )
    },
    "reset_before": lambda: of(reset_before, spikes_kept=True),
    "losing": lambda: of(losing, spikes_kept=True),
    "synaptic": lambda: of(synaptic, 2),
    "synaptic_late": lambda: of(synaptic_late, 2),
    "synaptic_losing": lambda: of(synaptic_losing, 2),
    "subtracted_late": lambda: of(subtracted_late, 2),
    "memoryless": lambda: of(memoryless, 0),
    "from_rest": lambda: TwoLayers(lambda: Stepped(from_rest, -65.0), 30.0),
    "learned": lambda: TwoLayers(Learned, last=lambda: Stateful(reset_by_product)),
    "inline": Inline,
    "layer_by_layer": LayerByLayer,
    "spytorch": lambda: SpyTorch(recurrent=False),
    "spytorch_recurrent": SpyTorch,
    "spytorch_deep": DeepSpyTorch,
    "recurrent": Recurrent,
    "recurrent_subtracted": lambda: Recurrent(subtracted),
    "listed": Listed,
    "static": Static,
    "static_synaptic": lambda: Static(synaptic, 2),
    "static_subtracted": lambda: Static(subtracted),
    "static_compared_before": lambda: Static(compared_before),
    "static_repeated": Repeated,
}
"""Name → makes a model of input (steps, samples, N_IN), but for those of ``BATCH_FIRST`` and ``STATIC``."""

BATCH_FIRST = ("layer_by_layer", "spytorch", "spytorch_recurrent", "spytorch_deep")
STATIC = ("static", "static_synaptic", "static_subtracted", "static_compared_before", "static_repeated")


def spikes_of(name: str, model: nn.Module, x: Tensor) -> Tensor:
    """What a model returns for (samples, steps, N_IN), as (samples, steps, n) or a rate (samples, n)."""
    if name in STATIC:
        found = model(x[:, 0], num_steps=x.shape[1])
    else:
        found = model(x if name in BATCH_FIRST else x.transpose(0, 1))
    found = found[0] if isinstance(found, tuple) else found
    return found if name in BATCH_FIRST or found.dim() == 2 else found.transpose(0, 1)
