"""Supervised children cannot hang, leak or outlive their parent; their failures are one clear problem."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lbi.errors import BackendError
from lbi.system import supervisor
from lbi.system.supervisor import run_script

SHARED_MEMORY = Path("/dev/shm")

# Like a Lava network that hangs: shared memory, and a grandchild that ignores polite signals.
HANGING = """
import os, pathlib, signal, sys, time
from multiprocessing.shared_memory import SharedMemory
block = SharedMemory(create=True, size=4096)
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
here = pathlib.Path(sys.argv[1])
(here / str(os.getpid())).write_text(block.name)
print("building the network", flush=True)
time.sleep(600)
"""


@pytest.fixture
def hanging(tmp_path):
    """The script, and the folder in which its processes note their number and shared memory."""
    (tmp_path / "notes").mkdir()
    (tmp_path / "hanging.py").write_text(HANGING)
    return tmp_path / "hanging.py", tmp_path / "notes"


@pytest.fixture(params=["waitid", "no waitid"])
def waiting(request, monkeypatch):
    """Both ways to see that a child has ended; macOS has no ``os.waitid`` before Python 3.13."""
    if request.param == "no waitid":
        monkeypatch.delattr(os, "waitid")


def wait_for_notes(notes: Path) -> list[Path]:
    deadline = time.monotonic() + 30
    while len(found := [path for path in notes.iterdir() if path.read_text()]) < 2:
        assert time.monotonic() < deadline, "the child did not start"
        time.sleep(0.02)
    return found


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in "ZX"


def assert_nothing_left(notes: Path) -> None:
    noted = list(notes.iterdir())
    assert len(noted) == 2
    blocks = [SHARED_MEMORY / path.read_text().lstrip("/") for path in noted]

    def left() -> list[object]:
        return [path for path in noted if is_running(int(path.name))] + [b for b in blocks if b.exists()]

    deadline = time.monotonic() + 10
    while left() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left() == []


@pytest.mark.usefixtures("waiting")
def test_timeout_ends_everything(hanging):
    script, notes = hanging
    with pytest.raises(BackendError, match=r"timed out after 3 s: .*building the network") as caught:
        run_script(script, [str(notes)], where="backend lava", timeout_s=3)
    assert caught.value.exit_code == 5
    assert_nothing_left(notes)


def test_shared_memory_is_named_after_the_run(hanging):
    script, notes = hanging
    with pytest.raises(BackendError, match="timed out"):
        run_script(script, [str(notes)], where="x", timeout_s=3)
    names = {path.read_text() for path in notes.iterdir()}
    assert all(name.lstrip("/").startswith("lbi") for name in names)


def test_interrupt_ends_everything(hanging, monkeypatch):
    script, notes = hanging

    def interrupted(*_):
        wait_for_notes(notes)
        raise KeyboardInterrupt

    monkeypatch.setattr(supervisor, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run_script(script, [str(notes)], where="x", timeout_s=60)
    assert_nothing_left(notes)


def test_our_own_death_ends_everything(hanging):
    """Killed with SIGKILL, we cannot clean up: the child's watch does."""
    script, notes = hanging
    code = (
        "import sys; from pathlib import Path; from lbi.system.supervisor import run_script;"
        f"run_script(Path({str(script)!r}), [{str(notes)!r}], where='x', timeout_s=300)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        wait_for_notes(notes)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert_nothing_left(notes)


@pytest.mark.usefixtures("waiting")
def test_traceback_comes_back(tmp_path, capfd):
    (tmp_path / "bad.py").write_text("print('first'); raise ValueError('weights are bad')\n")
    with pytest.raises(
        BackendError, match=r"failed with exit code 1: .*ValueError: weights are bad"
    ) as caught:
        run_script(tmp_path / "bad.py", [], where="backend lava", timeout_s=60)
    assert len(caught.value.problems) == 1
    assert "first" not in capfd.readouterr().err
    with pytest.raises(BackendError, match="weights are bad"):
        run_script(tmp_path / "bad.py", [], where="backend lava", timeout_s=60, echo=True)
    assert "first\nTraceback (most recent call last):" in capfd.readouterr().err


def test_an_exception_in_a_grandchild_ends_the_wait(tmp_path):
    """Lava catches what its processes raise, and then waits for them without end."""
    (tmp_path / "bad.py").write_text(
        "import multiprocessing, threading\n"
        "class Quiet(multiprocessing.Process):\n"
        "    def run(self):\n"
        "        try:\n"
        "            super().run()\n"
        "        except Exception:\n"
        "            pass\n"
        "def fail():\n"
        "    raise ValueError('a bad parameter')\n"
        "if __name__ == '__main__':\n"
        "    multiprocessing.set_start_method('fork')\n"
        "    Quiet(target=fail).start()\n"
        "    threading.Event().wait()\n"
    )
    with pytest.raises(BackendError, match=r"failed with exit code 70: .*ValueError: a bad parameter"):
        run_script(tmp_path / "bad.py", [], where="x", timeout_s=60)


@pytest.mark.usefixtures("waiting")
def test_death_by_signal_is_named(tmp_path):
    (tmp_path / "bad.py").write_text("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)\n")
    with pytest.raises(BackendError, match="ended by signal SIGSEGV"):
        run_script(tmp_path / "bad.py", [], where="x", timeout_s=60)


@pytest.mark.usefixtures("waiting")
def test_success_leaves_no_grandchild(tmp_path):
    """A script that ends while a process of its own goes on (Lava without stop())."""
    note = tmp_path / "note"
    (tmp_path / "good.py").write_text(
        "import os, sys, time, pathlib\n"
        "if os.fork() == 0:\n"
        f"    pathlib.Path({str(note)!r}).write_text(str(os.getpid())); time.sleep(600)\n"
        f"while not pathlib.Path({str(note)!r}).exists() or not pathlib.Path({str(note)!r}).read_text(): pass\n"
        "os._exit(0)\n"
    )
    run_script(tmp_path / "good.py", [], where="x", timeout_s=60)
    assert not is_running(int(note.read_text()))


def test_arguments_name_and_modules_are_the_scripts_own(tmp_path):
    """Run by path from our folder, a script must not find our modules (profile.py) for the stdlib's."""
    out = tmp_path / "out"
    (tmp_path / "beside.py").write_text("HERE = 1\n")
    (tmp_path / "script.py").write_text(
        "import sys, os, profile, beside, pathlib\n"
        "assert __name__ == '__main__' and hasattr(profile, 'Profile') and beside.HERE\n"
        f"pathlib.Path({str(out)!r}).write_text(repr(sys.argv[1:]) + os.getcwd())\n"
    )
    run_script(tmp_path / "script.py", ["a", "b c"], where="x", timeout_s=60)
    assert out.read_text() == "['a', 'b c']" + os.path.realpath(tmp_path)


def test_an_interpreter_without_this_package_will_do(tmp_path):
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} -S -I "$@"\n')
    python.chmod(0o755)
    (tmp_path / "script.py").write_text(
        "import importlib.util, sys\nassert importlib.util.find_spec('lbi') is None\n"
        "open('done', 'w').close()\n"
    )
    run_script(tmp_path / "script.py", [], where="x", timeout_s=60, python=str(python))
    assert (tmp_path / "done").exists()


def test_a_package_that_the_interpreter_lacks_is_to_be_installed_there(tmp_path):
    (tmp_path / "script.py").write_text("import no_such_package\n")
    fix = rf"No module named 'no_such_package'; fix: install it for {sys.executable} \(docs/howto/lava\.md\)$"
    with pytest.raises(BackendError, match=fix):
        run_script(tmp_path / "script.py", [], where="x", timeout_s=60, python=sys.executable)


def test_missing_interpreter(tmp_path):
    with pytest.raises(BackendError, match=r"interpreter: .*no-python: cannot be started") as caught:
        run_script(tmp_path / "s.py", [], where="x", timeout_s=1, python=str(tmp_path / "no-python"))
    assert caught.value.exit_code == 5
