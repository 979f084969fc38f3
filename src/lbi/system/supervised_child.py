"""Entry point of supervised children: runs a script by path, in an interpreter that may lack this package.

    python supervised_child.py PREFIX PARENT_PID SCRIPT [ARGUMENT ...]

Shared memory of the script gets names with PREFIX, so that it can be found and freed. The whole process group ends
when the parent is gone. The script ends when a process started by it dies of an exception, for which Lava would wait
forever. Lava is patched for newer Pythons (``lava_compat``). Standard library only.
"""

import os
import sys
from typing import Any

FAILED = 70
"""Exit code after an exception in a process that the script started (EX_SOFTWARE of sysexits.h)."""


GONE_S = 1.0
"""Seconds that killed processes may take to disappear before their shared memory is freed."""


def main() -> None:
    """Run SCRIPT as ``__main__``."""
    prefix, parent, script, *arguments = sys.argv[1:]
    # A script started by path would first import modules from beside this file.
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(os.path.abspath(script)), *(path for path in sys.path if path != here)]
    import multiprocessing.shared_memory as shared_memory
    import runpy
    import threading

    patch_lava(os.path.join(here, "lava_compat.py"))
    # Lava has no option for the names. macOS, which has no /dev/shm, limits them to 14 characters.
    if os.path.isdir("/dev/shm"):
        names: Any = shared_memory
        names._SHM_NAME_PREFIX = "/" + prefix
        names._SHM_SAFE_NAME_LENGTH = len(prefix) + 17
    failures, report = os.pipe()
    report_failures(report)
    threading.Thread(target=watch, args=(int(parent), prefix, failures), daemon=True).start()
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


def patch_lava(path: str) -> None:
    """Install the patches of the file beside this one; the interpreter may lack the package that holds it.

    Args:
        path: the file ``lava_compat.py``.
    """
    import importlib.util

    spec: Any = importlib.util.spec_from_file_location("lava_compat", path)
    # Dataclasses look their module up by name.
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.install()


def report_failures(report: int) -> None:
    """Make every process started from here print its exception, which Lava would swallow, and write to ``report``.

    Args:
        report: file descriptor of a pipe, open for writing, that takes one byte per failure.
    """
    import traceback
    from multiprocessing.process import BaseProcess

    run = BaseProcess.run

    def run_and_report(self: Any) -> None:
        try:
            run(self)
        except Exception:
            traceback.print_exc()
            sys.stderr.flush()
            os.write(report, b"!")
            raise

    process: Any = BaseProcess
    process.run = run_and_report


def watch(parent: int, prefix: str, failures: int) -> None:
    """End this process group when ``parent`` no longer is the parent, and this process after a failure.

    A process in a separate session then frees the shared memory, when the group is dead.

    Args:
        parent: process id of the parent.
        prefix: start of the names of the shared memory blocks to free.
        failures: file descriptor of a pipe, open for reading, in which a byte stands for a failure.
    """
    import select
    import signal
    import time

    while os.getppid() == parent:
        if select.select([failures], [], [], 0.25)[0]:
            os._exit(FAILED)
    group = os.getpgrp()
    if os.fork() == 0:
        os.setsid()
        os.killpg(group, signal.SIGKILL)
        for _ in range(10):
            free_shared_memory(prefix)
            time.sleep(GONE_S / 10)
        os._exit(0)


def free_shared_memory(prefix: str) -> int:
    """Unlink all shared memory blocks of a prefix.

    Args:
        prefix: start of the blocks' names in ``/dev/shm``.

    Returns:
        Number of blocks found; 0 where there is no ``/dev/shm``.
    """
    if not os.path.isdir("/dev/shm"):
        return 0
    names = [name for name in os.listdir("/dev/shm") if name.startswith(prefix)]
    for name in names:
        try:
            os.unlink("/dev/shm/" + name)
        except FileNotFoundError:
            continue
    return len(names)


if __name__ == "__main__":
    main()
