"""Recording of a model's runs: what its neuron modules take in and return at every step, samples first."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lbi.errors import InputError, Rule
from lbi.importers.torch.attempt import failed
from lbi.importers.torch.group import Group, NotThisWay
from lbi.importers.torch.layer import by_step
from lbi.importers.torch.listening import Listening
from lbi.importers.torch.running import Site, Sites, forget, session_of
from lbi.importers.torch.tracing import SAME_NEURONS, Tracing
from lbi.importers.torch.ways import Way

STEP_COUNT = Rule(
    "call",
    "a number of steps that is the input's, that of an argument num_steps, or constant",
    "take in every step of the input, or that many of a static one",
)


class Recorded(NamedTuple):
    """Recorded values of a run: group name → (samples, steps, n), and what the calls of the model returned."""

    outputs: dict[str, NDArray[Any]]
    currents: dict[str, NDArray[Any]]
    results: list[Any]


class Recording:
    """Session that records input and output of neuron modules.

    Args:
        tracing: the trace, whose groups the calls belong to.
        n_samples: samples that run together.
        currents: group name → (samples, steps, n) that drives its module in place of the model; None for the model's own.
    """

    def __init__(self, tracing: Tracing, n_samples: int, currents: dict[str, Tensor] | None = None) -> None:
        self._tracing, self._n_samples, self._driven = tracing, n_samples, currents
        self._calls: dict[str, int] = {}
        self._outputs: dict[str, list[Tensor]] = {group.name: [] for group in tracing.groups}
        self._currents: dict[str, list[Tensor]] = {group.name: [] for group in tracing.groups}

    def call(self, site: Site, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the module's own forward.

        Args:
            site: the neuron module.
            args: positional arguments.
            kwargs: keyword arguments.

        Returns:
            What the module returns.

        Raises:
            InputError: if a driven module takes more steps than it has currents for.
            NotThisWay: if the module was not called in the trace, or takes in or returns another number of samples.
        """
        group, axis = self._group(site), site.neurons.time_axis(site.module)
        first = args[0] if args else next(iter(kwargs.values()))
        steps = self._by_sample(group, "takes in", first, axis, group.in_shape)
        if self._driven is not None:
            taken = len(self._currents[group.name])
            given = self._driven[group.name][:, taken : taken + len(steps)]
            if given.shape[1] < len(steps):
                found = f"takes more than the {taken + given.shape[1]} steps that it is given"
                raise InputError(STEP_COUNT.broken(group.where, found))
            driven = torch.stack([given[:, i].reshape(step.shape) for i, step in enumerate(steps)])
            joined = _joined(driven, axis)
            args, kwargs = (
                ((joined, *args[1:]), kwargs) if args else ((), {**kwargs, next(iter(kwargs)): joined})
            )
        self._currents[group.name] += steps
        result = site.forward(*args, **kwargs)
        main = site.neurons.split(site.module, result).main
        self._outputs[group.name] += self._by_sample(group, "returns", main, axis, group.shape)
        return result

    def heard(self, number: int, value: Tensor, spikes: Tensor) -> None:
        """Note a step of hand-written neurons.

        Args:
            number: of their population.
            value: what is compared with their threshold, in place of a current.
            spikes: their spikes.
        """
        group = self._tracing.groups[number]
        self._currents[group.name] += self._by_sample(group, "compares", value, None, group.shape)
        self._outputs[group.name] += self._by_sample(group, "returns", spikes, None, group.shape)

    def _by_sample(
        self, group: Group, how: str, value: Tensor, axis: int | None, shape: tuple[int, ...]
    ) -> list[Tensor]:
        """The steps of a call's input or output, each of the shape of all samples."""
        steps = [step.detach().clone() for step in by_step(value, axis)]
        if any(step.numel() != self._n_samples * prod(shape) for step in steps):
            found = f"{how} shape {tuple(value.shape)} in a run of {self._n_samples} samples"
            raise NotThisWay(SAME_NEURONS.broken(group.where, found))
        return steps

    def _group(self, site: Site) -> Group:
        """The group of a module's next call, in the same order as in the trace."""
        pattern = self._tracing.calls.get(site.path)
        if pattern is None:
            found = f"runs with {self._n_samples} samples or more steps, and not in a short run of one sample"
            raise NotThisWay(SAME_NEURONS.broken(site.where, found))
        number = self._calls.get(site.path, 0)
        self._calls[site.path] = number + 1
        return self._tracing.groups[pattern[number % len(pattern)]]

    def found(self, results: list[Any]) -> Recorded:
        """The recorded values, samples first; no steps of a module that was not called.

        Args:
            results: what the calls of the model returned.

        Returns:
            All of them.
        """
        outputs: dict[str, NDArray[Any]] = {}
        currents: dict[str, NDArray[Any]] = {}
        for group in self._tracing.groups:
            for kept, steps, shape in (
                (outputs, self._outputs, group.shape),
                (currents, self._currents, group.in_shape),
            ):
                values = np.empty((self._n_samples, len(steps[group.name]), prod(shape)))
                for number, step in enumerate(steps[group.name]):
                    values[:, number] = step.numpy().reshape(self._n_samples, -1)
                kept[group.name] = values
        return Recorded(outputs, currents, results)


def _joined(steps: Tensor, axis: int | None) -> Tensor:
    """Inputs by step as the module takes them."""
    if axis is None:
        return steps[0]
    if axis == -1:
        return steps.flatten(0, 1)
    return steps.movedim(0, -1 if axis == 2 else axis)


def record(
    model: nn.Module,
    places: Sites,
    tracing: Tracing,
    way: Way,
    spikes: Tensor,
    currents: dict[str, Tensor] | None = None,
    *,
    widen: bool = True,
    seed: int = 1,
    forced: bool = False,
) -> Recorded:
    """Run the model on spikes from rest, with random numbers of its own from a seed that is not the trace's.

    Samples run one by one where a neuron takes steps and samples in one dimension.

    Args:
        model: the copy that was traced.
        places: its neuron modules.
        tracing: its trace.
        way: its calling convention.
        spikes: (samples, steps, …).
        currents: group name → (samples, steps, n) that drives its module; None for the model's own.
        widen: whether the copy computes in float64.
        seed: seed of torch's random numbers.
        forced: whether hand-written neurons spike at random.

    Returns:
        What was recorded.

    Raises:
        InputError: if a driven module takes more steps than it has currents for, or samples take different numbers of steps.
        NotThisWay: if the model's own code fails on these samples and steps, or runs other neurons or samples than in the trace.
    """
    alone = way.one_by_one or any(site.neurons.time_axis(site.module) == -1 for site in places)
    parts = spikes.split(1) if alone else [spikes]
    found = []
    for number, part in enumerate(parts):
        given = currents and {
            name: value[number : number + 1] if alone else value for name, value in currents.items()
        }
        recording = Recording(tracing, len(part), given)
        forget(places, len(part))
        chance = number + 1 if forced else None
        listening = Listening(tracing.written, recording.heard, part.shape[1], widen=widen, forced=chance)
        with session_of(places, recording, listening, seed):
            results = _called(model, way, part, tracing)
        found.append(recording.found(results))
    for group in tracing.groups:
        taken = sorted({entry.outputs[group.name].shape[1] for entry in found})
        if len(taken) > 1:
            text = f"takes {taken[0]} steps of one sample and {taken[-1]} of another"
            raise InputError(STEP_COUNT.broken(group.where, text))
    return Recorded(
        {name: np.concatenate([entry.outputs[name] for entry in found]) for name in found[0].outputs},
        {name: np.concatenate([entry.currents[name] for entry in found]) for name in found[0].currents},
        [result for entry in found for result in entry.results],
    )


def _called(model: nn.Module, way: Way, part: Tensor, tracing: Tracing) -> list[Any]:
    """What the model's calls return; NotThisWay is raised for any exception of the model's own code."""
    try:
        return way.call(model, part)
    except (InputError, NotThisWay):
        raise
    except Exception as error:  # the model's code may raise any exception
        raise failed(model, error, tuple(part.shape[2:]), tracing, tuple(part.shape[:2])) from error
