"""Notes on what an import assumes of the model's own runs, for ``Network.meta``."""

from __future__ import annotations

from torch import nn

from lbi.importers.torch import chain


def of(copy: nn.Module) -> list[str]:
    """What the user has to know of the imported network; nothing for most models.

    Args:
        copy: what was traced in the place of the user's model.

    Returns:
        The notes.
    """
    return chain.notes(copy)
