"""The ways in which models are called: once per step, or once with all steps in one order or another.

A model does not say which is its own. All are tried; a model that is called in another way than its own stands
out, because its neurons then do not see one sample's steps, one after the other.
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
"""Names of a ``forward``'s argument that says how many steps to take."""


class Way(NamedTuple):
    """How to call a model.

    call: function of (model, input (samples, steps, …)) that gives its outputs
    static: True if the input is one for all steps · one_by_one: True if samples run apart
    """

    name: str
    call: Callable[[nn.Module, Tensor], list[Any]]
    static: bool = False
    one_by_one: bool = False


def _once(model: nn.Module, x: Tensor, n_steps: int) -> list[Any]:
    """One call with all steps."""
    extras = {
        parameter.name: n_steps if parameter.name in STEP_NAMES else None
        for parameter in _others(model)
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


def _steps(model: nn.Module, x: Tensor) -> list[Any]:
    """One call per step; what a call returns behind its output is the state for the next."""
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
            state = rest if len(rest) <= len(others) else (rest,)
    return outputs


def _others(model: nn.Module) -> list[inspect.Parameter]:
    """The positional parameters of a model's forward behind its input."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [p for p in inspect.signature(model.forward).parameters.values() if p.kind in kinds]
    return parameters[1:]


WAYS = (
    Way("all steps, time first", _time_first),
    Way("all steps, batch first", _batch_first),
    Way("one call per step", _steps),
    Way("one input for all steps", _static, static=True),
    Way("all steps of a sample as a batch", _flattened, one_by_one=True),
    Way("all steps, time last", _time_last),
)
"""In the order in which they are tried."""


def random_input(shape: tuple[int, ...], rates: Tensor, n_steps: int, seed: int, static: bool) -> Tensor:
    """Spikes (samples, steps, …) float64, a rate per sample; with ``static`` the same in all steps."""
    generator = torch.Generator().manual_seed(seed)
    draws = torch.rand(
        (len(rates), 1 if static else n_steps, *shape), generator=generator, dtype=torch.float64
    )
    spikes = (draws < rates.reshape(-1, *[1] * (len(shape) + 1))).double()
    return spikes.expand(-1, n_steps, *shape).contiguous()
