"""Locks of files that one process at a time may write; the system frees them when the process ends, however it ends."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from lbi.errors import InputError, Rule
from lbi.system.signals import on_exit

IN_USE = Rule("in-use", "one writer at a time", "wait for the other, or choose another output")
NO_LOCK = Rule("not-written", fix="check free space and permissions, or choose another path")


def locked(path: Path) -> IO[Any] | None:
    """A file, opened, made if needed, and locked until it is closed.

    Args:
        path: the file.

    Returns:
        The file; None if another process holds it. Without ``fcntl`` (Windows), and on file systems without locks,
        nothing is locked.

    Raises:
        OSError: if it cannot be opened.
    """
    file = path.open("a")
    with suppress(ImportError, OSError):
        import fcntl

        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            return None
    return file


@contextmanager
def only_writer(output: Path) -> Iterator[None]:
    """A block in which no other process enters such a block for the same output.

    The lock is a hidden file beside the output, removed after the block; one that a killed process left locks nothing.

    Args:
        output: the file that the block writes in the end.

    Raises:
        InputError: if another process writes it.
    """
    goal = Path(os.path.realpath(output))
    name = hashlib.sha256(os.fsencode(goal.name)).hexdigest()[:8]
    path = goal.with_name(f".{goal.name[:40]}.{name}.lock.tmp")
    file = _still_there(path, output)

    def free() -> None:
        if not file.closed:
            with suppress(OSError):
                path.unlink()  # first: a process that waits for the lock then finds the file gone
            file.close()

    with on_exit(free):
        yield


def _still_there(path: Path, output: Path) -> IO[Any]:
    """The file, locked, and not removed before that by the process that held it."""
    while True:
        try:
            file = locked(path)
        except OSError as error:
            raise InputError(NO_LOCK.broken(str(output), f"{path.name}: {error.strerror}")) from error
        if file is None:
            raise InputError(IN_USE.broken(str(output), "another process is writing it"))
        with suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()
