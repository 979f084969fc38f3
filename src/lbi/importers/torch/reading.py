"""Construction of the network from a trace: signals that repeat at every step, neuron equations, readout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix, identity
from torch import Tensor
from torch.utils._pytree import tree_flatten

from lbi.errors import InputError, Problems, Rule
from lbi.importers.builder import Builder
from lbi.importers.signal import Signal, Term
from lbi.importers.torch.layer import Layer
from lbi.importers.torch.shadow import LOST
from lbi.importers.torch.snntorch import SOFT_RESET
from lbi.importers.torch.tracing import STATE_OF, Group, NotThisWay, Tracing
from lbi.network.graph import Network

ONE_CALL_PER_STEP = Rule("call", "one call per step, with its state", "{fix}")

CHANGES = Rule(
    "changes-over-time",
    "the same layers in every step",
    "build the model of steps that are alike, its feedback starting from zeros",
)
VOLTAGE_FLOWS = Rule(
    "voltage-flows", "spikes between the layers", "pass on the spikes; read voltages of the last layer only"
)
NO_NEURONS = Rule("no-neurons", "known neurons: {known}", "add one, or use the framework's own classes")
READOUT = Rule(
    "readout",
    "the spikes of the last layer, or the voltages of one that never spikes; all of them, in their order, by step or summed, multiplied by one positive number or none",
    "return them, and do what follows outside of the model",
)


def check_steps(tracing: Tracing, n_steps: int, *, static: bool) -> int:
    """The number of steps of all neurons. Raises NotThisWay if they differ from the steps of a sample.

    Args:
        tracing: the trace.
        n_steps: steps of a sample.
        static: whether the input is the same at every step.

    Returns:
        The number of steps.
    """
    taken = sorted({len(group.inputs) for group in tracing.groups})
    total = sum(len(group.inputs) for group in tracing.groups)
    if not tracing.groups and tracing.problems:
        return n_steps
    if not taken:
        from lbi.importers.torch import registry

        raise NotThisWay(
            NO_NEURONS.broken("model", "runs without a neuron that is known", known=registry.known())
        )
    if len(taken) > 1 or taken[0] < 2 or (not static and taken[0] > n_steps):
        group = min(tracing.groups, key=lambda group: len(group.inputs) == n_steps)
        found = f"takes {len(group.inputs)} steps where the input has {n_steps}"
        if len(group.inputs) > n_steps and len(group.inputs) % n_steps == 0:
            found = f"is called {len(group.inputs) // n_steps} times in each step, with one state"
        fix = "give every use a module of its own; reset states between samples only"
        raise NotThisWay(ONE_CALL_PER_STEP.broken(group.where, found, fix=fix), total)
    return taken[0]


def signal_of(group: Group, problems: Problems) -> Signal:
    """The input of a group at every step: that of the last step, of which earlier ones lack spikes from before the start.

    Args:
        group: a population under construction.
        problems: receives what cannot be imported.

    Returns:
        The signal.
    """
    last = group.inputs[-1]
    for step, signal in enumerate(group.inputs[:-1]):
        if signal is not last and not _same(signal, last, step):
            CHANGES.check(
                problems,
                group.lost,
                group.where,
                f"step {step} takes in something else than step {len(group.inputs) - 1}",
            )
            break
    return last.reshaped(group.in_shape)


def _same(signal: Signal, last: Signal, step: int) -> bool:
    """True if an early step's signal equals the last one's, except for spikes from before the start."""
    expected = {(t.source, t.delay): t.matrix for t in last.terms if t.delay <= step}
    found = {(t.source, t.delay): t.matrix for t in signal.terms}
    return np.array_equal(signal.constant, last.constant) and all(
        _equal(expected.get(key), found.get(key)) for key in expected.keys() | found.keys()
    )


def _equal(one: csr_matrix | None, two: csr_matrix | None) -> bool:
    if one is None or two is None:
        return (one is None or one.nnz == 0) and (two is None or two.nnz == 0)
    return one is two or (one != two).nnz == 0


def network_of(
    tracing: Tracing, outputs: Sequence[Any], input_shape: Sequence[int], meta: dict[str, Any]
) -> Network:
    """The network. Raises InputError with everything that cannot be imported.

    Args:
        tracing: the trace.
        outputs: the model's outputs.
        input_shape: shape of one sample at one step.
        meta: plain JSON values for ``Network.meta``.

    Returns:
        The network.
    """
    problems = Problems()
    builder = Builder(input_shape)
    signals = {group.name: signal_of(group, problems) for group in tracing.groups}
    for group in tracing.groups:
        signals[group.name] = _spikes_only(group, signals[group.name], tracing.groups, problems)
    read = read_at(tracing, outputs, problems)
    for group in tracing.groups:
        layer = Layer(builder, group.where, group.name, group.shape, tracing.through)
        try:
            group.site.neurons.read(group.site.module, signals[group.name], layer)
        except InputError as error:
            problems.take(error)
    Problems([*tracing.problems, *problems, *builder.problems]).raise_as(InputError)
    return builder.network(read.name if read else None, meta)


def _spikes_only(group: Group, signal: Signal, groups: Sequence[Group], problems: Problems) -> Signal:
    """The signal without voltages, which are noted; those of integrators are noted by the builder."""
    terms = []
    for term in signal.terms:
        name, _, state = term.source.partition(STATE_OF)
        source = next((other for other in groups if other.name == name), None)
        if state and source is not None and source.integrates:
            SOFT_RESET.check(problems, False, source.where, "reset_mechanism 'none', whose spikes flow on")
        elif state and source is not None:
            VOLTAGE_FLOWS.check(
                problems, False, group.where, f"takes in {state!r}, a state of {source.where}"
            )
        else:
            terms.append(term)
    return Signal(signal.shape, tuple(terms), signal.constant)


def read_at(tracing: Tracing, outputs: Sequence[Any], problems: Problems) -> Group | None:
    """The group read by the model's output; a missing one is noted in ``problems``.

    Args:
        tracing: the trace.
        outputs: the model's outputs.
        problems: receives a missing one.

    Returns:
        The group.
    """
    found: list[tuple[Group, str]] = []
    lost = False
    for tensor in tree_flatten(list(outputs))[0]:
        if isinstance(tensor, Tensor) and (numbers := tracing.shadow.of(tensor)) is not None:
            lost = lost or bool((numbers == LOST).any())
            meaning = _meaning(tracing, numbers)
            if meaning is not None:
                found.append(meaning)
    spikes = [group for group, state in found if not state and not group.integrates]
    voltages = [group for group, state in found if group.integrates and state in ("", "silence")]
    if spikes or voltages:
        return max(spikes or voltages, key=lambda group: group.number)
    useless = next((group for group, _ in found if group.integrates), None)
    if useless is not None:
        SOFT_RESET.check(
            problems, False, useless.where, "reset_mechanism 'none', whose spikes are the output"
        )
        return useless
    if not lost and not tracing.problems:
        what = "is no sequence of spikes"
        if found:
            what = f"is {found[0][1]!r}, a voltage of {found[0][0].where}, which spikes"
        READOUT.check(problems, False, "the model's output", what)
    return None


def _meaning(tracing: Tracing, numbers: Tensor) -> tuple[Group, str] | None:
    """(group, state) whose values a tensor holds: whole, in order, at each step or summed, times one positive number."""
    flat = numbers.reshape(-1).numpy()
    if not flat.size or flat.min() <= LOST:
        return None
    sources, nodes = set(), tracing.shadow.nodes(flat)
    for node in np.unique(nodes):
        signal, first = tracing.shadow.node_at(int(node))
        if not np.array_equal(flat[nodes == node], first + np.arange(signal.n)):
            return None
        sources.add(_source(signal))
    source = sources.pop()
    if sources or source is None:
        return None
    name, _, state = source[0].partition(STATE_OF)
    group = next((group for group in tracing.groups if group.name == name), None)
    return None if group is None else (group, state)


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
