"""``nn.Sequential`` models whose neurons return their state.

torch's own ``Sequential`` cannot run such a chain (norse's cells return a tuple and expect the state as argument). It is
run as users do: the output goes to the next module, and the state back to its module at the next step. Only with one
cell at its end torch runs it, from rest in every call: then the model has no memory, and is refused.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from lbi.errors import InputError, Rule
from lbi.importers.torch import registry

STATE_DROPPED = Rule(
    "state-dropped",
    "a model that passes the state of its neurons from step to step",
    "replace torch.nn.Sequential by norse.torch.SequentialState, and pass its state: output, state = model(x, state)",
)
PASSED = (
    "torch.nn.Sequential cannot run {cells}, which return their state: here each gets back the state of its step before, as"
    " in norse.torch.SequentialState"
)


class Chain(nn.Module):
    """The modules of a ``Sequential``, called once per step with their states."""

    def __init__(self, modules: nn.Sequential) -> None:
        super().__init__()
        for name, module in modules._modules.items():
            self._modules[name] = module
        self._stateful = [name for name, module in self._modules.items() if _hands_out(module)]

    def _children(self) -> list[tuple[str, nn.Module]]:
        return [(name, module) for name, module in self._modules.items() if module is not None]

    def forward(self, value: Any, states: Any = None) -> tuple[Any, dict[str, Any]]:
        """Output and states for the input of one step and the states of the step before.

        Args:
            value: the input of one step.
            states: the states of all modules; None at the first step.

        Returns:
            The output and the states.
        """
        before, after = states or {}, {}
        for name, module in self._children():
            if isinstance(module, Chain) or name in self._stateful:
                value, after[name] = module(value, before.get(name))
            else:
                result = module(value)
                value = (
                    result[0]
                    if isinstance(result, tuple) and name != next(reversed(self._modules))
                    else result
                )
        return value, after


def chained(module: nn.Module) -> nn.Module:
    """The model, with plain ``Sequential`` containers replaced by chains where they cannot run otherwise.

    Args:
        module: the model.

    Returns:
        The model, or its replacement.

    Raises:
        InputError: for a ``Sequential`` that torch runs, but from rest in every call.
    """
    replaced = _chained(module)
    if replaced is not module and _one_step(end := _end(module)) and _runs(module):
        kind = type(end).__name__
        raise InputError(
            STATE_DROPPED.broken("model", f"torch.nn.Sequential starts its {kind} from rest in every call")
        )
    return replaced


def notes(model: nn.Module) -> list[str]:
    """That states are passed on where torch's own ``Sequential`` would not.

    Args:
        model: what is traced in the place of the user's model.

    Returns:
        One note, if there are cells of one step in chains; otherwise none.
    """
    chains = [part for part in model.modules() if isinstance(part, Chain)]
    cells = {type(cell).__name__ for part in chains for cell in part.children() if _one_step(cell)}
    return [PASSED.format(cells=" and ".join(sorted(cells)))] if cells else []


def _chained(module: nn.Module) -> nn.Module:
    hooked = module._forward_hooks or module._forward_pre_hooks
    if type(module) is not nn.Sequential or "forward" in vars(module) or hooked:
        return module
    for name, child in list(module._modules.items()):
        if child is not None:
            module._modules[name] = _chained(child)
    inner = module._modules.values()
    return Chain(module) if any(isinstance(child, Chain) or _hands_out(child) for child in inner) else module


def _hands_out(module: Any) -> bool:
    neurons = registry.neurons_of(module)
    return neurons is not None and not neurons.keeps_state


def _one_step(module: Any) -> bool:
    """Whether it is a neuron that returns its state, of which a call is one step."""
    neurons = registry.neurons_of(module)
    return neurons is not None and not neurons.keeps_state and neurons.time_axis(module) is None


def _end(module: Any) -> Any:
    """The last module of nested chains."""
    while isinstance(module, nn.Sequential | Chain) and module._modules:
        module = module._modules[next(reversed(module._modules))]
    return module


def _runs(module: Any) -> bool:
    """Whether torch's own ``Sequential`` runs it: only the last module of all returns a state."""
    parts = [part for part in module.modules() if _hands_out(part)]
    return parts == [_end(module)]
