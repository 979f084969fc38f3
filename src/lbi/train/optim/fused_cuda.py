"""Fused optimizer steps for CUDA (Triton): all tensors of all groups in one launch.

Operations and their order are those of ``steps`` and ``fused_cpu``: multiplications and additions are
not contracted (``enable_fp_fusion=False``), divisions and roots are correctly rounded. float32 only.

A launch reads a table of int64: per chunk the number of its tensor's row; then the rows: mode, size,
first chunk, and the addresses of the tensors.

On an H200 its weights after 50 steps equal those of a CPU, as those of the foreach path do, and after five steps those of the foreach path
on that GPU (``lbi.train.session.gpu_check``). ``fused=None`` takes it once that check has passed on the machine at hand.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

HOLDS = False  # ``run`` steps parameters everywhere
_CHUNK = 1024  # elements per program


@triton.jit
def _shrink(x, low, high, scale):  # type: ignore[no-untyped-def]
    """(x − x clamped to [low, high])·scale; a NaN stays one."""
    return (x - tl.where(x < low, low, tl.where(x > high, high, x))) * scale


@triton.jit
def _tensor(row, role):  # type: ignore[no-untyped-def]
    """The tensor of a role (0: θ) of a row, as a pointer to float32."""
    return tl.load(row + 3 + role).to(tl.pointer_type(tl.float32))


@triton.jit
def _place(table, width: tl.constexpr, chunk_size: tl.constexpr):  # type: ignore[no-untyped-def]
    """The row of this program, the row's number, its elements, and a mask of those that exist."""
    chunk = tl.program_id(0)
    k = tl.load(table + chunk)
    row = table + tl.num_programs(0) + width * k
    i = (chunk - tl.load(row + 2)) * chunk_size + tl.arange(0, chunk_size)
    return row, k, i, i < tl.load(row + 1)


@triton.jit
def _read_off(theta_at, v, inside, s):  # type: ignore[no-untyped-def]
    """θ ← shrink(δ·v), with δ, low, high, scale at s."""
    shrunk = _shrink(v * tl.load(s), tl.load(s + 1), tl.load(s + 2), tl.load(s + 3))
    tl.store(theta_at, shrunk, inside)


@triton.jit
def _adam(table, scalars, chunk_size: tl.constexpr):  # type: ignore[no-untyped-def]
    """AdaBreg on the dual v, or Adam on θ itself; tensors θ, g, m, s, v; scalars as in ``fused_cpu``."""
    row, k, i, inside = _place(table, 8, chunk_size)
    s = scalars + 12 * k
    theta_at, v_at = _tensor(row, 0) + i, _tensor(row, 4) + i
    m_at, s_at = _tensor(row, 2) + i, _tensor(row, 3) + i
    theta, g = tl.load(theta_at, inside), tl.load(_tensor(row, 1) + i, inside)
    average = tl.load(m_at, inside) * tl.load(s + 5) + g * tl.load(s + 6)
    square = tl.load(s_at, inside) * tl.load(s + 7) + g * g * tl.load(s + 8)
    tl.store(m_at, average, inside)
    tl.store(s_at, square, inside)
    root = tl.sqrt_rn(square) * tl.load(s + 11) + tl.load(s + 9)
    v = (tl.load(v_at, inside) - theta * tl.load(s + 4)) - tl.div_rn(average, root) * tl.load(s + 10)
    tl.store(v_at, v, inside)
    if tl.load(row) == 2:
        _read_off(theta_at, v, inside, s)


@triton.jit
def _sgd(table, scalars, chunk_size: tl.constexpr):  # type: ignore[no-untyped-def]
    """LinBreg on the dual v, or SGD on θ itself; tensors θ, g, b (g itself without momentum), v."""
    row, k, i, inside = _place(table, 7, chunk_size)
    s = scalars + 7 * k
    theta_at, b_at, v_at = _tensor(row, 0) + i, _tensor(row, 2) + i, _tensor(row, 3) + i
    b = tl.load(b_at, inside)
    if tl.load(row + 4) != tl.load(row + 5):
        b = b * tl.load(s + 6) + tl.load(_tensor(row, 1) + i, inside)
        tl.store(b_at, b, inside)
    v = (tl.load(v_at, inside) - tl.load(theta_at, inside) * tl.load(s + 4)) - b * tl.load(s + 5)
    tl.store(v_at, v, inside)
    if tl.load(row) == 2:
        _read_off(theta_at, v, inside, s)


_KERNELS = {"adabreg": _adam, "linbreg": _sgd}


def fusable(tensors: Sequence[Tensor]) -> bool:
    """Test for tensors that the kernels can process.

    Args:
        tensors: a parameter and the tensors of its step.

    Returns:
        True if they are contiguous float32 of one size on one GPU.
    """
    device, n = tensors[0].device, tensors[0].numel()
    return all(
        t.dtype is torch.float32 and t.device == device and t.is_contiguous() and t.numel() == n
        for t in tensors
    )


Geometry = tuple[np.ndarray, np.ndarray]


def geometry(params: Sequence[Tensor]) -> Geometry:
    """The tensor of each chunk, and the size and first chunk of each tensor: everything except the addresses.

    Args:
        params: the parameters.

    Returns:
        (n_chunks,) and (n_tensors, 2).
    """
    sizes = np.array([p.numel() for p in params], np.int64)
    counts = -(-sizes // _CHUNK)
    return np.repeat(np.arange(len(sizes)), counts), np.stack([sizes, np.cumsum(counts) - counts], 1)


def run(
    kind: str,
    addresses: np.ndarray,
    like: Tensor,
    place: Geometry,
    modes: np.ndarray,
    scalars: np.ndarray,
    which: np.ndarray,
) -> None:
    """The step ``kind`` ("adabreg", "linbreg") on parameters of one device; as ``fused_cpu.run``.

    Args:
        kind: "adabreg" or "linbreg".
        addresses: (n_parameters, ·) of the tensors of each.
        like: a tensor on their device.
        place: their ``geometry``.
        modes: (k,) mode of each recipe.
        scalars: (k, ·) scalars of each recipe.
        which: (n_parameters,) recipe of each parameter.
    """
    device = like.device
    chunks, extents = place
    rows = np.concatenate([modes[which][:, None], extents, addresses], 1)
    table = torch.from_numpy(np.concatenate([chunks, rows.ravel()])).to(device, non_blocking=True)
    numbers = torch.from_numpy(scalars.astype(np.float32)[which]).to(device, non_blocking=True)
    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        _KERNELS[kind][(len(chunks),)](table, numbers, chunk_size=_CHUNK, enable_fp_fusion=False)
