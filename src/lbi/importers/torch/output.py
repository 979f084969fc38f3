"""Output of a traced model: which population it reads, and which steps of it.

A model may return every step (stacked, as a list, or one per call), their sum or mean, or the last step alone. Each tensor, and
each list or tuple of tensors, is one candidate; of a model that is called once per step, it is the tensors of all calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import csr_matrix, identity
from torch import Tensor

from lbi.errors import Problems, Rule
from lbi.importers.signal import Signal, Term
from lbi.importers.torch import pooling
from lbi.importers.torch.layer import LAST
from lbi.importers.torch.shadow import LOST, STATE_OF, STATIC
from lbi.importers.torch.snntorch import NO_RESET
from lbi.importers.torch.tracing import Group, Tracing

READOUT = Rule(
    "readout",
    "the spikes of the last layer, or the voltages of one that never spikes; all of them, in their order, by step or summed, multiplied by one positive number or none",
    "return them, and do what follows outside of the model",
)
SUMS = Rule(
    "readout",
    "the spikes of the last layer, or the voltages of one that never spikes; all of them, in their order",
    "return the spikes, and do what follows outside of the model; for weights behind the last spikes, let neurons without leak"
    " and reset follow (snnTorch's Leaky(beta=1, reset_mechanism='none', output=True), spikingjelly's"
    " IFNode(v_threshold=inf)), whose last voltage is the sum over the steps",
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
    """

    group: Group
    path: Path
    factor: float
    state: str
    last: bool

    def tensors(self, results: Sequence[Any]) -> list[Tensor]:
        """Its tensors in the results of all calls.

        Args:
            results: what every call of the model returned.

        Returns:
            The tensors, in order of the calls.
        """
        found = [found for result in results for path, found in _candidates(result) if path == self.path]
        return [tensor for tensors in found for tensor in tensors]


class _Meaning(NamedTuple):
    """The values that tensors hold: a state ("" for spikes) of a group, times a factor, of these steps."""

    group: Group
    state: str
    factor: float
    steps: tuple[int, ...]


def read_at(tracing: Tracing, results: Sequence[Any], problems: Problems) -> Output | None:
    """What the model's output reads; a missing readout is noted in ``problems``.

    Args:
        tracing: the trace.
        results: what every call of the model returned.
        problems: receives all problems.

    Returns:
        The output; None if a problem was noted.
    """
    found: list[tuple[Path, _Meaning]] = []
    lost = False
    for path, tensors in _by_path(results).items():
        numbers = [known for tensor in tensors if (known := tracing.shadow.of(tensor)) is not None]
        lost = lost or any(bool((number == LOST).any()) for number in numbers)
        if len(numbers) == len(tensors):
            meaning = _meaning(tracing, [number.reshape(-1).numpy() for number in numbers])
            if meaning is not None:
                found.append((path, meaning))
    spikes = [entry for entry in found if not entry[1].state and not entry[1].group.integrates]
    voltages = [entry for entry in found if entry[1].group.integrates and entry[1].state in ("", "silence")]
    if spikes or voltages:
        return _chosen(tracing, [*spikes, *voltages], problems)
    useless = next((meaning.group for _, meaning in found if meaning.group.integrates), None)
    if useless is not None:
        NO_RESET.check(problems, False, useless.where, "reset_mechanism 'none', whose spikes are the output")
    elif not lost and not tracing.problems:
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
            source = _source(signal)
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


def _source(signal: Signal) -> tuple[str, float] | None:
    """The one source that a signal holds in order, and the positive number that multiplies it; None for anything else."""
    sources = {term.source for term in signal.terms}
    if len(sources) != 1 or np.any(signal.constant):
        return None
    found = {factor and float(f"{factor:.12g}") for factor in map(_factor, signal.terms)}
    factor = found.pop()
    return None if found or factor is None else (next(iter(sources)), factor)


def _factor(term: Term) -> float | None:
    """The positive number f of a matrix f · 1; None for other matrices."""
    n_out, n_in = term.matrix.shape
    if n_out != n_in or not n_in:
        return None
    diagonal = term.matrix.diagonal()
    factor = float(diagonal[0])
    off = term.matrix - csr_matrix(identity(n_in).multiply(diagonal))
    return factor if factor > 0 and np.allclose(diagonal, factor, rtol=1e-12) and off.nnz == 0 else None
