"""Random torch models as users write them: number of a seed → model, and how its own framework runs it.

Layers hold what a class name does not say: masks, pruned weights and biases, hooks, replaced forwards, residual
containers, shared modules, functional calls, wrappers. Some cannot be imported and must be refused.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, prune

from support import peers


class Case(NamedTuple):
    """A model, its calling convention, and how its output follows from the spikes of the last layer.

    Attributes:
        name: framework and features.
        run: function of spikes (samples, steps, n_in) that returns the model's own output.
        of_spikes: function of output spikes (samples, steps, n_out) that returns the same.
    """

    name: str
    model: nn.Module
    n_in: int
    run: Callable[[Tensor], Tensor]
    of_spikes: Callable[[Tensor], Tensor]


def make(seed: int, number: int) -> Case:
    """Model ``number`` of a seed, in float64."""
    rng = np.random.default_rng((seed, number))
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**31)))
            return _make(rng)
    finally:
        torch.set_default_dtype(before)


# ---- linear layers ----


class Masked(nn.Linear):
    """A subclass with a mask in its forward."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__(n_in, n_out)
        self.register_buffer("mask", (torch.rand(n_out, n_in) < 0.4).to(torch.get_default_dtype()))

    def forward(self, x: Tensor) -> Tensor:
        return functional.linear(x, self.weight * self.mask, self.bias)


class Standardized(nn.Linear):
    """A subclass that normalizes its weights at every call."""

    def forward(self, x: Tensor) -> Tensor:
        weight = (self.weight - self.weight.mean()) / (self.weight.std() + 0.1)
        return functional.linear(x, weight, self.bias) * 0.5


class Residual(nn.Sequential):
    """A container that adds its input."""

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Functional(nn.Module):
    """A layer of parameters and functional calls."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.randn(n_out, n_in) / n_in**0.5)
        self.gains = nn.Parameter(torch.rand(n_out) + 0.5)
        self.order = torch.randperm(n_out)

    def forward(self, x: Tensor) -> Tensor:
        return (functional.linear(x, self.w) * self.gains + 0.05)[..., self.order]


class Branches(nn.Module):
    """Two halves with layers of their own, joined again."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.left, self.right = (
            nn.Linear(n_in // 2, n_out // 2),
            nn.Linear(n_in - n_in // 2, n_out - n_out // 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        half = self.left.in_features
        return torch.cat([self.left(x[..., :half]), self.right(x[..., half:])], dim=-1)


class Image(nn.Module):
    """A convolution and functional pooling on what is reshaped to an image."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(1, 2, 3, padding=1), nn.Linear(4 * (n_in // 8), n_out)

    def forward(self, x: Tensor) -> Tensor:
        image = x.reshape(-1, 1, 4, x.shape[-1] // 4)
        pooled = functional.avg_pool2d(self.conv(image), 2)
        return self.fc(pooled.reshape(*x.shape[:-1], -1))


class Nonlinear(nn.Module):
    """A layer followed by a function that is not linear."""

    def __init__(self, n_in: int, n_out: int, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.fc, self.function = nn.Linear(n_in, n_out), function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.fc(x))


class Deciding(nn.Linear):
    """A layer that looks at its values, in Python."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * (2.0 if x.mean() > 0.3 else 1.0)


class Late(nn.Linear):
    """A layer that changes after some calls."""

    calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(x) * (0.3 if self.calls > 12 else 1.0)


def _pruned(n_in: int, n_out: int, rng: Any) -> nn.Module:
    layer = nn.Linear(n_in, n_out)
    for name in ("weight", "bias")[: int(rng.integers(1, 3))]:
        prune.random_unstructured(layer, name, amount=float(rng.uniform(0.2, 0.8)))
    with torch.no_grad():
        layer.weight_orig.mul_(1.5)  # as an optimizer does; the attribute is stale until the next forward
    return layer


def _normed(n_in: int, n_out: int, rng: Any) -> nn.Module:
    layer = parametrizations.weight_norm(nn.Linear(n_in, n_out))
    with torch.no_grad():
        layer.parametrizations.weight.original0.mul_(float(rng.uniform(0.5, 2)))
    return layer


def _hooked(n_in: int, n_out: int, rng: Any) -> nn.Module:
    layer, factor = nn.Linear(n_in, n_out), float(rng.uniform(0.5, 1.5))
    if rng.random() < 0.5:
        layer.register_forward_hook(lambda module, args, out: out * factor)
    else:
        layer.register_forward_pre_hook(lambda module, args: (args[0] * factor,))
    return layer


def _replaced(n_in: int, n_out: int, rng: Any) -> nn.Module:
    layer, factor = nn.Linear(n_in, n_out), float(rng.uniform(0.5, 1.5))
    layer.forward = lambda x: functional.linear(x, layer.weight * factor)  # the bias is not used
    return layer


def _batch_normed(n_in: int, n_out: int, rng: Any) -> nn.Module:
    norm = nn.BatchNorm1d(n_out)
    with torch.no_grad():
        norm.running_mean.normal_(0, 0.2)
        norm.running_var.uniform_(0.5, 2)
        norm.weight.uniform_(0.5, 1.5)
        norm.bias.normal_(0, 0.2)
    return nn.Sequential(nn.Linear(n_in, n_out), norm, nn.Dropout(0.5))


LAYERS: dict[str, Callable[[int, int, Any], nn.Module]] = {
    "plain": lambda n_in, n_out, rng: nn.Linear(n_in, n_out, bias=bool(rng.integers(2))),
    "masked": lambda n_in, n_out, rng: Masked(n_in, n_out),
    "standardized": lambda n_in, n_out, rng: Standardized(n_in, n_out),
    "residual": lambda n_in, n_out, rng: nn.Sequential(
        Residual(nn.Linear(n_in, n_in)), nn.Linear(n_in, n_out)
    ),
    "functional": lambda n_in, n_out, rng: Functional(n_in, n_out),
    "branches": lambda n_in, n_out, rng: Branches(n_in, n_out),
    "image": lambda n_in, n_out, rng: Image(n_in, n_out),
    "pruned": _pruned,
    "weight norm": _normed,
    "hooked": _hooked,
    "replaced forward": _replaced,
    "BatchNorm": _batch_normed,
    "twice": lambda n_in, n_out, rng: (lambda one: nn.Sequential(one, one, nn.Linear(n_in, n_out)))(
        nn.Linear(n_in, n_in)
    ),
    "relu": lambda n_in, n_out, rng: Nonlinear(n_in, n_out, torch.relu),
    "clamped": lambda n_in, n_out, rng: Nonlinear(n_in, n_out, lambda x: x.clamp(-0.5, 0.5)),
    "squared": lambda n_in, n_out, rng: Nonlinear(n_in, n_out, lambda x: x * x),
    "max": lambda n_in, n_out, rng: Nonlinear(n_in, n_out, lambda x: x - x.amax(-1, keepdim=True)),
    "dropout": lambda n_in, n_out, rng: Nonlinear(n_in, n_out, lambda x: functional.dropout(x, 0.5, True)),
    "deciding": lambda n_in, n_out, rng: Deciding(n_in, n_out),
    "late": lambda n_in, n_out, rng: Late(n_in, n_out),
}
"""Name → function of (inputs, outputs, random generator) that builds a layer."""

EXACT = 13
"""The number of leading layers that can be imported; the others are drawn less often."""


# ---- neurons ----


def _snntorch(n: int, rng: Any) -> nn.Module:
    snn = peers.package("snntorch")
    options: dict[str, Any] = {"beta": float(rng.uniform(0.3, 0.95)), "threshold": float(rng.uniform(0.3, 1))}
    options["reset_mechanism"] = "subtract" if rng.random() < 0.3 else "zero"
    options["init_hidden"] = True
    if rng.random() < 0.2:
        options["threshold"] = torch.rand(n) + 0.3
    if rng.random() < 0.3:
        return snn.Synaptic(alpha=float(rng.uniform(0.2, 0.8)), **options)
    if rng.random() < 0.2:
        leaky = snn.RLeaky(linear_features=n, **options)
        leaky.recurrent.register_forward_pre_hook(
            lambda layer, args: (args[0].to(layer.weight.dtype),)  # its spikes are float32
        )
        return leaky
    if rng.random() < 0.2:
        options["graded_spikes_factor"] = float(rng.uniform(0.5, 2))
    return snn.Leaky(reset_delay=bool(rng.integers(2)), **options)


def _norse(n: int, rng: Any) -> nn.Module:
    norse = peers.package("norse.torch")
    threshold = torch.tensor(float(rng.uniform(0.05, 0.2)))
    if rng.random() < 0.5:
        reset = peers.package("norse.torch.functional.reset")
        method = reset.reset_subtract if rng.random() < 0.3 else reset.reset_value
        p = norse.LIFBoxParameters(v_th=threshold, reset_method=method)
        return norse.LIFBoxCell(p)
    p = peers.package("norse.torch.functional.lif").LIFParameters(v_th=threshold)
    return norse.LIFRecurrentCell(n, n, p) if rng.random() < 0.2 else norse.LIFCell(p)


def _spikingjelly(n: int, rng: Any) -> nn.Module:
    neuron = peers.package("spikingjelly.activation_based.neuron")
    options = {
        "v_threshold": float(rng.uniform(0.3, 1)),
        "v_reset": None if rng.random() < 0.3 else 0.0,
    }
    if rng.random() < 0.3:
        return neuron.IFNode(**options)
    kind = neuron.LIFNode if rng.random() < 0.6 else neuron.ParametricLIFNode
    tau = {"tau" if kind is neuron.LIFNode else "init_tau": float(rng.uniform(1.2, 4))}
    return kind(**tau, decay_input=bool(rng.integers(2)), **options)


def _sinabs(n: int, rng: Any) -> nn.Module:
    layers = peers.package("sinabs.layers")
    activation = peers.package("sinabs.activation")
    options = {
        "spike_threshold": torch.tensor(float(rng.uniform(0.3, 1))),
        "spike_fn": activation.MultiSpike if rng.random() < 0.04 else activation.SingleSpike,
        "reset_fn": activation.MembraneSubtract() if rng.random() < 0.3 else activation.MembraneReset(),
    }
    if rng.random() < 0.3:
        return layers.IAF(**options)
    tau_syn = float(rng.uniform(1.5, 6)) if rng.random() < 0.4 else None
    return layers.LIF(
        tau_mem=float(rng.uniform(2, 20)), tau_syn=tau_syn, norm_input=bool(rng.integers(2)), **options
    )


FRAMEWORKS: dict[str, Callable[[int, Any], nn.Module]] = {
    "snntorch": _snntorch,
    "norse": _norse,
    "spikingjelly": _spikingjelly,
    "sinabs": _sinabs,
}


def _changed_neuron(neuron: nn.Module, n: int, rng: Any) -> tuple[nn.Module, str]:
    """Now and then a neuron whose code is not that of its class."""
    drawn, kept = rng.random(), (torch.rand(n) < 0.7).double()
    if drawn < 0.05:

        def zeroed(module: Any, args: Any, out: Any) -> Any:
            return (out[0] * kept, *out[1:]) if isinstance(out, tuple) else out * kept

        neuron.register_forward_hook(zeroed)
        return neuron, "neuron hook"
    if drawn < 0.1:
        neuron.register_forward_pre_hook(lambda module, args: (args[0] * kept, *args[1:]))
        return neuron, "neuron pre-hook"
    if drawn < 0.15:
        base = type(neuron)

        def forward(self: Any, x: Tensor, *states: Any) -> Any:
            return base.forward(self, x * 0.7, *states)

        neuron.__class__ = type(f"Own{base.__name__}", (base,), {"forward": forward})
        return neuron, "neuron subclass"
    return neuron, ""


# ---- models ----


class Net(nn.Module):
    """A class with a loop over time, or over layers for a framework whose calls take all steps."""

    def __init__(
        self,
        framework: str,
        sizes: list[int],
        layers: list[nn.Module],
        neurons: list[nn.Module],
        style: str,
        out: str,
    ) -> None:
        super().__init__()
        self.layers, self.neurons = nn.ModuleList(layers), nn.ModuleList(neurons)
        self.framework, self.style, self.out = framework, style, out
        n_in, n_last, n_out = sizes[0], sizes[-2], sizes[-1]
        self.skip = nn.Linear(n_in, n_last, bias=False) if style == "skip" else None
        self.back = nn.Linear(n_out, n_last, bias=False) if style == "feedback" else None
        self.register_buffer("gains", torch.rand(64) + 0.5)

    def forward(self, x: Tensor) -> Any:
        """Output for spikes (steps, samples, n)."""
        if self.framework == "sinabs":
            return self._all_steps(x.transpose(0, 1))
        states: list[Any] = [None] * len(self.neurons)
        before, found = None, []
        for current in x:
            value = current
            for i, (layer, neuron) in enumerate(zip(self.layers, self.neurons, strict=True)):
                if i == len(self.neurons) - 1 and self.skip is not None and i:
                    value = value + self.skip(current)
                if i == len(self.neurons) - 1 and self.back is not None and before is not None and i:
                    value = value + self.back(before)
                if self.framework == "norse":
                    value, states[i] = neuron(layer(value), states[i])
                else:
                    value = neuron(layer(value))
                    value = value[0] if isinstance(value, tuple) else value
                value = value.to(current.dtype)  # snnTorch's and sinabs's spikes are float32
            before = value
            found.append(value)
        return self._output(torch.stack(found))

    def _all_steps(self, x: Tensor) -> Any:
        value = x
        for i, (layer, neuron) in enumerate(zip(self.layers, self.neurons, strict=True)):
            if i == len(self.neurons) - 1 and self.skip is not None and i:
                value = value + self.skip(x)
            value = neuron(layer(value)).to(x.dtype)
        return self._output(value.transpose(0, 1))

    def _output(self, spikes: Tensor) -> Any:
        return OUTPUTS[self.out][0](spikes, self.gains[: spikes.shape[-1]])


OUTPUTS: dict[str, tuple[Callable[[Tensor, Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "spikes": (lambda spikes, _: spikes, lambda ours: ours.transpose(0, 1)),
    "sum": (lambda spikes, _: spikes.sum(0), lambda ours: ours.sum(1)),
    "mean": (lambda spikes, _: spikes.mean(0), lambda ours: ours.mean(1)),
    "weighted": (lambda spikes, gains: spikes * gains, lambda ours: ours.transpose(0, 1)),
    "negated": (lambda spikes, _: -spikes, lambda ours: ours.transpose(0, 1)),
    "permuted": (lambda spikes, _: spikes.flip(-1), lambda ours: ours.transpose(0, 1)),
    "half": (lambda spikes, _: spikes[..., : spikes.shape[-1] // 2], lambda ours: ours.transpose(0, 1)),
}
"""Name → what a model does with spikes (steps, samples, n), and what it should give for spikes (samples, steps, n)."""


class Wrapper(nn.Module):
    """A module around a model, as training frameworks have it."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Tensor) -> Any:
        return self.inner(x)


def _make(rng: np.random.Generator) -> Case:
    framework = str(rng.choice(list(FRAMEWORKS)))
    sizes = [int(size) for size in rng.choice([8, 12, 16], size=int(rng.integers(2, 5)))]
    names, layers, neurons, features = list(LAYERS), [], [], [framework]
    for n_in, n_out in pairwise(sizes):
        name = names[int(rng.integers(EXACT) if rng.random() < 0.85 else rng.integers(EXACT, len(names)))]
        if framework == "sinabs" and name == "BatchNorm":
            name = "masked"  # BatchNorm1d takes no (batch, time, n)
        layer = LAYERS[name](n_in, n_out, rng)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.mul_(2.0 if parameter.dim() > 1 else 1.0)
        neuron, changed = _changed_neuron(FRAMEWORKS[framework](n_out, rng), n_out, rng)
        layers.append(layer)
        neurons.append(neuron)
        features += [name, *([changed] if changed else [])]
    if len(sizes) > 3 and sizes[-3:] == [sizes[-1]] * 3 and rng.random() < 0.6:
        layers[-1] = layers[-2]
        features.append("shared layer")
    style = str(rng.choice(["chain", "chain", "skip", "feedback"]))
    out = str(rng.choice(["spikes"] * 6 + list(OUTPUTS)))
    inner = Net(framework, sizes, layers, neurons, style, out)
    features += [style, out]
    gain = getattr(neurons[-1], "graded_spikes_factor", torch.ones(()))
    with torch.no_grad():
        if isinstance(gain, Tensor):
            gain.fill_(1.0)
    model: nn.Module = inner
    drawn = rng.random()
    if drawn < 0.15:
        model = Wrapper(inner)
    elif drawn < 0.25:
        model = nn.DataParallel(inner)
    elif drawn < 0.35 and framework not in ("sinabs",):
        model = nn.Sequential(Wrapper(inner))
    if model is not inner:
        features.append("wrapped")
    return Case(
        ", ".join(features), model.double().eval(), sizes[0], _own_run(framework, model), OUTPUTS[out][1]
    )


def _own_run(framework: str, model: nn.Module) -> Callable[[Tensor], Tensor]:
    def forget() -> None:
        for module in model.modules():
            if isinstance(module, Late):
                module.calls = 0
            if framework == "snntorch" and hasattr(module, "reset_mem"):
                module.reset_mem()
            if framework == "sinabs" and hasattr(module, "reset_states"):
                module.reset_states()
        if framework == "spikingjelly":
            peers.package("spikingjelly.activation_based.functional").reset_net(model)

    def run(spikes: Tensor) -> Tensor:
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                forget()
                if framework == "sinabs":
                    model(spikes.transpose(0, 1))  # its states get the size of the batch
                    forget()
                return model(spikes.transpose(0, 1))
        finally:
            torch.set_default_dtype(before)

    return run
