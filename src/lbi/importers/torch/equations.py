"""Equations of hand-written neurons, read from the expressions of their voltages at every step.

With v the voltage that is compared and s the spikes, these are read:

    v[t] = β · (v[t−1] − v[t−1] s[t−1]) + J[t]     a reset to 0 after a spike
    v[t] = (β · v[t−1] + J[t]) · (1 − s[t−1])       a reset to 0 that loses the input of its step
    v[t] = β · v[t−1] + J[t] − ϑ · s[t−1]           a reset by subtraction, or none (ϑ = 0)

J are the currents: sums of spikes, with a memory of their own (J[t] = α · J[t−1] + input) or without. Voltages may be measured from
any rest. A reset to another value than rest, after which nothing is lost, is a synapse from each neuron to itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, diags

from lbi.errors import Problems, Rule
from lbi.importers.builder import ALWAYS
from lbi.importers.signal import Signal
from lbi.importers.terms import Term
from lbi.importers.torch import memory
from lbi.importers.torch.handwritten import Handwritten
from lbi.importers.torch.initial import LEFT_OVER
from lbi.importers.torch.layer import Layer, just_below
from lbi.importers.torch.remedies import RANDOM_FIX
from lbi.importers.torch.voltages import alike
from lbi.importers.torch.weighted import close
from lbi.importers.torch.written import GATED, RESET, VOLTAGE, Population, is_diagonal, state_of
from lbi.network.graph import INPUT

CLOSE = 1e-12
"""Relative difference of numbers that differ by rounding only."""

FORMS = (
    "a voltage that keeps a part of itself and takes in currents, compared with a constant threshold, and reset to 0 or by"
    " subtraction where it spikes"
)
FORM = Rule("neuron-equations", FORMS, "{fix}")
WRITE_FIX = "write it so, or use a framework's neuron (docs/importers.md lists them)"


class _Other(Exception):  # noqa: N818 - becomes a problem
    """The expressions are of no neuron that is known."""

    def __init__(self, found: str, fix: str = WRITE_FIX) -> None:
        super().__init__(found)
        self.found, self.fix = found, fix


@dataclass(frozen=True)
class Equations:
    """A hand-written population's neuron.

    Attributes:
        current_decay: what its currents lose per step, (n,).
        voltage_decay: what its voltage loses per step, (n,).
        threshold: what the voltage must exceed, (n,).
        voltage_bias: added to the voltage in every step, (n,).
        refractory_period: 1 if the reset loses the input of its step.
        subtracted: what a spike takes from the voltage of the next step, (n,); None for a reset to 0.
    """

    current_decay: NDArray[np.float64]
    voltage_decay: NDArray[np.float64]
    threshold: NDArray[np.float64]
    voltage_bias: NDArray[np.float64]
    refractory_period: int
    subtracted: NDArray[np.float64] | None

    def read(self, _module: Any, signal: Signal, layer: Layer) -> None:
        """Add the population.

        Args:
            signal: its input.
            layer: receives the population.
        """
        names = ("current_decay", "voltage_decay", "threshold", "voltage_bias", "subtracted")
        given = {name: getattr(self, name) for name in names}
        shaped = {
            name: None if values is None else np.asarray(values).reshape(signal.shape)
            for name, values in given.items()
        }
        layer.neurons(signal, **shaped, refractory_period=self.refractory_period)

    def voltages(self, currents: NDArray[np.float64], spikes: NDArray[np.float64]) -> NDArray[np.float64]:
        """The voltages at which any spikes, also others than the neuron's own, leave the population.

        Args:
            currents: (samples, steps, n) its input.
            spikes: the same of its spikes.

        Returns:
            (samples, steps, n) voltages before the reset, which other spikes do not follow.
        """
        found = np.empty_like(currents)
        current, voltage, before = (np.zeros_like(currents[:, 0]) for _ in range(3))
        for step in range(currents.shape[1]):
            current = (1.0 - self.current_decay) * current + currents[:, step]
            kept = voltage if self.subtracted is not None else voltage * (1.0 - before)
            voltage = (1.0 - self.voltage_decay) * kept + current + self.voltage_bias
            if self.refractory_period:
                voltage = voltage * (1.0 - before)
            if self.subtracted is not None:
                voltage = voltage - self.subtracted * before
            found[:, step], before = voltage, spikes[:, step]
        return found

    def __str__(self) -> str:
        currents = (
            f", its currents {_said(1.0 - self.current_decay)}" if np.any(self.current_decay != 1) else ""
        )
        reset = "is reset to 0 there" if self.subtracted is None else f"loses {_said(self.subtracted)} there"
        reset += ", with the input of the next step" * self.refractory_period
        return (
            f"a voltage keeps {_said(1.0 - self.voltage_decay)} of itself per step{currents};"
            f" it spikes above {_said(self.threshold)} and {reset}"
        )


def notes(written: Handwritten, found: Mapping[str, Equations]) -> list[str]:
    """What the user has to know: which neurons were found in the code.

    Args:
        written: the populations of a trace.
        found: population → its equations.

    Returns:
        A sentence for each.
    """
    return [
        f"population {p.group.name!r} is what {Path(p.source).name} computes: {found[p.group.name]}"
        for p in written.populations
    ]


def settled(written: Handwritten, problems: Problems, drawn: str = "") -> dict[str, Equations]:
    """The equations of all hand-written populations, whose inputs become their currents at every step.

    Args:
        written: the populations of a trace.
        problems: receives those of other neurons.
        drawn: the operation of the model that draws random numbers, and its place; empty for none.

    Returns:
        Population → its equations.
    """
    found = {}
    for population in written.populations:
        group = population.group
        neutral = np.ones(population.voltages[-1].n)
        found[group.name] = Equations(neutral, neutral, neutral, 0 * neutral, 0, None)
        try:
            voltages, refractory = _ungated(population, written)
            voltages = [_anchored(voltage, step, written) for step, voltage in enumerate(voltages)]
            found[group.name], currents = _equations(population, voltages, refractory=refractory)
            late = _first_of_input(currents) if written.static else 0
            currents = [_anchored(current, late - step, written) for step, current in enumerate(currents)]
            population.equations = found[group.name]
            group.inputs[:] = [*(_as_last(current, currents[-1]) for current in currents[:-1]), currents[-1]]
        except _Other as other:
            said, fix = (
                (f"{other.found}; {drawn} draws random numbers", RANDOM_FIX)
                if drawn
                else (other.found, other.fix)
            )
            FORM.check(problems, False, group.where, said, fix=fix)
            group.lost, group.inputs[-1] = True, Signal.nothing(group.shape)
    return found


def _anchored(signal: Signal, steps: int, written: Handwritten) -> Signal:
    """A signal with an input that is the same in all steps taken from some steps before, or from after."""
    if not written.static:
        return signal
    terms = tuple(
        term._replace(delay=term.delay + steps) if term.source == INPUT else term for term in signal.terms
    )
    return Signal(signal.shape, terms, signal.constant)


def _first_of_input(currents: Sequence[Signal]) -> int:
    """The first step with input: a state that is passed on late takes in the step before, which is the same where all steps are."""
    return next((step for step, c in enumerate(currents) if any(t.source == INPUT for t in c.terms)), 0)


def _equations(
    population: Population, voltages: list[Signal], *, refractory: bool
) -> tuple[Equations, list[Signal]]:
    """The equations of a population, and its currents at every step.

    What an input that never changes adds up to is taken as its spikes of the first step, like what a current keeps of spikes.
    """
    name, n = population.group.name, voltages[-1].n
    threshold = population.thresholds[-1]
    same = all(np.allclose(other, threshold, rtol=CLOSE, atol=0) for other in population.thresholds)
    if population.moves or not same:
        raise _Other("are compared with another threshold in each step")
    split = [_split(voltage, name) for voltage in voltages]
    rests = [rest for _, _, rest in split]
    resets = any(reset is not None for _, reset, _ in split)
    beta = _kept(split, rests, n, refractory)
    currents = []
    for step, (voltage, reset, rest) in enumerate(split):
        if reset is not None and not _alike(reset, -beta):
            raise _Other("lose another part of the voltage to a reset than they keep")
        if voltage is not None:
            if not _alike(voltage, beta):
                raise _Other("keep another part of their voltage in some steps")
            if resets and reset is None:
                raise _Other("are reset in some steps only")
            currents.append(rest)
        else:
            currents.append(memory.undone([rests[step - 1], rest], beta)[1] if step and beta.any() else rest)
    currents, at_rest = _from_rest(currents, beta, population.before)
    if at_rest.any():
        _check_rest(name, beta, at_rest, currents[-1], resets=resets, refractory=refractory)
        own = Term(name, csr_matrix(diags(-beta * at_rest)), 1, csr_matrix(diags(np.ones(n))))
        if resets:
            currents = [*currents[:1], *(_plus(current, own) for current in currents[1:])]
        threshold = threshold - at_rest
    return _assembled(
        population, beta, threshold, currents, hard=resets or not beta.any(), refractory=refractory
    )


def _assembled(
    population: Population,
    beta: NDArray[np.float64],
    threshold: NDArray[np.float64],
    currents: list[Signal],
    *,
    hard: bool,
    refractory: bool,
) -> tuple[Equations, list[Signal]]:
    """The equations, with the memory of the currents taken out of these."""
    constant, bias = currents[-1].constant, np.zeros(currents[-1].n)
    steady = all(_alike(current.constant, constant) for current in currents)
    without = [replace(current, constant=bias) for current in currents] if steady else currents
    keeps = memory.factors(without)
    if keeps is None:
        raise _Other("take in currents with a memory that is no single exponential")
    if keeps.any():  # a constant that is the same from the first step on does not pass through the current
        currents, bias = memory.undone(without, keeps), constant if steady else bias
    currents = _begun(currents)
    if not population.strict:
        threshold = just_below(threshold)
    subtracted = None
    if not hard and not refractory:
        currents, subtracted = _subtracted(population.group.name, currents)
    equations = Equations(1.0 - keeps, 1.0 - beta, threshold, bias, 1 if refractory else 0, subtracted)
    return equations, currents


def _begun(currents: list[Signal]) -> list[Signal]:
    """Currents with a constant that begins after the first step, as behind a state that is passed on late, as spikes of a neuron."""
    starts, last = _starts(currents), currents[-1].constant
    if starts is None:
        return currents
    found = []
    for step, current in enumerate(currents):
        terms = list(current.terms)
        for delay in np.unique(starts[last != 0]):
            weights = csr_matrix(np.where(starts == delay, last, 0.0)[:, None])
            terms += [Term(ALWAYS, weights, int(delay))] if delay <= step else []
        found.append(Signal(current.shape, tuple(terms), 0 * last))
    return found


def _starts(currents: Sequence[Signal]) -> NDArray[np.intp] | None:
    """The step from which on each constant is the last step's, 0 before; None if they are others, or all begin at once."""
    constants = np.stack([current.constant for current in currents])
    starts = (constants == 0).argmin(axis=0)  # the first step that is not 0
    steps = np.arange(len(currents))[:, None]
    late = np.any(starts[constants[-1] != 0])
    return starts if late and _alike(constants, np.where(steps >= starts, constants[-1], 0.0)) else None


def _as_last(signal: Signal, last: Signal) -> Signal:
    """A step's currents with the last step's numbers where they differ by rounding only."""
    same = {(term.source, term.delay): term for term in last.terms}
    terms = []
    for term in signal.terms:
        other = same.get((term.source, term.delay))
        terms.append(other if other is not None and close(term.matrix, other.matrix) else term)
    constant = last.constant if _alike(signal.constant, last.constant) else signal.constant
    return Signal(signal.shape, tuple(terms), constant)


def _ungated(population: Population, written: Handwritten) -> tuple[list[Signal], bool]:
    """The voltages without what their resets lose, if these lose the whole input of a step; and whether they do."""
    name, found, refractory = population.group.name, [], False
    prefix = state_of(name, GATED)
    for step, voltage in enumerate(population.voltages):
        gated = [term for term in voltage.terms if term.source.startswith(prefix)]
        others = tuple(term for term in voltage.terms if not term.source.startswith(prefix))
        if not gated:
            if refractory:
                raise _Other("lose their input after a spike in some steps only")
            found.append(voltage)
            continue
        rest = Signal(voltage.shape, others, voltage.constant)
        node, at = population.gated[gated[0].source]
        whole = written.seen(node, step)
        if (
            len(gated) > 1
            or not _alike(_diagonal(gated[0]), -np.ones(rest.n))
            or at != step - 1
            or not alike(whole, rest)
        ):
            raise _Other("multiply something else than their voltage by their spikes")
        refractory = True
        found.append(rest)
    return found, refractory


def _split(voltage: Signal, name: str) -> tuple[NDArray[Any] | None, NDArray[Any] | None, Signal]:
    """The factors of the voltage before and of what a reset takes from it, each None if absent, and the rest."""
    found: dict[str, NDArray[Any]] = {}
    rest = []
    for term in voltage.terms:
        state = next((s for s in (VOLTAGE, RESET) if term.source == state_of(name, s)), None)
        if state is None:
            rest.append(term)
            continue
        if term.delay != 1 or state in found:
            raise _Other("take in a voltage of more than one step before")
        found[state] = _diagonal(term)
    found = {state: factors for state, factors in found.items() if np.any(np.abs(factors) > CLOSE)}
    return found.get(VOLTAGE), found.get(RESET), Signal(voltage.shape, tuple(rest), voltage.constant)


def _kept(
    split: Sequence[tuple[NDArray[Any] | None, NDArray[Any] | None, Signal]],
    rests: Sequence[Signal],
    n: int,
    refractory: bool,
) -> NDArray[np.float64]:
    """What the voltage keeps of itself per step, (n,)."""
    voltage, reset, _ = split[-1]
    if voltage is not None:
        return voltage
    if reset is not None:
        return -reset
    if refractory:
        return np.zeros(n)
    found = memory.factors(rests)
    if found is None:
        raise _Other("keep a memory that is no single exponential, without a reset")
    return found


def _from_rest(
    currents: list[Signal], beta: NDArray[Any], before: int
) -> tuple[list[Signal], NDArray[np.float64]]:
    """Currents of voltages that are measured from rest, and this rest."""
    first, last = currents[before if before < len(currents) else 0].constant, currents[-1].constant
    rest = np.zeros_like(last)
    constants = [current.constant for current in currents]
    varied = ~np.isclose(first, last, rtol=CLOSE, atol=CLOSE * max(1.0, float(np.abs(last).max(initial=0))))
    if _starts(currents) is None and varied.any() and all(_alike(c, last) for c in constants[before + 1 :]):
        rest[varied] = ((first - last)[varied] / beta[varied]) if np.all(beta[varied]) else 0.0
    if not rest.any():
        return currents, rest
    moved = []
    for step, current in enumerate(currents):
        constant = current.constant - rest + (beta * rest if step > before else 0.0)
        constant[np.abs(constant) <= CLOSE * np.abs(rest)] = 0.0
        moved.append(replace(current, constant=constant))
    return moved, rest


def _check_rest(
    name: str, beta: NDArray[Any], rest: NDArray[Any], current: Signal, *, resets: bool, refractory: bool
) -> None:
    """Refuse a start that is a state left over: neither one number for all neurons nor what they are reset to."""
    own = next((t.matrix for t in current.terms if t.source == name and t.delay == 1), None)
    back = np.zeros(rest.size) if own is None else own.diagonal()
    if (
        refractory
        or not _alike(rest, np.full_like(rest, rest[0]))
        or (resets and not _alike(back, beta * rest))
    ):
        raise _Other(
            f"start from voltages of {rest.min():g} to {rest.max():g}, which are not where they are reset to",
            LEFT_OVER.fix,
        )


def _subtracted(name: str, currents: list[Signal]) -> tuple[list[Signal], NDArray[np.float64]]:
    """Currents without what a reset by subtraction takes, and this; zeros where a neuron's own spikes are synapses like others."""
    own = next((t for t in currents[-1].terms if t.source == name and t.delay == 1), None)
    others = [t for t in currents[-1].terms if t.source == name and t.delay != 1]
    n = currents[-1].n
    if own is None or others or not is_diagonal(own.matrix):
        return currents, np.zeros(n)
    taken = [Signal(c.shape, tuple(t for t in c.terms if t.source != name), c.constant) for c in currents]
    return taken, -own.matrix.diagonal()


def _plus(signal: Signal, term: Term) -> Signal:
    """The sum with what each neuron takes of its own, of which nothing is left where that is only rounding."""
    largest = float(abs(term.matrix).max())
    sums = signal + Signal(signal.shape, (term,), np.zeros(signal.n))
    own = next(t for t in sums.terms if (t.source, t.delay) == (term.source, term.delay))
    matrix = own.matrix.copy()
    matrix.data[np.abs(matrix.data) <= CLOSE * largest] = 0.0
    matrix.eliminate_zeros()
    terms = (t if t is not own else own._replace(matrix=matrix) for t in sums.terms)
    return Signal(signal.shape, tuple(t for t in terms if t.matrix.nnz), sums.constant)


def _diagonal(term: Term) -> NDArray[np.float64]:
    """The factors of a state, if every neuron takes in its own."""
    if not is_diagonal(term.matrix):
        raise _Other("take in the voltage of other neurons")
    found: NDArray[np.float64] = term.matrix.diagonal()
    return found


def _said(values: NDArray[np.float64]) -> str:
    """A number of all neurons, or the range of them."""
    low, high = (f"{float(end):.4g}" for end in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def _alike(one: NDArray[Any], other: NDArray[Any]) -> bool:
    return bool(np.allclose(one, other, rtol=CLOSE, atol=CLOSE))
