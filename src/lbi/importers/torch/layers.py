"""Linear torch layers that are implemented with nonlinear operations, and their substitutes.

Other layers need no entry: their operations are followed one by one (``operations``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.nn import functional

KNOWN = (
    "Linear",
    "Conv1d",
    "Conv2d",
    "ConvTranspose1d",
    "ConvTranspose2d",
    "AvgPool1d",
    "AvgPool2d",
    "AdaptiveAvgPool2d",
    "MaxPool1d of spikes",
    "MaxPool2d of spikes",
    "LPPool2d(1, …)",
    "BatchNorm1d",
    "BatchNorm2d",
    "Dropout",
    "Flatten",
    "Upsample",
)
"""Layers of torch.nn that users choose from, for errors; LPPool2d of norm 1 is a sum."""


def _sum_pool(module: Any, x: Tensor) -> Tensor:
    """LPPool2d with norm 1: a sum over windows, which torch computes from sign and magnitude."""
    size = module.kernel_size
    height, width = np.broadcast_to(size, 2)
    mean = functional.avg_pool2d(x, size, module.stride, 0, module.ceil_mode)
    return mean * float(height * width)


SUBSTITUTES: dict[tuple[str, str], Callable[[Any, Tensor], Tensor]] = {
    ("torch.nn.modules.pooling", "LPPool2d"): _sum_pool,
    ("sinabs.layers.pool2d", "SumPool2d"): _sum_pool,
}
"""(module, class) → the same function, in operations that can be followed."""


@contextmanager
def followed(model: nn.Module) -> Iterator[None]:
    """Replace these layers by their substitutes; the proof runs the originals.

    Args:
        model: the copy to trace, changed in place.
    """
    changed = []
    for module in model.modules():
        kind = type(module)
        substitute = SUBSTITUTES.get((kind.__module__, kind.__name__))
        if substitute is not None and "forward" not in vars(module) and module.norm_type == 1:
            module.forward = _bound(substitute, module)
            changed.append(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward


def _bound(substitute: Callable[[Any, Tensor], Tensor], module: Any) -> Callable[[Tensor], Tensor]:
    return lambda x: substitute(module, x)


def is_layer(module: Any) -> bool:
    """Test for a framework's module that is a layer.

    Args:
        module: a module.

    Returns:
        True if its class is one of torch.nn or derives from one; otherwise it stands for neurons.
    """
    return any(cls.__module__.startswith("torch.nn.") for cls in type(module).__mro__ if cls is not nn.Module)
