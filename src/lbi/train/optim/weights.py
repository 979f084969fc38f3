"""The weights of any torch module: parameters that a sparse optimizer may set to 0 one by one.

Torch derives some weights from others before each forward pass. Spectral norm divides a matrix by one number,
so zeros stay zeros. Weight norm (Salimans & Kingma, arXiv:1602.07868) is w = g·v/‖v‖ per neuron: a neuron without
weights divides 0 by 0, and g is a norm, not a weight. Pruning multiplies by a mask that the density does not see.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils.weight_norm import WeightNorm

from lbi.errors import Problems, Rule, UsageError

NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.LocalResponseNorm,
    nn.RMSNorm,
)
"""Modules whose parameters scale and shift; a ``LayerNorm`` over an image has them in 2 or more dimensions."""

NOT_SYNAPSES = frozenset(
    [
        "bias",
        "tau",
        "alpha",
        "beta",
        "gamma",
        "threshold",
        "thr",
        "vth",
        "decay",
        "leak",
        "reset",
        "norm",
        "scale",
        "gain",
        "slope",
        "init",
        "state",
    ]
)
"""Words in a parameter's name that mark a neuron's or a norm's parameter, in any number of dimensions."""

NORMED = Rule(
    "weight-derived",
    "a weight of its own: norms are no weights, and a neuron without any weight would divide 0 by 0",
    "call torch.nn.utils.{undo} before, or build the module without weight norm",
)
PRUNED = Rule(
    "weight-derived",
    "a weight without a mask of its own, which would hide zeros from the density",
    "call torch.nn.utils.prune.remove(module, {name!r}) before",
)
PARAMETRIZED = Rule(
    "weight-derived",
    "a parametrization that gives 0 where, and only where, its tensor is 0, such as spectral norm",
    "call torch.nn.utils.parametrize.remove_parametrizations(module, {name!r}) before",
)
LAZY = Rule("weight-uninitialized", "parameters with a shape", "run the module on one batch before")
EMBEDDING = Rule("embedding-option", "{allowed}", "make the embedding with {option}={allowed}: {why}")


def split_parameters(module: nn.Module) -> tuple[list[tuple[str, Tensor]], list[tuple[str, Tensor]]]:
    """Weights of synapses, and all other parameters, both as (name, parameter) in the order of ``named_parameters``.

    A weight has 2 or more dimensions, and is neither a norm's parameter nor named as a neuron's (``bias``, ``tau``,
    ``threshold`` …). An embedding's table is one: a matrix that a one-hot input multiplies. A spectral norm's matrix
    is one under its own name (``weight_orig``, ``parametrizations.weight.original``).

    Args:
        module: any torch module; shared parameters are listed once.

    Returns:
        ``(weights, rest)``.

    Raises:
        UsageError: naming every weight that torch derives from other parameters in a way that does not keep zeros
            (weight norm, pruning, orthogonal …), every uninitialized parameter, and every embedding whose options
            do not go with a sparse optimizer.
    """
    problems = Problems()
    for path, part in module.named_modules():
        _check_hooks(path, part, problems)
        _check_parametrizations(path, part, problems)
        _check_embedding(path, part, problems)
    for name, parameter in module.named_parameters():
        LAZY.check(problems, not nn.parameter.is_lazy(parameter), name, "no shape yet")
    problems.raise_as(UsageError)
    excluded = {id(p) for part in module.modules() if isinstance(part, NORMS) for p in part.parameters()}
    weights: list[tuple[str, Tensor]] = []
    rest: list[tuple[str, Tensor]] = []
    for name, parameter in module.named_parameters():
        synapses = parameter.ndim >= 2 and id(parameter) not in excluded and _named_as_weight(name)
        (weights if synapses else rest).append((name, parameter))
    return weights, rest


def _named_as_weight(name: str) -> bool:
    """False for names such as ``tau_mem`` and ``lif.threshold``; a parametrized one is judged by its own name."""
    parts = name.split(".")
    own = parts[-2] if "parametrizations" in parts[:-2] else parts[-1]
    return not NOT_SYNAPSES & set(own.lower().split("_"))


def _check_hooks(path: str, part: nn.Module, problems: Problems) -> None:
    """Note weights that a hook derives from others before each forward pass."""
    for hook in part._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            where = f"{path}.{hook.name}".lstrip(".")
            found = f"weight norm: {hook.name}_g · {hook.name}_v / ‖{hook.name}_v‖"
            problems.note(NORMED.broken(where, found, undo=f"remove_weight_norm(module, {hook.name!r})"))
        elif isinstance(hook, prune.BasePruningMethod):
            name = hook._tensor_name
            where = f"{path}.{name}".lstrip(".")
            problems.note(PRUNED.broken(where, f"pruned: {name}_orig · {name}_mask", name=name))


def _check_parametrizations(path: str, part: nn.Module, problems: Problems) -> None:
    """Note parametrizations of matrices that do not keep zeros, found by trying them."""
    for name, derived in _parametrizations(part):
        where = f"{path}.{name}".lstrip(".")
        steps = ", ".join(type(step).__name__.lstrip("_") for step in derived)
        if not derived.is_tensor:
            undo = f"parametrize.remove_parametrizations(module, {name!r})"
            problems.note(NORMED.broken(where, f"{steps} of several tensors", undo=undo))
        elif derived.original.ndim >= 2:
            PARAMETRIZED.check(problems, _keeps_zeros(derived), where, steps, name=name)


def _parametrizations(part: nn.Module) -> Iterator[tuple[str, parametrize.ParametrizationList]]:
    for name, derived in getattr(part, "parametrizations", {}).items():
        if isinstance(derived, parametrize.ParametrizationList):
            yield name, derived


@torch.no_grad()
def _keeps_zeros(derived: parametrize.ParametrizationList) -> bool:
    """True if the derived weight is 0 exactly where a tensor half of zeros is, with one neuron all zeros."""
    training = derived.training
    derived.eval()  # spectral norm refines its estimate in training mode
    try:
        tried = torch.randn(derived.original.shape, generator=torch.Generator().manual_seed(0))
        kept = torch.arange(tried.numel()) % 2 == (tried.numel() - 1) % 2  # the last one among them
        tried = tried * kept.reshape(tried.shape)
        if len(tried) > 1:
            tried[0] = 0.0
        tried = tried.to(derived.original)
        result: Any = tried
        for step in derived:
            result = step(result)
    finally:
        derived.train(training)
    return result.shape == tried.shape and bool(torch.equal(result != 0, tried != 0))


def _check_embedding(path: str, part: nn.Module, problems: Problems) -> None:
    if isinstance(part, nn.Embedding | nn.EmbeddingBag):
        sparse, limit = "its gradient would be a sparse tensor", "weights follow their duals, not a limit"
        for option, holds, allowed, why in (
            ("sparse", not part.sparse, "False", sparse),
            ("max_norm", part.max_norm is None, "None", limit),
        ):
            EMBEDDING.check(
                problems,
                holds,
                path or "embedding",
                f"{option}={getattr(part, option)}",
                option=option,
                allowed=allowed,
                why=why,
            )
