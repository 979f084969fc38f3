"""Guarded reading of numbers and texts from HDF5 files that may be damaged or malicious.

Some contents that libhdf5 and h5py accept are refused before anything is read: links that leave the file or form
circles, data sets that claim more than the file can hold, and heaps on which libhdf5 does not terminate.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Problem, Problems, Rule
from lbi.limits import most_elements
from lbi.system.paths import is_empty, not_a_file

LINK = Rule("hdf5-link", "groups and data sets in the file itself")
SECOND_NAME = Rule("hdf5-link", "one name each")
EXTERNAL_DATA = Rule("hdf5-link", "data in the file itself")
TOO_MANY_NUMBERS = Rule("hdf5-size", "{allowed} in a file of {size} bytes", "write it without compression")


@contextmanager
def open_tree(path: Path, problem: Problem) -> Iterator[Any]:
    """The file as ``h5py.File``, a tree of groups and data sets, for reading.

    Args:
        path: the file.
        problem: the problem to raise if reading fails.

    Yields:
        The open file.

    Raises:
        InputError: with all problems of a file that is not such a tree; and with ``problem``, extended by the
            reason, for any exception that h5py raises inside the ``with`` block, since the types of exceptions
            for damaged files are not documented.
    """
    import h5py

    try:
        if why := not_a_file(path) or ("is empty" if is_empty(path) else ""):
            raise ValueError(why)
        _check_heaps(path)
        with h5py.File(path, "r") as file:
            _check_tree(file, path)
            yield file
    except InputError:
        raise
    except MemoryError:
        raise
    except Exception as error:
        detail = " ".join(str(error).split()) or type(error).__name__
        found = f"{problem.found} ({detail})"
        raise InputError(Problem(problem.code, str(path), found, problem.allowed, problem.remedy)) from error


def numbers(group: Any, key: str) -> NDArray[Any]:
    """The values of a data set of numbers or booleans.

    Args:
        group: an open group.
        key: name of the data set.

    Returns:
        An array of the data set's own type and shape.

    Raises:
        ValueError: naming the key, for anything else.
    """
    values = _dataset(group, key)[()]
    if not isinstance(values, (np.ndarray, np.generic)) or values.dtype.kind not in "biuf":
        raise ValueError(f"{key}: not numbers")
    return np.asarray(values)


def text(value: Any) -> str:
    """A text that h5py returns as bytes or str.

    Args:
        value: what h5py returned.

    Returns:
        The text; bytes that are not UTF-8 become U+FFFD.
    """
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def subgroup(group: Any, key: str) -> Any:
    """A group inside a group.

    Args:
        group: an open group.
        key: name of the inner one.

    Returns:
        The inner h5py group.

    Raises:
        ValueError: naming the key, if it is missing or not a group.
    """
    import h5py

    _check_present(group, key)
    if not isinstance(group, h5py.Group) or not isinstance(group[key], h5py.Group):
        raise ValueError(f"{key}: not a group")
    return group[key]


def _check_present(group: Any, key: str) -> None:
    """Raise ValueError naming a missing key and those that are there; h5py's own message names neither."""
    if key not in group:
        raise ValueError(f"{key}: missing; there is {', '.join(list(group)[:20]) or 'nothing'}")


def _dataset(group: Any, key: str) -> Any:
    import h5py

    _check_present(group, key)
    if not isinstance(group, h5py.Group) or not isinstance(group[key], h5py.Dataset):
        raise ValueError(f"{key}: not a data set")
    return group[key]


def _check_tree(file: Any, path: Path) -> None:
    """Check that every object has one hard link and that the data sets fit the file; raises InputError."""
    import h5py

    problems = Problems()
    n_elements = 0
    seen = {h5py.h5o.get_info(file.id).addr}
    groups = [file]
    while groups:
        group = groups.pop()
        for name in group:
            where = f"{path}, {group.name.rstrip('/')}/{name}"
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                problems.note(LINK.broken(where, "a link to elsewhere"))
                continue
            item = group[name]
            address = h5py.h5o.get_info(item.id).addr
            if address in seen:
                problems.note(SECOND_NAME.broken(where, "another name of an object that has one"))
            elif isinstance(item, h5py.Group):
                groups.append(item)
            elif isinstance(item, h5py.Dataset):
                in_file = not item.external and not item.is_virtual
                EXTERNAL_DATA.check(problems, in_file, where, "its data lie in other files")
                n_elements += item.size or 0
            seen.add(address)
    size = path.stat().st_size
    TOO_MANY_NUMBERS.check(
        problems,
        n_elements <= most_elements(size),
        str(path),
        f"{n_elements} numbers claimed",
        allowed=most_elements(size),
        size=size,
    )
    problems.raise_as(InputError)


def _check_heaps(path: Path) -> None:
    """Raise ValueError for a heap of variable-length values on which libhdf5 would not terminate.

    HDF5 File Format Specification 3.0, III.E: a header of 16 bytes, then objects of a 16-byte header and their
    size, rounded up to 8; the last, of index 0, is free space and counts its header. libhdf5 advances by the size without checking it.
    """
    with path.open("rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(b"GCOL\x01\x00\x00\x00")
        while start >= 0 and start + 16 <= len(content):
            (size,) = struct.unpack_from("<Q", content, start + 8)
            at, end = start + 16, min(start + size, len(content))
            while at + 16 <= end:
                index, length = struct.unpack_from("<HxxxxxxQ", content, at)
                step = 16 + (length + 7) // 8 * 8 if index else length
                if step == 0 or step > end - at:
                    raise ValueError(f"a damaged heap at byte {start}")
                at += step
            start = content.find(b"GCOL\x01\x00\x00\x00", max(at, start + 8))
