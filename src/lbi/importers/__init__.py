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
    """A ``.nir`` file; see ``lbi.importers.nir.load``.

    Args:
        path: the file.
        dt: seconds per step; None to derive it from the file.
        writer: the program that wrote the file, for its conventions; None to derive it.

    Returns:
        The network.

    Raises:
        InputError: naming everything that cannot be imported exactly.
    """
    from lbi.importers.nir import load

    return load(path, dt, writer)


def from_torch(model: Any, input_shape: Sequence[int]) -> Network:
    """A live torch model; see ``lbi.importers.torch.model.from_torch``.

    Args:
        model: a model of snnTorch, norse, spikingjelly, sinabs or SLAYER.
        input_shape: shape of one sample at one step.

    Returns:
        A Network; for SLAYER models a FixedNetwork.

    Raises:
        InputError: naming everything that cannot be imported exactly.
    """
    from lbi.importers.torch.model import from_torch

    return from_torch(model, input_shape)


__all__ = ["from_torch", "load_nir"]
