"""Code shared by the commands: one-line errors, exit codes, common options, JSON, progress bars."""

from __future__ import annotations

import errno
import io
import json
import logging
import os
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click

from lbi._version import __version__
from lbi.errors import LbiError, LbiWarning, Problem, UsageError
from lbi.system import signals

if TYPE_CHECKING:
    from rich.console import Console

EPILOG = (
    "Exit codes: 0 ok · 1 internal error · 2 usage · 3 invalid or unsupported input · "
    "4 verification failed · 5 backend failed, absent or timed out · 6 does not fit the chip or a budget · 130 interrupted."
)


PATH = click.Path(path_type=Path, readable=False)
"""A path in an option; whether it can be read is for its reader to say (exit code 3), not for click (2)."""


class Command(click.Command):
    """A click command that reports errors as one line per problem and ends with the matching exit code."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.debug = False  # set by main: tracebacks, and what libraries print
        kwargs.setdefault("epilog", EPILOG)
        kwargs.setdefault(
            "context_settings", {"help_option_names": ["-h", "--help"], "max_content_width": 100}
        )
        super().__init__(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run as a program: install signal handlers, replace characters that the terminal cannot show."""
        signals.install()
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="replace")
        return self.main(*args, **kwargs)

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run, and turn any exception into lines on stderr and an exit code."""
        kwargs["standalone_mode"] = False
        given = args[0] if args else kwargs.get("args")
        self.debug = "--debug" in (sys.argv[1:] if given is None else given)
        try:
            with warnings.catch_warnings():
                warnings.showwarning = partial(_warn, debug=self.debug)
                # Output of the command, which PYTHONWARNINGS must not hide:
                warnings.simplefilter("always", LbiWarning)
                result = super().main(*args, **kwargs)
                sys.stdout.flush()
        except click.exceptions.Exit as stop:
            sys.exit(stop.exit_code)
        except (click.Abort, KeyboardInterrupt):
            click.echo("interrupted", err=True)
            sys.exit(signals.EXIT_CODE)
        except BrokenPipeError:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - the reader has closed the pipe
            sys.exit(signals.EXIT_CODE)
        except Exception as error:
            if self.debug:
                import traceback

                traceback.print_exc()
            code, lines = self._explain(error)
            for line in lines:
                click.echo(f"error: {line}", err=True)
            sys.exit(code)
        sys.exit(result if isinstance(result, int) else 0)

    def _explain(self, error: Exception) -> tuple[int, list[str]]:
        """Exit code and error lines of an exception."""
        if isinstance(error, click.ClickException):
            what = _one_line(error.format_message())
            return UsageError.exit_code, [f"usage: {self.name}: {what} (see {self.name} --help)"]
        if isinstance(error, LbiError):
            return error.exit_code, [str(problem) for problem in error.problems]
        if _lacks_memory(error):
            remedy = "fewer samples (--samples), a smaller network, or a higher limit of memory (ulimit -v)"
            return 1, [f"memory: not enough memory; fix: {remedy}"]
        if isinstance(error, OSError):
            what = os.strerror(error.errno) if error.errno else str(error)
            remedy = "check the path, its permissions and free space"
            return 3, [str(Problem("system", str(error.filename or "system"), what, remedy=remedy))]
        if unusable := list(_settings()):
            return UsageError.exit_code, unusable
        what = f"{type(error).__name__}: {_one_line(str(error))}"
        return 1, [f"internal: {what}; fix: run again with --debug and report it"]


def debugging() -> bool:
    """Whether the command that runs was called with ``--debug``; False outside of a command."""
    context = click.get_current_context(silent=True)
    return context is not None and isinstance(context.command, Command) and context.command.debug


def _lacks_memory(error: Exception) -> bool:
    """Whether memory ran out, while a library was loaded, too."""
    text = str(error).lower()
    loading = isinstance(error, ImportError | OSError) and (
        "failed to map" in text or "cannot allocate" in text
    )
    return isinstance(error, MemoryError) or loading or getattr(error, "errno", None) == errno.ENOMEM


def _settings() -> Iterator[str]:
    """Settings in the environment with which numba cannot run what this package compiles."""
    for name, works, allowed in (
        ("NUMBA_DISABLE_JIT", lambda number: number == 0, "0"),
        ("NUMBA_NUM_THREADS", lambda number: number > 0, "a number above 0"),
    ):
        value = os.environ.get(name, "")
        with suppress(ValueError):  # numba ignores a text
            if not works(int(value)):
                yield str(Problem("environment", name, value, allowed, f"unset {name}"))


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
    *,
    debug: bool,
) -> None:
    """Show this package's warnings as one line each; library warnings only with --debug."""
    ours = category.__module__.split(".")[0] == "lbi"
    if ours or debug:
        click.echo(f"warning: {'' if ours else category.__name__ + ': '}{_one_line(str(message))}", err=True)


def _one_line(text: str) -> str:
    return " ".join(text.split())


def common_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator: add ``--json``, ``--quiet``, ``--debug``, ``--version``; pass on ``as_json`` and ``quiet``.

    Args:
        function: the function of a command.

    Returns:
        The function with these options.
    """
    function = click.version_option(__version__, prog_name="lbi", message="%(prog)s %(version)s")(function)
    function = click.option(
        "--debug", is_flag=True, expose_value=False, help="Show the traceback of an error."
    )(function)
    function = click.option("--quiet", "-q", is_flag=True, help="Print errors only.")(function)
    return click.option(
        "--json", "as_json", is_flag=True, help="Print one JSON object on stdout and nothing else."
    )(function)


def emit_json(record: dict[str, Any]) -> None:
    """Print one JSON object on stdout.

    Args:
        record: plain values, arrays and paths; NaN and infinity raise ValueError, since JSON has neither.
    """
    ascii_only = "utf" not in (sys.stdout.encoding or "").lower()
    click.echo(json.dumps(record, indent=2, ensure_ascii=ascii_only, allow_nan=False, default=_plain))


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "__fspath__"):
        return os.fspath(value)
    raise TypeError(f"not JSON: {type(value).__name__}")


def console(*, quiet: bool = False, stderr: bool = False) -> Console:
    """A rich console that honours NO_COLOR and prints plain text when the stream is not a terminal.

    Args:
        quiet: print nothing.
        stderr: print on stderr instead of stdout.

    Returns:
        The console.
    """
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    width = None if stream.isatty() else 120
    return Console(file=stream, quiet=quiet, highlight=False, width=width)


@contextmanager
def progress(description: str, total: int, *, show: bool) -> Iterator[Callable[..., None]]:
    """A progress bar on stderr, shown on terminals only. Logged lines are shown anywhere.

    Args:
        description: text before the bar.
        total: steps of the whole.
        show: False to show neither bar nor lines.

    Yields:
        ``advance(n=1, note="")``, to be called after n more steps, with a text behind the bar.
    """
    if not (show and sys.stderr.isatty()):
        with _logged_lines(show):
            yield lambda n=1, note="": None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with (
        signals.on_exit(_clear_bar),
        Progress(*columns, console=console(stderr=True), transient=True) as bar,
        _logged_lines(show),
    ):
        task = bar.add_task(description, total=total, note="")
        yield lambda n=1, note="": bar.update(task, advance=n, note=note)


@contextmanager
def _logged_lines(show: bool) -> Iterator[None]:
    """Show what the package logs (level INFO), a line each on stderr."""
    logger, handler = logging.getLogger("lbi"), _Lines(logging.INFO)
    level = logger.level
    if show:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


class _Lines(logging.Handler):
    """Handler that writes to the present stderr, which a progress bar replaces."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(record.getMessage(), err=True)


def _clear_bar() -> None:
    """Clear the line of the bar and show the cursor, past rich's own ``sys.stderr``, which would draw the bar again."""
    terminal = sys.__stderr__
    if terminal is not None:
        terminal.write("\r\x1b[2K\x1b[?25h")
        terminal.flush()
