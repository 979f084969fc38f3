"""Spikes of large data sets as bits: an eighth of the memory, and equal bytes when samples are taken.

Spikes that take more than ``PACKED_ABOVE`` bytes, one per channel and step, are held as ``PackedSpikes``; smaller ones are
a plain array. Nothing depends on which it is: a batch is unpacked when its samples are chosen.
"""

from __future__ import annotations

from collections.abc import Iterable
from math import prod
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Problems, Rule

PACKED_ABOVE = 1 << 28
"""Bytes of a split (n_samples · n_steps · n_in) above which its spikes are held as bits: 256 MiB."""

PART_BYTES, PART_SAMPLES = 1 << 24, 256
"""Most unpacked bytes, and most samples, that are made at once while a split is read; at least one sample is."""

BITS_SHAPE = Rule(
    "spikes-shape",
    "uint8 (n_samples, n_steps, {n_bytes}) for {n_in} channels",
    "pack the channels: numpy.packbits(spikes, axis=-1)",
)


class PackedSpikes:
    """Zeros and ones (n_samples, n_steps, n_in), a bit each; indexing takes samples and returns them as bytes.

    Args:
        bits: (n_rows, n_steps, ceil(n_in / 8)) uint8, ``numpy.packbits`` along the channels; may be a mapped file.
        n_in: number of channels.
        rows: (n_samples,) the row of each sample in ``bits``; None for all in their order.

    Raises:
        InputError: for bits of another shape or type.
    """

    dtype = np.dtype(np.uint8)
    ndim = 3

    def __init__(self, bits: NDArray[np.uint8], n_in: int, rows: NDArray[np.intp] | None = None) -> None:
        problems, n_bytes = Problems(), n_packed(n_in)
        fits = bits.ndim == 3 and bits.dtype == np.uint8 and bits.shape[2] == n_bytes
        found = f"{bits.dtype} {bits.shape}"
        BITS_SHAPE.check(problems, fits, "packed spikes", found, n_bytes=n_bytes, n_in=n_in)
        problems.raise_as(InputError)
        self._bits = bits.view(np.ndarray)  # a mapped file's own class would be passed on to batches
        self._n_in = n_in
        self._rows = rows

    @property
    def shape(self) -> tuple[int, ...]:
        """(n_samples, n_steps, n_in)."""
        samples = self._bits.shape[:1] if self._rows is None else self._rows.shape
        return *samples, self._bits.shape[1], self._n_in

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, samples: Any) -> NDArray[np.uint8]:
        if isinstance(samples, tuple):
            raise TypeError("packed spikes are indexed by samples alone: spikes[samples][:, steps]")
        chosen = self._bits[samples if self._rows is None else self._rows[samples]]
        return np.unpackbits(chosen, axis=-1, count=self._n_in)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        if copy is False:
            raise ValueError("packed spikes become an array only by a copy")
        return self[:].astype(self.dtype if dtype is None else dtype, copy=False)

    def take(self, samples: Any) -> PackedSpikes:
        """These samples, without a copy of their bits.

        Args:
            samples: any numpy index of the first axis.

        Returns:
            The samples.
        """
        rows = np.arange(self._bits.shape[0]) if self._rows is None else self._rows
        return PackedSpikes(self._bits, self._n_in, rows[samples])


Spikes: TypeAlias = NDArray[np.uint8] | PackedSpikes
"""Spikes (n_samples, n_steps, n_in) of a data set; indexing by samples gives uint8 of 0 and 1."""


def n_packed(n_in: int) -> int:
    """Bytes of a step of ``n_in`` channels, a bit each.

    Args:
        n_in: number of channels.

    Returns:
        The number of bytes.
    """
    return -(-n_in // 8)


def is_large(shape: tuple[int, int, int]) -> bool:
    """Whether spikes of this shape are held as bits.

    Args:
        shape: (n_samples, n_steps, n_in).

    Returns:
        True above ``PACKED_ABOVE``.
    """
    return prod(shape) > PACKED_ABOVE


def is_large_packed(shape: tuple[int, int, int]) -> bool:
    """Whether even the bits of spikes of this shape take more than ``PACKED_ABOVE`` bytes.

    Args:
        shape: (n_samples, n_steps, n_in).

    Returns:
        True if they are not to stay in memory.
    """
    return is_large((*shape[:2], n_packed(shape[2])))


def part_length(n_steps: int, n_in: int) -> int:
    """Number of samples to make at once while a split is read.

    Args:
        n_steps: steps of each sample.
        n_in: channels.

    Returns:
        1 to ``PART_SAMPLES``.
    """
    return max(1, min(PART_SAMPLES, PART_BYTES // max(1, n_steps * n_in)))


def collect(shape: tuple[int, int, int], parts: Iterable[NDArray[np.uint8]]) -> Spikes:
    """The spikes of a split in memory, from parts that are made one after another.

    Args:
        shape: (n_samples, n_steps, n_in).
        parts: arrays of 0 and 1, (n, n_steps, n_in), with n_samples samples in all.

    Returns:
        Bits if ``is_large``, bytes otherwise.
    """
    large = is_large(shape)
    out = np.empty((*shape[:2], n_packed(shape[2]) if large else shape[2]), np.uint8)
    start = 0
    for part in parts:
        stop = start + len(part)
        out[start:stop] = np.packbits(part, axis=-1) if large else part
        start = stop
    return PackedSpikes(out, shape[2]) if large else out
