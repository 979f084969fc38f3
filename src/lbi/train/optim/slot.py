"""One parameter of an optimizer step, and what a plan of many of them relies on between steps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter, is_
from typing import Any

import torch
from torch import Tensor

Group = dict[str, Any]
State = dict[str, Any]

# The quantity that a step updates.
PLAIN, DUAL, SHRINK = 0, 1, 2  # θ itself; the dual alone; the dual, then θ entry by entry


@dataclass(slots=True)
class Slot:
    """One parameter with its group, its state and the tensors of its step.

    The tensors are θ, its gradient, those of the method, and the one that is updated (v or θ).

    Attributes:
        keys: the state's name of each tensor from the third on; None where θ or the gradient takes its place.
        held: where a step may change the tensors (contiguous bool), or None for everywhere.
    """

    group: Group
    state: State
    tensors: list[Tensor]
    keys: tuple[str | None, ...]
    held: Tensor | None = None

    def gradient_places(self) -> list[int]:
        """Where the gradient stands among the tensors."""
        return [1, *(i for i, key in enumerate(self.keys[:-1], 2) if key is None)]

    def put_for_gradient(self, tensor: Tensor) -> None:
        """Put a tensor where the gradient stands: the gradient of a step, or θ between steps, so that memory can be freed.

        Args:
            tensor: of the parameter's shape.
        """
        for i in self.gradient_places():
            self.tensors[i] = tensor


def slot(group: Group, state: State, p: Tensor, own: tuple[str, ...], held: Tensor | None = None) -> Slot:
    """The slot of a parameter with a gradient; ``own`` names the method's tensors in the state.

    Args:
        group: the optimizer's group.
        state: the parameter's state.
        p: the parameter.
        own: names of the method's tensors in the state.
        held: see ``Slot``.

    Returns:
        The record with the tensors of the parameter's step.
    """
    assert p.grad is not None
    if group["reg"] is None or "delta" not in group:
        moved, moved_key = p, None
    else:
        moved, moved_key = state["dual"], "dual"
    keys = [key if key in state else None for key in own]
    tensors = [p, p.grad, *(p.grad if key is None else state[key] for key in keys), moved]
    return Slot(group, state, tensors, (*keys, moved_key), held)


_KIND: Callable[[Tensor], Any] = attrgetter("layout", "dtype", "device")


class Watch:
    """What a plan relies on in parameters, gradients and states.

    Most steps are short, so all parameters are compared at once, by functions that loop in C.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self._params = [slot.tensors[0] for slot in slots]
        self._states = [slot.state for slot in slots]
        self._steps = [state.get("step") for state in self._states]
        kept = [
            (slot.state, key, tensor)
            for slot in slots
            for key, tensor in zip(slot.keys, slot.tensors[2:], strict=True)
            if key is not None
        ]
        self._keys = [(state, key) for state, key, _ in kept]
        self._tensors = [tensor for _, _, tensor in kept]
        self._form = _form(self._params, [slot.tensors[1] for slot in slots])

    def gradients(self, params: list[Tensor], states: Mapping[Tensor, State]) -> list[Tensor] | None:
        """The gradients of the parameters, if nothing that the plan relies on has changed.

        Args:
            params: the parameters that a step is to change.
            states: parameter → its entries in the optimizer's state.

        Returns:
            One gradient per parameter; None if a new plan is needed.
        """
        if len(params) != len(self._params) or not all(map(is_, params, self._params)):
            return None
        grads = [p.grad for p in params]
        present = [grad for grad in grads if grad is not None]
        same = (
            len(present) == len(params)
            and all(map(is_, map(states.get, params), self._states))
            and [state.get("step") for state in self._states] == self._steps
            and all(map(is_, (state.get(key) for state, key in self._keys), self._tensors))
            and _form(params, present) == self._form
        )
        return present if same else None

    def advance(self) -> None:
        """Count a step before it is done."""
        for i, (state, step) in enumerate(zip(self._states, self._steps, strict=True)):
            if step is not None:
                state["step"] = self._steps[i] = step + 1


def _form(params: list[Tensor], grads: list[Tensor]) -> Any:
    """Type and layout of parameters and their gradients (``.data`` can be replaced under a tensor)."""
    kinds = list(map(_KIND, grads))
    if any(layout is not torch.strided for layout, _, _ in kinds):
        return kinds
    sizes, dense = Tensor.numel, Tensor.is_contiguous
    own = list(map(_KIND, params)), list(map(sizes, params)), list(map(dense, params))
    return *own, kinds, list(map(sizes, grads)), list(map(dense, grads))
