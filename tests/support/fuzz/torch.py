"""Changes to the content of ``torch.save`` files: nested dictionaries of plain values and tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from support.fuzz.values import FLOATS, Rng, near, pick, plant

DTYPES = (
    torch.int8,
    torch.uint8,
    torch.int64,
    torch.bool,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
    torch.complex64,
    torch.float8_e4m3fn,
)


def damage_torch(path: Path, rng: Rng) -> None:
    """One to three changes anywhere in the tree."""
    tree = torch.load(path, weights_only=True)
    for _ in range(int(rng.integers(1, 4))):
        plant(tree, rng, _replace)
    if rng.random() < 0.02:
        tree = pick(rng, ([tree], None, 3, "x", torch.ones(2), {}, {"state_dict": {}}))
    torch.save(tree, path)


def _replace(rng: Rng, old: Any) -> Any:
    if isinstance(old, Tensor) and rng.random() < 0.85:
        return _tensor(old, rng)
    if rng.random() < 0.05:
        return _tensor(torch.ones(3, 4), rng)
    return near(rng, None if isinstance(old, Tensor) else old)


def _tensor(old: Tensor, rng: Rng) -> Tensor:
    if old.numel() > 1 << 24:  # it only claims to be that large (``_spread``): a copy would be
        return old
    return pick(rng, (_values, _values, _shape, _type, _spread, _sparse, _odd))(old, rng)


def _values(old: Tensor, rng: Rng) -> Tensor:
    new = old.clone()
    number = pick(rng, FLOATS)
    if not new.is_floating_point():
        number = pick(rng, (0, 1, -1, 100)) if new.dtype is not torch.uint8 else 200
    elif rng.random() < 0.4:
        return new * pick(rng, (-1.0, 0.0, 1e-30, 1e6, 1e30))
    if new.numel() and rng.random() < 0.6:
        new.view(-1)[int(rng.integers(new.numel()))] = number
    else:
        new.fill_(number)
    return new


def _shape(old: Tensor, rng: Rng) -> Tensor:
    return pick(
        rng,
        (
            old.reshape(-1),
            old[None],
            old[..., None],
            old.T if old.ndim == 2 else old.reshape(-1, 1),
            old.reshape(-1)[:0],
            old.reshape(-1)[:1],
            old.sum(),
            old[:-1] if old.ndim else old,
            torch.cat([old, old]) if old.ndim else old,
            torch.zeros((0, 3)),
            torch.zeros(()),
        ),
    )


def _type(old: Tensor, rng: Rng) -> Tensor:
    return old.to(pick(rng, DTYPES))


def _spread(old: Tensor, rng: Rng) -> Tensor:
    """Few numbers in storage that claim to be many, or lie across each other."""
    one = torch.ones(1, dtype=old.dtype)
    return pick(
        rng,
        (
            lambda: one.expand(old.shape or (1,)),
            lambda: one.expand(2**40),
            lambda: one.expand(2**20, 2**20),
            lambda: one.expand(1, 2**33),
            lambda: torch.as_strided(torch.ones(9, dtype=old.dtype), (4, 4), (1, 1)),
            lambda: torch.as_strided(torch.ones(9, dtype=old.dtype), (2**16, 2**16), (0, 0)),
            lambda: torch.cat([old.reshape(-1)] * 2)[::2].reshape(old.shape),
        ),
    )()


def _sparse(old: Tensor, rng: Rng) -> Tensor:
    indices, ones = torch.tensor([[0, 0], [0, 0]]), torch.ones(2)
    return pick(
        rng,
        (
            lambda: old.to_sparse(),
            lambda: old.to_sparse_csr() if old.ndim == 2 else old.to_sparse(),
            lambda: torch.sparse_coo_tensor(
                indices, ones, old.shape if old.ndim == 2 and old.numel() else (1, 1)
            ),
            lambda: torch.sparse_coo_tensor(indices, ones, (2**20, 2**20)),
            lambda: torch.sparse_coo_tensor(indices, ones, (2**31, 2**31)),
            lambda: torch.sparse_csr_tensor(
                torch.zeros(3, dtype=torch.int64),
                torch.zeros(0, dtype=torch.int64),
                torch.zeros(0),
                (2, 2**40),
            ),
        ),
    )()


def _odd(old: Tensor, rng: Rng) -> Any:
    return pick(
        rng,
        (
            lambda: old.to("meta"),
            lambda: torch.empty((2**20, 2**20), device="meta"),
            lambda: torch.nn.Parameter(old.float()),
            lambda: torch.quantize_per_tensor(old.float(), 0.1, 0, torch.qint8),
            lambda: old.float().requires_grad_(),
            lambda: old.shape,
            lambda: old.dtype,
            lambda: old.tolist(),
            lambda: torch.complex(old.float(), old.float()).conj(),
            lambda: old.float().to_mkldnn() if old.numel() else old,
        ),
    )()
