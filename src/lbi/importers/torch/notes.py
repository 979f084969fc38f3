"""Notes on what an import assumes of the model's own runs, for ``Network.meta``."""

from __future__ import annotations

from torch import nn

from lbi.importers.torch import chain
from lbi.importers.torch.copying import tensors_in
from lbi.importers.torch.running import HALVES
from lbi.importers.torch.tracing import Tracing


def of(model: nn.Module, copy: nn.Module, tracing: Tracing) -> list[str]:
    """What the user has to know of the imported network; nothing for most models.

    Args:
        model: the user's model.
        copy: what was traced in its place.
        tracing: the trace.

    Returns:
        The notes.
    """
    return [*chain.notes(copy), *_rounded(model, tracing)]


def _rounded(model: nn.Module, tracing: Tracing) -> list[str]:
    """Of computations in half precision, in the order of their types."""
    held = {tensor.dtype: "" for part in model.modules() for tensor in tensors_in(vars(part))}
    found = held | tracing.halves
    return [
        f"the model computes in {str(dtype).removeprefix('torch.')}"
        + (f" at {found[dtype]}" if found[dtype] else "")
        + "; the network has the same weights and sums without its rounding, so spikes near a threshold can differ"
        for dtype in HALVES
        if dtype in found
    ]
