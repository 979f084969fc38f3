"""SHA-256 of what an HDF5 file holds, kept in the file itself: HDF5 does not notice a flipped bit in its numbers."""

from __future__ import annotations

# Checksum, begin: run_lava.py of an export holds a copy of this part.
import hashlib
from typing import Any

import numpy as np

ATTRIBUTE = "sha256"
"""Attribute of the root that holds the sum."""


def checksum(file: Any) -> str:
    """The sum over names, types, shapes and values of all attributes and data sets, except ``ATTRIBUTE`` of the root.

    The bytes of the file do not matter, so that a copy made by another HDF5 library has the same sum. Groups and data
    sets count in the file's order, attributes in that of their names.

    Args:
        file: an open ``h5py.File``.

    Returns:
        The SHA-256 as 64 hexadecimal digits.
    """
    total = hashlib.sha256()
    _add(total, file, skip=ATTRIBUTE)
    return total.hexdigest()


def _add(total: Any, item: Any, skip: str = "") -> None:
    for name in sorted(set(item.attrs) - {skip}):
        _add_values(total, f"{item.name}@{name}", item.attrs[name])
    if not hasattr(item, "keys"):
        _add_values(total, item.name, item[()])
        return
    for name in item:
        total.update(f"{item.name}/{name}\n".encode())
        _add(total, item[name])


def _add_values(total: Any, name: str, values: Any) -> None:
    """Add a header line and the values, little-endian; texts are UTF-8."""
    if isinstance(values, bytes | str):
        values = np.frombuffer(values if isinstance(values, bytes) else values.encode(), dtype=np.uint8)
    array = np.ascontiguousarray(values)
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    total.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
    total.update(array.tobytes())


# Checksum, end.
