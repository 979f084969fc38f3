"""One parameter of an optimizer step: its group, its state and the tensors that the step reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
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
        form: further properties that the plan relies on (see ``_form``).
        step: the state's step count, if it has one.
        held: where a step may change the tensors (contiguous bool), or None for everywhere.
    """

    group: Group
    state: State
    tensors: list[Tensor]
    keys: tuple[str | None, ...]
    form: tuple[Any, ...]
    step: int | None
    held: Tensor | None = None

    def refresh(self) -> bool:
        """Use the current gradient; False if anything else differs from the plan."""
        p, grad = self.tensors[0], self.tensors[0].grad
        if grad is None or _form(p, grad) != self.form or self.state.get("step") != self.step:
            return False
        for i, key in enumerate(self.keys, 2):
            if key is not None and self.state.get(key) is not self.tensors[i]:
                return False
        self._put_for_gradient(grad)
        return True

    def advance(self) -> None:
        """Count a step before it is done."""
        if self.step is not None:
            self.step += 1
            self.state["step"] = self.step

    def release(self) -> None:
        """Drop the reference to the gradient, so that its memory can be freed between steps."""
        self._put_for_gradient(self.tensors[0])

    def _put_for_gradient(self, tensor: Tensor) -> None:
        self.tensors[1] = tensor
        for i, key in enumerate(self.keys[:-1], 2):
            if key is None:
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
        The slot.
    """
    assert p.grad is not None
    if group["reg"] is None or "delta" not in group:
        moved, moved_key = p, None
    else:
        moved, moved_key = state["dual"], "dual"
    keys = [key if key in state else None for key in own]
    tensors = [p, p.grad, *(p.grad if key is None else state[key] for key in keys), moved]
    return Slot(group, state, tensors, (*keys, moved_key), _form(p, p.grad), state.get("step"), held)


def _form(p: Tensor, grad: Tensor) -> tuple[Any, ...]:
    """Address and layout of a parameter and its gradient (``.data`` can be replaced under a tensor)."""
    return (
        p.data_ptr(),
        p.numel(),
        p.dtype,
        p.is_contiguous(),
        grad.layout,
        grad.dtype,
        grad.device,
        grad.layout is torch.strided and (grad.numel(), grad.is_contiguous()),
    )
