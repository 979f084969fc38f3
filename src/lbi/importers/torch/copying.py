"""Copies of models for execution, with the same state: float64 on the CPU, in evaluation mode, not compiled.

Float64 removes rounding from comparisons; the values are those of the model. Modules are copied attribute by
attribute, since ``deepcopy`` fails on tensors inside a graph, and sinabs's own version of it rebuilds layers.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from lbi.errors import InputError, Problems, Rule

NO_VALUES = Rule(
    "no-values",
    "tensors with values, on a CPU or GPU",
    "build the model without torch.device('meta') and load its state",
)
UNINITIALIZED = Rule(
    "no-values", "tensors with values", "run the model once on a sample where it is built, then import it"
)
NOT_FINITE = Rule("not-finite", "finite numbers", "train it again")
NOT_FINITE_BUFFER = Rule(
    "not-finite",
    "finite numbers",
    "if it is the state of neurons, left over from a run: reset the model before the import, or set it to zeros; if not, train"
    " it again",
)
NOT_COPIED = Rule(
    "model-copy",
    "a model that copy.deepcopy can copy",
    "keep open files, locks and generators out of the model",
)
QUANTIZED = Rule(
    "model-quantized",
    "layers with float weights",
    "give the model as it was before torch quantized it: lbi-export quantizes for the chip",
)
PREPARED = Rule(
    "model-prepared",
    "layers with float weights, without fake quantization and observers",
    "build the model as it was before prepare or prepare_qat, and give it the trained weights: state = model.state_dict();"
    " plain.load_state_dict({{name: state[name] for name in plain.state_dict()}}); lbi-export quantizes for the chip",
)
PREPARING = ("weight_fake_quant", "activation_post_process")
"""Names of the modules that torch's ``prepare`` and ``prepare_qat`` insert; those of fx have numbers behind them."""
FLOATS = ("FloatFunctional", "FXFloatFunctional")
"""Modules among torch's quantized ones that compute floats, as models have them before they are quantized."""
OF_THE_BATCH = Rule(
    "batch-statistics",
    "BatchNorm with the statistics of training",
    "train with track_running_stats=True",
)
HOOKED = Rule("hooked-wrapper", "none", "register them on the model inside, which is what is imported")
SCRIPTED = Rule(
    "model-torchscript", "Python modules", "give the model itself instead of what torch.jit made of it"
)


def unwrapped(model: nn.Module) -> nn.Module:
    """The model inside ``torch.compile``, ``DataParallel`` and ``DistributedDataParallel``.

    Args:
        model: any torch model.

    Returns:
        The model inside.

    Raises:
        InputError: for a wrapper with hooks, which the model inside does not have.
    """
    while True:
        kind, inner = type(model), model
        if kind.__name__ == "OptimizedModule" and kind.__module__.startswith("torch."):
            inner = model._orig_mod  # type: ignore[assignment]
        elif kind in (nn.DataParallel, nn.parallel.DistributedDataParallel):
            inner = model.module  # type: ignore[assignment]
        if inner is model:
            return model
        n_hooks = len(model._forward_hooks) + len(model._forward_pre_hooks)
        if n_hooks:
            raise InputError(HOOKED.broken(kind.__name__, f"{n_hooks} hooks on the wrapper"))
        model = inner


def copy_to_run(model: nn.Module, *, widen: bool = True) -> nn.Module:
    """A copy of a model to run: on the CPU, dense, in evaluation mode, without wrappers and without gradients.

    Args:
        model: the user's model, which is not changed.
        widen: whether floats become float64; otherwise they keep their type.

    Returns:
        The copy, with the same state.

    Raises:
        InputError: for modules that torch has scripted, quantized or prepared for quantization, for BatchNorm without the
            statistics of training, and for parameters and buffers without values or (except thresholds) with NaN or infinite
            ones; for a wrapper with hooks; for a model that ``copy.deepcopy`` cannot copy.
    """
    memo: dict[int, Any] = {}
    parts: dict[int, nn.Module] = {}
    _check(model)
    for part in _modules(model):
        real = unwrapped(part)
        if id(real) not in parts:
            parts[id(real)] = real
            memo[id(real)] = object.__new__(type(real))  # GraphModule's own __new__ makes another class
        memo[id(part)] = memo[id(real)]
    keep: list[Tensor] = []  # an id is valid only while its tensor exists
    for part in parts.values():
        for tensor in tensors_in(vars(part)):
            if id(tensor) not in memo:
                keep.append(tensor)
                memo[id(tensor)] = _exact(tensor, widen)
    try:
        for part in parts.values():
            values = {name: value for name, value in vars(part).items() if name != "_compiled_call_impl"}
            vars(memo[id(part)]).update(copy.deepcopy(values, memo))
            vars(memo[id(part)])["_compiled_call_impl"] = None
    except Exception as error:  # classes may fail to be copied with any exception
        text = f"cannot be copied ({type(error).__name__}: {error})"
        raise InputError(NOT_COPIED.broken(type(model).__name__, text)) from error
    copied = memo[id(model)]
    evaluate(copied)
    return copied


def evaluate(model: nn.Module) -> None:
    """Set a model to evaluation; a module whose own ``eval`` or ``train`` fails, as it stands for something else, by its attribute.

    Args:
        model: the model.
    """
    try:
        model.eval()
    except Exception:  # ``eval(self, loader)`` of a project, an exported program
        model.training = False
        for child in model.children():
            evaluate(child)


def _modules(model: nn.Module) -> Iterator[nn.Module]:
    """All modules once, including those inside wrappers."""
    yield from model.modules()


def _check(model: nn.Module) -> None:
    problems = Problems()
    modules = ((path, type(part)) for path, part in model.named_modules())
    inserted = next((path for path, kind in modules if kind is not nn.Identity and prepares(path)), "")
    PREPARED.check(problems, not inserted, "model", f"was prepared for torch's quantization ({inserted!r})")
    for name, part in model.named_modules():
        where = f"module {name or type(part).__name__!r}"
        SCRIPTED.check(
            problems, not isinstance(part, torch.jit.ScriptModule), where, "is compiled by TorchScript"
        )
        file, kind = type(part).__module__, type(part).__name__
        quantized = file.startswith("torch.") and ".quantized" in file and kind not in FLOATS
        QUANTIZED.check(problems, not quantized, where, f"is {file}.{kind}")
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            known = part.running_mean is not None
            OF_THE_BATCH.check(problems, known, where, f"{kind} normalizes by the mean of each batch")
        for key, value in (*part.named_parameters(recurse=False), *part.named_buffers(recurse=False)):
            lazy = is_lazy(value)
            UNINITIALIZED.check(problems, not lazy, f"{where}, {key}", "has no shape yet, in a lazy module")
            real = not lazy and NO_VALUES.check(
                problems,
                value.device.type != "meta",
                f"{where}, {key}",
                "is on the meta device, without values",
            )
            if real and value.is_floating_point() and "thr" not in key:  # an infinite threshold means "never"
                dense = value.detach().to_dense() if value.layout is not torch.strided else value.detach()
                n_bad = int((~torch.isfinite(dense)).sum())
                state = key in part._buffers and not file.startswith("torch.")
                rule = NOT_FINITE_BUFFER if state else NOT_FINITE
                rule.check(problems, n_bad == 0, f"{where}, {key}", f"{n_bad} NaN or infinite values")
    problems.raise_as(InputError)


def prepares(path: str) -> bool:
    """Whether a module or a tensor is one of those that prepare a model for quantization.

    Args:
        path: its path in the model.

    Returns:
        True if any part of the path begins with one of ``PREPARING``.
    """
    return any(part.startswith(PREPARING) for part in path.split("."))


def tensors_in(content: Any, seen: set[int] | None = None) -> Iterator[Tensor]:
    """All tensors inside a value's dictionaries, lists, tuples and sets, at any depth.

    Args:
        content: the value; a tensor counts as its own content.
        seen: ids of objects to leave out, to which those of the value and its parts are added; None for none.

    Yields:
        The tensors, each object once.
    """
    seen = set() if seen is None else seen
    if id(content) in seen:
        return
    seen.add(id(content))
    if isinstance(content, Tensor):
        yield content
    elif isinstance(content, dict):
        for value in list(content.values()):
            yield from tensors_in(value, seen)
    elif isinstance(content, list | tuple | set):
        for value in content:
            yield from tensors_in(value, seen)


def _exact(tensor: Tensor, widen: bool) -> Tensor:
    """The tensor on the CPU, dense, detached, with floats as float64 and integers unchanged."""
    value = tensor.detach()
    if value.layout is not torch.strided:
        value = value.to_dense()
    wide = widen and value.is_floating_point()
    value = value.to(device="cpu", dtype=torch.float64 if wide else value.dtype, copy=True)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(value, requires_grad=False)
    return value
