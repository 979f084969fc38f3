"""Calling conventions of models: once per step, or once with all steps in some order of dimensions.

A model does not state its convention, so all are tried. A wrong one is detected because the neurons then do not see
the steps of one sample in order.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lbi.importers.torch.running import run_model

STEP_NAMES = (
    "num_steps",
    "n_steps",
    "nsteps",
    "steps",
    "timesteps",
    "time_steps",
    "time_window",
    "seq_len",
    "T",
)
"""Names of a ``forward`` argument for the number of steps."""


class Way(NamedTuple):
    """A calling convention.

    Attributes:
        name: a short description that identifies it in ``WAYS``.
        call: function of (model, input (samples, steps, …)) that returns the outputs.
        static: True if one input is used for all steps.
        one_by_one: True if samples run separately.
        flat: True if a sample has no dimension of its own, but its steps alone.
    """

    name: str
    call: Callable[[nn.Module, Tensor], list[Any]]
    static: bool = False
    one_by_one: bool = False
    flat: bool = False


def _once(model: nn.Module, x: Tensor, n_steps: int) -> list[Any]:
    """Call the model once with all steps."""
    extras = {
        parameter.name: n_steps if parameter.name in STEP_NAMES else None
        for parameter in (*_others(model), *_by_name_only(model))
        if parameter.name in STEP_NAMES or parameter.default is inspect.Parameter.empty
    }
    return [run_model(model, x, **extras)]


def _time_first(model: nn.Module, x: Tensor) -> list[Any]:
    return _once(model, x.transpose(0, 1).contiguous(), x.shape[1])


def _batch_first(model: nn.Module, x: Tensor) -> list[Any]:
    return _once(model, x.contiguous(), x.shape[1])


def _flattened(model: nn.Module, x: Tensor) -> list[Any]:
    return _once(model, x.flatten(0, 1), x.shape[1])


def _time_last(model: nn.Module, x: Tensor) -> list[Any]:
    return _once(model, x.movedim(1, -1).contiguous(), x.shape[1])


def _static(model: nn.Module, x: Tensor) -> list[Any]:
    return _once(model, x[:, 0].contiguous(), x.shape[1])


def _steps_apart(model: nn.Module, x: Tensor) -> list[Any]:
    """Call the model once per step; the states come as one tuple, and go back as arguments of their own."""
    return _steps(model, x, apart=True)


def _steps(model: nn.Module, x: Tensor, *, apart: bool = False) -> list[Any]:
    """Call the model once per step; values returned after the output are the state for the next call."""
    others, outputs, state = _others(model), [], None
    for step in range(x.shape[1]):
        current = x[:, step].contiguous()
        if state is None:
            required = [p for p in others if p.default is inspect.Parameter.empty]
            result = run_model(model, current, **{parameter.name: None for parameter in required})
        else:
            result = run_model(model, current, *state)
        outputs.append(result)
        if others and isinstance(result, tuple) and len(result) > 1:
            rest = result[1:]
            if apart and len(rest) == 1 and isinstance(rest[0], tuple | list):
                rest = tuple(rest[0])
            state = rest if len(rest) <= len(others) else (rest,)
    return outputs


def _by_name_only(model: nn.Module) -> list[inspect.Parameter]:
    """The parameters of a model's forward that are given by their name alone."""
    parameters = inspect.signature(model.forward).parameters.values()
    return [p for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]


def given_none(model: nn.Module) -> list[str]:
    """Names of what a model's forward requires beside its input, which gets None, as a state before its first step.

    Args:
        model: any torch model.

    Returns:
        The names of positional parameters after the first that have no default and are not a number of steps.
    """
    required = [p for p in _others(model) if p.default is inspect.Parameter.empty]
    return [p.name for p in required if p.name not in STEP_NAMES]


def _others(model: nn.Module) -> list[inspect.Parameter]:
    """The positional parameters of a model's forward after its input."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [p for p in inspect.signature(model.forward).parameters.values() if p.kind in kinds]
    return parameters[1:]


WAYS = (
    Way("all steps, time first", _time_first),
    Way("all steps, batch first", _batch_first),
    Way("all steps of a sample as a batch", _flattened, one_by_one=True, flat=True),
    Way("one call per step", _steps),
    Way("one call per step, states apart", _steps_apart),
    Way("one input for all steps", _static, static=True),
    Way("all steps, time last", _time_last),
)
"""Calling conventions in the order in which they are tried."""


def random_input(shape: tuple[int, ...], rates: Tensor, n_steps: int, seed: int, static: bool) -> Tensor:
    """Random spikes: independent draws with one rate per sample.

    Args:
        shape: shape of one sample at one step.
        rates: (n_samples,) spikes per step and channel, 0 to 1.
        n_steps: number of steps.
        seed: seed of the random numbers.
        static: whether all steps of a sample are equal.

    Returns:
        (n_samples, n_steps, …) float64, 0 and 1.
    """
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(
        (len(rates), 1 if static else n_steps, *shape), generator=generator, dtype=torch.float64
    )
    spikes = (draws < rates.reshape(-1, *[1] * (len(shape) + 1))).double()
    return spikes.expand(-1, n_steps, *shape).contiguous()
