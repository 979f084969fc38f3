"""Live torch models of other frameworks as float networks: a chain of modules, read without running it.

Known are the neurons of snnTorch, norse, spikingjelly and sinabs between torch's linear modules. BatchNorm is
folded, as are weight norm and pruning masks; dropout is as in evaluation. A neuron is taken for what it does:
a copy is driven with random input and compared, spike for spike, with the equations it is to become.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lbi.errors import InputError, Problem, Problems
from lbi.importers.builder import Builder
from lbi.importers.signal import Signal
from lbi.importers.torch import neurons
from lbi.network.graph import INPUT, Network
from lbi.simulation import oracle

PROBE_STEPS, PROBE_SAMPLES = 40, 2
"""How long, and how often, a neuron layer is driven to see what it does."""

VOLTAGE_ERROR = 1e-5
"""Of the largest voltage: what integrators may differ by, whose parameters are float32."""

CONTAINERS = (("torch", "Sequential"), ("norse", "SequentialState"), ("sinabs", "Network"))
"""Modules that do nothing but hold others in their order (and, for sinabs, the spiking copy of a model)."""


def from_torch(model: nn.Module, input_shape: Sequence[int]) -> Any:
    """The network of a model that is a chain of modules (``nn.Sequential`` or a framework's own container).

    input_shape: of one sample in one step, without batch and time, such as (64,) or (1, 28, 28)

    Returns a Network; for SLAYER blocks, whose weights are integers already, a FixedNetwork.
    Raises InputError naming, with its path, every module that cannot be taken over exactly, and the remedy.
    """
    layers = list(_flat(model, ""))
    if any(type(module).__module__.startswith("lava.lib.dl.slayer") for _, module in layers):
        from lbi.importers.torch.slayer import from_blocks

        return from_blocks(layers, input_shape)
    builder = Builder(input_shape)
    signal = Signal.spikes(INPUT, tuple(int(size) for size in input_shape))
    problems, ends_in, lost, behind = Problems(), "", False, ""
    for path, module in layers:
        where = f"module {path or type(module).__name__!r}"
        is_neuron = bool(_kinds(module) & set(neurons.READERS))
        problems.check(
            not (is_neuron and behind),
            "no-weights-between",
            where,
            f"neurons directly behind those of {behind}",
            "weights between two layers of neurons",
            "is this the order of the signal? put torch.nn.Linear between them, with identity weights if it is",
        )
        behind = where if is_neuron else behind if _passes(module) or isinstance(module, nn.Flatten) else ""
        if lost and isinstance(module, nn.Linear):  # what could not be read hides no later mistake
            lost, signal = False, Signal.nothing((module.in_features,))
        try:
            signal, spiking = _apply(module, signal, Layer(builder, where, _name(path)))
            ends_in = "" if spiking else where
        except InputError as error:
            ends_in = ""
            lost = lost or not is_neuron
            if isinstance(module, nn.Linear):
                signal = Signal.nothing((module.out_features,))
            problems.take(error, inside=where)
    problems.check(
        not ends_in,
        "readout",
        ends_in,
        "ends the model without neurons",
        "neurons at the end",
        "add a layer whose spikes are counted, or whose voltages are read",
    )
    if problems:
        Problems([*problems, *builder.problems]).raise_as(InputError)
    return builder.network(
        meta={"source": sorted({type(module).__module__.split(".")[0] for _, module in layers})}
    )


@dataclass(frozen=True)
class Layer:
    """Where a module stands: the network under construction, its path for messages, its population's name."""

    builder: Builder
    where: str
    name: str

    def neurons(self, signal: Signal, **parameters: Any) -> Signal:
        """Add its population; see ``Builder.neurons``."""
        return self.builder.neurons(self.where, self.name, signal, **parameters)

    def own_spikes(self, shape: Sequence[int]) -> Signal:
        """The population's spikes of the step before, to feed back."""
        return Signal.spikes(self.name, shape).delayed(1)


def _flat(module: nn.Module, path: str) -> Iterator[tuple[str, nn.Module]]:
    if _kinds(module) & set(CONTAINERS):
        inner: Any = module.spiking_model if hasattr(module, "spiking_model") else module
        for name, child in inner.named_children():
            yield from _flat(child, f"{path}.{name}" if path else name)
    else:
        yield path, module


def _kinds(module: nn.Module) -> set[tuple[str, str]]:
    """(package, class name) of a module's class and of those it derives from."""
    return {(cls.__module__.split(".")[0], cls.__name__) for cls in type(module).__mro__}


def _name(path: str) -> str:
    clean = "".join(letter if letter.isalnum() or letter in "_-." else "_" for letter in path) or "neurons"
    return f"layer{clean}" if clean[0].isdigit() else f"{clean}_" if clean == INPUT else clean


def _apply(module: nn.Module, signal: Signal, layer: Layer) -> tuple[Signal, bool]:
    """What comes out of a module, and whether that is spikes."""
    kinds = _kinds(module)
    for kind, read in neurons.READERS.items():
        if kind in kinds:
            spikes = read(module, signal, layer)
            if not layer.builder.problems:
                _probe(module, signal.shape, read, neurons.DRIVERS[kind[0]], layer.where)
            return spikes, True
    for kinds_of, linear in _LINEAR.items():
        if isinstance(module, kinds_of):
            return linear(module, signal), False
    if _passes(module):
        return signal, True
    raise _unknown(module)


def _passes(module: nn.Module) -> bool:
    """Whether it hands on what comes in, once trained."""
    return "Dropout" in type(module).__name__ or isinstance(module, nn.Identity)


def _unknown(module: nn.Module) -> InputError:
    known = [f"torch.nn.{kind.__name__}" for kind in _LINEAR]
    known += [f"{package}.{name}" for package, name in sorted(neurons.READERS)]
    frameworks = {"torch", *(package for package, _ in neurons.READERS)}
    remedy = "replace it"
    if type(module).__module__.split(".")[0] not in frameworks and next(module.children(), None) is not None:
        remedy = (
            "its forward is code, which is not read: put its layers into nn.Sequential in the order of the signal;"
            " nn.Sequential(OrderedDict(model.named_children())) keeps the names of its state"
        )
    return InputError(
        Problem(
            "unknown-module",
            "",
            f"{type(module).__module__}.{type(module).__name__} cannot be taken over",
            ", ".join(known),
            remedy,
        )
    )


def _probe(
    module: nn.Module, shape: tuple[int, ...], read: neurons.Reader, drive: neurons.Driver, where: str
) -> None:
    """Drive a copy of the neuron and the equations it becomes with the same input; refuse if they differ.

    Settings that nobody reads would otherwise be lost: labels can be wrong, subclasses can do anything.
    """
    rng = np.random.default_rng(0)
    builder = Builder(shape)
    layer = Layer(builder, where, "probe")
    gains = rng.uniform(0.2, 1.6, shape)
    read(module, Signal.spikes(INPUT, shape).scaled(gains), layer)
    network = builder.assembled("probe")
    variable = "v" if network.readout.of_membrane else "spikes"
    n = int(np.prod(shape))
    spikes = (rng.random((PROBE_SAMPLES, PROBE_STEPS, n)) < 0.4).astype(np.uint8)
    currents = spikes.reshape(PROBE_SAMPLES, PROBE_STEPS, *shape) * gains
    with torch.no_grad():
        theirs = drive(_copy_of(module).double().eval(), torch.from_numpy(currents))
    recorded = oracle.simulate(network, spikes, record=("spikes", "v")).recorded
    ours = np.empty((PROBE_SAMPLES, PROBE_STEPS, sum(map(len, builder.parts["probe"].values()))))
    for part, chosen in builder.parts["probe"].items():
        ours[..., chosen] = recorded[part, variable]
    off = np.abs(theirs.numpy().reshape(ours.shape) - ours)
    n_different = int(np.count_nonzero(off > VOLTAGE_ERROR * max(1.0, float(np.abs(ours).max()))))
    if n_different:
        what = "voltages differ from what its settings say"
        if variable == "spikes":
            what = f"spikes are missing or too many, where its settings say {int(ours.sum())}"
        raise InputError(
            Problem(
                "behaves-otherwise",
                where,
                f"driven with random input, {n_different} {what}",
                "u ← (1−a)u + input; v ← (1−b)v + u; hard reset to 0, or none and no spikes",
                "use the framework's plain neuron; write to the developers if this is one",
            )
        )


def _copy_of(module: nn.Module) -> nn.Module:
    """A copy with its own state, cut from the graph of the last forward pass (which cannot be copied)."""
    memo: dict[int, Any] = {}
    pending: list[Any] = [vars(part) for part in module.modules()]
    while pending:
        item = pending.pop()
        if isinstance(item, torch.Tensor):
            if not item.is_leaf:
                memo[id(item)] = item.detach().clone()
        elif isinstance(item, (dict, list, tuple)):
            pending += list(item.values() if isinstance(item, dict) else item)
    twin = type(module).__new__(type(module))  # sinabs's own __deepcopy__ fails on recurrent layers
    memo[id(module)] = twin
    vars(twin).update(copy.deepcopy(vars(module), memo))
    return twin


def weight_of(module: Any) -> NDArray[Any]:
    """A module's weight as its forward pass uses it: pruning masks and weight norm multiplied in."""
    weight: Any = None
    for hook in module._forward_pre_hooks.values():
        if getattr(hook, "_tensor_name", None) == "weight" and hasattr(hook, "apply_mask"):
            weight = hook.apply_mask(module)  # torch.nn.utils.prune
        elif getattr(hook, "name", None) == "weight" and hasattr(hook, "compute_weight"):
            if type(hook).__name__ != "WeightNorm":
                raise InputError(
                    Problem(
                        "weight-hook",
                        "",
                        f"its weight is made by {type(hook).__name__}",
                        "prune, weight_norm",
                        "remove the hook, keeping the weight it makes",
                    )
                )
            weight = hook.compute_weight(module)
    array = (module.weight if weight is None else weight).detach().cpu()
    if array.layout is not torch.strided:
        array = array.to_dense()
    found = array.numpy().astype(np.float64)
    n_bad = int(np.count_nonzero(~np.isfinite(found)))
    if n_bad:
        raise InputError(
            Problem(
                "not-finite", "weight", f"{n_bad} NaN or infinite values", "finite numbers", "train it again"
            )
        )
    return found


def _bias_of(module: Any) -> NDArray[Any] | None:
    bias: Any = module.bias
    return None if bias is None else bias.detach().cpu().numpy().astype(np.float64)


def _linear(module: Any, signal: Signal) -> Signal:
    return signal.linear(weight_of(module), _bias_of(module))


def _conv2d(module: Any, signal: Signal) -> Signal:
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise InputError(
            Problem(
                "padding",
                "",
                f"padding {module.padding!r} of {module.padding_mode!r}",
                "numbers, zeros",
                "pad with numbers",
            )
        )
    return signal.conv2d(
        weight_of(module),
        _bias_of(module),
        stride=module.stride,
        padding=module.padding,
        dilation=module.dilation,
        groups=module.groups,
    )


def _avg_pool(module: Any, signal: Signal) -> Signal:
    if module.ceil_mode or module.divisor_override or (module.padding not in (0, (0, 0))):
        raise InputError(
            Problem(
                "pooling", "", "ceil_mode, divisor_override or padding", "none of them", "pool without them"
            )
        )
    return signal.pool2d(module.kernel_size, module.stride, mean=True)


def _sum_pool(module: Any, signal: Signal) -> Signal:
    if module.norm_type != 1 or module.ceil_mode:
        raise InputError(Problem("pooling", "", f"norm {module.norm_type}", "1: a sum", "pool with a sum"))
    return signal.pool2d(module.kernel_size, module.stride or module.kernel_size)


def _flatten(module: Any, signal: Signal) -> Signal:
    start, end = module.start_dim, module.end_dim
    return signal.flattened(start - 1 if start > 0 else 0, end - 1 if end > 0 else end)


def _batch_norm(module: Any, signal: Signal) -> Signal:
    """``(x − mean) / √(var + eps) · weight + bias`` per channel, with the statistics of training."""
    if module.running_mean is None:
        raise InputError(
            Problem(
                "batch-norm",
                "",
                "has no running statistics",
                "track_running_stats=True",
                "train with running statistics",
            )
        )
    mean, variance = (
        t.detach().cpu().numpy().astype(np.float64) for t in (module.running_mean, module.running_var)
    )
    factor = 1.0 / np.sqrt(variance + module.eps)
    if module.affine:
        factor = factor * module.weight.detach().cpu().numpy()
    constant = -mean * factor + (module.bias.detach().cpu().numpy() if module.affine else 0.0)
    per_channel = (-1,) + (1,) * (len(signal.shape) - 1)
    return signal.scaled(factor.reshape(per_channel)).plus(constant.reshape(per_channel))


_LINEAR: dict[type[nn.Module], Callable[[Any, Signal], Signal]] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv2d,
    nn.AvgPool2d: _avg_pool,
    nn.LPPool2d: _sum_pool,
    nn.Flatten: _flatten,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
}
"""Module class → function of (module, what flows in)."""


__all__ = ["Network", "from_torch", "weight_of"]
