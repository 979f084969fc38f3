"""What a trace knows of a hand-written population, and the names of its states."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from lbi.importers.signal import Signal
from lbi.importers.torch.group import Group
from lbi.importers.torch.shadow import STATE_OF, Node

VOLTAGE, RESET, GATED = "v", "reset", "gated"
"""States of a population: its voltage when it is compared, this times its spikes, and anything else times its spikes."""


class Units(NamedTuple):
    """What is compared is the voltage times ``factor``, plus ``constant``, (n,) each."""

    factor: NDArray[np.float64]
    constant: NDArray[np.float64]


@dataclass
class Population:
    """What a trace knows of a hand-written population.

    Attributes:
        group: its spikes and inputs.
        source: file:line of the comparison with its threshold.
        units: of its voltage.
        equations: what its neurons do, once that is read (``equations.Equations``).
        latest: those that the last step alone suggests, for the next trace.
        voltages: its voltage at every step, before it is called a state.
        thresholds: what it must exceed at every step, (n,) each.
        strict: False if a voltage at the threshold is a spike.
        inverted: True if the comparison is true without a spike.
        roots: step → the node that is its voltage times the first, plus the second of two arrays (n,).
        gated: step → name of a state → what its spikes of the step before multiply, with its step.
        moves: whether the units of later steps are others, in a trace that knew those of the last.
        before: steps in which what is compared is constant.
    """

    group: Group
    source: str
    units: Units
    strict: bool
    inverted: bool
    voltages: list[Signal] = field(default_factory=list)
    thresholds: list[NDArray[np.float64]] = field(default_factory=list)
    roots: dict[int, tuple[int, NDArray[np.float64], NDArray[np.float64]]] = field(default_factory=dict)
    gated: dict[str, tuple[Node, int]] = field(default_factory=dict)
    moves: bool = False
    before: int = 0
    latest: Units | None = None
    equations: Any = None

    def distances(self, compared: NDArray[np.float64]) -> NDArray[np.float64]:
        """How far values are from the threshold, as multiples of it.

        Args:
            compared: (…, n) what the model compares.

        Returns:
            The distances, above 0 where the neuron spikes.
        """
        voltages = (compared - self.units.constant) / self.units.factor
        return (voltages - self.thresholds[-1]) / self.equations.threshold


def state_of(name: str, state: str) -> str:
    """The name of a population's state as a source of signals.

    Args:
        name: the population.
        state: the state.

    Returns:
        The name.
    """
    return f"{name}{STATE_OF}{state}"


def own(source: str, name: str) -> bool:
    """Whether a source is a population's spikes, or a state of it.

    Args:
        source: name of a source.
        name: the population.

    Returns:
        True if so.
    """
    return source.partition(STATE_OF)[0] == name


def is_diagonal(matrix: csr_matrix) -> bool:
    """Whether each value takes in its own source alone.

    Args:
        matrix: (n, n_source).

    Returns:
        True if so.
    """
    rows, columns = matrix.nonzero()
    return bool(matrix.shape[0] == matrix.shape[1] and np.all(rows == columns))
