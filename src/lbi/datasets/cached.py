"""Spikes of a large split as bits in a file of the user's cache folder, mapped into memory: only samples in use are read.

The file is, one after another: the bits (n_samples, n_steps, ceil(n_in / 8)) uint8 and further arrays, each as ``.npy``, then
four bytes: the CRC-32 of the key and of all before, little-endian. The key is a digest of what the spikes were made from, so
a file that is truncated, damaged, or another one's fails the check and is written again. Files appear by a rename and are
never changed: any number of processes may read and write at once.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from lbi.datasets.packed import PackedSpikes, n_packed
from lbi.errors import InputError, Rule
from lbi.system.atomic import WRITTEN, atomic_write
from lbi.system.cache import cache_folder

VERSION = 1
"""Part of the key; raised when the layout, or the spikes made from the same files and options, change."""

KEPT = 4
"""Files kept for one source, the last used: one for each of as many encodings, or states of the source."""

ABANDONED_S = 24 * 3600.0
"""Seconds after which a temporary file that nothing was written to was left by a killed process."""

_PART = 1 << 20
_SUM_BYTES = 4

NOT_KEPT = Rule(
    WRITTEN.code,
    "a folder with room for {n_bytes} bytes of spikes",
    "free space, check permissions, or name another folder with the environment variable XDG_CACHE_HOME",
)


class NotKeptError(InputError):
    """The cache file of a split cannot be written."""


class Found(NamedTuple):
    """Content of a cache file.

    Attributes:
        spikes: the spikes, mapped.
        rest: the further arrays.
    """

    spikes: PackedSpikes
    rest: list[NDArray[Any]]


class SpikeCache:
    """The cache file of one split.

    Args:
        label: first part of the file's name, for people.
        source: what the spikes are made from, such as the path of a file.
        state: everything else that they depend on: size and time of the source, options.
    """

    def __init__(self, label: str, source: str, state: str) -> None:
        key = hashlib.sha256(json.dumps([VERSION, source, state]).encode("utf-8", "surrogatepass"))
        origin = hashlib.sha256(source.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        self._key = key.digest()
        self._prefix = f"{label[:16]}-{origin}"
        self.path = cache_folder() / "datasets" / f"{self._prefix}-{key.hexdigest()[:24]}.bits"

    def read(self, n_steps: int, n_in: int) -> Found | None:
        """The file's content.

        Args:
            n_steps: steps of each sample.
            n_in: channels.

        Returns:
            The content; None if there is no file, or not a whole one of this key.
        """
        with suppress(OSError, ValueError), self.path.open("rb") as stream:
            size = os.fstat(stream.fileno()).st_size - _SUM_BYTES
            if size <= 0 or self._sum(stream, size) != stream.read():
                return None
            stream.seek(0)
            bits = _map(stream)
            if bits.shape[1:] != (n_steps, n_packed(n_in)):
                return None
            rest = []
            while stream.tell() < size:
                rest.append(np.asarray(npy.read_array(stream, allow_pickle=False)))
            with suppress(OSError):  # a folder without access: the file counts as older than it is
                os.utime(self.path)
            return Found(PackedSpikes(bits, n_in), rest)
        return None

    def write(
        self,
        shape: tuple[int, int, int],
        parts: Iterable[NDArray[np.uint8]],
        rest: Callable[[], Sequence[NDArray[Any]]],
    ) -> Found:
        """Write the file, and read it.

        Args:
            shape: (n_samples, n_steps, n_in).
            parts: arrays of 0 and 1, (n, n_steps, n_in), with n_samples samples in all.
            rest: gives the further arrays, after the last part.

        Returns:
            The content.

        Raises:
            NotKeptError: if the file cannot be written.
            InputError: what ``parts`` raises.
        """
        where, n_bytes = str(self.path), shape[0] * shape[1] * n_packed(shape[2])
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._clean()
            self._write(shape, parts, rest)
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise NotKeptError(NOT_KEPT.broken(where, why, n_bytes=n_bytes)) from error
        except InputError as error:
            problem = error.problems[0]
            if (problem.code, problem.where) != (WRITTEN.code, where):
                raise
            raise NotKeptError(NOT_KEPT.broken(where, problem.found, n_bytes=n_bytes)) from error
        found = self.read(shape[1], shape[2])
        if found is None:
            why = "removed or changed while it was written"
            raise NotKeptError(NOT_KEPT.broken(where, why, n_bytes=n_bytes))
        return found

    def _write(
        self,
        shape: tuple[int, int, int],
        parts: Iterable[NDArray[np.uint8]],
        rest: Callable[[], Sequence[NDArray[Any]]],
    ) -> None:
        with atomic_write(self.path) as new, new.open("w+b") as stream:
            header = {"descr": "|u1", "fortran_order": False, "shape": (*shape[:2], n_packed(shape[2]))}
            npy.write_array_header_1_0(stream, header)
            for part in parts:
                stream.write(np.packbits(part, axis=-1).data)
            for array in rest():
                npy.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
            size = stream.tell()
            stream.write(self._sum(stream, size))

    def _sum(self, stream: BinaryIO, size: int) -> bytes:
        """The check value of the first ``size`` bytes; the stream ends up behind them."""
        stream.seek(0)
        value = zlib.crc32(self._key)
        while size > 0 and (content := stream.read(min(_PART, size))):
            value = zlib.crc32(content, value)
            size -= len(content)
        return value.to_bytes(_SUM_BYTES, "little")

    def _clean(self) -> None:
        """Make room for a file of this source: remove the least recently used, and temporary files that were abandoned.

        Processes that use a removed file keep it until they end; where the system forbids the removal, it is left.
        """
        prefix = glob.escape(self._prefix)
        others = [path for path in self.path.parent.glob(f"{prefix}-*.bits") if path != self.path]
        old = sorted(others, key=_changed, reverse=True)[KEPT - 1 :]
        temporary = self.path.parent.glob(f".{prefix}-*.tmp")
        for path in [*old, *(path for path in temporary if _changed(path) < time.time() - ABANDONED_S)]:
            with suppress(OSError):
                path.unlink()


def _changed(path: Path) -> float:
    """When a file was last written or used, in seconds; infinite if it is gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return float("inf")


def _map(stream: BinaryIO) -> NDArray[np.uint8]:
    """The ``.npy`` array at the stream's place, mapped read-only; the stream ends up behind it."""
    if npy.read_magic(stream) != (1, 0):
        raise ValueError("another version of .npy")
    shape, _, dtype = npy.read_array_header_1_0(stream)
    start = stream.tell()
    array = np.memmap(stream, dtype=dtype, mode="r", offset=start, shape=shape)
    stream.seek(start + array.nbytes)
    return array
