"""Output of a traced model: which population it reads, and which steps of it.

A model may return every step (stacked, as a list, or one per call), their sum or mean, or the last step alone. Each tensor, and
each list or tuple of tensors, is one candidate; of a model that is called once per step, it is the tensors of all calls.
Weighted sums of spikes, as of a last Linear, are ``weighted``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from lbi.errors import Problems, Rule
from lbi.importers.signal import Signal
from lbi.importers.torch import leaky, maxima, pooling, weighted
from lbi.importers.torch.group import Group
from lbi.importers.torch.layer import LAST
from lbi.importers.torch.leaky import Voltages
from lbi.importers.torch.shadow import LOST, STATE_OF, STATIC, Maximum
from lbi.importers.torch.snntorch import NO_RESET
from lbi.importers.torch.tracing import Tracing
from lbi.importers.torch.voltages import single_source
from lbi.importers.torch.weighted import LAST_STEP, Sums, same

READOUT = Rule(
    "readout",
    "the spikes of the last layer, or the voltages of one that never spikes; all of them, in their order, by step or summed, multiplied by one positive number or none",
    "return them, and do what follows outside of the model",
)
SUMS = Rule(
    "readout",
    "the spikes of the last layer, or the voltages of one that never spikes, or weighted sums of spikes with the same weights in"
    " each step; by step, summed or averaged over all steps",
    "return the spikes, and do what follows outside of the model; or apply the weights to the spikes of each step, and return"
    " the sum of all steps",
)
STEPS = Rule(
    "readout",
    "every step once, by step, summed or averaged; or of voltages the last step alone",
    "return the spikes of all steps, or their sum over time",
)
SEVERAL = Rule(
    "readout", "the output of one layer, beside those of layers that lead to it", "return one of them alone"
)

Path = tuple[Any, ...]


@dataclass(frozen=True)
class Output:
    """What the model's output holds.

    Attributes:
        group: the population that is read.
        path: where in the result of a call it is; a list of tensors is meant as a whole.
        factor: what multiplies its values.
        state: "" for spikes, or for an integrator's voltages.
        last: True if only the last step is returned.
        maximum: True if the maximum over the steps is returned.
    """

    group: Group
    path: Path
    factor: float
    state: str
    last: bool
    maximum: bool = False

    n_before = 0

    def tensors(self, results: Sequence[Any]) -> list[Tensor]:
        """Its tensors in the results of all calls.

        Args:
            results: what every call of the model returned.

        Returns:
            The tensors, in order of the calls.
        """
        return _at(results, self.path)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a sample's output in a step."""
        return self.group.shape

    @property
    def n_steps(self) -> int:
        """Steps of the trace."""
        return len(self.group.inputs)

    @property
    def kind(self) -> str:
        """The readout of voltages that gives the model's class."""
        return "membrane_last" if self.last else "membrane_max" if self.maximum else "membrane_mean"


def in_total(tracing: Tracing, results: Sequence[Any]) -> bool:
    """Whether the output is one value of all steps, of which one trace does not tell a sum from a mean, or its bias.

    Args:
        tracing: the trace.
        results: what every call of the model returned.

    Returns:
        True if so.
    """
    read = read_at(tracing, results, Problems())
    return isinstance(read, Sums) and read.form in (weighted.TOTAL, leaky.LAST)


def same_output(one: Output | Sums, other: Output | Sums) -> bool:
    """True if outputs of two traces hold the same.

    Args:
        one: the output of a trace.
        other: that of another one.

    Returns:
        True for the same steps of the same population or sums, at the same path and times the same factor.
    """
    if isinstance(one, Sums) or isinstance(other, Sums):
        if not (isinstance(one, Sums) and isinstance(other, Sums)):
            return False
        alike = (one.path, one.form) == (other.path, other.form) and same(one.signal, other.signal)
        return alike and all(
            np.array_equal(*pair) for pair in zip(one.neurons.values(), other.neurons.values(), strict=False)
        )
    kinds = [(r.group.name, r.path, r.factor, r.state, r.last, r.maximum) for r in (one, other)]
    return kinds[0] == kinds[1]


class _Meaning(NamedTuple):
    """The values that tensors hold: a state ("" for spikes) of a group, times a factor, of these steps, or their maximum."""

    group: Group
    state: str
    factor: float
    steps: tuple[int, ...]
    maximum: Maximum | None = None


def _at(results: Sequence[Any], path: Path) -> list[Tensor]:
    """The tensors at a path in the results of all calls."""
    found = [found for result in results for at, found in _candidates(result) if at == path]
    return [tensor for tensors in found for tensor in tensors]


def read_at(tracing: Tracing, results: Sequence[Any], problems: Problems) -> Output | Sums | None:
    """What the model's output reads; a missing readout is noted in ``problems``.

    Args:
        tracing: the trace.
        results: what every call of the model returned.
        problems: receives all problems.

    Returns:
        The output, or weighted sums behind the last spikes; None if a problem was noted.
    """
    found: list[tuple[Path, _Meaning]] = []
    sums: list[Sums] = []
    lost = False
    for path, tensors in _by_path(results).items():
        numbers = [known for tensor in tensors if (known := tracing.shadow.of(tensor)) is not None]
        lost = lost or any(bool((number == LOST).any()) for number in numbers)
        whole = [number.reshape(-1).numpy() for number in numbers] if len(numbers) == len(tensors) else []
        meaning = (_meaning(tracing, whole) or _maximum(tracing, whole)) if whole else None
        if meaning is not None:
            found.append((path, meaning))
        elif whole and (own := weighted.found(tracing, path, tensors, _at)) is not None:
            sums.append(own)
        elif numbers and (voltages := leaky.found(tracing, path, tensors, _at)) is not None:
            sums.append(voltages)
    listed = {entry.path[:-1] for entry in sums if entry.path[-1:] == ("*",)}
    sums = [entry for entry in sums if entry.path[-1:] == ("*",) or entry.path[:-1] not in listed]
    spikes = [entry for entry in found if not entry[1].state and not entry[1].group.integrates]
    ends = [entry for entry in found if entry[1].group.integrates and entry[1].state in ("", "silence")]
    sums = _behind(tracing, sums, [meaning.group for _, meaning in (*spikes, *ends)])
    if sums:
        return _chosen_sums(tracing, sums, [meaning.group for _, meaning in (*spikes, *ends)], problems)
    if spikes or ends:
        return _chosen(tracing, [*spikes, *ends], problems)
    useless = next((meaning.group for _, meaning in found if meaning.group.integrates), None)
    if useless is not None:
        NO_RESET.check(problems, False, useless.where, "reset_mechanism 'none', whose spikes are the output")
    elif not lost and not tracing.problems:
        if tracing.over_time is not None:
            problems.note(tracing.over_time)
            return None
        rule, what = _unread(tracing, results)
        if found:
            rule, what = (
                READOUT,
                f"is {found[0][1].state!r}, a voltage of {found[0][1].group.where}, which spikes",
            )
        rule.check(problems, False, "the model's output", what)
    return None


def _unread(tracing: Tracing, results: Sequence[Any]) -> tuple[Rule, str]:
    """What the model's output is instead of spikes or voltages, with the rule that it breaks."""
    numbers = [
        known.reshape(-1).numpy()
        for tensors in _by_path(results).values()
        for tensor in tensors
        if (known := tracing.shadow.of(tensor)) is not None
    ]
    nodes = np.unique(tracing.shadow.nodes(np.concatenate([np.zeros(1, np.int64), *numbers])))
    terms = [term for node in nodes for term in tracing.shadow.node_at(int(node))[0].terms]
    names = {term.source.partition(STATE_OF)[0] for term in terms}
    layers = [group.where for group in tracing.groups if group.name in names]
    pools = [pool.where for pool in tracing.shadow.pools if pool.name in names]
    if any(maximum.name in names for maximum in tracing.shadow.maxima):
        return leaky.STEPS, "holds something else than the maximum over the steps"
    if not terms:
        n_steps = max(len(group.inputs) for group in tracing.groups)
        return READOUT, f"holds nothing that depends on the input, in a run of {n_steps} steps"
    if pools:
        return READOUT, f"holds what {' and '.join(pools)} pools of spikes"
    if not layers:
        return READOUT, "holds the input, and no layer's spikes"
    return (
        SUMS,
        f"holds some of the spikes of {' and '.join(layers)}, in another order, or weighted sums of them",
    )


def _behind(tracing: Tracing, sums: list[Sums], groups: Sequence[Group]) -> list[Sums]:
    """Those of the sums that are the model's end: of no rate of a single value, and of no layer that leads to one that is returned."""
    before = {group.number: _sources(tracing, group) for group in groups}
    found = []
    for entry in sums:
        sources = _numbers_of(tracing, entry.signal)
        leads_on = any(sources <= before[number] - {number} for number in before)
        if not groups or (entry.signal.n > 1 and not leads_on):
            found.append(entry)
    return found


def _chosen_sums(
    tracing: Tracing, sums: list[Sums], groups: Sequence[Group], problems: Problems
) -> Sums | None:
    """The sums behind all of the groups; by step rather than in total, and of these rather than of the last step alone."""
    sums = sorted(sums, key=_rank)
    chosen = sums[0]
    reached = _numbers_of(tracing, chosen.signal)
    beside = [group.where for group in groups if group.number not in reached]
    if not all(weighted.proportional(chosen.signal, entry.signal) for entry in sums):
        beside.append("other weighted sums")
    held = " and ".join(["weighted sums of spikes", *beside])
    return chosen if SEVERAL.check(problems, not beside, chosen.where, f"holds {held}") else None


def _rank(entry: Sums) -> tuple[int | bool, ...]:
    """Order of what is read if several are returned: voltages behind more leaks, and what says more of the steps."""
    n_leaks = entry.n_leaks if isinstance(entry, Voltages) else 0
    return entry.form == LAST_STEP, -n_leaks, entry.form != leaky.MAXIMUM, entry.form != weighted.EVERY


def _numbers_of(tracing: Tracing, signal: Signal) -> set[int]:
    """Numbers of all groups whose spikes a signal holds, and of those that lead to them."""
    names = pooling.sources([signal], tracing.shadow.pools)
    own = [group for group in tracing.groups if group.name in names]
    return {group.number for group in own}.union(*(_sources(tracing, group) for group in own))


def _chosen(tracing: Tracing, found: list[tuple[Path, _Meaning]], problems: Problems) -> Output | None:
    """The output of the population that no other of these follows; every step of it, or the last voltage."""
    ends = _ends(tracing, [meaning.group for _, meaning in found])
    if len(ends) > 1:
        held = " and ".join(f"of {group.where}" for group in ends)
        SEVERAL.check(problems, False, "the model's output", f"holds spikes or voltages {held}")
        return None
    found = [entry for entry in found if entry[1].group is ends[0]]
    found = [entry for entry in found if not entry[1].state] or found  # spikes that never come say nothing
    n_steps = max(len(group.inputs) for group in tracing.groups)
    for path, meaning in found:
        if meaning.maximum is not None:
            first = not meaning.maximum.n_before
            if not leaky.FIRST.check(problems, first, "the model's output", leaky.FROM_ZERO):
                return None
            return Output(meaning.group, path, meaning.factor, meaning.state, last=False, maximum=True)
    for path, meaning in found:
        if sorted(meaning.steps) == list(range(n_steps)):
            return Output(meaning.group, path, meaning.factor, meaning.state, last=False)
    for path, meaning in found:
        if meaning.group.integrates and meaning.steps == (n_steps - 1,):
            return Output(meaning.group, path, meaning.factor, meaning.state, last=True)
    path, meaning = max(found, key=lambda entry: len(entry[1].steps))
    steps = ", ".join(map(str, meaning.steps[:8])) + (", …" if len(meaning.steps) > 8 else "")
    what = "voltages" if meaning.group.integrates else "spikes"
    STEPS.check(
        problems,
        False,
        "the model's output",
        f"holds {what} of {meaning.group.where} at steps {steps} of {n_steps}",
    )
    return None


def _ends(tracing: Tracing, groups: Sequence[Group]) -> list[Group]:
    """Those of the groups that lead to none of the others; where two lead to each other, the later one."""
    found = {group.number: group for group in groups}
    before = {number: _sources(tracing, group) for number, group in found.items()}
    return [
        group
        for number, group in found.items()
        if not any(
            number in before[other] and (other not in before[number] or other > number)
            for other in found.keys() - {number}
        )
    ]


def _sources(tracing: Tracing, group: Group) -> set[int]:
    """Numbers of all groups whose spikes reach a group."""
    by_name = {other.name: other for other in tracing.groups}
    found: set[int] = set()
    ahead = [group]
    while ahead:
        for name in pooling.sources([ahead.pop().inputs[-1]], tracing.shadow.pools):
            source = by_name.get(name.partition(STATE_OF)[0])
            if source is not None and source.number not in found:
                found.add(source.number)
                ahead.append(source)
    return found


def _by_path(results: Sequence[Any]) -> dict[Path, list[Tensor]]:
    """Place in a call's result → its tensors in all calls."""
    found: dict[Path, list[Tensor]] = {}
    for result in results:
        for path, tensors in _candidates(result):
            found.setdefault(path, []).extend(tensors)
    return found


def _candidates(result: Any, path: Path = ()) -> Iterator[tuple[Path, list[Tensor]]]:
    """(path, tensors) of every tensor in a result, and of every list or tuple of tensors."""
    if isinstance(result, Tensor):
        yield path, [result]
    elif isinstance(result, Mapping):
        for key, value in result.items():
            yield from _candidates(value, (*path, key))
    elif isinstance(result, list | tuple):
        if len(result) > 1 and all(isinstance(value, Tensor) for value in result):
            yield (*path, "*"), list(result)
        for index, value in enumerate(result):
            yield from _candidates(value, (*path, index))
    elif hasattr(type(result), "__dataclass_fields__"):
        yield from _candidates(dict(vars(result)), path)


def _meaning(tracing: Tracing, numbers: Sequence[Any]) -> _Meaning | None:
    """The values that tensors hold: whole, in order, at each step or summed, times one positive number."""
    sources: set[tuple[str, float]] = set()
    steps: list[int] = []
    for flat in numbers:
        if not flat.size or flat.min() <= LOST:
            return None
        nodes = tracing.shadow.nodes(flat)
        for node in np.unique(nodes):
            signal, first = tracing.shadow.node_at(int(node))
            if not np.array_equal(flat[nodes == node], first + np.arange(signal.n)):
                return None
            source = single_source(signal)
            at = int(tracing.shadow.steps(np.array([first]))[0])
            if source is None or at == STATIC:
                return None
            sources.add(source)
            steps += [at - term.delay for term in signal.terms]
    if len(sources) != 1:
        return None
    text, factor = sources.pop()
    name, _, state = text.partition(STATE_OF)
    group = next((group for group in tracing.groups if group.name == name), None)
    if group is None:
        return None
    state = "" if group.integrates and state == LAST else state  # what is read of it, at its last step
    return _Meaning(group, state, factor, tuple(steps))


def _maximum(tracing: Tracing, numbers: Sequence[Any]) -> _Meaning | None:
    """The maximum over the steps of the voltages of neurons that never spike."""
    if len(numbers) != 1 or not numbers[0].size or numbers[0].min() <= LOST:
        return None
    node = tracing.shadow.read(numbers[0], np.zeros(numbers[0].size))
    held = maxima.of(tracing.shadow, node.signal)
    source = None if held is None else single_source(held[0].signals[-1])
    if held is None or source is None:
        return None
    name, _, state = source[0].partition(STATE_OF)
    group = next((group for group in tracing.groups if group.name == name and group.integrates), None)
    if group is None or state not in ("", LAST):
        return None
    steps = tuple(range(len(held[0].signals)))
    return _Meaning(group, "", held[1] * source[1], steps, held[0])
