"""What to do about operations that cannot be followed."""

from __future__ import annotations

from lbi.errors import Rule
from lbi.importers.torch import registry

LOOSE = Rule(
    "loose-module",
    "neurons that belong to the model",
    "assign it to an attribute in __init__, several of them as torch.nn.ModuleList: a list or a global variable does not"
    " register them",
)

COUNT_OUTSIDE = (
    "take numbers and decisions of Python (.item(), float(), if) out of forward: count what it returns"
)

INDEX_FIX = "give a Linear one-hot spikes in place of indices into an Embedding"

REMEDIES = {
    "embedding": INDEX_FIX,
    "max_pool3d": "pool with MaxPool1d or MaxPool2d",
    "max_pool": (
        "pool spikes of 0 and 1, directly behind the neurons and before anything is added to them or multiplied by them; or"
        " pool with an average (torch.nn.AvgPool2d, torch.nn.functional.avg_pool2d), and train again"
    ),
    "convolution": "use Conv1d or Conv2d, or their transposed forms",
    "item": COUNT_OUTSIDE,
    "numpy": COUNT_OUTSIDE,
    "tolist": COUNT_OUTSIDE,
    "array": COUNT_OUTSIDE,
    "nonzero": COUNT_OUTSIDE,
    "relu": "take the activation out: the neurons behind it have their own threshold",
    "batch_norm": "train with track_running_stats=True",
    "_to_copy": "keep spikes as floats; in place of indices into an Embedding, give a Linear their one-hot spikes",
    "norm": "train with BatchNorm, which is folded into the weights",
}
"""Part of an operation's name → the fix."""

NEURON_FIX = (
    "use a neuron that is known ({allowed}); or write one that compares one voltage of each neuron with one constant threshold, in"
    " one of the forms of docs/importers.md"
)
MAXIMUM_FIX = (
    "take a maximum over the steps of voltages alone, those of a neuron that never spikes or v = beta * v + fc(spikes); of the sums"
    " of a Linear take the sum or the mean over the steps; within a step, pool with an average"
)
CLASS_FIX = "return what it is taken of: the readout gives the class"
ENCODER_FIX = "encode outside of the model, and give it the spikes"
RANDOM_FIX = (
    "leave random numbers out of the forward pass of evaluation: functional.dropout needs training=self.training, and an"
    " encoding of the input goes out of the model"
)
OTHER_FIX = "do it before the first layer, behind the last one, or leave it out"


def remedy(operation: str) -> str:
    """The fix for an operation by its name.

    Args:
        operation: name of an ATen operation, without ``aten::``, or of a method that takes a tensor's numbers.

    Returns:
        The first entry of ``REMEDIES`` whose key is part of the name; empty if there is none.
    """
    return next((fix for part, fix in REMEDIES.items() if part in operation), "")


def elsewhere(operation: str, *, of_input: bool = False) -> str:
    """The fix for any other operation outside of layers: where its result could come from instead.

    Args:
        operation: name of an ATen operation, without ``aten::``.
        of_input: whether it takes the input itself, as encodings do.

    Returns:
        The fix, never empty.
    """
    compares = operation in ("gt", "ge", "lt", "le", "heaviside", "sign", "where")
    if of_input:
        neuron = NEURON_FIX.format(allowed=registry.known())
        return f"{ENCODER_FIX}; or {neuron}" if compares else ENCODER_FIX
    if compares:
        return NEURON_FIX.format(allowed=registry.known())
    if operation == "argmax" or operation.endswith("softmax"):
        return CLASS_FIX
    return MAXIMUM_FIX if operation in ("max", "amax") else OTHER_FIX
