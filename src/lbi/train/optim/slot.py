"""One parameter of an optimizer step: its group, its state and the tensors that the step reads and writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

Group = dict[str, Any]
State = dict[str, Any]

# What a tensor's step has to do with the numbers that it moves.
PLAIN, DUAL, SHRINK = 0, 1, 2  # θ itself; the dual alone; the dual, then θ entry by entry


@dataclass(slots=True)
class Slot:
    """One parameter: its group, state and tensors: θ, its gradient, the method's own, what moves (v, or θ).

    keys: the state's name of each tensor from the third on; None where θ or the gradient stands in.
    form: what the plan relies on besides (see ``_form``); step: the state's count of steps, if it has one.
    """

    group: Group
    state: State
    tensors: list[Tensor]
    keys: tuple[str | None, ...]
    form: tuple[Any, ...]
    step: int | None

    def refresh(self) -> bool:
        """Take up the present gradient; False if anything else is not as it was planned."""
        p, grad = self.tensors[0], self.tensors[0].grad
        if grad is None or _form(p, grad) != self.form or self.state.get("step") != self.step:
            return False
        for i, key in enumerate(self.keys, 2):
            if key is not None and self.state.get(key) is not self.tensors[i]:
                return False
        self._put_for_gradient(grad)
        return True

    def advance(self) -> None:
        """Count a step that is about to be done."""
        if self.step is not None:
            self.step += 1
            self.state["step"] = self.step

    def release(self) -> None:
        """Let go of the gradient: between steps its memory is the user's to free."""
        self._put_for_gradient(self.tensors[0])

    def _put_for_gradient(self, tensor: Tensor) -> None:
        self.tensors[1] = tensor
        for i, key in enumerate(self.keys[:-1], 2):
            if key is None:
                self.tensors[i] = tensor


def slot(group: Group, state: State, p: Tensor, own: tuple[str, ...]) -> Slot:
    """The slot of a parameter with a gradient; ``own``: the method's tensors in the state."""
    assert p.grad is not None
    if group["reg"] is None or "delta" not in group:
        moved, moved_key = p, None
    else:
        moved, moved_key = state["dual"], "dual"
    keys = [key if key in state else None for key in own]
    tensors = [p, p.grad, *(p.grad if key is None else state[key] for key in keys), moved]
    return Slot(group, state, tensors, (*keys, moved_key), _form(p, p.grad), state.get("step"))


def _form(p: Tensor, grad: Tensor) -> tuple[Any, ...]:
    """Where a parameter is, and how it and its gradient are laid out (``.data`` may change under a tensor)."""
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
