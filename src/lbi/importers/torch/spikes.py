"""Functions that leave spikes as they are: of 0 they make 0, and of 1 they make 1."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lbi.importers.signal import Signal
from lbi.importers.torch.operations import Tracked, is_tracked, tracked
from lbi.importers.torch.shadow import STATE_OF, Shadow

FUNCTIONS = (
    "relu",
    "abs",
    "clamp",
    "clamp_min",
    "clamp_max",
    "hardtanh",
    "pow",
    "sqrt",
    "ceil",
    "round",
    "trunc",
)


def unchanged(shadow: Shadow, func: Any, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The rule for a function of each number.

    Args:
        shadow: the numbers of all elements.
        func: the operation.
        out: what it returned.
        args: its arguments.
        kwargs: its keyword arguments.

    Returns:
        Numbers of the output, which are those of spikes; None for anything else.
    """
    x = args[0]
    if not is_tracked(shadow, x) or any(isinstance(value, Tensor) for value in (*args[1:], *kwargs.values())):
        return None
    both = torch.tensor([0.0, 1.0], dtype=x.dtype)
    if not out.is_floating_point() or not torch.equal(func(both, *args[1:], **kwargs), both):
        return None
    value = tracked(shadow, x, x.shape)
    return torch.from_numpy(value.numbers).reshape(out.shape) if are_spikes(shadow, value) else None


def cast(shadow: Shadow, _func: Any, out: Any, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
    """The rule for the same values in another type.

    Args:
        shadow: the numbers of all elements.
        out: what the operation returned.
        args: its arguments.

    Returns:
        Numbers of the output; None for anything but spikes in a type that holds no fractions.
    """
    x = args[0]
    kept = out.is_floating_point() or are_spikes(shadow, tracked(shadow, x, x.shape))
    return shadow.of(x) if kept else None


def compared(
    shadow: Shadow, value: Tracked, compare: Callable[[Any, Any], Any], limit: NDArray[Any]
) -> NDArray[np.int64] | None:
    """The rule for a comparison that is true for 1 and false for 0.

    Args:
        shadow: the numbers of all elements.
        value: what is compared.
        compare: the comparison.
        limit: with what.

    Returns:
        Numbers of its outcome, which are those of spikes; None for anything else.
    """
    alike = bool(np.all(compare(1.0, limit)) and not np.any(compare(0.0, limit)))
    return value.numbers if alike and are_spikes(shadow, value) else None


def are_spikes(shadow: Shadow, value: Tracked) -> bool:
    """Test for elements each of which is a spike of a neuron or of the input, or 0.

    Args:
        shadow: the numbers of all elements.
        value: the elements.

    Returns:
        True if they are.
    """
    return bool(value.numbers.size) and is_spikes(shadow.read(value.numbers, value.values).signal)


def is_spikes(signal: Signal) -> bool:
    """Test for a signal of single spikes.

    Args:
        signal: a signal.

    Returns:
        True if each of its values is the spike of one neuron or of the input, or 0.
    """
    if np.any(signal.constant) or any(STATE_OF in term.source for term in signal.terms):
        return False
    alone = bool(np.all(fan_in(signal) <= 1))
    return alone and all(bool(np.all(term.matrix.data == 1)) for term in signal.terms)


def fan_in(signal: Signal) -> NDArray[np.int64]:
    """The number of spikes in each value.

    Args:
        signal: a signal.

    Returns:
        The numbers, (n,).
    """
    found = np.zeros(signal.n, dtype=np.int64)
    for term in signal.terms:
        found += np.diff(term.matrix.indptr)
    return found


RULES = {"aten::_to_copy": cast, **{f"aten::{name}": unchanged for name in FUNCTIONS}}
"""ATen's name → rule."""
