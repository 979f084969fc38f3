"""The installed programs: each installs the signal handlers, then loads and runs its command.

Loading a command takes a moment, in which Ctrl-C would otherwise end in a traceback. ``import lbi`` installs
nothing.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module

from lbi.system import signals


def train() -> None:
    """``lbi-train``."""
    _run("train")


def export() -> None:
    """``lbi-export``."""
    _run("export")


def run() -> None:
    """``lbi-run``."""
    _run("run")


def estimate() -> None:
    """``lbi-estimate``."""
    _run("estimate")


def sweep() -> None:
    """``lbi-sweep``."""
    _run("sweep")


def _run(name: str) -> None:
    _open_streams()
    signals.install()
    import_module(f"lbi.cli.{name}").main()


def _open_streams() -> None:
    """Open closed standard streams (``>&-``) on nothing; else the next file that is opened would take their place."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(number, mode, encoding="utf-8", closefd=False))
