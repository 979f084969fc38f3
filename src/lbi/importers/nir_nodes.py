"""The effect of each kind of NIR node in one step: parameters of neurons, and linear maps of signals."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import identity

from lbi.errors import InputError, Rule
from lbi.importers.nir_time import Writer
from lbi.importers.signal import Signal

DELAY = Rule("delay-value", "whole steps", "round the delays, or choose another dt")
KERNEL = Rule(
    "shape-mismatch",
    "(n_out, n_in, size) for (n_in, size), or the same with two sizes",
    "flatten or reshape before writing the file so that the convolution gets its channels",
)
WHOLE = Rule("nir-parameter", "{most}", "write the graph again with whole numbers")
PADDING = Rule("padding", "numbers", "write the padding as numbers")

Parameters = tuple[Any, Any, Any, Any]
"""current decay, voltage decay, gain from input to voltage, constant drive of the voltage; all per step"""


def _share(dt: float, tau: NDArray[np.float64], writer: Writer) -> Any:
    """The fraction of its input that a leaky state receives."""
    return 1.0 if writer.full_voltage else (writer.share or writer.decay)(dt, tau)


def _cuba_lif(node: Any, dt: float, writer: Writer) -> Parameters:
    alpha, beta = writer.decay(dt, floats(node.tau_syn)), writer.decay(dt, floats(node.tau_mem))
    into_current = (1.0 if writer.full_current else alpha) * node.w_in
    return alpha, beta, into_current * _share(dt, floats(node.tau_mem), writer) * node.r, beta * node.v_leak


def _lif(node: Any, dt: float, writer: Writer) -> Parameters:
    tau = floats(node.tau)
    beta = writer.decay(dt, tau)
    return 1.0, beta, _share(dt, tau, writer) * node.r, beta * node.v_leak


def _if(node: Any, dt: float, writer: Writer) -> Parameters:
    return 1.0, 0.0, (1.0 if writer.full_current else dt) * floats(node.r), 0.0


NEURONS: dict[str, Callable[[Any, float, Writer], Parameters]] = {
    "CubaLIF": _cuba_lif,
    "LIF": _lif,
    "IF": _if,
    "CubaLI": _cuba_lif,
    "LI": _lif,
    "I": _if,
}


def _delay(node: Any, signal: Signal, dt: float) -> Signal:
    steps = floats(node.delay) / dt
    whole = np.rint(steps)
    if np.any(np.abs(steps - whole) > 1e-3) or np.any(whole < 0):
        found = f"{steps.min():g} to {steps.max():g} steps of {dt:g} s"
        raise InputError(DELAY.broken("delay", found))
    return signal.delayed(whole.astype(np.int64))


def _conv(node: Any, signal: Signal, _dt: float) -> Signal:
    kernel = floats(node.weight)
    flat = kernel.ndim == 3  # one-dimensional: an image with one row
    shape = signal.shape
    if kernel.ndim not in (3, 4) or len(shape) != kernel.ndim - 1:
        raise InputError(KERNEL.broken("a convolution", f"a kernel {kernel.shape} for {shape}"))
    if flat:
        kernel, signal = kernel[:, :, None, :], signal.reshaped((*shape[:-1], 1, shape[-1]))
    stride, dilation = _pair(node.stride, flat, 1), _pair(node.dilation, flat, 1)
    padding = text(node.padding) or node.padding
    if isinstance(padding, str):
        if padding == "same" and any(stride[k] != 1 or kernel.shape[2 + k] % 2 == 0 for k in range(2)):
            raise InputError(PADDING.broken("convolution", "'same' with a stride or an even kernel"))
        padding = (
            tuple(d * (kernel.shape[2 + k] - 1) // 2 for k, d in enumerate(dilation))
            if padding == "same"
            else 0
        )
        flat_padding = padding
    else:
        flat_padding = _pair(padding, flat, 0)
    (groups,) = _whole(node.groups, "groups of a convolution")
    out = signal.conv2d(
        kernel, node.bias, stride=stride, padding=flat_padding, dilation=dilation, groups=groups
    )
    return out.reshaped((out.shape[0], out.shape[2])) if flat else out


def _pair(value: Any, flat: bool = False, other: int = 0) -> tuple[int, int]:
    values = _whole(value, "sizes of a convolution or window", 2)
    return (other, values[0]) if flat else (values[0], values[-1])


def _whole(value: Any, what: str, most: int = 1) -> list[int]:
    """One whole number, or up to ``most``, as the files of any writer hold them."""
    values = np.asarray(value).reshape(-1)
    numbers = 1 <= values.size <= most and values.dtype.kind in "iuf"
    if not numbers or np.any(np.abs(values.astype(np.float64)) > 2**31) or np.any(values != np.rint(values)):
        allowed = "one whole number" if most == 1 else f"one to {most} whole numbers"
        raise InputError(WHOLE.broken(what, f"{values.dtype} {values[:4].tolist()}", most=allowed))
    return [int(number) for number in values]


def _pool(node: Any, signal: Signal, mean: bool) -> Signal:
    return signal.pool2d(_pair(node.kernel_size), _pair(node.stride), _pair(node.padding), mean=mean)


def _flatten(node: Any, signal: Signal, _dt: float) -> Signal:
    first, last = (_whole(dim, "a dimension to flatten")[0] for dim in (node.start_dim, node.end_dim))
    return signal.flattened(first, last)


def _matrix(node: Any, signal: Signal, _dt: float) -> Signal:
    """A ``Linear`` or ``Affine``. A full diagonal is what it was before it was written: one synapse per neuron."""
    weights, bias = floats(node.weight), getattr(node, "bias", None)
    diagonal = np.diagonal(weights) if weights.ndim == 2 and weights.shape[0] == weights.shape[1] else None
    if diagonal is None or not np.all(diagonal) or np.count_nonzero(weights) != diagonal.size:
        return signal.linear(weights, bias)
    return signal.linear(weights, bias, pattern=identity(diagonal.size, format="csr"))


LINEAR: dict[str, Callable[[Any, Signal, float], Signal]] = {
    "Linear": _matrix,
    "Affine": _matrix,
    "Scale": lambda node, signal, _dt: signal.scaled(node.scale),
    "Conv1d": _conv,
    "Conv2d": _conv,
    "SumPool2d": lambda node, signal, _dt: _pool(node, signal, False),
    "AvgPool2d": lambda node, signal, _dt: _pool(node, signal, True),
    "Flatten": _flatten,
    "Delay": _delay,
}
"""Node type → function of (node, input signal, dt)."""


def text(value: Any) -> str:
    """A text that h5py returns as bytes or str; empty for anything else.

    Args:
        value: what h5py returned.

    Returns:
        The text.
    """
    return (
        value.decode("utf-8", "replace")
        if isinstance(value, bytes)
        else value
        if isinstance(value, str)
        else ""
    )


def floats(values: ArrayLike) -> NDArray[np.float64]:
    """Values as an array of doubles.

    Args:
        values: a number or an array.

    Returns:
        The array.
    """
    return np.asarray(values, dtype=np.float64)
