"""Import of live torch models of other frameworks: traced, read, and verified by execution.

``from_torch`` runs a copy of the model with all known calling conventions, and uses the first with which its
neurons see the steps of a sample in order and the resulting network behaves like the model.
"""

from __future__ import annotations

import inspect
import operator
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lbi.errors import InputError, Rule, UsageError
from lbi.importers.torch import mixing, notes, numbers, output, proof, reading, recording, registry
from lbi.importers.torch.attempt import FAILS, TRACED_STEPS, loops_over_samples, traced
from lbi.importers.torch.chain import chained
from lbi.importers.torch.copying import copy_to_run, unwrapped
from lbi.importers.torch.group import NotThisWay
from lbi.importers.torch.running import session_of, sites
from lbi.importers.torch.ways import WAYS, Way
from lbi.network.graph import Network

NO_FORWARD = Rule("no-forward", "a module that runs", "{fix}")
INPUT_SHAPE = Rule(
    "input-shape",
    "sizes of at least 1, of one sample in one step, without batch and time",
    "pass a tuple such as (64,) or (1, 28, 28)",
)

IN_ORDER = Rule(
    "call", "one call per step, or every step of a sample once, in order", "loop over the steps as they come"
)

LATE_STEPS = TRACED_STEPS[-2:]
"""Numbers of steps of a second trace, for models that keep spikes for longer than the first one takes."""

HANDWRITTEN_STEPS = (32,)
"""The same where all neurons are hand-written: what their currents keep is an expression that grows with every step."""

WRAP = "wrap them: torch.nn.Sequential(*modules)"
BUILD = "build the model, load its state, and pass it: model.load_state_dict(torch.load(path))"


def from_torch(model: nn.Module, input_shape: int | Sequence[int]) -> Any:
    """The network equivalent to a torch model, read from its execution.

    The model may be any module: a chain, or a class with a ``forward`` over a step or over time. It is called per
    step (with or without states passed in and out), with all steps (time or batch first), or with one input for all
    steps; the convention is detected. The model itself is not changed.

    Args:
        model: of snnTorch, norse, spikingjelly, sinabs or SLAYER neurons, with torch's own layers and functions.
        input_shape: of one sample in one step, without batch and time, such as 64, (64,) or (1, 28, 28).

    Returns:
        A Network; for SLAYER blocks, whose weights are integers already, a FixedNetwork.

    Raises:
        InputError: naming everything that cannot be imported exactly, with its place and the fix.
        UsageError: for an ``input_shape`` that is none.
    """
    model = unwrapped(model)
    _check_forward(model)
    shape = _shape(input_shape)
    if any(type(module).__module__.startswith("lava.lib.dl.slayer") for module in model.modules()):
        from lbi.importers.torch.slayer import from_slayer

        return from_slayer(model, shape)
    refusals: list[tuple[tuple[int, int, int], Exception]] = []
    for way in WAYS:
        try:
            return _read(model, shape, way)
        except NotThisWay as refusal:
            refusals.append(((0, refusal.progress, int(refusal.problem.code != FAILS.code)), refusal))
        except InputError as refusal:
            if any(problem.code == mixing.MIXED.code for problem in refusal.problems):
                raise
            proven = any(problem.code == proof.NOT_AS_IT_RUNS.code for problem in refusal.problems)
            refusals.append(((2 if proven else 1, 0, 0), refusal))
    raise _best(refusals)


def _best(refusals: list[tuple[tuple[int, int, int], Exception]]) -> InputError:
    """The error of the calling convention that got furthest."""
    best = max(refusals, key=lambda refusal: refusal[0])[1]
    return best if isinstance(best, InputError) else InputError(best.problem)  # type: ignore[attr-defined]


def _shape(sizes: Any) -> tuple[int, ...]:
    """The sizes as a tuple of ints; a number alone is a number of channels."""
    try:
        sizes = (sizes,) if isinstance(sizes, int) else sizes
        shape = tuple(operator.index(size) for size in sizes)
    except TypeError:
        shape = ()
    if not shape or min(shape) < 1:
        raise UsageError(INPUT_SHAPE.broken("input_shape", repr(sizes)))
    return shape


def _check_forward(model: Any) -> None:
    if not isinstance(model, nn.Module):
        fix = BUILD
        if isinstance(model, list | tuple | nn.ParameterList):
            fix = WRAP
        elif callable(model):
            fix = "call it, and pass what it returns"
        raise InputError(NO_FORWARD.broken("model", f"is a {_kind(model)}", fix=fix))
    if getattr(model.forward, "__func__", None) is nn.modules.module._forward_unimplemented:
        raise InputError(NO_FORWARD.broken("model", f"{type(model).__name__} has no forward", fix=WRAP))
    if isinstance(model, torch.jit.ScriptModule):
        return  # refused by the copy's checks
    if not inspect.signature(model.forward).parameters:
        found = f"{type(model).__name__}'s forward takes no input"
        raise InputError(NO_FORWARD.broken("model", found, fix="give it an input: def forward(self, x)"))


def _kind(model: Any) -> str:
    return f"class, {model.__name__}" if isinstance(model, type) else type(model).__name__


def _read(model: nn.Module, shape: tuple[int, ...], way: Way) -> Network:
    """The network, if this is the model's calling convention.

    A model that keeps spikes for longer than a trace takes is traced again with more steps. It may also take other
    numbers of steps where an input is shorter than a delay, as with spikingjelly 0.0.0.0.14.
    """
    try:
        return _traced_and_proven(model, shape, way, TRACED_STEPS)
    except InputError as refusal:
        late = {proof.NOT_AS_IT_RUNS.code, recording.STEP_COUNT.code}
        if not any(problem.code in late for problem in refusal.problems):
            raise
        try:
            return _traced_and_proven(model, shape, way, LATE_STEPS if sites(model) else HANDWRITTEN_STEPS)
        except (InputError, NotThisWay):
            raise refusal from None


def _traced_and_proven(model: nn.Module, shape: tuple[int, ...], way: Way, lengths: Sequence[int]) -> Network:
    copy = chained(copy_to_run(model))
    places = sites(copy)
    if any(site.neurons.time_axis(site.module) == -1 for site in places):
        way = way._replace(one_by_one=True)  # a call's first axis holds the steps of all samples
    tracing, outputs, n_steps, free = traced(copy, places, shape, way, lengths=lengths)
    if lengths is not TRACED_STEPS and n_steps not in lengths:
        raise InputError(recording.STEP_COUNT.broken("model", f"takes {n_steps} steps of longer inputs"))
    numbers.note_used(
        (tracing, outputs),
        lambda others: traced(copy, places, shape, way, substitutes=others, lengths=lengths)[:2],
        tracing.problems,
    )
    sources = {type(module).__module__.split(".")[0] for module in copy.modules()}
    meta: dict[str, Any] = {"source": sorted(sources & {*registry.FRAMEWORKS, "torch"})}
    if said := notes.of(model, copy, tracing):
        meta["notes"] = said
    again = None
    if free and output.in_total(tracing, outputs):
        again = traced(copy, places, shape, way, lengths=[n_steps + 1])[:2]
    with session_of(places, tracing, tracing):  # readers run modules inside neurons
        network, read = reading.network_of(tracing, outputs, shape, meta, again)
        n_samples, steps = proof.extent(network, n_steps, free=free)
        drive = proof.Drive(tracing, n_samples, steps, proof.longer(network) if free else 0)
    for turn in dict.fromkeys((way, way._replace(one_by_one=True))):
        try:
            proof.prove(copy, places, tracing, turn, (network, read), drive)
        except (
            NotThisWay
        ) as refusal:  # several samples fail where a model holds one, in a buffer of shape (1, n)
            if not turn.one_by_one and loops_over_samples(copy, places, shape, way, tracing):
                found = "loops over the first axis of its input, and not over all steps in their order"
                raise InputError(IN_ORDER.broken("model", found)) from refusal
            failure = InputError(refusal.problem)  # the trace was complete: it is the model's convention
        except InputError:
            if not turn.one_by_one:
                mixing.check(copy, places, tracing, (turn, turn), shape, steps)
            raise
        else:
            if way.flat and not any(site.neurons.time_axis(site.module) == -1 for site in places):
                mixing.check(copy, places, tracing, (WAYS[0], way), shape, steps, read)
            return network
    raise failure
