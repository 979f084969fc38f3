"""One attempt to trace a model under one calling convention; both kinds of networks are read from it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lbi.errors import InputError, Rule
from lbi.importers.signal import Signal
from lbi.importers.torch import layers, reading
from lbi.importers.torch.group import NotThisWay
from lbi.importers.torch.handwritten import Handwritten
from lbi.importers.torch.layer import by_step
from lbi.importers.torch.leaving import Substitutes
from lbi.importers.torch.listening import Listening
from lbi.importers.torch.remedies import INDEX_FIX
from lbi.importers.torch.running import Place, Site, Sites, forget, place, session_of
from lbi.importers.torch.shadow import STATIC
from lbi.importers.torch.tracing import Tracing
from lbi.importers.torch.ways import Way, given_none, random_input
from lbi.network.graph import INPUT

TRACED_STEPS = (6, 32, 128, 512)
"""Numbers of steps of a trace; the larger ones are for models that require more steps."""

STEPS_BEHIND_LATE_STATES = 16
"""Steps of a trace in which the spikes of a layer reach the next one two steps later, as in SpyTorch; what the currents keep
grows with every step."""

FAILS = Rule(
    "model-fails",
    "a model that runs on input of shape {shape} per sample and step",
    "{fix}",
)
SHAPE_FIX = "check the input's shape and the model's layers, and take the number of samples from the input"
BATCH_FIX = (
    "let forward take any number of samples and steps: keep the batch's dimension, as x.reshape(len(x), …) does, and take"
    " sizes from the input"
)
COMPLEX_FIX = "take real weights: currents and voltages of neurons are real numbers"
NONE_FIX = (
    "{names} of forward got None, as states do before the first step: begin with zeros for None; a second input is joined"
    " to the first one, which alone carries spikes"
)


def traced(
    model: nn.Module,
    places: Sites,
    shape: tuple[int, ...],
    way: Way,
    *,
    widen: bool = True,
    substitutes: Substitutes | None = None,
    lengths: Sequence[int] = TRACED_STEPS,
) -> tuple[Tracing, list[Any], int, bool]:
    """A trace of the model, its outputs, the steps it took, and whether it takes as many as the input has.

    Args:
        model: the copy to run.
        places: its neuron modules.
        shape: shape of one sample at one step.
        way: the calling convention.
        widen: whether the copy computes in float64.
        substitutes: numbers in place of those that Python takes of spikes; None for these themselves.
        lengths: numbers of steps to try, rising.

    Returns:
        The trace.

    Raises:
        NotThisWay: if the model fails, or if its neurons do not take one sample's steps.
    """
    for n_steps in lengths:
        try:
            tracing, outputs, n_steps = _long_enough(
                model, places, shape, way, n_steps, widen=widen, substitutes=substitutes
            )
            taken = reading.check_steps(tracing, n_steps, static=way.static)
        except _TooShort as short:
            if n_steps == lengths[-1] or way.static:
                raise short.failure from short.__cause__
        else:
            free = taken == n_steps and _follows(
                model, places, _sample(shape, n_steps + 1, way, widen), way, tracing
            )
            return tracing, outputs, taken, free
    raise AssertionError("the last number of steps returns or raises")


def _long_enough(
    model: nn.Module, places: Sites, shape: tuple[int, ...], way: Way, n_steps: int, **options: Any
) -> tuple[Tracing, list[Any], int]:
    """One trace, or one of more steps where hand-written neurons pass on their state late; and its steps."""
    tracing, outputs = _run(model, places, shape, way, n_steps, **options)
    if n_steps < STEPS_BEHIND_LATE_STATES and any(p.before for p in tracing.written.populations):
        try:
            later = _run(model, places, shape, way, STEPS_BEHIND_LATE_STATES, **options)
        except (NotThisWay, _TooShort):
            return tracing, outputs, n_steps  # it has its own number of steps
        return *later, STEPS_BEHIND_LATE_STATES
    return tracing, outputs, n_steps


class _TooShort(Exception):  # noqa: N818 - no error where a longer input follows
    """A model indexes a step that its input does not have."""

    def __init__(self, failure: NotThisWay) -> None:
        super().__init__(str(failure))
        self.failure = failure


def _run(
    model: nn.Module,
    places: Sites,
    shape: tuple[int, ...],
    way: Way,
    n_steps: int,
    *,
    widen: bool,
    substitutes: Substitutes | None,
    known: Handwritten | None = None,
) -> tuple[Tracing, list[Any]]:
    """One trace, and the model's outputs; a second one with what the first one knows of hand-written neurons."""
    tracing = Tracing(model, places.initial, widen=widen, substitutes=substitutes, known=known)
    tracing.written.static = way.static
    tracing.written.n_steps = None if way.static else n_steps
    x = _sample(shape, n_steps, way, widen)
    for step in range(n_steps):
        spikes = tracing.shadow.keep("input", lambda: Signal.spikes(INPUT, shape))
        tracing.shadow.mark(
            x[:, step],
            tracing.shadow.new(spikes, STATIC if way.static else step).reshape(x[:, step].shape),
        )
    forget(places)
    try:
        with session_of(places, tracing, tracing), layers.followed(model):
            outputs = way.call(model, x)
    except NotThisWay:
        raise
    except IndexError as error:
        raise _TooShort(failed(model, error, shape, tracing)) from error
    except InputError as error:  # of the rule for an operation
        where = place(trace=error.__traceback__)
        raise NotThisWay(error.problems[0].inside(_named(model, where)), _reached(tracing)) from error
    except Exception as error:  # the model's code may raise any exception
        if substitutes is not None:
            substitutes.fail(error)
        raise failed(model, error, shape, tracing) from error
    if known is None:
        tracing.written.note_statistics(tracing.shadow.all_of(outputs))
    if known is None and tracing.written.needs_another_trace:
        options: Any = {"widen": widen, "substitutes": substitutes, "known": tracing.written}
        return _run(model, places, shape, way, n_steps, **options)
    tracing.settle(outputs)
    return tracing, outputs


def _sample(shape: tuple[int, ...], n_steps: int, way: Way, widen: bool) -> torch.Tensor:
    x = random_input(shape, torch.tensor([0.5]), n_steps, 0, way.static)
    return x if widen else x.float()


class _Counting:
    """Session that counts the steps of all calls of neuron modules, and of all hand-written neurons."""

    def __init__(self) -> None:
        self.n_steps = 0

    def heard(self, number: int, value: torch.Tensor, spikes: torch.Tensor) -> None:
        """Count a step of hand-written neurons.

        Args:
            number: of their population.
            value: what is compared with their threshold.
            spikes: their spikes.
        """
        self.n_steps += 1

    def call(self, site: Site, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the module's own forward.

        Args:
            site: the neuron module.
            args: positional arguments.
            kwargs: keyword arguments.

        Returns:
            What the module returns.
        """
        result = site.forward(*args, **kwargs)
        main = site.neurons.split(site.module, result).main
        self.n_steps += sum(1 for _ in by_step(main, site.neurons.time_axis(site.module)))
        return result


def _follows(model: nn.Module, places: Sites, x: torch.Tensor, way: Way, tracing: Tracing) -> bool:
    """Whether the model takes the steps of a longer input, instead of a number of its own that equals the trace's."""
    counting = _Counting()
    forget(places)
    listening = Listening(tracing.written, counting.heard, x.shape[1], widen=tracing.widen)
    try:
        with session_of(places, counting, listening):
            way.call(model, x)
    except Exception:  # the model's code may raise any exception for a number of steps that is not its own
        return False
    return counting.n_steps == len(tracing.groups) * x.shape[1]


def loops_over_samples(
    model: nn.Module, places: Sites, shape: tuple[int, ...], way: Way, tracing: Tracing
) -> bool:
    """Whether the neurons take more steps of several samples than of one: the loop is meant to be over time.

    Args:
        model: the copy to run.
        places: its neuron modules.
        shape: shape of one sample at one step.
        way: the calling convention.
        tracing: the trace of one sample.

    Returns:
        True for such a loop; False also for a model that fails on several samples.
    """
    n_taken = []
    for n_samples in (1, TRACED_STEPS[0]):
        counting = _Counting()
        x = random_input(shape, torch.full((n_samples,), 0.5), TRACED_STEPS[0], 0, way.static)
        forget(places)
        try:
            listening = Listening(tracing.written, counting.heard, x.shape[1], widen=tracing.widen)
            with session_of(places, counting, listening):
                way.call(model, x if tracing.widen else x.float())
        except Exception:  # the model's code may raise any exception
            return False
        n_taken.append(counting.n_steps)
    return n_taken[1] > n_taken[0]


def failed(
    model: nn.Module,
    error: Exception,
    shape: tuple[int, ...],
    tracing: Tracing,
    extent: tuple[int, ...] | None = None,
) -> NotThisWay:
    """The problem for an exception of the model's code, with its place.

    Args:
        model: the copy that ran.
        error: the exception.
        shape: shape of one sample at one step.
        tracing: the trace so far.
        extent: numbers of samples and steps of a run that follows a complete trace; None for the trace itself.

    Returns:
        The refusal of this calling convention, to be raised from ``error``.
    """
    here = place(trace=error.__traceback__)
    at = f", at {here.source}" if here.source else ""
    first = (str(error).strip().split("\n") or [""])[0]
    own = [] if here.module is None else list(here.module.parameters(recurse=False))
    fix = COMPLEX_FIX if any(value.is_complex() for value in own) else SHAPE_FIX
    names = given_none(model) if "NoneType" in str(error) else []
    fix = NONE_FIX.format(names=", ".join(names)) if names else fix
    fix = INDEX_FIX if isinstance(here.module, nn.Embedding) else fix
    found = f"{type(error).__name__}: {first}{at}"
    if extent is not None and fix == SHAPE_FIX:
        n_steps = max(len(group.inputs) for group in tracing.groups)
        found += (
            f", with {extent[0]} sample{'s' * (extent[0] > 1)} of {extent[1]} steps; 1 of {n_steps} steps ran"
        )
        fix = BATCH_FIX
    problem = FAILS.broken(_named(model, here), found, shape=shape, fix=fix)
    return NotThisWay(problem, _reached(tracing))


def _named(model: nn.Module, here: Place) -> str:
    """The module of a place, for errors."""
    path = next((name for name, module in model.named_modules() if module is here.module), "")
    return f"module {path or type(here.module or model).__name__!r}"


def _reached(tracing: Tracing) -> int:
    """How far a trace came: the calls of neuron modules."""
    return sum(len(group.inputs) for group in tracing.groups)
