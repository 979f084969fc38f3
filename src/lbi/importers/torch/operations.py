"""Rules for the effect of torch operations on signals, by which the tracer follows arithmetic.

Every rule is a function of (shadow, operation, its output, arguments, keyword arguments). It returns the numbers of
the output (see ``shadow``), or None if it cannot follow the operation. Names are those of ATen, to which all torch
layers and functions are lowered. Operations that only rearrange elements are applied to the numbers themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, identity, kron
from torch import Tensor
from torch.utils._pytree import tree_leaves

from lbi.importers.signal import Signal
from lbi.importers.torch.shadow import Shadow, digest

PROBED = 512
"""Number of pixels that one call probes to determine the matrix of a pooling."""


class Tracked(NamedTuple):
    """Elements in C order, with their numbers and their values in this run."""

    numbers: NDArray[np.int64]
    values: NDArray[np.float64]


def tracked(shadow: Shadow, value: Any, shape: Any) -> Tracked:
    """A tensor or number, broadcast to a shape.

    Args:
        shadow: the numbers of all elements.
        value: a tensor, or a number, which is constant.
        shape: the shape, to which ``value`` broadcasts.

    Returns:
        Its numbers, 0 for constants, and its values in this run, (prod(shape),) each; both are copies.
    """
    if not isinstance(value, Tensor):
        return Tracked(np.zeros(prod(shape), dtype=np.int64), np.full(prod(shape), float(value)))
    numbers = shadow.of(value)
    found = np.zeros(prod(shape), dtype=np.int64)
    if numbers is not None:
        found = numbers.expand(shape).reshape(-1).numpy().copy()
    return Tracked(found, value.detach().expand(shape).reshape(-1).double().numpy().copy())


def is_tracked(shadow: Shadow, value: Any) -> bool:
    """True for a tensor with any element that is not constant; False for numbers."""
    return isinstance(value, Tensor) and shadow.of(value) is not None


# ---- element by element ------------------------------------------------------------------------------------------


def affine(shadow: Shadow, x: Tracked, factors: NDArray[Any], constants: NDArray[Any]) -> NDArray[np.int64]:
    """Numbers (n,) of ``x · factors + constants``, all of one size; 0 for constants of ``x``, and for all where factors are 0."""
    found = np.zeros_like(x.numbers)
    for at in _by_step(shadow.steps(x.numbers), (x.numbers != 0) & factors.any()):
        node = shadow.read(x.numbers[at], x.values[at])
        key = ("affine", id(node.signal), digest(factors[at], constants[at]))
        signal = shadow.keep(key, partial(_affine, node.signal, factors[at], constants[at]))
        found[at] = shadow.new(signal, node.step).numpy()
    shadow.note_made(found, x.numbers, factors, constants)
    return found


def added(shadow: Shadow, a: Tracked, b: Tracked, alpha: float) -> NDArray[np.int64]:
    """``a + alpha · b``, of one size."""
    found = np.zeros_like(a.numbers)
    steps = np.maximum(shadow.steps(a.numbers), shadow.steps(b.numbers))
    for at in _by_step(steps, (a.numbers != 0) | (b.numbers != 0)):
        step = int(steps[at[0]])
        one, two = (shadow.read(x.numbers[at], x.values[at]) for x in (a, b))
        key = ("added", id(one.signal), id(two.signal), one.late(step), two.late(step), alpha)
        signal = shadow.keep(key, partial(_sum, one.at(step), two.at(step), alpha))
        found[at] = shadow.new(signal, step).numpy()
    for x, constant, by, times in ((a, b, 1.0, alpha), (b, a, alpha, 1.0)):
        if not constant.numbers.any():
            shadow.note_made(found, x.numbers, np.full(found.size, by), times * constant.values)
    _note_multiple(shadow, found, a, b, alpha)
    return found


def _note_multiple(shadow: Shadow, found: NDArray[np.int64], a: Tracked, b: Tracked, alpha: float) -> None:
    """Note that a sum ``a + alpha · b`` of multiples of the same elements is one of them."""
    one, two = (shadow.whole(x.numbers) for x in (a, b))
    if one is None or two is None:
        return
    (root, factor, constant), (other, by, shift) = shadow.origin(one), shadow.origin(two)
    if root == other and np.all(factor + alpha * by):
        signal, first = shadow.node_at(root)
        numbers = np.arange(first, first + signal.n)
        shadow.note_made(found, numbers, factor + alpha * by, constant + alpha * shift)


def summed(shadow: Shadow, x: Tracked, rows: NDArray[np.int64], scale: float) -> NDArray[np.int64]:
    """Sums of elements: ``rows`` (n_out, n_terms) says which, all of them times ``scale``."""
    found = np.zeros(rows.shape[0], dtype=np.int64)
    steps = shadow.steps(x.numbers)[rows].max(axis=1)
    for at in _by_step(steps, (x.numbers[rows] != 0).any(axis=1)):
        chosen = rows[at].reshape(-1)
        node = shadow.read(x.numbers[chosen], x.values[chosen])
        key = ("summed", id(node.signal), rows.shape[1], scale)
        pattern = csr_matrix(kron(identity(at.size), np.full((1, rows.shape[1]), scale)))
        signal = shadow.keep(key, partial(node.signal.linear, pattern, pattern=pattern))
        found[at] = shadow.new(signal, node.step).numpy()
    return found


def _by_step(steps: NDArray[np.int64], wanted: NDArray[np.bool_]) -> list[NDArray[np.intp]]:
    """Positions of the given elements, grouped by step; equal steps are computed alike."""
    return [np.flatnonzero((steps == step) & wanted) for step in np.unique(steps[wanted])]


def _affine(signal: Signal, factors: NDArray[Any], constants: NDArray[Any]) -> Signal:
    if np.any(factors != 1):
        signal = signal.scaled(factors.reshape(signal.shape))
    return signal.plus(constants.reshape(signal.shape))


def _sum(a: Signal, b: Signal, alpha: float) -> Signal:
    return a + (b if alpha == 1 else b.scaled(alpha))


# ---- row by row ----------------------------------------------------------------------------------------------------


def by_rows(
    shadow: Shadow,
    x: Tracked,
    n_rows: int,
    n_out: int,
    key: tuple[Any, ...],
    make: Callable[[Signal], Signal],
) -> NDArray[np.int64]:
    """The same signal operation on every row of (n_rows, n): samples, or steps, that do not meet."""
    numbers, values = x.numbers.reshape(n_rows, -1), x.values.reshape(n_rows, -1)
    found = np.zeros((n_rows, n_out), dtype=np.int64)
    for row in range(n_rows):
        if numbers[row].any():
            node = shadow.read(numbers[row], values[row])
            signal = shadow.keep((*key, id(node.signal)), partial(make, node.signal))
            found[row] = shadow.new(signal, node.step).numpy()
    return found


def matmul(
    shadow: Shadow, x: Tracked, n_rows: int, weights: Tensor, bias: NDArray[Any] | None
) -> NDArray[np.int64]:
    """``x @ weights.T + bias`` for every row; weights: (n_out, n)."""
    key, matrix = shadow.matrix(weights)
    with_bias = ("linear", key, None if bias is None else digest(bias))
    return by_rows(shadow, x, n_rows, matrix.shape[0], with_bias, lambda signal: signal.linear(matrix, bias))


# ---- the rules -------------------------------------------------------------------------------------------------------

Rule = Callable[[Shadow, Any, Any, tuple[Any, ...], dict[str, Any]], Any]


def _numbers(found: NDArray[np.int64], shape: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(found)).reshape(shape)


def _moved(shadow: Shadow, func: Any, out: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Apply the operation to the numbers of its tensors; elements that it fills in are constant."""
    if any(is_tracked(shadow, v) and not v.is_floating_point() for v in tree_leaves((args, kwargs))):
        return None  # places that depend on spikes

    def swapped(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value)(swapped(entry) for entry in value)
        if isinstance(value, Tensor) and value.is_floating_point():
            numbers = shadow.of(value)
            numbers = torch.zeros(value.shape, dtype=torch.int64) if numbers is None else numbers
            return numbers.double()  # whole up to 2^53; some of torch's operations know floats only
        return value

    if kwargs.get("reduce") or (func._schema.name.startswith("aten::index_put") and args[3:4] == (True,)):
        return None  # what is written is added to what was there
    named = zip(func._schema.arguments, args, strict=False)
    args = tuple(
        0.0 if argument.name == "value" and not isinstance(value, Tensor) else value
        for argument, value in named
    )
    kwargs = {
        key: value for key, value in kwargs.items() if key not in ("dtype", "device", "layout", "pin_memory")
    }
    return func(*swapped(args), **kwargs).long()


def _add(shadow: Shadow, func: Any, out: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    a, b = (tracked(shadow, value, out.shape) for value in args[:2])
    alpha = float(kwargs.get("alpha", args[2] if len(args) > 2 else 1))
    name = func._schema.name.rstrip("_")
    if name == "aten::rsub":
        a, b = b, a
    if not (b.numbers.any() or b.values.any()):
        return _numbers(a.numbers, out.shape)
    if name == "aten::add" and alpha == 1 and not (a.numbers.any() or a.values.any()):
        return _numbers(b.numbers, out.shape)  # a state set by zero_() and add_() is the one added
    return _numbers(added(shadow, a, b, alpha if name == "aten::add" else -alpha), out.shape)


def _multiply(shadow: Shadow, func: Any, out: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    a, b = args[:2]
    name = func._schema.name.rstrip("_")
    if name == "aten::mul" and is_tracked(shadow, b):
        a, b = b, a
    if is_tracked(shadow, b) or kwargs.get("rounding_mode"):
        return None  # a product of two signals, or a quotient by one
    factors = tracked(shadow, b, out.shape).values
    factors = 1.0 / factors if name == "aten::div" else factors
    return _numbers(affine(shadow, tracked(shadow, a, out.shape), factors, np.zeros(out.numel())), out.shape)


def _negate(shadow: Shadow, _func: Any, out: Tensor, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
    x = tracked(shadow, args[0], out.shape)
    return _numbers(affine(shadow, x, np.full(out.numel(), -1.0), np.zeros(out.numel())), out.shape)


def _total(shadow: Shadow, func: Any, out: Tensor, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
    """Rule for sums and means over dimensions."""
    x = args[0]
    dims = args[1] if len(args) > 1 and args[1] not in (None, []) else list(range(x.dim()))
    dims = [dim % x.dim() for dim in ([dims] if isinstance(dims, int) else dims)]
    kept = [dim for dim in range(x.dim()) if dim not in dims]
    n_terms = prod(x.shape[dim] for dim in dims)
    rows = torch.arange(x.numel()).reshape(x.shape).permute(*kept, *dims).reshape(-1, n_terms).numpy()
    scale = 1.0 / n_terms if func._schema.name == "aten::mean" else 1.0
    return _numbers(summed(shadow, tracked(shadow, x, x.shape), rows, scale), out.shape)


def _mm(shadow: Shadow, _func: Any, out: Tensor, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
    return _product(shadow, args[0], args[1], None)


def _product(shadow: Shadow, a: Tensor, b: Tensor, bias: NDArray[Any] | None) -> Any:
    if is_tracked(shadow, a) and is_tracked(shadow, b):
        return None
    if is_tracked(shadow, a):
        return _numbers(
            matmul(shadow, tracked(shadow, a, a.shape), a.shape[0], b.t(), bias), (a.shape[0], -1)
        )
    if bias is not None:
        return None
    columns = b.t()
    found = matmul(shadow, _tracked_of(shadow, columns), columns.shape[0], a, None)
    return _numbers(found, (columns.shape[0], -1)).t()


def _tracked_of(shadow: Shadow, x: Tensor) -> Tracked:
    return tracked(shadow, x, x.shape)


def _addmm(shadow: Shadow, _func: Any, out: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    base, a, b = args[:3]
    beta = kwargs.get("beta", 1)
    if kwargs.get("alpha", 1) != 1 or beta not in (0, 1):
        return None
    if beta == 0:
        return _product(shadow, a, b, None)
    if not is_tracked(shadow, base) and base.dim() == 1 and is_tracked(shadow, a):
        return _product(shadow, a, b, base.detach().double().numpy())
    return _with_base(shadow, base, _product(shadow, a, b, None), a @ b, out)


def _with_base(shadow: Shadow, base: Tensor, numbers: Any, values: Tensor, out: Tensor) -> Any:
    if numbers is None:
        return None
    product = Tracked(numbers.reshape(-1).numpy(), values.reshape(-1).double().numpy())
    return _numbers(added(shadow, tracked(shadow, base, out.shape), product, 1.0), out.shape)


def _bmm(shadow: Shadow, _func: Any, out: Tensor, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
    found = [
        _product(shadow, a, b, None)
        if is_tracked(shadow, a) or is_tracked(shadow, b)
        else torch.zeros((a.shape[0], b.shape[1]), dtype=torch.int64)
        for a, b in zip(args[0], args[1], strict=True)
    ]
    return None if any(numbers is None for numbers in found) else torch.stack(found)


def _baddbmm(shadow: Shadow, func: Any, out: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if kwargs.get("alpha", 1) != 1 or kwargs.get("beta", 1) != 1:
        return None
    numbers = _bmm(shadow, func, out, args[1:3], {})
    return _with_base(shadow, args[0], numbers, torch.bmm(args[1], args[2]), out)


def _mv(shadow: Shadow, func: Any, out: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Matrix by vector, vector by vector, and with something added."""
    name = func._schema.name
    if name in ("aten::addmv", "aten::addmv_"):
        numbers = _mv(shadow, torch.ops.aten.mv.default, out, args[1:3], {})
        plain = kwargs.get("alpha", 1) == 1 and kwargs.get("beta", 1) == 1
        return _with_base(shadow, args[0], numbers, args[1] @ args[2], out) if plain else None
    matrix = args[0] if name == "aten::mv" else args[0][None]
    numbers = _product(shadow, matrix, args[1][:, None], None)
    return None if numbers is None else numbers.reshape(out.shape)


def _convolution(
    shadow: Shadow, _func: Any, out: Tensor, args: tuple[Any, ...], _kwargs: dict[str, Any]
) -> Any:
    x, weight, bias, stride, padding, dilation, transposed, _, groups = args
    if weight.dim() not in (3, 4) or is_tracked(shadow, weight) or is_tracked(shadow, bias):
        return None
    flat = weight.dim() == 3  # one dimension is two, of which the first has size 1
    kernel = (weight[:, :, None] if flat else weight).detach().double().numpy()
    one = [1] if flat else []
    options: dict[str, Any] = {
        "stride": [*one, *stride],
        "padding": [*([0] if flat else []), *padding],
        "dilation": [*one, *dilation],
        "groups": groups,
    }
    before, after = ((value.shape[1], *one, *value.shape[2:]) for value in (x, out))
    biases = None if bias is None else bias.detach().double().numpy()
    key: tuple[Any, ...] = ("convolution", transposed, before, after, kernel.shape, digest(kernel))
    key += (None if biases is None else digest(biases), str(options))

    def make(signal: Signal) -> Signal:
        signal = signal.reshaped(before)
        if transposed:
            return signal.conv2d_transposed(kernel, after, biases, **options)
        return signal.conv2d(kernel, biases, **options)

    n_out = out.numel() // x.shape[0]
    return _numbers(by_rows(shadow, tracked(shadow, x, x.shape), x.shape[0], n_out, key, make), out.shape)


def _batch_norm(shadow: Shadow, func: Any, out: Any, args: tuple[Any, ...], _kwargs: dict[str, Any]) -> Any:
    """``(x − mean) / √(var + eps) · weight + bias`` per channel, with the statistics of training."""
    x, weight, bias, mean, variance, *rest = args
    named = func._schema.name == "aten::_native_batch_norm_legit_no_training"
    if mean is None or (not named and rest[0]):
        return None
    factor = 1.0 / torch.sqrt(variance.double() + rest[-1])
    factor = factor if weight is None else factor * weight
    constant = -mean * factor if bias is None else bias - mean * factor
    channels = [-1] + [1] * (x.dim() - 2)
    factors, constants = (
        value.double().reshape(channels).expand(x.shape).reshape(-1).numpy().copy()
        for value in (factor, constant)
    )
    return _numbers(affine(shadow, tracked(shadow, x, x.shape), factors, constants), x.shape)


def _planar(shadow: Shadow, func: Any, out: Tensor, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """A linear operation on each channel's plane: its matrix is what it makes of single pixels."""
    x = args[0]
    n_planes, n_out = x[..., 0, 0].numel(), out.shape[-1] * out.shape[-2]
    n_rows = x.shape[0] if x.dim() == 4 else 1
    key, pattern = plane_matrix(shadow, func, args, kwargs)

    def make(signal: Signal) -> Signal:
        matrix = csr_matrix(kron(identity(n_planes // n_rows), pattern))
        return signal.linear(matrix, pattern=matrix)

    n = n_planes // n_rows * n_out
    return _numbers(by_rows(shadow, tracked(shadow, x, x.shape), n_rows, n, key, make), out.shape)


def plane_matrix(
    shadow: Shadow, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], csr_matrix]:
    """What an operation makes of each single pixel of a plane, with a key for it.

    Args:
        shadow: keeps the matrix.
        func: an operation on (…, height, width); of several results the first one counts.
        args: its arguments.
        kwargs: its keyword arguments.

    Returns:
        The key, and the matrix (n_out, height · width).
    """
    height, width = args[0].shape[-2:]
    n_pixels = height * width

    def matrix_of_plane() -> csr_matrix:
        parts = []
        for first in range(0, n_pixels, PROBED):
            n = min(PROBED, n_pixels - first)
            pixels = torch.zeros(n, n_pixels, dtype=torch.float64)
            pixels[torch.arange(n), first + torch.arange(n)] = 1.0
            seen = func(pixels.reshape(n, 1, height, width), *args[1:], **kwargs)
            seen = seen[0] if isinstance(seen, tuple) else seen
            parts.append(csr_matrix(seen.reshape(n, -1).numpy()))
        from scipy.sparse import vstack

        return csr_matrix(vstack(parts).T)

    key = ("planar", str(func), str(args[1:]), str(kwargs), height, width)
    return key, shadow.keep((*key, "matrix"), matrix_of_plane)


MOVES = [
    "clone",
    "cat",
    "stack",
    "index",
    "index_select",
    "gather",
    "constant_pad_nd",
    "flip",
    "roll",
    "repeat",
    "where",
    "take",
    "masked_fill",
    "reflection_pad1d",
    "reflection_pad2d",
    "replication_pad1d",
    "replication_pad2d",
    "pixel_shuffle",
    "pixel_unshuffle",
    "repeat_interleave",
    "slice_scatter",
    "select_scatter",
    "index_put",
    "scatter",
    "index_copy",
    "tril",
    "triu",
    "channel_shuffle",
    "upsample_nearest1d",
    "upsample_nearest2d",
    "im2col",
    "contiguous",
    "view_copy",
    "expand_copy",
    "permute_copy",
]
"""Operations that only rearrange elements."""

VALUE_FREE = [
    "zeros_like",
    "ones_like",
    "full_like",
    "empty_like",
    "rand_like",
    "randn_like",
    "new_zeros",
    "new_ones",
    "new_full",
    "new_empty",
    "new_empty_strided",
    "empty_strided",
    "is_same_size",
    "sym_size",
    "sym_numel",
    "size",
    "stride",
    "_assert_tensor_metadata",
]
"""Operations that depend only on a tensor's shape."""

RULES: dict[str, Rule] = {
    **{f"aten::{name}": _moved for name in MOVES},
    "aten::add": _add,
    "aten::sub": _add,
    "aten::rsub": _add,
    "aten::mul": _multiply,
    "aten::div": _multiply,
    "aten::neg": _negate,
    "aten::sum": _total,
    "aten::mean": _total,
    "aten::mm": _mm,
    "aten::addmm": _addmm,
    "aten::_sparse_addmm": _addmm,
    "aten::bmm": _bmm,
    "aten::baddbmm": _baddbmm,
    "aten::mv": _mv,
    "aten::dot": _mv,
    "aten::addmv": _mv,
    "aten::convolution": _convolution,
    "aten::native_batch_norm": _batch_norm,
    "aten::_native_batch_norm_legit": _batch_norm,
    "aten::_native_batch_norm_legit_no_training": _batch_norm,
    "aten::avg_pool2d": _planar,
    "aten::_adaptive_avg_pool2d": _planar,
    "aten::upsample_bilinear2d": _planar,
}
"""ATen's name (without the underscore of the in-place form) → rule."""

__all__ = ["RULES", "VALUE_FREE", "Tracked", "affine", "is_tracked", "plane_matrix", "tracked"]
