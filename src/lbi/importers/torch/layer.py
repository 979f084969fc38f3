"""Interface between the tracer and the frameworks' readers: the layer under construction, and neuron class records.

The readers (``snntorch``, ``norse``, …) and the tracer that calls them do not import each other; both import this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lbi.errors import InputError, Problems, Rule
from lbi.importers.builder import Builder
from lbi.importers.signal import Signal

REST = Rule(
    "rest-value",
    "0, or where the neuron spikes the voltage that it starts at, decays to and is reset to",
    "train with voltages measured from rest",
)


@dataclass(frozen=True)
class Layer:
    """The context of a neuron module: the network under construction, its place for errors, its population's name.

    Attributes:
        shape: shape of its output, without batch and time.
        through: function of (module, signal) that traces a module inside the neuron, such as a recurrent
            ``Linear``.
    """

    builder: Builder
    where: str
    name: str
    shape: tuple[int, ...]
    through: Callable[[Any, Signal], Signal]

    def neurons(self, signal: Signal, **parameters: Any) -> None:
        """Add the module's population; see ``Builder.neurons``.

        Args:
            signal: its input.
            **parameters: those of ``Builder.neurons``.
        """
        self.builder.neurons(self.where, self.name, signal, **parameters)

    def own_spikes(self) -> Signal:
        """The population's spikes of the step before, for recurrence."""
        return Signal.spikes(self.name, self.shape).delayed(1)


LAST = "last"
"""Name of the state that is the voltage at the end of a call over all steps."""

Reader = Callable[[Any, Signal, Layer], None]
"""Function of (module, input signal, layer) that adds the population; raises InputError."""


@dataclass(frozen=True)
class Outputs:
    """The result of a call of a neuron module, separated into output and states.

    Attributes:
        main: its spikes, or the voltage of a neuron that integrates.
        others: name → state (or spikes that are not used).
    """

    main: Tensor
    others: dict[str, Tensor]


@dataclass(frozen=True)
class Neurons:
    """A neuron class of a framework: how it is called, what it returns, and its equations here.

    Attributes:
        read: adds its population.
        split: function of (module, result of its forward) that separates spikes and states.
        time_axis: function of the module: 0 or 1 if a call takes all steps, with the batch in the other axis; 2
            for the last axis; None if a call is one step; -1 if axis 0 holds the steps of all samples.
        reset: function that resets the state of the module, as the framework does.
        keeps_state: function of the module: True if it holds its state, False if the caller passes it.
        integrates: function of the module: True if it is read by its voltage.
        gain: function of the module: the value of a spike.
        instances: function of the module: its class's list of modules that the framework resets all at once, or None.
    """

    read: Reader
    split: Callable[[Any, Any], Outputs]
    time_axis: Callable[[Any], int | None]
    reset: Callable[[Any], None]
    keeps_state: bool = True
    integrates: Callable[[Any], bool] = lambda module: False
    gain: Callable[[Any], Any] = lambda module: 1.0
    instances: Callable[[Any], list[Any] | None] = lambda module: None


def check_rest(layer: Layer, **voltages: Any) -> None:
    """Raise InputError unless the neuron rests at 0 and resets to 0, as on the chip.

    Args:
        layer: the layer.
        **voltages: name → value that must be 0.
    """
    problems = Problems()
    for name, value in voltages.items():
        values = array(value)
        REST.check(problems, not np.any(values), layer.where, f"{name} {values.min():g} to {values.max():g}")
    problems.raise_as(InputError)


def just_below(threshold: Any) -> NDArray[np.float64]:
    """The float64 just below a threshold: v > this is v ≥ threshold, for any float64 v.

    Args:
        threshold: numbers.

    Returns:
        Numbers.
    """
    values = array(threshold)
    return np.where(np.isinf(values), values, np.nextafter(values, 0.0))


def exceeded(threshold: Any, surrogate: Any) -> NDArray[np.float64]:
    """What a voltage must exceed, by the function that decides on spikes: the user's own may spike at the threshold or above.

    Args:
        threshold: numbers.
        surrogate: function of voltage − threshold; above 0 means a spike.

    Returns:
        Numbers: the threshold, or the float64 just below it.
    """
    with torch.no_grad():
        at_threshold = bool(torch.all(surrogate(torch.zeros(1)) > 0))
    return just_below(threshold) if at_threshold else array(threshold)


def array(values: Any) -> NDArray[np.float64]:
    """Numbers or a tensor as a float64 array.

    Args:
        values: numbers.

    Returns:
        The array.
    """
    if isinstance(values, Tensor):
        values = values.detach().cpu().double().numpy()
    return np.asarray(values, dtype=np.float64)


def feature_shape(shape: Sequence[int]) -> tuple[int, ...]:
    """Shape of a sample in a step from the shape of a call with one sample.

    Args:
        shape: (1, …).

    Returns:
        The sizes after the first.
    """
    return tuple(shape[1:]) if len(shape) > 1 else tuple(shape)


def by_step(value: Tensor, axis: int | None) -> Iterator[Tensor]:
    """The input or output of a call per step, each (1, …).

    Args:
        value: what the call takes in or returns.
        axis: the neurons' axis of time (``Neurons.time_axis``).

    Yields:
        The steps in order.
    """
    if axis is None:
        yield value
    elif axis == -1:
        yield from value.split(1)
    elif axis == 2:
        yield from value.unbind(-1)
    else:
        yield from value.unbind(axis)


def layer_name(path: str) -> str:
    """A population's name from a module's path.

    Args:
        path: the path in the model; empty for the model itself.

    Returns:
        The name, of letters, digits, ``_``, ``-`` and ``.``.
    """
    clean = "".join(letter if letter.isalnum() or letter in "_-." else "_" for letter in path) or "neurons"
    return f"layer{clean}" if clean[0].isdigit() else f"{clean}_" if clean == "input" else clean
