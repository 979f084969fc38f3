"""Start a script as a supervised child: run by path, in an interpreter that may lack this package.

    python child.py PREFIX PARENT_PID SCRIPT [ARGUMENT ...]

Names the shared memory that the script makes with PREFIX, so that it can be found and freed, and ends the
whole process group when the parent is gone. Standard library only.
"""

import os
import sys
from typing import Any


def main() -> None:
    """Run SCRIPT as ``__main__``."""
    prefix, parent, script, *arguments = sys.argv[1:]
    # Started by path, Python would look for modules beside this file first (profile.py is also a stdlib name).
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [os.path.dirname(os.path.abspath(script)), *(path for path in sys.path if path != here)]
    import multiprocessing.shared_memory as shared_memory
    import runpy
    import threading

    # Lava offers no say in the names; 14 letters are a limit of macOS, which has no /dev/shm.
    if os.path.isdir("/dev/shm"):
        names: Any = shared_memory
        names._SHM_NAME_PREFIX = "/" + prefix
        names._SHM_SAFE_NAME_LENGTH = len(prefix) + 17
    threading.Thread(target=watch, args=(int(parent), prefix), daemon=True).start()
    sys.argv = [script, *arguments]
    runpy.run_path(script, run_name="__main__")


def watch(parent: int, prefix: str) -> None:
    """End this process group as soon as ``parent`` no longer is the parent."""
    import signal
    import time

    while os.getppid() == parent:
        time.sleep(0.25)
    free_shared_memory(prefix)
    os.killpg(os.getpgrp(), signal.SIGKILL)


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
