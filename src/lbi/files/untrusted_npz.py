"""Reading ``.npz`` archives, which may be damaged or hostile, without unpickling or unfolding what is too large."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

FREE_BYTES = 1 << 29
"""Bytes of arrays that an archive of any size may unfold to."""

EXPANSION = 64
"""Bytes of arrays for each byte of a larger archive: spikes are mostly zeros and pack well."""


def read_npz(
    path: Path, wanted: Sequence[str] | None = None
) -> tuple[dict[str, NDArray[Any]], tuple[str, ...]]:
    """Arrays by name (those of ``wanted``, or all), and the names of all.

    Raises ValueError, saying why, for whatever is no archive of plain arrays.
    """
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
    except Exception as error:  # what zipfile and numpy raise for damaged bytes is written nowhere
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error


def _array(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> NDArray[Any]:
    """One member; its header must claim what is there, before room is made for it."""
    with archive.open(entry) as stream:
        version = npy.read_magic(stream)
        readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
        shape, _, dtype = readers.get(version, npy.read_array_header_2_0)(stream)
        n_bytes = dtype.itemsize * np.prod(np.array(shape, dtype=object))
        if dtype.hasobject or n_bytes != entry.file_size - stream.tell() or len(shape) > 32:
            raise ValueError(f"{entry.filename}: {dtype} {shape} claimed, which is not what it holds")
    with archive.open(entry) as stream:
        return np.asarray(npy.read_array(stream, allow_pickle=False))
