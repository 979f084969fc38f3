"""Moving average of a network's parameters over optimizer steps, for a network that generalizes better.

Polyak & Juditsky, SIAM J. Control Optim. 30, 1992, DOI 10.1137/0330046, in the exponential form that Adam's authors
give (Kingma & Ba, arXiv:1412.6980, Section 7.2). It starts when the set of weights is fixed: weights that are 0 from then on
are exactly 0 in the average too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from lbi.errors import InputError, Problems, Rule

OTHER = Rule("checkpoint", "a finite average of shape {shape}")


class Average:
    """The moving average θ̄ ← θ̄ + rate·(θ − θ̄) of a module's parameters, starting at their present values.

    Args:
        module: the module whose parameters are averaged; buffers are not.
        rate: weight of one step, in (0, 1).
    """

    def __init__(self, module: nn.Module, rate: float) -> None:
        self.module = module
        self.rate = rate
        self.values = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def step(self) -> None:
        """Take the present parameters into the average."""
        for name, p in self.module.named_parameters():
            self.values[name].lerp_(p, self.rate)

    @torch.no_grad()
    def mask(self) -> None:
        """Set weights to 0 that are 0 in the module: the set of weights has become smaller."""
        for name, p in self.module.named_parameters():
            if p.ndim > 1:
                self.values[name].mul_(p != 0)

    @torch.no_grad()
    def write(self) -> None:
        """Write the average into the module."""
        for name, p in self.module.named_parameters():
            p.copy_(self.values[name])

    @contextmanager
    def in_place(self) -> Iterator[None]:
        """The module with the average as its parameters, which come back at the end."""
        own = {name: p.detach().clone() for name, p in self.module.named_parameters()}
        self.write()
        try:
            yield
        finally:
            with torch.no_grad():
                for name, p in self.module.named_parameters():
                    p.copy_(own[name])

    def load(self, saved: Mapping[str, Tensor]) -> None:
        """Continue from saved values.

        Args:
            saved: name → tensor, as in ``values``.

        Raises:
            InputError: naming every tensor that is missing, of another shape, or not finite.
        """
        problems = Problems()
        for name, own in self.values.items():
            value = saved.get(name)
            fits = (
                isinstance(value, Tensor)
                and value.shape == own.shape
                and value.dtype == own.dtype
                and bool(torch.isfinite(value).all())
            )
            OTHER.check(
                problems, fits, f"--resume, average, {name}", "another tensor", shape=tuple(own.shape)
            )
        problems.raise_as(InputError)
        for name, own in self.values.items():
            own.copy_(saved[name])
