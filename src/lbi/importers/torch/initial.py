"""State that a model keeps in its own attributes and buffers, restored before each run; the rules for states.

Models often keep the state of their neurons themselves (``self.mem1 = …`` in ``forward`` or ``reset``, in a list, in
a buffer). Every run of the import has to begin from the state in which the model was given.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

from torch import Tensor, nn, strided

from lbi.errors import Rule
from lbi.importers.torch.copying import tensors_in

OF_TORCH = {*vars(nn.Module()), "forward", "_compiled_call_impl"} - {"_buffers"}
"""Attributes of every module that hold no state of a model."""

STATE_CHANGED = Rule(
    "state-changed",
    "the state that its last call returned, or zeros",
    "pass the state on as it was returned",
)

CHANGED_IN_PLACE = Rule(
    "state-changed",
    "the state that its last call returned, or zeros",
    "assign what the call returned (self.NAME = …, or self.NAME.copy_(…)) without changing it, or keep the state in a local"
    " variable of forward",
)
OF_A_BATCH = Rule(
    "state-changed",
    "the state of as many samples as the input has, here 1",
    "build the model for one sample, or begin forward with zeros for each sample of the input",
)
LEFT_OVER = Rule(
    "state-changed",
    "the state at rest, as at the start of a sample",
    "reset the model before the import: set that attribute to zeros or None",
)
NOT_A_STATE = Rule(
    "state-changed",
    "the state at rest, as at the start of a sample",
    "reset the model before the import: set that attribute to zeros or None; if the next run of the model makes it so again,"
    " train it again",
)

FORGETS = Rule(
    "state-dropped",
    "the state that its last call returned, or None at the start of a sample",
    "pass it on: output, state = {name}(x, state)",
)


def not_finite(state: Tensor) -> str:
    """What is wrong with the values of a state that is left over.

    Args:
        state: the state.

    Returns:
        Such as "starts from a state that is NaN in 3 of 8 values"; empty for finite values.
    """
    counts = {"NaN": int(state.isnan().sum()), "infinite": int(state.isinf().sum())}
    kinds = [f"{kind} in {n} of {state.numel()} values" for kind, n in counts.items() if n]
    return f"starts from a state that is {' and '.join(kinds)}" if kinds else ""


class InitialState:
    """The plain attributes and buffers of a model's modules, without those of its neurons.

    Args:
        model: the copy that runs.
        neurons: the neuron modules, which their frameworks reset.
    """

    def __init__(self, model: nn.Module, neurons: Iterable[nn.Module]) -> None:
        inside = {id(part) for neuron in neurons for part in neuron.modules()}
        self._paths = {part: path for path, part in model.named_modules() if id(part) not in inside}
        self._same: dict[int, Any] = {id(part): part for part in model.modules()}
        self._same |= {id(value): value for value in model.parameters()}
        self._saved = copy.deepcopy([_own(part) for part in self._paths], dict(self._same))

    def restore(self) -> None:
        """Give every module the attributes that it had at first, and remove those that came later."""
        again = copy.deepcopy(self._saved, dict(self._same))
        for part, saved in zip(self._paths, again, strict=True):
            for name in _own(part).keys() - saved.keys():
                del vars(part)[name]
            vars(part).update(saved)

    def where(self, value: Tensor) -> str:
        """The attribute that holds a tensor, for errors.

        Args:
            value: the tensor.

        Returns:
            Such as "attribute 'mem1' of module 'Net'"; empty if no attribute holds it.
        """
        for part, path in self._paths.items():
            held = {**_own(part), **part._buffers}
            held.pop("_buffers", None)
            for name, content in held.items():
                if any(found is value for found in tensors_in(content)):
                    return f"attribute {name!r} of module {path or type(part).__name__!r}"
        return ""


class Writes:
    """The last operation that changed each tensor in place, with its place in the model's code."""

    def __init__(self) -> None:
        self._last: dict[int, tuple[Any, str]] = {}

    def note(self, target: Tensor, operation: str, source: str) -> None:
        """Note an operation.

        Args:
            target: the tensor that it changes.
            operation: its name in torch.
            source: file:line, or an empty string.
        """
        if target.layout is strided:
            storage = target.untyped_storage()  # kept, so that its address is not reused
            self._last[int(storage._cdata)] = storage, f"{operation}{f' at {source}' if source else ''}"

    def to(self, value: Tensor) -> str:
        """The last operation that changed a tensor in place.

        Args:
            value: the tensor, or a view of it.

        Returns:
            Such as "mul_ at net.py:12"; empty if none was noted, or if the tensor is sparse.
        """
        place = int(value.untyped_storage()._cdata) if value.layout is strided else 0
        return self._last.get(place, (None, ""))[1]


def _own(part: nn.Module) -> dict[str, Any]:
    return {name: value for name, value in vars(part).items() if name not in OF_TORCH}
