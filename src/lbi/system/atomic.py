"""Whole files: what is written takes its name only when it is complete, so that a name never holds half a file.

Killed at any moment, an output is as it was before or as it is after. What ``kill -9`` can leave is a hidden
``.<name>.<random>.tmp`` beside it, which nothing reads and nothing trips over.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lbi.errors import InputError, Problem, Problems
from lbi.system.signals import on_exit

OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
"""Why a rename cannot replace: a folder is involved."""

AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Of Linux's renameat2(2)."""


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A new name beside ``path`` to write a file or folder to; it becomes ``path`` when the block ends well.

    Otherwise it is removed and ``path`` stays as it was. A link is followed.
    Raises InputError if ``path`` cannot be written.
    """
    goal = Path(os.path.realpath(path))
    _check_goal(goal, str(path))
    new = _beside(goal)
    with on_exit(partial(remove, new)):
        try:
            yield new
            _put(new, goal)
        except OSError as error:
            if error.filename is not None and not str(error.filename).startswith((str(new), str(goal))):
                raise  # of something else that was read or written in the block
            raise _not_written(path, error) from error


def check_writable(*paths: str | Path) -> None:
    """Raise InputError, before any work is done, naming every path that no file could be written to."""
    problems = Problems()
    for path in paths:
        try:
            _try_to_write(path)
        except InputError as error:
            problems.take(error)
    problems.raise_as(InputError)


def _try_to_write(path: str | Path) -> None:
    goal = Path(os.path.realpath(path))
    _check_goal(goal, str(path))
    if goal.is_dir():
        raise InputError(Problem("is-a-folder", str(path), "a folder", "a file's name"))
    new = _beside(goal)
    with on_exit(partial(remove, new)):
        try:
            new.touch()
        except OSError as error:
            raise _not_written(path, error) from error


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder of our own for temporary files, removed after the block."""
    folder = Path(tempfile.gettempdir()) / f"lbi-{secrets.token_hex(6)}"
    with on_exit(partial(remove, folder)):
        folder.mkdir(mode=0o700)
        yield folder


@contextmanager
def new_hdf5(path: Path) -> Iterator[Any]:
    """A new HDF5 file, the same bytes for the same content; made in memory, since HDF5 crashes on a full disk."""
    import h5py

    with h5py.File(
        path, "w", driver="core", backing_store=False, libver=("earliest", "v110"), track_order=True
    ) as file:
        yield file
        file.flush()
        image = file.id.get_file_image()
    path.write_bytes(image)


def remove(path: Path) -> None:
    """Remove a file or folder, as far as it is there and can be."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _check_goal(goal: Path, where: str) -> None:
    if not goal.parent.is_dir():
        found = "is a file" if goal.parent.exists() else "no such folder"
        raise InputError(
            Problem("folder-missing", where, f"{goal.parent}: {found}", remedy="make the folder")
        )
    try:
        kind = goal.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise _not_written(where, error) from error
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise InputError(Problem("not-a-file", where, "a device or a pipe", "a file's name"))


def _beside(goal: Path) -> Path:
    return goal.with_name(f".{goal.name[:40]}.{secrets.token_hex(4)}.tmp")


def _not_written(path: str | Path, error: OSError) -> InputError:
    """What the user is told when ``path`` cannot be written."""
    why = os.strerror(error.errno) if error.errno else str(error)
    remedy = "check the disk and your rights, or write elsewhere"
    return InputError(Problem("not-written", str(path), why, remedy=remedy))


def _put(new: Path, goal: Path) -> None:
    try:
        os.replace(new, goal)
    except OSError as error:
        if error.errno not in OCCUPIED:
            raise
        _exchange(new, goal)


def _exchange(one: Path, other: Path) -> None:
    """Swap two names: in one step where the system can, or else in three."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    names = os.fsencode(one), os.fsencode(other)
    if rename is not None and rename(AT_FDCWD, names[0], AT_FDCWD, names[1], RENAME_EXCHANGE) == 0:
        return
    aside = _beside(other)

    def put_back() -> None:
        if aside.exists():
            os.replace(aside, one if other.exists() else other)

    with on_exit(put_back):
        os.replace(other, aside)
        os.replace(one, other)
