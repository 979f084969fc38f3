"""Guarded reading of ``.npz`` archives that may be damaged or malicious: no pickles, bounded expansion."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from lbi.system.paths import is_empty

FREE_BYTES = 1 << 29
"""Bytes of arrays to which any archive may expand."""

EXPANSION = 64
"""Bytes of arrays per byte of a larger archive: spikes are mostly zeros and compress well."""


def read_npz(
    path: Path, wanted: Sequence[str] | None = None
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """The arrays of an archive.

    Args:
        path: the archive.
        wanted: names of arrays to read; None for all.

    Returns:
        Arrays by name, and the names of all arrays.

    Raises:
        ValueError: with the reason, if the file is not an archive of plain arrays.
    """
    if is_empty(path):
        raise ValueError("it is empty")
    try:
        with zipfile.ZipFile(path) as archive:
            entries = {entry.filename.removesuffix(".npy"): entry for entry in archive.infolist()}
            chosen = [name for name in entries if wanted is None or name in wanted]
            allowed = max(FREE_BYTES, EXPANSION * path.stat().st_size)
            n_bytes = sum(entries[name].file_size for name in chosen)
            if n_bytes > allowed:
                raise ValueError(
                    f"unfolds to {n_bytes} bytes, above {allowed}: write it with numpy.savez, uncompressed"
                )
            return {name: _array(archive, entries[name]) for name in chosen}, tuple(entries)
    except MemoryError:
        raise
    except Exception as error:  # the exceptions of zipfile and numpy for damaged bytes are not documented
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    """One member, whose header is checked against its size before memory is allocated."""
    with archive.open(entry) as stream:
        version = npy.read_magic(stream)
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        shape, _, dtype = readers.get(version, npy.read_array_header_2_0)(stream)
        n_bytes = dtype.itemsize * np.prod(np.array(shape, dtype=object))
        if dtype.hasobject:
            raise ValueError(
                f"{entry.filename}: an array of Python objects, {dtype} {shape}, needs unpickling"
            )
        if n_bytes != entry.file_size - stream.tell() or len(shape) > 32:
            raise ValueError(f"{entry.filename}: {dtype} {shape} claimed, which is not what it holds")
    with archive.open(entry) as stream:
        return np.asarray(npy.read_array(stream, allow_pickle=False))
