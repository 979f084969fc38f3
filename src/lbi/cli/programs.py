"""The installed programs: each installs the signal handlers, then loads and runs its command.

Loading a command takes a moment, in which Ctrl-C would otherwise end in a traceback. ``import lbi`` installs
nothing.
"""

from __future__ import annotations

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
    signals.install()
    import_module(f"lbi.cli.{name}").main()
