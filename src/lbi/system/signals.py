"""Interruption of a command by SIGINT (Ctrl-C), SIGTERM or SIGHUP: one line, exit code 130, nothing left behind.

A command ends at once, in the signal handler: an exception could be swallowed by an import, a compiler or a
callback. Code that must clean up first (a partly written file, a child process) registers with ``on_exit``.
Only the commands install the handlers; in other programs KeyboardInterrupt runs the same clean-up.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

EXIT_CODE = 130

SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")

PATIENCE_S = 5.0
"""Seconds that clean-up may take before a second signal ends the process without it."""

_cleanups: list[Callable[[], None]] = []
_reports: list[Callable[[], str]] = []
_since: float | None = None


@contextmanager
def on_exit(clean_up: Callable[[], None]) -> Iterator[None]:
    """A block after which ``clean_up`` is called: at its end, after an exception, and on a handled signal.

    A signal that arrives while ``clean_up`` runs calls it again from the start, so it must bear repetition.

    Args:
        clean_up: called without arguments.
    """
    _cleanups.append(clean_up)
    try:
        yield
    finally:
        clean_up()
        _cleanups.remove(clean_up)


@contextmanager
def on_interruption(report: Callable[[], str]) -> Iterator[None]:
    """A block in which a handled signal prints ``report()`` behind ``interrupted``, after all clean-up.

    Args:
        report: what is kept and how to go on, in one line; empty for nothing to say.
    """
    _reports.append(report)
    try:
        yield
    finally:
        _reports.remove(report)


def install() -> None:
    """Install the handlers; a signal that the process was started to ignore (nohup) stays ignored."""
    for name in SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _on_signal)


def _on_signal(_number: int, _frame: object) -> None:
    global _since
    now = time.monotonic()
    if _since is None:
        _since = now
        for clean_up in reversed(_cleanups):
            clean_up()
        leave()
    if now - _since > PATIENCE_S:
        leave()


def leave() -> NoReturn:
    """Print ``interrupted``, with what the command reports, and end without waiting for threads or exit hooks."""
    said = ": ".join(["interrupted", *filter(None, (report() for report in _reports))])
    encoding = getattr(sys.stderr, "encoding", None) or "utf-8"
    os.write(2, f"{said}\n".encode(encoding, "backslashreplace"))
    os._exit(EXIT_CODE)
