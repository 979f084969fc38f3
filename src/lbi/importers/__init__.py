"""Import of networks from other frameworks as float ``Network``: ``.nir`` files and live torch models.

``load_nir`` reads a NIR file; ``from_torch`` reads a model of snnTorch, norse, spikingjelly, sinabs or SLAYER.
Anything that cannot be imported exactly is refused, in one pass, with the module's path and the fix.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lbi.network.graph import Network


def load_nir(path: str | Path, dt: float | None = None, writer: str | None = None) -> Network:
    """A ``.nir`` file; see ``lbi.importers.nir.load``."""
    from lbi.importers.nir import load

    return load(path, dt, writer)


def from_torch(model: Any, input_shape: Sequence[int]) -> Network:
    """A live torch model; see ``lbi.importers.torch.model.from_torch``."""
    from lbi.importers.torch.model import from_torch

    return from_torch(model, input_shape)


__all__ = ["from_torch", "load_nir"]
