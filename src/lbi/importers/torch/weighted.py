"""Weighted sums of spikes as a model's output: a last Linear with no neuron behind it.

What is returned may be every step's sums, their sum over all steps, or their mean. An integrator without leak that takes in
the same weights and biases holds the sum over the steps in its last voltage, exactly, and so the same class.
A sum and a mean over one number of steps look alike, so a second trace of one more step tells them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor

from lbi.errors import Problems, Rule
from lbi.importers.builder import ALWAYS
from lbi.importers.signal import Signal
from lbi.importers.torch.shadow import LOST, STATE_OF
from lbi.importers.torch.tracing import Tracing
from lbi.network.graph import INPUT

EVERY, LAST_STEP, TOTAL, SUM, MEAN, OWN = "every", "last", "total", "sum", "mean", "own"
"""What is returned of the sums; a ``TOTAL`` is a sum or a mean, ``OWN`` one over a number of steps that is the model's."""

NAME = "readout"
"""Name of the population that adds up; with a number behind it where a layer has this name."""

CLOSE = 1e-12
"""Relative difference of weights and biases that differ by rounding only."""

LAST_ONLY = Rule(
    "readout",
    "weighted sums of the spikes of all steps, by step, summed or averaged; of one step they would need neurons without"
    " memory, while a voltage on the chip keeps at least 1/4096 of itself",
    "return the sum or the mean over the steps, and train with it; or let neurons follow, and return their spikes of all steps",
)
ONCE = Rule(
    "readout",
    "weighted sums of spikes with a bias in each step, or with none",
    "apply the layer in each step and add up what it returns, or to the mean of the spikes; or train it with bias=False",
)

ADDED_UP = (
    "the model returns {what} weighted sums of spikes with no neuron behind them ({n} in each step): population {name!r} adds"
    " them up without leak, and the class is the largest of its voltages at the last step"
)
NOTES = {
    EVERY: "every step's",
    SUM: "the sum over the steps of",
    MEAN: "the mean over the steps of",
    OWN: "the sum or mean over its own number of steps of",
}
OTHER_CLASS = "; a class by the maximum over the steps, or by the last one alone, is another"
SCALED = "; these are the model's output times the number of steps"


@dataclass(frozen=True)
class Sums:
    """What the model's output holds: weighted sums of spikes.

    Attributes:
        signal: what one step adds: weights of the spikes of that step, and biases.
        path: where in the result of a call it is; a list of tensors is meant as a whole.
        tensors_of: function of (the results of all calls, path) that returns its tensors.
        form: which steps it holds (``EVERY``, ``LAST_STEP``, ``TOTAL``, ``SUM``, ``MEAN`` or ``OWN``).
        n_steps: steps of the trace.
        factor: what multiplies the sum over the steps of the trace.
        name: name of the population that adds up.
    """

    signal: Signal
    path: tuple[Any, ...]
    tensors_of: Callable[[Sequence[Any], tuple[Any, ...]], list[Tensor]]
    form: str
    n_steps: int
    factor: float = 1.0
    name: str = NAME

    where = "the model's output"
    state = ""
    last = False
    maximum = False
    n_before = 0
    integrates = True
    kind = "membrane_last"
    what = "weighted sums"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a sample's output in a step."""
        return self.signal.shape

    def tensors(self, results: Sequence[Any]) -> list[Tensor]:
        """Its tensors in the results of all calls.

        Args:
            results: what every call of the model returned.

        Returns:
            The tensors, in order of the calls.
        """
        return self.tensors_of(results, self.path)

    @property
    def neurons(self) -> dict[str, Any]:
        """Parameters of the population."""
        return {"current_decay": 1.0, "voltage_decay": 0.0}

    def voltages(self, added: NDArray[Any]) -> NDArray[Any]:
        """The voltages of the population.

        Args:
            added: (samples, steps, n), what arrives in each step.

        Returns:
            (samples, steps, n).
        """
        return added.cumsum(axis=1)

    def values(self, added: NDArray[Any]) -> NDArray[Any]:
        """What the output holds of each step.

        Args:
            added: (samples, steps, n), what arrives in each step.

        Returns:
            (samples, steps, n).
        """
        return added

    @property
    def note(self) -> str:
        """What the user has to know of it."""
        added = ADDED_UP.format(what=NOTES[self.form], n=self.signal.n, name=self.name)
        return added + {EVERY: OTHER_CLASS, MEAN: SCALED}.get(self.form, "")


Held = TypeVar("Held", bound=Sums)


def found(
    tracing: Tracing,
    path: tuple[Any, ...],
    tensors: Sequence[Tensor],
    tensors_of: Callable[[Sequence[Any], tuple[Any, ...]], list[Tensor]],
) -> Sums | None:
    """The weighted sums of spikes that tensors hold.

    Args:
        tracing: the trace.
        path: their place in the result of a call.
        tensors: those of all calls.
        tensors_of: function of (results, path) that returns them.

    Returns:
        The sums, all with the same weights and biases in each step; None for anything else.
    """
    numbers = [known for tensor in tensors if (known := tracing.shadow.of(tensor)) is not None]
    if len(numbers) != len(tensors) or not tracing.groups:
        return None
    flat = np.concatenate([known.reshape(-1).numpy() for known in numbers])
    if not flat.size or flat.min() <= LOST:
        return None
    values = np.concatenate([tensor.detach().reshape(-1).double().numpy() for tensor in tensors])
    steps, n_steps = tracing.shadow.steps(flat), max(len(group.inputs) for group in tracing.groups)
    taken = np.unique(steps)
    signals = [tracing.shadow.read(flat[steps == step], values[steps == step]).signal for step in taken]
    if len(tensors) > 1 and not _one_step_each(tracing, numbers):
        return None  # such as the spikes of several layers in a tuple
    last = signals[-1]
    if not of_spikes(tracing, last):
        return None
    made = Sums(last, path, tensors_of, EVERY, n_steps)
    if taken.tolist() == list(range(n_steps)):
        alike = all(term.delay == 0 for term in last.terms) and all(same(one, last) for one in signals)
        return shaped(made, tensors, n_steps) if alike else None
    if taken.tolist() != [n_steps - 1]:
        return None
    if all(term.delay == 0 for term in last.terms):
        return shaped(replace(made, form=LAST_STEP), tensors)
    one = _of_a_step(last, n_steps)
    return None if one is None else shaped(replace(made, signal=one, form=TOTAL), tensors)


def of_spikes(tracing: Tracing, signal: Signal) -> bool:
    """Whether a signal consists of spikes, of neurons among them.

    Args:
        tracing: the trace.
        signal: the signal.

    Returns:
        False for the input alone, and for voltages.
    """
    spiking = {group.name for group in tracing.groups if not group.integrates}
    pools = {pool.name for pool in tracing.shadow.pools}
    sources = {term.source for term in signal.terms} - {INPUT}
    return bool(sources) and sources <= spiking | pools and not any(STATE_OF in name for name in sources)


def _one_step_each(tracing: Tracing, numbers: Sequence[Tensor]) -> bool:
    """Whether each tensor holds values of one step, and no two of them of the same."""
    steps = [np.unique(tracing.shadow.steps(known.reshape(-1).numpy())) for known in numbers]
    return all(step.size == 1 for step in steps) and len({int(step[0]) for step in steps}) == len(steps)


def _of_a_step(total: Signal, n_steps: int) -> Signal | None:
    """What each step adds to a sum over all steps; None if steps differ in their weights."""
    terms = []
    for source in dict.fromkeys(term.source for term in total.terms):
        by_delay = {term.delay: term for term in total.terms if term.source == source}
        if sorted(by_delay) != list(range(n_steps)):
            return None
        if not all(close(term.matrix, by_delay[0].matrix) for term in by_delay.values()):
            return None
        terms.append(by_delay[0])
    return Signal(total.shape, tuple(terms), total.constant / n_steps)


def shaped(sums: Held, tensors: Sequence[Tensor], n_steps: int = 1) -> Held:
    """The sums in the shape of a sample's step, as far as the tensors show it.

    Args:
        sums: what tensors hold.
        tensors: the tensors.
        n_steps: how many steps one of them holds.

    Returns:
        The sums.
    """
    shape, n = tensors[0].shape, sums.signal.n
    for dim, size in enumerate((*shape, 1)):
        rest = [other for at, other in enumerate(shape) if at != dim]
        if size in (1, n_steps) and prod(rest) == n:
            kept = tuple(size for size in rest if size != 1)
            return replace(sums, signal=sums.signal.reshaped(kept or (1,)))
    return replace(sums, signal=sums.signal.reshaped((n,)))


def same(one: Signal, other: Signal) -> bool:
    """True if two signals are the same, up to rounding.

    Args:
        one: a signal.
        other: another one.

    Returns:
        True for the same sources, delays, weights and constants.
    """
    return _same_weights(one, other) and _same_constants(one, other)


def _same_weights(one: Signal, other: Signal, factor: float = 1.0, lates: tuple[int, int] = (0, 0)) -> bool:
    """True if the weights of a signal times a factor are those of another one, but for the steps that they are late."""
    first, second = (
        {(term.source, term.delay - late): term.matrix for term in signal.terms}
        for signal, late in zip((one, other), lates, strict=True)
    )
    alike = one.n == other.n and first.keys() == second.keys()
    return alike and all(close(first[key] * factor, second[key]) for key in first)


def _same_constants(one: Signal, other: Signal, factor: float = 1.0) -> bool:
    return bool(np.allclose(one.constant * factor, other.constant, rtol=CLOSE, atol=CLOSE))


def proportional(one: Signal, other: Signal) -> bool:
    """True if the weights of two signals are the same but for a positive factor and a delay.

    Args:
        one: a signal.
        other: another one.

    Returns:
        True for the same sources and weights in the same proportions.
    """
    one, other = (
        replace(signal, terms=tuple(term for term in signal.terms if term.source != ALWAYS))
        for signal in (one, other)
    )
    sizes = [sum(float(abs(term.matrix).sum()) for term in signal.terms) for signal in (one, other)]
    first, second = (min((term.delay for term in signal.terms), default=0) for signal in (one, other))
    return sizes[0] > 0 and _same_weights(one, other, sizes[1] / sizes[0], (first, second))


def close(one: csr_matrix, other: csr_matrix) -> bool:
    """True if two matrices are the same, up to rounding.

    Args:
        one: a matrix.
        other: another one.

    Returns:
        True if no weight differs by more than ``CLOSE`` of the largest one.
    """
    if one.shape != other.shape:
        return False
    return one is other or float(abs(one - other).max()) <= CLOSE * float(abs(other).max())


def settled(sums: Sums, other: Sums | None, problems: Problems) -> Sums | None:
    """The sums with the form and the weights of one step, for any number of steps.

    Args:
        sums: those of a trace.
        other: those of a trace of one step more; None if the model has its own number of steps.
        problems: receives a form that no integrator holds.

    Returns:
        The sums; None if a problem was noted.
    """
    if sums.form == EVERY:
        return sums
    if not LAST_ONLY.check(
        problems, sums.form != LAST_STEP, sums.where, "holds weighted sums of the last step's spikes alone"
    ):
        return None
    if other is None or other.form != TOTAL:  # of its own number of steps, a mean is a sum of smaller weights
        return replace(sums, form=OWN)
    shrunk = sums.n_steps / other.n_steps
    form = MEAN if _same_weights(sums.signal, other.signal, shrunk) else SUM
    once = _same_weights(sums.signal, other.signal) and not _same_constants(sums.signal, other.signal)
    text = "holds weighted sums of spikes with a bias that enters once"
    if not ONCE.check(problems, not once, sums.where, text):
        return None
    if form == SUM:
        return replace(sums, form=SUM)
    return replace(sums, signal=sums.signal.scaled(sums.n_steps), form=MEAN, factor=1 / sums.n_steps)
