"""Sparse initialization: a network that starts almost empty, yet passes signals on.

Bungert, Roith, Tenbrinck, Burger, JMLR 23, 2022 (arXiv:2105.04319), Section 4.1: a dense
initialization with variance σ² is masked entry by entry with probability density, and scaled by
1/√density, so that every entry keeps variance σ² and every neuron's input the variance it had.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from lbi.errors import Problems, UsageError


@torch.no_grad()
def sparse_init_(
    target: nn.Module | Tensor,
    density: float | Mapping[str, float],
    generator: torch.Generator | None = None,
) -> nn.Module | Tensor:
    """Thin out the present weights in place: θ ← θ·mask/√density, mask ~ Bernoulli(density).

    target: a weight tensor, or a module whose parameters of 2 or more dimensions are weights; all
    others (biases, decays) are left alone. density: in (0, 1]; for a module also a mapping from
    parameter names, or prefixes of them ending before a dot, to densities (weights it does not
    name stay dense). generator: draws the masks, in the order of ``named_parameters``, on the CPU.
    Returns target. Raises UsageError, before anything is changed, for densities outside (0, 1] and
    names that match no weight. Call it before the optimizer is made, or call its ``reset_duals``.
    """
    problems = Problems()
    weights: list[tuple[str, Tensor]]
    if isinstance(target, nn.Module):
        weights = [(name, p) for name, p in target.named_parameters() if p.ndim >= 2]
    else:
        weights = [("", target)]
    densities = dict(density) if isinstance(density, Mapping) else {"": float(density)}
    chosen: dict[str, float] = {}
    for name, share in densities.items():
        matched = [key for key, _ in weights if name in {"", key} or key.startswith(name + ".")]
        problems.check(
            0.0 < float(share) <= 1.0,
            "density-value",
            f"density[{name!r}]" if name else "density",
            f"{share}",
            "a number > 0 and ≤ 1",
            "a network with no weights passes no gradient: start from a few per cent",
        )
        problems.check(
            bool(matched) or name == "",
            "weight-unknown",
            f"density[{name!r}]",
            "no such weight",
            ", ".join(key for key, _ in weights) or "the module has no weights",
            "name a parameter or a submodule",
        )
        chosen.update((key, float(share)) for key in matched)
    problems.raise_as(UsageError)
    for key, weight in weights:
        if key in chosen:
            share = chosen[key]
            mask = torch.rand(weight.shape, generator=generator, dtype=torch.float64) < share
            weight.mul_(mask.to(weight.device)).mul_(share**-0.5)
    return target
