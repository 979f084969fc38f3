"""Ctrl-C, and the signals that ask a program to end: one line, exit code 130, and nothing left behind.

A command ends on the spot, whatever it is busy with: an exception could get lost in an import, a compiler or a
callback. What has to be put in order by then (a file half written, a child process) says so with ``tidied``.
Only the commands listen (``listen``); in other programs Python's own KeyboardInterrupt does the same.
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
"""How long tidying is left alone; a signal after that ends the program on the spot."""

PROGRAMS = {
    f"{prefix}{name}" for name in ("train", "export", "run", "estimate") for prefix in ("lbi-", "lbi.cli.")
}
"""The commands' names as scripts and as modules (``python -m``)."""

_untidy: list[Callable[[], None]] = []
_since: float | None = None


@contextmanager
def tidied(tidy: Callable[[], None]) -> Iterator[None]:
    """A block after which ``tidy`` is called, however it ends: also by a signal.

    A signal may come while ``tidy`` is running; then it is called again, from the start.
    """
    _untidy.append(tidy)
    try:
        yield
    finally:
        tidy()
        _untidy.remove(tidy)


def is_command() -> bool:
    """True if this program is one of the commands: ``lbi-run …`` or ``python -m lbi.cli.run …``."""
    arguments = iter(sys.orig_argv[1:])
    for argument in arguments:
        if argument == "-m":
            return next(arguments, "") in PROGRAMS
        if argument in ("-W", "-X"):
            next(arguments, "")
        elif not argument.startswith("-"):
            return os.path.basename(argument) in PROGRAMS
    return False


def listen() -> None:
    """From now on, end as described above; a signal that we were started to ignore (nohup) stays ignored."""
    for name in SIGNALS:
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, _on_signal)


def _on_signal(_number: int, _frame: object) -> None:
    global _since
    now = time.monotonic()
    if _since is None:
        _since = now
        for tidy in reversed(_untidy):
            tidy()
        leave()
    if now - _since > PATIENCE_S:
        leave()


def leave() -> NoReturn:
    """Say it, and end without waiting for threads or for what libraries would still do."""
    os.write(2, b"interrupted\n")
    os._exit(EXIT_CODE)
