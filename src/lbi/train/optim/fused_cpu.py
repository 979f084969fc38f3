"""Fused optimizer steps for CPUs (numba): one pass over the memory of all tensors of all groups.

The kernels work on the tensors' memory in chunks, of which each thread takes the same ones in every step. They do
the operations of ``steps`` with one IEEE rounding each (no fast-math, no contraction), so the result depends neither on the path nor
on the number of threads. AdaBreg reads g, m, s, v and writes m, s, v, θ: 36 bytes per float32 weight, since a
cache line of θ is fetched before it is written; fused Adam moves 28. When the tensors exceed the caches, θ is
written with non-temporal stores: 32 bytes, and it displaces nothing from the caches.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

from lbi.system.choice import written
from lbi.system.claims import claim_near, turns_of_shares
from lbi.system.numba_cache import compiled
from lbi.system.threads import number, share
from lbi.train.layers.numba_bridge import n_threads
from lbi.train.optim.slot import DUAL, SHRINK

_SHARE = 1 << 17  # elements below which another thread costs more than it gains
_CHUNK = 1 << 14  # elements: few enough to balance, many enough to hide a chunk's overhead
_LINE = 64  # bytes of a cache line
_CACHED = 1 << 25  # bytes of tensors that caches may keep between steps
_STREAM = 3  # kernel mode: SHRINK, with θ written by non-temporal stores
HOLDS = True  # ``run`` takes where parameters are held to
_TYPES = {torch.float32: np.float32, torch.float64: np.float64}


@intrinsic
def _pointer(typing_context, address, like):  # type: ignore[no-untyped-def] # numba passes its own types
    """The int64 ``address`` as a pointer to numbers of the type of ``like``."""
    signature = types.CPointer(like)(address, like)

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        return builder.inttoptr(args[0], context.get_value_type(sig.return_type))

    return signature, generate


@intrinsic
def _stream_line(typing_context, at, offset, numbers):  # type: ignore[no-untyped-def]
    """AdaBreg's step without decay on one cache line: ``_adam``'s loop in vector code with non-temporal stores of θ.

    Args:
        typing_context: numba's.
        at: addresses of θ (a multiple of the line), g, m, s, v.
        offset: bytes from there.
        numbers: δ, low, high, scale, β₁, 1−β₁, β₂, 1−β₂, ε, alpha, correction.
    """
    signature = types.void(at, offset, numbers)

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        number = context.get_value_type(numbers.dtype)
        lanes = _LINE * 8 // numbers.dtype.bitwidth
        line, i32 = ir.VectorType(number, lanes), ir.IntType(32)
        zeros, nothing = ir.Constant(ir.VectorType(i32, lanes), None), ir.Constant(line, ir.Undefined)

        def wide(x):  # type: ignore[no-untyped-def]
            return builder.shuffle_vector(builder.insert_element(nothing, x, i32(0)), nothing, zeros)

        theta_at, g_at, m_at, s_at, v_at = (
            builder.inttoptr(builder.add(address, args[1]), line.as_pointer())
            for address in cgutils.unpack_tuple(builder, args[0])
        )
        delta, low, high, scale, b1, c1, b2, c2, eps, alpha, correction = map(
            wide, cgutils.unpack_tuple(builder, args[2])
        )
        g, m, s, v = (builder.load(x, align=numbers.dtype.bitwidth // 8) for x in (g_at, m_at, s_at, v_at))
        m = builder.fadd(builder.fmul(m, b1), builder.fmul(g, c1))
        s = builder.fadd(builder.fmul(s, b2), builder.fmul(builder.fmul(g, g), c2))
        sqrt = cgutils.get_or_insert_function(
            builder.module, ir.FunctionType(line, [line]), f"llvm.sqrt.v{lanes}f{numbers.dtype.bitwidth}"
        )
        root = builder.fadd(builder.fmul(builder.call(sqrt, [s]), correction), eps)
        v = builder.fsub(v, builder.fmul(builder.fdiv(m, root), alpha))
        x = builder.fmul(v, delta)
        above = builder.select(builder.fcmp_ordered(">", x, high), high, x)
        clamped = builder.select(builder.fcmp_ordered("<", x, low), low, above)
        for value, place in ((m, m_at), (s, s_at), (v, v_at)):
            builder.store(value, place, align=numbers.dtype.bitwidth // 8)
        stored = builder.store(builder.fmul(builder.fsub(x, clamped), scale), theta_at, align=_LINE)
        stored.set_metadata("nontemporal", builder.module.add_metadata([i32(1)]))

    return signature, generate


@intrinsic
def _fence(typing_context):  # type: ignore[no-untyped-def]
    """Memory fence: non-temporal stores before it are visible to everything after it."""

    def generate(context, builder, sig, args):  # type: ignore[no-untyped-def]
        builder.fence("seq_cst")

    return types.void(), generate


@njit(inline="always")
def _shrink(x, low, high, scale):  # type: ignore[no-untyped-def]
    """(x − x clamped to [low, high])·scale; a NaN stays one."""
    return (x - (low if x < low else (high if x > high else x))) * scale


@njit(error_model="numpy")
def _adam_numbers(theta, g, m, s, v, mode, scalars):  # type: ignore[no-untyped-def]
    """AdaBreg's or Adam's step on contiguous numbers (n,); v is not used in mode PLAIN."""
    delta, low, high, scale, decay, b1, c1, b2, c2, eps, alpha, correction = scalars
    n = theta.size
    if mode >= SHRINK:
        for i in range(n):
            m[i] = m[i] * b1 + g[i] * c1
            s[i] = s[i] * b2 + g[i] * g[i] * c2
            direction = m[i] / (np.sqrt(s[i]) * correction + eps) * alpha
            v[i] = (v[i] - theta[i] * decay) - direction
            theta[i] = _shrink(v[i] * delta, low, high, scale)
    elif mode == DUAL:
        for i in range(n):
            m[i] = m[i] * b1 + g[i] * c1
            s[i] = s[i] * b2 + g[i] * g[i] * c2
            direction = m[i] / (np.sqrt(s[i]) * correction + eps) * alpha
            v[i] = (v[i] - theta[i] * decay) - direction
    else:  # v is θ: one name only, otherwise the compiler must assume overlap
        for i in range(n):
            m[i] = m[i] * b1 + g[i] * c1
            s[i] = s[i] * b2 + g[i] * g[i] * c2
            direction = m[i] / (np.sqrt(s[i]) * correction + eps) * alpha
            theta[i] = (theta[i] - theta[i] * decay) - direction


@njit(error_model="numpy")
def _adam_held(theta, g, m, s, v, support, mode, scalars):  # type: ignore[no-untyped-def]
    """``_adam_numbers`` where ``support`` holds; all other numbers stay as they are. Mode DUAL or SHRINK."""
    delta, low, high, scale, decay, b1, c1, b2, c2, eps, alpha, correction = scalars
    n, shrinks = theta.size, np.uint8(mode == SHRINK)
    for i in range(n):
        average = m[i] * b1 + g[i] * c1
        square = s[i] * b2 + g[i] * g[i] * c2
        direction = average / (np.sqrt(square) * correction + eps) * alpha
        dual = (v[i] - theta[i] * decay) - direction
        m[i] = written(support[i], average, m[i])
        s[i] = written(support[i], square, s[i])
        v[i] = written(support[i], dual, v[i])
        theta[i] = written(support[i] & shrinks, _shrink(dual * delta, low, high, scale), theta[i])


@compiled(nogil=True, error_model="numpy")
def _adam(chunks, starts, sizes, addresses, supports, modes, scalars, turns, own):  # type: ignore[no-untyped-def]
    """AdaBreg on the dual v, or Adam on θ itself, for every chunk.

    Args:
        chunks: tensor of each chunk.
        starts: first element of each chunk.
        sizes: (n,) elements of each tensor.
        modes: (n,) PLAIN, DUAL, SHRINK or _STREAM.
        addresses: (n, 5) of θ, g, m, s, v.
        supports: (n,) addresses of bytes, 0 where a number stays as it is; an address of 0 for all numbers. Not with PLAIN.
        scalars: (n, 12): δ, low, high, scale, lr·decay, β₁, 1−β₁, β₂, 1−β₂, ε, alpha, correction. _STREAM
            requires lr·decay = 0, no support, and θ and its chunks to start at a cache line.
        turns: counters of ``claim_near``.
        own: number of the thread.
    """
    chunk = claim_near(turns, len(chunks), own)
    while chunk >= 0:
        k = chunks[chunk]
        start, n = starts[chunk], min(_CHUNK, sizes[k] - starts[chunk])
        delta, low, high, scale, _, b1, c1, b2, c2, eps, alpha, correction = scalars[k]
        at = addresses[k] + start * scalars.itemsize
        if modes[k] == _STREAM:
            whole = n * scalars.itemsize // _LINE * _LINE
            lines = (at[0], at[1], at[2], at[3], at[4])
            numbers = (delta, low, high, scale, b1, c1, b2, c2, eps, alpha, correction)
            for offset in range(0, whole, _LINE):
                _stream_line(lines, offset, numbers)
            _fence()
            at += whole
            n -= whole // scalars.itemsize
        theta, g = carray(_pointer(at[0], b1), n), carray(_pointer(at[1], b1), n)
        m, s, v = (
            carray(_pointer(at[2], b1), n),
            carray(_pointer(at[3], b1), n),
            carray(_pointer(at[4], b1), n),
        )
        if supports[k]:
            support = carray(_pointer(supports[k] + start, np.uint8(0)), n)
            _adam_held(theta, g, m, s, v, support, modes[k], scalars[k])
        else:
            _adam_numbers(theta, g, m, s, v, modes[k], scalars[k])
        chunk = claim_near(turns, len(chunks), own)


@njit(error_model="numpy")
def _sgd_numbers(theta, g, b, v, with_momentum, mode, scalars):  # type: ignore[no-untyped-def]
    """LinBreg's or SGD's step on contiguous numbers (n,); v is not used in mode PLAIN."""
    delta, low, high, scale, decay, lr, momentum = scalars
    n = theta.size
    if with_momentum:
        for i in range(n):
            b[i] = b[i] * momentum + g[i]
    if mode == SHRINK:
        for i in range(n):
            v[i] = (v[i] - theta[i] * decay) - b[i] * lr
            theta[i] = _shrink(v[i] * delta, low, high, scale)
    elif mode == DUAL:
        for i in range(n):
            v[i] = (v[i] - theta[i] * decay) - b[i] * lr
    else:
        for i in range(n):
            theta[i] = (theta[i] - theta[i] * decay) - b[i] * lr


@njit(error_model="numpy")
def _sgd_held(theta, g, b, v, with_momentum, support, mode, scalars):  # type: ignore[no-untyped-def]
    """``_sgd_numbers`` where ``support`` holds; all other numbers stay as they are. Mode DUAL or SHRINK."""
    delta, low, high, scale, decay, lr, momentum = scalars
    n, shrinks = theta.size, np.uint8(mode == SHRINK)
    if with_momentum:
        for i in range(n):
            b[i] = written(support[i], b[i] * momentum + g[i], b[i])
    for i in range(n):
        dual = (v[i] - theta[i] * decay) - b[i] * lr
        v[i] = written(support[i], dual, v[i])
        theta[i] = written(support[i] & shrinks, _shrink(dual * delta, low, high, scale), theta[i])


@compiled(nogil=True, error_model="numpy")
def _sgd(chunks, starts, sizes, addresses, supports, modes, scalars, turns, own):  # type: ignore[no-untyped-def]
    """LinBreg on the dual v, or SGD on θ itself, for every chunk.

    As ``_adam``, with addresses (n, 4) of θ, g, the momentum's buffer b, v, and scalars (n, 7): δ, low,
    high, scale, lr·decay, lr, momentum. Where b is g, there is no momentum.
    """
    chunk = claim_near(turns, len(chunks), own)
    while chunk >= 0:
        k = chunks[chunk]
        start, n = starts[chunk], min(_CHUNK, sizes[k] - starts[chunk])
        lr = scalars[k, 5]
        at = addresses[k] + start * scalars.itemsize
        theta, g = carray(_pointer(at[0], lr), n), carray(_pointer(at[1], lr), n)
        b, v = carray(_pointer(at[2], lr), n), carray(_pointer(at[3], lr), n)
        if supports[k]:
            support = carray(_pointer(supports[k] + start, np.uint8(0)), n)
            _sgd_held(theta, g, b, v, at[2] != at[1], support, modes[k], scalars[k])
        else:
            _sgd_numbers(theta, g, b, v, at[2] != at[1], modes[k], scalars[k])
        chunk = claim_near(turns, len(chunks), own)


_KERNELS = {"adabreg": _adam, "linbreg": _sgd}


def fusable(tensors: Sequence[Tensor]) -> bool:
    """Test for tensors that the kernels can process.

    Args:
        tensors: those of one parameter's step, at least one.

    Returns:
        True if they are contiguous, on the CPU, of one float type and size, and have their numbers in memory of their own:
        a subclass that dispatches operations, such as DTensor, may not.
    """
    dtype, n = tensors[0].dtype, tensors[0].numel()
    own = all(type(t).__torch_dispatch__ is Tensor.__torch_dispatch__ for t in tensors)
    return (
        own
        and dtype in _TYPES
        and all(t.dtype is dtype and t.is_cpu and t.is_contiguous() and t.numel() == n for t in tensors)
    )


Geometry = tuple[np.ndarray, np.ndarray, np.ndarray, int]


def geometry(params: Sequence[Tensor]) -> Geometry:
    """The division of parameters into chunks: everything except the addresses.

    Args:
        params: the parameters.

    Returns:
        The parameter of each chunk (n_chunks,), its first element (n_chunks,), the sizes of the parameters
        (n_params,), and the number of threads that they keep busy.
    """
    sizes = np.array([p.numel() for p in params], np.int64)
    counts = -(-sizes // _CHUNK)
    chunks = np.repeat(np.arange(len(sizes)), counts)
    starts = (np.arange(len(chunks)) - np.repeat(np.cumsum(counts) - counts, counts)) * _CHUNK
    return chunks, starts, sizes, int(sizes.sum()) // _SHARE


def run(
    kind: str,
    addresses: np.ndarray,
    like: Tensor,
    place: Geometry,
    modes: np.ndarray,
    scalars: np.ndarray,
    which: np.ndarray,
    held: Sequence[Tensor | None],
) -> None:
    """One step on parameters of one type.

    Args:
        kind: "adabreg" or "linbreg".
        addresses: (n_parameters, ·) of the tensors of each.
        like: a tensor of their type.
        place: their ``geometry``.
        modes: (k,) mode of each recipe.
        scalars: (k, ·) scalars of each recipe.
        which: (n_parameters,) recipe of each parameter.
        held: where each parameter is stepped, contiguous bool; None for everywhere.
    """
    chunks, starts, sizes, n_useful = place
    numbers = scalars.astype(_TYPES[like.dtype])[which]
    modes, n = modes[which], n_threads(n_useful)
    supports = np.array([0 if support is None else support.data_ptr() for support in held], np.int64)
    if kind == "adabreg" and int(sizes.sum()) * addresses.shape[1] * numbers.itemsize > _CACHED:
        streamed = (modes == SHRINK) & (numbers[:, 4] == 0) & (addresses[:, 0] % _LINE == 0)
        modes[streamed & (supports == 0)] = _STREAM
    kernel = _KERNELS[kind]
    parts = (chunks, starts, sizes, addresses, supports, modes, numbers, turns_of_shares(n))
    share(lambda: kernel(*parts, number()), n)
