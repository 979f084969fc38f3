"""Construction of the network from a trace: signals that repeat at every step, neuron equations, readout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from lbi.errors import InputError, Problems, Rule
from lbi.importers.builder import Builder
from lbi.importers.signal import Signal
from lbi.importers.torch import equations, leaky, output, pooling, weighted
from lbi.importers.torch.copying import NOT_FINITE
from lbi.importers.torch.group import Group, NotThisWay
from lbi.importers.torch.layer import Layer
from lbi.importers.torch.leaky import Voltages
from lbi.importers.torch.output import Output
from lbi.importers.torch.remedies import RANDOM_FIX
from lbi.importers.torch.shadow import STATE_OF, Pool
from lbi.importers.torch.snntorch import NO_RESET
from lbi.importers.torch.tracing import Tracing
from lbi.importers.torch.weighted import Sums
from lbi.network.graph import Network

ONE_CALL_PER_STEP = Rule("call", "one call per step, with its state", "{fix}")

CHANGES = Rule(
    "changes-over-time",
    "the same layers in every step",
    "build the model of steps that are alike, its feedback starting from zeros; in place of a BatchNorm or factor for each"
    " step (BNTT, TEBN), train with one for all steps",
)
VOLTAGE_FLOWS = Rule(
    "voltage-flows", "spikes between the layers", "pass on the spikes; read voltages of the last layer only"
)
NO_NEURONS = Rule("no-neurons", "known neurons: {known}", "add one, or use the framework's own classes")


def check_steps(tracing: Tracing, n_steps: int, *, static: bool) -> int:
    """The number of steps that all neurons take in a trace.

    Args:
        tracing: the trace.
        n_steps: steps of a sample.
        static: whether the input is the same at every step.

    Returns:
        The number of steps, at least 2; ``n_steps`` if no module of neurons ran and the trace has problems: what follows from these is none.

    Raises:
        NotThisWay: if no known neuron ran, or if neurons take different numbers of steps, fewer than 2, or (unless ``static``)
            more than the sample has.
    """
    taken = sorted({len(group.inputs) for group in tracing.groups})
    total = sum(len(group.inputs) for group in tracing.groups)
    if tracing.problems and 0 not in taken and not any(group.called for group in tracing.groups):
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


RANDOM = Rule("random-numbers", "none that a layer takes in", RANDOM_FIX)


def signal_of(group: Group, problems: Problems, drawn: str = "") -> Signal:
    """The input of a group at every step: that of the last step, of which earlier ones lack spikes from before the start.

    Args:
        group: a population under construction.
        problems: receives what cannot be imported.
        drawn: the operation of the model that draws random numbers, and its place; empty for none.

    Returns:
        The signal, in the shape of the group's input.
    """
    last = group.inputs[-1]
    n_bad = sum(int(np.sum(~np.isfinite(v))) for v in (last.constant, *(t.matrix.data for t in last.terms)))
    NOT_FINITE.check(problems, n_bad == 0, group.where, f"takes in {n_bad} NaN or infinite weights or biases")
    for step, signal in enumerate(group.inputs[:-1]):
        if signal is not last and not _same(signal, last, step):
            found = f"step {step} takes in something else than step {len(group.inputs) - 1}"
            rule, found = (RANDOM, f"{found}; {drawn} draws random numbers") if drawn else (CHANGES, found)
            rule.check(problems, group.lost, group.where, found)
            break
    return last.reshaped(group.in_shape)


def same_signal(signal: Signal, other: Signal) -> bool:
    """True for equal weights of the same sources, and equal constants.

    Args:
        signal: a signal.
        other: another one.

    Returns:
        True if their shapes, their constants, and their matrices for every source and delay are equal.
    """
    return signal.shape == other.shape and _same(signal, other, math.inf)


def _same(signal: Signal, last: Signal, step: float) -> bool:
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
    tracing: Tracing,
    outputs: Sequence[Any],
    input_shape: Sequence[int],
    meta: dict[str, Any],
    again: tuple[Tracing, list[Any]] | None = None,
) -> tuple[Network, Output | Sums | None]:
    """The network of a trace, and what the model's output holds.

    Args:
        tracing: the trace.
        outputs: the model's outputs.
        input_shape: shape of one sample at one step.
        meta: plain JSON values for ``Network.meta``.
        again: a trace of one step more and its outputs; None if the model has its own number of steps, or if these steps say all.

    Returns:
        The network, and the output; None if nothing is read.

    Raises:
        InputError: naming everything that cannot be imported.
    """
    problems = Problems()
    builder = Builder(input_shape)
    written = equations.settled(tracing.written, problems, tracing.drawn)
    signals = {group.name: signal_of(group, problems, tracing.drawn) for group in tracing.groups}
    for group in tracing.groups:
        signals[group.name] = _spikes_only(group, signals[group.name], tracing.groups, problems)
    read = output.read_at(tracing, outputs, problems)
    if isinstance(read, Sums):
        read = _settled(read, tracing, again, problems)
    added = [read.signal] if isinstance(read, Sums) else []
    for entry in pooling.in_order(tracing.groups, [*signals.values(), *added], tracing.shadow.pools):
        if isinstance(entry, Pool):
            pooling.add(entry, builder, problems)
            continue
        layer = Layer(builder, entry.where, entry.name, entry.shape, tracing.through)
        try:
            read_neurons = entry.site.neurons.read if entry.called else written[entry.name].read
            read_neurons(entry.site.module, signals[entry.name], layer)
        except InputError as error:
            problems.take(error)
    name = None if read is None else read.name if isinstance(read, Sums) else read.group.name
    if isinstance(read, Sums):  # a voltage that holds the sum over the steps, or that the model computes
        builder.neurons(read.where, read.name, read.signal, threshold=math.inf, **read.neurons)
        meta = {**meta, "notes": [*meta.get("notes", ()), read.note]}
    if written:
        meta = {**meta, "notes": [*meta.get("notes", ()), *equations.notes(tracing.written, written)]}
    Problems([*tracing.problems, *problems, *builder.problems]).raise_as(InputError)
    network = builder.network(name, meta)
    if read is not None and network.readout.of_membrane:
        network = replace(network, readout=replace(network.readout, kind=read.kind))
    return network, read


def _settled(
    sums: Sums, tracing: Tracing, again: tuple[Tracing, list[Any]] | None, problems: Problems
) -> Sums | None:
    """The weighted sums that the output holds, for any number of steps, with a name that is free; None if a problem was noted."""
    read = None if again is None else output.read_at(*again, Problems())
    other = read if isinstance(read, Sums) and read.path == sums.path else None
    taken = {group.name for group in tracing.groups} | {pool.name for pool in tracing.shadow.pools}
    name, number = sums.name, 1
    while name in taken:
        number += 1
        name = f"{sums.name}_{number}"
    if isinstance(sums, Voltages):
        return leaky.settled(replace(sums, name=name), other, problems)
    return weighted.settled(replace(sums, name=name), other, problems)


def _spikes_only(group: Group, signal: Signal, groups: Sequence[Group], problems: Problems) -> Signal:
    """The signal without voltages, which are noted; those of integrators are noted by the builder."""
    terms = []
    for term in signal.terms:
        name, _, state = term.source.partition(STATE_OF)
        source = next((other for other in groups if other.name == name), None)
        if state and source is not None and source.integrates:
            NO_RESET.check(problems, False, source.where, "reset_mechanism 'none', whose spikes flow on")
        elif state:
            where = f"the maximum {name!r}" if source is None else source.where
            VOLTAGE_FLOWS.check(problems, False, group.where, f"takes in {state!r}, a state of {where}")
        else:
            terms.append(term)
    return Signal(signal.shape, tuple(terms), signal.constant)
