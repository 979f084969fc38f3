"""Start a script as a supervised child: run by path, in an interpreter that may lack this package.

    python child.py PREFIX PARENT_PID SCRIPT [ARGUMENT ...]

Names the shared memory that the script makes with PREFIX, so that it can be found and freed; ends the whole
process group when the parent is gone; and ends the script when a process that it has started dies of an
exception, which Lava would wait for without end. Lava itself is patched for newer Pythons (``lava_compat``). Standard
library only.
"""

import os
import sys
from typing import Any

FAILED = 70
"""Exit code when a process of the script's own died of an exception (EX_SOFTWARE of sysexits.h)."""


GONE_S = 1.0
"""How long killed processes may take to disappear before their shared memory is freed."""


def main() -> None:
    """Run SCRIPT as ``__main__``."""
    prefix, parent, script, *arguments = sys.argv[1:]
    # Started by path, Python would look for modules beside this file first (profile.py is also a stdlib name).
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(os.path.abspath(script)), *(path for path in sys.path if path != here)]
    import multiprocessing.shared_memory as shared_memory
    import runpy
    import threading

    patch_lava(os.path.join(here, "lava_compat.py"))
    # Lava offers no say in the names; 14 letters are a limit of macOS, which has no /dev/shm.
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
    """Install the patches of the file beside this one; the interpreter may lack the package that holds it."""
    import importlib.util

    spec: Any = importlib.util.spec_from_file_location("lava_compat", path)
    # Dataclasses look their module up by name.
    sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.install()


def report_failures(report: int) -> None:
    """Let every process started from here print its exception and write to ``report`` (Lava catches it)."""
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

    The last one out frees the shared memory: a process in a session of its own, when the group is dead.
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
    """Unlink every shared memory block of that prefix; returns how many there were."""
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
