"""Atomic writes: write to a temporary name, then rename into place.

A process killed at any moment leaves an output as it was before or as it is after. ``kill -9`` can leave a hidden
``.<name>.<random>.tmp`` beside it, which nothing reads.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import secrets
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from lbi.errors import InputError, Problems, Rule
from lbi.system.signals import on_exit

OCCUPIED = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EISDIR)
"""Errors of a rename that cannot replace its target because one of the two is a folder."""

AT_FDCWD, RENAME_EXCHANGE = -100, 2
"""Constants of Linux's renameat2(2)."""

NOT_A_FOLDER = Rule("is-a-folder", "a file's name")
HAS_FOLDER = Rule("folder-missing", fix="create the folder")
REGULAR = Rule("not-a-file", "a file's name")
ONE_FILE = Rule("same-file", "a file of its own for each output", "choose another path")
WRITTEN = Rule("not-written", fix="check free space and permissions, or choose another path")


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """A temporary name beside ``path`` for a file or folder, renamed to ``path`` when the block succeeds.

    If the block fails, the temporary file is removed and ``path`` stays as it was. A symbolic link is followed.

    Args:
        path: where the output goes. Its folder must exist.

    Yields:
        The temporary path to write to.

    Raises:
        InputError: if ``path`` cannot be written.
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
                raise  # concerns another file that the block read or wrote
            raise _not_written(path, error) from error


def check_writable(*paths: str | Path, inputs: Iterable[str | Path] = ()) -> None:
    """Check, before any work is done, that a file can be written to each path without replacing another one in use.

    Args:
        *paths: files to write.
        inputs: files that the same command reads and must leave as they are.

    Raises:
        InputError: naming every path that cannot be written, is an input, or is given twice.
    """
    problems = Problems()
    taken = {os.path.realpath(path): "the input of this command" for path in inputs}
    for path in paths:
        place = os.path.realpath(path)
        ONE_FILE.check(problems, place not in taken, str(path), taken.get(place))
        taken.setdefault(place, "given for two outputs")
        try:
            _try_to_write(path)
        except InputError as error:
            problems.take(error)
    problems.raise_as(InputError)


def check_apart(output: str | Path, inputs: Iterable[str | Path]) -> None:
    """Check that a file or folder which is about to be replaced neither is nor holds an input of the same command.

    Args:
        output: the file or folder to write.
        inputs: files and folders that the command reads.

    Raises:
        InputError: naming every input that would be lost.
    """
    problems, place = Problems(), Path(os.path.realpath(output))
    for path in inputs:
        real = Path(os.path.realpath(path))
        found = "the input of this command" if real == place else f"holds the input {path}"
        ONE_FILE.check(problems, place not in (real, *real.parents), str(output), found)
    problems.raise_as(InputError)


def _try_to_write(path: str | Path) -> None:
    goal = Path(os.path.realpath(path))
    _check_goal(goal, str(path))
    if goal.is_dir():
        raise InputError(NOT_A_FOLDER.broken(str(path), "a folder"))
    new = _beside(goal)
    with on_exit(partial(remove, new)):
        try:
            new.touch()
        except OSError as error:
            raise _not_written(path, error) from error


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A private folder for temporary files, removed after the block."""
    folder = Path(tempfile.gettempdir()) / f"lbi-{secrets.token_hex(6)}"
    with on_exit(partial(remove, folder)):
        folder.mkdir(mode=0o700)
        yield folder


@contextmanager
def new_hdf5(path: Path) -> Iterator[Any]:
    """A new HDF5 file with the same bytes for the same content, built in memory: HDF5 crashes on a full disk.

    Args:
        path: the file, which is written when the block ends.

    Yields:
        The open h5py file.
    """
    import h5py

    with h5py.File(
        path, "w", driver="core", backing_store=False, libver=("earliest", "v110"), track_order=True
    ) as file:
        yield file
        file.flush()
        image = file.id.get_file_image()
    path.write_bytes(image)


def remove(path: Path) -> None:
    """Remove a file or folder; errors are ignored.

    Args:
        path: file, link or folder, which may be missing; of a link, the link itself is removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink()


def _check_goal(goal: Path, where: str) -> None:
    if not goal.parent.is_dir():
        found = "is a file" if goal.parent.exists() else "no such folder"
        raise InputError(HAS_FOLDER.broken(where, f"{goal.parent}: {found}"))
    try:
        kind = goal.stat().st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise _not_written(where, error) from error
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise InputError(REGULAR.broken(where, "a device or a pipe"))


def _beside(goal: Path) -> Path:
    return goal.with_name(f".{goal.name[:40]}.{secrets.token_hex(4)}.tmp")


def _not_written(path: str | Path, error: OSError) -> InputError:
    """The error for a ``path`` that cannot be written."""
    why = os.strerror(error.errno) if error.errno else str(error)
    return InputError(WRITTEN.broken(str(path), why))


def _put(new: Path, goal: Path) -> None:
    try:
        os.replace(new, goal)
    except OSError as error:
        if error.errno not in OCCUPIED:
            raise
        _exchange(new, goal)


def _exchange(one: Path, other: Path) -> None:
    """Swap two names, atomically where the system can, otherwise in three renames."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None) if sys.platform == "linux" else None
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
