"""Import of live torch models of other frameworks: traced, read, and verified by execution.

``from_torch`` runs a copy of the model with all known calling conventions, and uses the first with which its
neurons see the steps of a sample in order and the resulting network behaves like the model.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from lbi.errors import InputError, Rule
from lbi.importers.signal import Signal
from lbi.importers.torch import layers, proof, reading, registry
from lbi.importers.torch.chain import chained
from lbi.importers.torch.copying import copy_to_run, unwrapped
from lbi.importers.torch.running import Site, forget, place, session_of, sites
from lbi.importers.torch.shadow import STATIC
from lbi.importers.torch.tracing import NotThisWay, Tracing
from lbi.importers.torch.ways import WAYS, Way, random_input
from lbi.network.graph import INPUT, Network

TRACED_STEPS = (6, 32, 128, 512)
"""Numbers of steps of a trace; the larger ones are for models that require more steps."""

FAILS = Rule(
    "model-fails",
    "a model that runs on input of shape {shape} per sample and step",
    "check the input's shape and the model's layers",
)
NO_FORWARD = Rule("no-forward", "a module that runs", "wrap them: torch.nn.Sequential(*modules)")


def from_torch(model: nn.Module, input_shape: Sequence[int]) -> Any:
    """The network equivalent to a torch model, read from its execution.

    The model may be any module: a chain, or a class with a ``forward`` over a step or over time. It is called per
    step (with or without states passed in and out), with all steps (time or batch first), or with one input for all
    steps; the convention is detected. The model itself is not changed.

    Args:
        model: of snnTorch, norse, spikingjelly, sinabs or SLAYER neurons, with torch's own layers and functions
        input_shape: of one sample in one step, without batch and time, such as (64,) or (1, 28, 28)

    Returns:
        A Network; for SLAYER blocks, whose weights are integers already, a FixedNetwork.

    Raises:
        InputError: naming everything that cannot be imported exactly, with its place and the fix.
    """
    shape = tuple(int(size) for size in input_shape)
    model = unwrapped(model)
    _check_forward(model)
    if any(type(module).__module__.startswith("lava.lib.dl.slayer") for module in model.modules()):
        from lbi.importers.torch.slayer import from_slayer

        return from_slayer(model, shape)
    refusals: list[tuple[tuple[int, int], Exception]] = []
    for way in WAYS:
        try:
            return _read(model, shape, way)
        except NotThisWay as refusal:
            refusals.append(((0 if refusal.problem.code == FAILS.code else 1, refusal.progress), refusal))
        except InputError as refusal:
            proven = any(problem.code == proof.NOT_AS_IT_RUNS.code for problem in refusal.problems)
            refusals.append(((3 if proven else 2, 0), refusal))
    raise _best(refusals)


def _best(refusals: list[tuple[tuple[int, int], Exception]]) -> InputError:
    """The error of the calling convention that got furthest."""
    best = max(refusals, key=lambda refusal: refusal[0])[1]
    return best if isinstance(best, InputError) else InputError(best.problem)  # type: ignore[attr-defined]


def _check_forward(model: Any) -> None:
    if not isinstance(model, nn.Module):
        raise InputError(NO_FORWARD.broken("model", f"is a {type(model).__name__}"))
    if getattr(model.forward, "__func__", None) is nn.modules.module._forward_unimplemented:
        raise InputError(NO_FORWARD.broken("model", f"{type(model).__name__} has no forward"))
    if not inspect.signature(model.forward).parameters:
        raise InputError(NO_FORWARD.broken("model", f"{type(model).__name__}'s forward takes no input"))


def _read(model: nn.Module, shape: tuple[int, ...], way: Way) -> Network:
    """The network, if this is the model's calling convention."""
    copy = chained(copy_to_run(model))
    places = sites(copy)
    tracing, outputs, n_steps, free = traced(copy, places, shape, way)
    sources = {type(module).__module__.split(".")[0] for module in copy.modules()}
    meta = {"source": sorted(sources & {*registry.FRAMEWORKS, "torch"})}
    with session_of(places, tracing, tracing):  # readers run modules inside neurons
        network = reading.network_of(tracing, outputs, shape, meta)
        n_samples, steps = proof.extent(network, None if free else n_steps)
        drive = proof.Drive(tracing, n_samples, steps)
    proof.prove(copy, places, tracing, way, network, drive)
    return network


def traced(
    model: nn.Module, places: Sequence[Site], shape: tuple[int, ...], way: Way, *, widen: bool = True
) -> tuple[Tracing, list[Any], int, bool]:
    """A trace of the model, its outputs, the steps it took, and whether it takes as many as the input has.

    Raises:
        NotThisWay: if the model fails, or if its neurons do not take one sample's steps.
    """
    for n_steps in TRACED_STEPS:
        tracing = Tracing(model, widen=widen)
        x = random_input(shape, torch.tensor([0.5]), n_steps, 0, way.static)
        x = x if widen else x.float()
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
                taken = reading.check_steps(tracing, n_steps, static=way.static)
        except NotThisWay:
            raise
        except IndexError as error:
            if n_steps == TRACED_STEPS[-1] or way.static:
                raise _failed(model, error, shape, tracing) from error
        except Exception as error:  # the model's code may raise any exception
            raise _failed(model, error, shape, tracing) from error
        else:
            return tracing, outputs, taken, taken == n_steps or way.static
    raise AssertionError("the last number of steps returns or raises")


def _failed(model: nn.Module, error: Exception, shape: tuple[int, ...], tracing: Tracing) -> NotThisWay:
    """The problem for an exception of the model's code, with its place."""
    here = place(trace=error.__traceback__)
    path = next((name for name, module in model.named_modules() if module is here.module), "")
    where = f"module {path or type(here.module or model).__name__!r}"
    at = f", at {here.source}" if here.source else ""
    first = (str(error).strip().split("\n") or [""])[0]
    problem = FAILS.broken(where, f"{type(error).__name__}: {first}{at}", shape=shape)
    return NotThisWay(problem, sum(len(group.inputs) for group in tracing.groups))
