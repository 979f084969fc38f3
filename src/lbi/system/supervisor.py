"""Supervised child processes that cannot hang, leak or outlive their parent.

Lava hangs when a process model fails, never exits without ``stop()``, and leaves shared memory behind when killed. So
a script that uses it gets its own session and a time limit. After success, an error, a time-out, Ctrl-C or the death of
the parent, no process of its group and no shared memory is left.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from lbi.errors import BackendError, Rule
from lbi.system import supervised_child
from lbi.system.signals import on_exit

POLL_S = 0.02
"""Seconds between checks whether the child has ended."""

TAIL_LINES = 3
"""Number of last lines of a failed child's output in the error."""

INTERPRETER = Rule("interpreter", "a Python interpreter", "set LBI_LAVA_PYTHON to one that has lava-nc")
IN_TIME = Rule(
    "timed-out", fix="a longer limit (--timeout) or fewer samples (--samples); --debug shows its output"
)
SUCCEEDED = Rule("child-failed", fix="{fix}")

LOOK = "run again with --debug to see its output"
NOT_FOUND = "ModuleNotFoundError: "


def run_script(
    script: Path,
    arguments: Sequence[str],
    *,
    where: str,
    timeout_s: float,
    python: str | None = None,
    echo: bool = False,
    while_running: Callable[[], None] | None = None,
) -> None:
    """Run ``python script arguments…`` in a supervised child and wait for it to succeed.

    Args:
        script: the script; it runs in its own folder.
        arguments: its arguments.
        where: name of the child in errors.
        timeout_s: time limit in seconds.
        python: the interpreter, which may lack this package; None for the current one.
        echo: repeat the child's output on stderr afterwards.
        while_running: called repeatedly until the child has ended.

    Raises:
        BackendError: with the child's last lines if it fails, and with "timed out after N s" if it exceeds the limit.
    """
    prefix = f"lbi{secrets.token_hex(6)}-"
    ours = [supervised_child.__file__, prefix, str(os.getpid())]
    command = [python or sys.executable, "-u", *ours, str(script), *arguments]
    with tempfile.TemporaryFile() as log:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=Path(script).parent,
                start_new_session=True,
            )
        except OSError as error:
            raise BackendError(
                INTERPRETER.broken(command[0], f"cannot be started ({error.strerror})")
            ) from error
        try:
            with on_exit(partial(_end, process.pid, prefix)):
                in_time = _wait(process, timeout_s, while_running)
        finally:
            process.wait()
        log.seek(0)
        output = log.read().decode("utf-8", "replace")
    if echo:
        sys.stderr.write(output)
    if not in_time:
        raise BackendError(IN_TIME.broken(where, f"timed out after {timeout_s:g} s{_tail(output)}"))
    code = process.returncode
    if code != 0:
        ended = (
            f"ended by signal {signal.Signals(-code).name}" if code < 0 else f"failed with exit code {code}"
        )
        lacks = output.rstrip().rpartition("\n")[2].startswith(NOT_FOUND)
        fix = f"install it for {command[0]} (docs/howto/lava.md)" if lacks else LOOK
        raise BackendError(SUCCEEDED.broken(where, f"{ended}{_tail(output)}", fix=fix))


def _wait(
    process: subprocess.Popen[bytes], timeout_s: float, while_running: Callable[[], None] | None
) -> bool:
    """True when the child has ended, False when the time limit is reached."""
    deadline = time.monotonic() + timeout_s
    while not _has_ended(process):
        left = deadline - time.monotonic()
        if left <= 0:
            return False
        time.sleep(min(POLL_S, left))
        if while_running is not None:
            while_running()
    return True


def _has_ended(process: subprocess.Popen[bytes]) -> bool:
    """True when the child has ended.

    It is not reaped yet, so its process id cannot be reused and still identifies its group; except on macOS before
    Python 3.13, which has no ``waitid``.
    """
    if not hasattr(os, "waitid"):
        return process.poll() is not None
    return bool(os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT))


def _end(group: int, prefix: str) -> None:
    """Kill the child's process group, wait for it, unlink its shared memory.

    This may run inside a signal handler, and twice, so it neither reaps the child nor takes a lock of ``subprocess``.
    """
    with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: EPERM for a group of zombies
        os.killpg(group, signal.SIGKILL)
    if hasattr(os, "waitid"):
        os.waitid(os.P_PID, group, os.WEXITED | os.WNOWAIT)
    deadline = time.monotonic() + supervised_child.GONE_S
    while _is_alive(group) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    supervised_child.free_shared_memory(prefix)


def _is_alive(group: int) -> bool:
    """True if a process of the group is alive; zombies do not count."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _parent, of_group, *_ = stat.read_text().rpartition(")")[2].split()
            if int(of_group) == group and state not in "ZX":
                return True
    return not Path("/proc/self").exists()


def _tail(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return ": " + " | ".join(lines[-TAIL_LINES:]) if lines else ""
