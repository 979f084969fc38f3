"""Why a path cannot be read as a file, in words for an error; the files of a data set's folder."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

MISSING = "does not exist"

OUTPUTS = (".pt", ".ckpt", ".csv", ".html", ".npz")
"""Suffixes of files that commands write, and write again, wherever the user keeps them."""


def not_a_file(path: str | Path) -> str:
    """Why there is no file at ``path``; empty if there is one. A symbolic link is followed.

    Args:
        path: what the user gave.

    Returns:
        The reason, such as "is a folder".
    """
    try:
        kind = os.stat(path).st_mode
    except FileNotFoundError:
        if os.path.islink(path):
            return f"is a symbolic link to {os.readlink(path)}, which {MISSING}"
        return MISSING
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return MISSING
        return f"cannot be read ({os.strerror(error.errno) if error.errno else error})"
    except ValueError:  # a null byte
        return MISSING
    if stat.S_ISDIR(kind):
        return "is a folder"
    if not stat.S_ISREG(kind):
        return "is a device or a pipe"
    return "" if os.access(path, os.R_OK) else f"cannot be read ({os.strerror(errno.EACCES)})"


def is_empty(path: Path) -> bool:
    """Test for a file without content, as a full disk or an interrupted copy leaves it.

    Args:
        path: the file.

    Returns:
        True for 0 bytes.
    """
    return path.stat().st_size == 0


def data_files(folder: str | Path) -> list[Path]:
    """The files of a data set's folder, without those that commands of this package write beside them.

    Args:
        folder: the folder; one that does not exist has none.

    Returns:
        The files, at any depth.
    """
    return [file for file in Path(folder).rglob("*") if file.suffix not in OUTPUTS and file.is_file()]
