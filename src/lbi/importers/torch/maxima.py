"""Maximum of voltages over the steps inside of a model: the readout ``membrane_max``.

A maximum is followed if it is one of all steps, of the voltages of neurons that never spike or of those that plain torch
computes. What follows it must be nothing: its result is a source of its own, of which no layer takes in anything.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lbi.importers.signal import Signal
from lbi.importers.torch.operations import tracked
from lbi.importers.torch.shadow import LOST, STATE_OF, Maximum, Shadow
from lbi.importers.torch.voltages import in_order, leak_of, single_source

OVER_STEPS, PLACES = "over the steps", "indices"
"""Names of the states of a maximum: its values, and the steps at which they are."""


def over_steps(shadow: Shadow, func: Any, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The rule for the maximum over a dimension.

    Args:
        shadow: the numbers of all elements, and the names of neurons that never spike.
        func: the operation, ``max`` or ``amax``.
        out: the maxima.
        args: its arguments.
        kwargs: its keyword arguments.

    Returns:
        Numbers of the maxima and, of ``max``, of their indices; None unless they are of voltages over all steps.
    """
    x = args[0]
    dims = kwargs.get("dim", args[1] if len(args) > 1 else ())
    dims = dims if isinstance(dims, Sequence) else [dims]
    if "out" in kwargs or len(dims) != 1 or not isinstance(dims[0], int) or not x.dim():
        return None
    x = x.movedim(dims[0], 0)
    elements = tracked(shadow, x, x.shape)
    if bool((elements.numbers == LOST).any()):
        return None
    parts = (array.reshape(len(x), -1) for array in elements)
    rows = list(zip(*parts, strict=True))
    last = shadow.last_step
    steps = in_order(shadow, rows, last + 1) if len(x) in (last + 1, last + 2) else None
    if steps is None or not _is_voltage(shadow, steps.signals):
        return None
    maximum = Maximum(f"maximum_{len(shadow.maxima) + 1}", tuple(steps.signals), steps.n_before)
    shadow.maxima.append(maximum)
    found = [
        shadow.new(Signal.spikes(f"{maximum.name}{STATE_OF}{state}", (out.numel(),)), last).reshape(out.shape)
        for state in (OVER_STEPS, PLACES)
    ]
    return tuple(found[: len(func._schema.returns)])


def of(shadow: Shadow, signal: Signal) -> tuple[Maximum, float] | None:
    """The maximum that a signal is, and the positive number that multiplies it.

    Args:
        shadow: holds the maxima.
        signal: a signal.

    Returns:
        Both; None for anything else.
    """
    source = single_source(signal)
    if source is None:
        return None
    name, _, state = source[0].partition(STATE_OF)
    found = next((maximum for maximum in shadow.maxima if maximum.name == name), None)
    return None if found is None or state != OVER_STEPS else (found, source[1])


def _is_voltage(shadow: Shadow, signals: Sequence[Signal]) -> bool:
    """Whether signals of all steps are the voltages of neurons that never spike, or have memory of their own."""
    sources = {single_source(signal) for signal in signals}
    source = sources.pop()
    if not sources and source is not None and source[0].partition(STATE_OF)[0] in shadow.integrators:
        return all(term.delay == 0 for signal in signals for term in signal.terms)
    names = {term.source for signal in signals for term in signal.terms}
    if any(STATE_OF in name or name in shadow.integrators for name in names):
        return False
    return leak_of(signals) is not None


RULES = {"aten::max": over_steps, "aten::amax": over_steps}
"""ATen's name → rule."""
