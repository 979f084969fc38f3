"""``nn.Sequential`` models whose neurons return their state.

torch's own ``Sequential`` cannot run such a chain (norse's cells return a tuple and expect the state as argument). It is
run as users do: the output goes to the next module, and the state back to its module at the next step.
"""

from __future__ import annotations

from typing import Any

from torch import nn

from lbi.importers.torch import registry


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
    """
    hooked = module._forward_hooks or module._forward_pre_hooks
    if type(module) is not nn.Sequential or "forward" in vars(module) or hooked:
        return module
    for name, child in list(module._modules.items()):
        if child is not None:
            module._modules[name] = chained(child)
    inner = module._modules.values()
    return Chain(module) if any(isinstance(child, Chain) or _hands_out(child) for child in inner) else module


def _hands_out(module: Any) -> bool:
    neurons = registry.neurons_of(module)
    return neurons is not None and not neurons.keeps_state
