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


def take(file: IO[Any]) -> bool:
    """Lock an open file until it is closed.

    Args:
        file: the file.

    Returns:
        False if another process holds it; without ``fcntl`` (Windows) nothing is locked.
    """
    try:
        import fcntl
    except ImportError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


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
    file = _locked(path, output)

    def free() -> None:
        if not file.closed:
            with suppress(OSError):
                path.unlink()  # first: who waits for the lock finds that the file is gone
            file.close()

    with on_exit(free):
        yield


def _locked(path: Path, output: Path) -> IO[Any]:
    while True:
        try:
            file = path.open("a")
        except OSError as error:
            raise InputError(NO_LOCK.broken(str(output), f"{path.name}: {error.strerror}")) from error
        if not take(file):
            file.close()
            raise InputError(IN_USE.broken(str(output), "another process is writing it"))
        with suppress(OSError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # removed by the process that held it: there is a new one, or none
