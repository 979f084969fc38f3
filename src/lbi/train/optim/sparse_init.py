"""Sparse initialization: a network with few weights that still propagates signals.

Bungert, Roith, Tenbrinck, Burger, JMLR 23, 2022 (arXiv:2105.04319), Section 4.1: a dense
initialization with variance σ² is masked entry by entry with probability density, and scaled by
1/√density, so that every entry keeps variance σ² and every neuron's input the variance it had.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lbi.errors import Problems, Rule, UsageError
from lbi.train.optim.weights import split_parameters

DENSITY = Rule(
    "density-value",
    "a number > 0 and ≤ 1",
    "a network with no weights passes no gradient: start from a few per cent",
)
UNKNOWN = Rule("weight-unknown", "{names}", "name a parameter or a submodule")
DERIVED = Rule(
    "weight-derived",
    "a parameter",
    "give the module: what is written into a tensor that torch computes from parameters is lost",
)


@torch.no_grad()
def sparse_init_(
    target: nn.Module | Tensor,
    density: float | Mapping[str, float],
    generator: torch.Generator | None = None,
) -> nn.Module | Tensor:
    """Sparse initialization of existing weights, in place: θ ← θ·mask/√density, mask ~ Bernoulli(density).

    Call it before the optimizer is made, or call the optimizer's ``reset_duals`` after it.

    Args:
        target: a weight tensor, or a module whose weights (``split_parameters``) are thinned out; its biases,
            norms and decays stay as they are.
        density: share of weights that stay, in (0, 1]; for a module also a mapping from parameter names, or
            prefixes of them that end before a dot, to densities (weights it does not name stay dense).
        generator: draws the masks on the CPU, in the order of ``named_parameters``.

    Returns:
        ``target``.

    Raises:
        UsageError: before anything is changed, for densities outside (0, 1], names that match no weight, and
            weights that torch derives from others (weight norm, pruning …).
    """
    problems = Problems()
    weights: list[tuple[str, Tensor]]
    if isinstance(target, nn.Module):
        weights = split_parameters(target)[0]
    else:
        weights = [("", target)]
        DERIVED.check(problems, target.grad_fn is None, "target", "a tensor computed from others")
    densities = dict(density) if isinstance(density, Mapping) else {"": float(density)}
    chosen: dict[str, float] = {}
    for name, share in densities.items():
        matched = [key for key, _ in weights if name in {"", key} or key.startswith(name + ".")]
        where = f"density[{name!r}]" if name else "density"
        DENSITY.check(problems, 0.0 < float(share) <= 1.0, where, share)
        known = ", ".join(key for key, _ in weights) or "the module has no weights"
        UNKNOWN.check(problems, bool(matched) or name == "", where, "no such weight", names=known)
        chosen.update((key, float(share)) for key in matched)
    problems.raise_as(UsageError)
    for key, weight in weights:
        if key in chosen:
            share = chosen[key]
            mask = torch.rand(weight.shape, generator=generator, dtype=torch.float64) < share
            weight.mul_(mask.to(weight.device)).mul_(share**-0.5)
    return target
