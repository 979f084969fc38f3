"""Atomic writes leave the old or the new output, and a signal ends a command with nothing left behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lbi.errors import InputError
from lbi.system import atomic
from lbi.system.atomic import atomic_write, check_writable, scratch_folder

FULL = OSError(errno.ENOSPC, "No space left on device")


def listing(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def write_folder(path: Path, text: str) -> None:
    path.mkdir()
    (path / "a").write_text(text)
    (path / "b").write_text(text)


@pytest.mark.parametrize("name", ["out", "a b", "größe", "x" * 255, "ü" * 127])
def test_a_file_gets_its_name_when_it_is_complete(name, tmp_path):
    for text in ("first", "second"):
        with atomic_write(tmp_path / name) as new:
            new.write_text(text)
            assert new.parent == tmp_path
            assert text == "first" or (tmp_path / name).read_text() == "first"
        assert (tmp_path / name).read_text() == text
    assert listing(tmp_path) == [name]


@pytest.mark.parametrize("exchange", ["by the system", "in steps"])
def test_a_folder_replaces_a_file_or_a_folder(exchange, tmp_path, monkeypatch):
    if exchange == "in steps":
        monkeypatch.setattr(atomic.ctypes, "CDLL", lambda _name: object())
    goal = tmp_path / "out"
    goal.write_text("a file")
    for text in ("first", "second"):
        with atomic_write(goal) as new:
            write_folder(new, text)
        assert listing(tmp_path) == ["out", "out/a", "out/b"]
        assert (goal / "b").read_text() == text
    with atomic_write(goal) as new:
        new.write_text("a file")
    assert listing(tmp_path) == ["out"]


def fail_half_way(goal: Path, error: BaseException) -> None:
    is_folder = goal.is_dir()
    with atomic_write(goal) as new:
        if is_folder:
            write_folder(new, "half")
        else:
            new.write_text("half")
        raise error


@pytest.mark.parametrize("kind", ["file", "folder"])
@pytest.mark.parametrize("error", [FULL, ValueError("no"), KeyboardInterrupt()])
def test_an_error_leaves_the_old_output_and_nothing_else(kind, error, tmp_path):
    goal = tmp_path / "out"
    if kind == "file":
        goal.write_text("old")
    else:
        write_folder(goal, "old")
    before = listing(tmp_path)
    expected, message = (
        (InputError, "not-written: .*out: No space left") if error is FULL else (type(error), None)
    )
    with pytest.raises(expected, match=message):
        fail_half_way(goal, error)
    assert listing(tmp_path) == before
    assert (goal if kind == "file" else goal / "a").read_text() == "old"


def test_an_exchange_in_steps_that_fails_is_undone(tmp_path, monkeypatch):
    goal, new = tmp_path / "out", tmp_path / "new"
    write_folder(goal, "old")
    new.mkdir()
    rename = os.replace

    def fail_at_the_second(source, target):
        if source == new:
            raise FULL
        rename(source, target)

    monkeypatch.setattr(atomic.ctypes, "CDLL", lambda _name: object())
    monkeypatch.setattr(atomic.os, "replace", fail_at_the_second)
    with pytest.raises(OSError, match="No space left"):
        atomic._exchange(new, goal)
    assert listing(tmp_path) == ["new", "out", "out/a", "out/b"]


def test_errors_of_other_files_pass(tmp_path):
    with pytest.raises(FileNotFoundError, match="elsewhere"), atomic_write(tmp_path / "out"):
        (tmp_path / "elsewhere").read_text()


def test_a_link_is_followed(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "link").symlink_to("far/real")
    with atomic_write(tmp_path / "link") as new:
        new.write_text("content")
    assert (tmp_path / "link").is_symlink()
    assert listing(tmp_path) == ["far", "far/real", "link"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none/out", "folder-missing: .*no such folder"),
        ("file/out", "folder-missing: .*is a file"),
        ("/dev/null", "not-a-file: /dev/null: a device or a pipe"),
        ("y" * 256, "not-written: .*File name too long"),
        (
            "/sys/out",
            "not-written: /sys/out: (Permission denied|Operation not permitted|Read-only file system)",
        ),
    ],
)
def test_unwritable_paths_are_reported_before_any_work(path, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("")
    with pytest.raises(InputError, match=message):
        check_writable(path)
    with pytest.raises(InputError, match=message), atomic_write(path) as new:
        new.write_text("x")
    assert listing(tmp_path) == ["file"]


def test_a_folder_is_not_a_file(tmp_path):
    with pytest.raises(InputError, match="is-a-folder"):
        check_writable(tmp_path)


def test_a_scratch_folder_is_gone_afterwards():
    with scratch_folder() as folder:
        (folder / "x").write_text("")
    assert not folder.exists()


# A command that is busy when the tests below end it.
BUSY = """
import sys, time
from lbi.system import signals
signals.install()
from pathlib import Path
from lbi.system.atomic import atomic_write, scratch_folder
try:
    with atomic_write("out") as new, scratch_folder() as scratch:
        new.mkdir()
        (new / "a").write_text("new")
        (new / "scratch").write_text(str(scratch))
        print("ready", flush=True)
        try:
            for _ in range(600):  # Python 3.14 may miss a signal at the start of one long sleep
                time.sleep(0.1)
        except BaseException:  # as a careless library may
            for _ in range(600):
                time.sleep(0.1)
finally:
    print("unwound")
"""


def default_signals():
    """Undo ignored signals, which a child inherits from tests run in the background or under nohup."""
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_a_signal_ends_a_command_at_once_and_cleans_up(name, tmp_path):
    write_folder(tmp_path / "out", "old")
    busy = subprocess.Popen(
        [sys.executable, "-c", BUSY],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=default_signals,
    )
    assert busy.stdout.readline() == "ready\n"
    (note,) = tmp_path.glob(".out.*.tmp/scratch")
    scratch = Path(note.read_text())
    assert scratch.is_dir()
    busy.send_signal(getattr(signal, name))
    out, errors = busy.communicate(timeout=30)
    assert out == ""
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a", "b"}
    if name == "SIGKILL":
        assert busy.returncode == -signal.SIGKILL
        return
    assert (busy.returncode, errors) == (130, "interrupted\n")
    assert not scratch.exists()
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_compilation_works_without_a_writable_cache(tmp_path):
    """Without any folder for the cache, and with one on a full disk."""
    (tmp_path / "square.py").write_text(
        "from lbi.system.numba_cache import compiled\n@compiled()\ndef square(x):\n    return x * x\n"
    )
    (tmp_path / "__pycache__").write_text("in the way")
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))\n"
        "import square; print(square.square(7), type(square.square._cache).__name__)"
    )
    quiet = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/proc", "XDG_CACHE_HOME": "/proc"}
    found = []
    for folder in (tmp_path, "/proc"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={**quiet, "NUMBA_CACHE_DIR": str(folder)},
        )
        assert done.returncode == 0, done.stderr
        found.append(done.stdout.split())
    assert found == [["49", "_Cache"], ["49", "_NoCache"]]


def test_compilation_is_announced_once_and_always_without_a_cache(tmp_path):
    (tmp_path / "square.py").write_text(
        "import logging\nlogging.basicConfig(level=logging.INFO, format='%(message)s')\n"
        "from lbi.system.numba_cache import compiled\n"
        "@compiled('the square')\ndef square(x):\n    return x * x\n@compiled()\ndef fast(x):\n    return x\n"
    )
    (tmp_path / "__pycache__").write_text("in the way")
    quiet = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/proc", "XDG_CACHE_HOME": "/proc"}
    found = []
    for folder in (tmp_path, tmp_path, "/proc"):
        done = subprocess.run(
            [sys.executable, "-c", "import square; print(square.fast(square.square(7)), square.square(8))"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={**quiet, "NUMBA_CACHE_DIR": str(folder)},
        )
        assert done.stdout == "49 64\n", done.stderr
        found.append(done.stderr)
    assert found == [
        "compiling the square, once on this computer; the next start is faster\n",
        "",
        "compiling the square; set NUMBA_CACHE_DIR to a writable folder to keep it\n",
    ]


JITTED = "from numba import njit\n@njit\ndef inner(x):\n    return {factor} * x\n"
INTRINSIC = """
from numba import types
from numba.extending import intrinsic

@intrinsic
def inner(typing_context, x):
    def generate(context, builder, signature, args):
        return builder.mul(args[0], args[0].type({factor}))
    return types.int64(types.int64), generate
"""


@pytest.mark.parametrize("inner", [JITTED, INTRINSIC], ids=["jitted", "intrinsic"])
def test_the_cache_is_invalidated_when_a_compiled_callee_changes(tmp_path, inner):
    """numba itself only checks the file that defines the function."""
    (tmp_path / "outer.py").write_text(
        "from lbi.system.numba_cache import compiled\nfrom inner import inner\n@compiled()\ndef outer(x):\n    return inner(x)\n"
    )
    code = "from outer import outer; print(outer(7), sum(outer.stats.cache_hits.values()))"
    found = []
    for factor in (2, 2, 30):
        text = inner.format(factor=factor)
        if not (tmp_path / "inner.py").exists() or (tmp_path / "inner.py").read_text() != text:
            (tmp_path / "inner.py").write_text(text)
        done = subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache"), "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert done.returncode == 0, done.stderr
        found.append(done.stdout.split())
    assert found == [["14", "0"], ["14", "1"], ["210", "0"]]


def test_signals_that_are_ignored_at_the_start_stay_ignored(tmp_path):
    """As under nohup."""
    code = BUSY.replace("time.sleep(0.1)", "sys.exit(0)")
    code = f"import os, signal; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n{code}"
    code = code.replace("sys.exit(0)", "os.kill(os.getpid(), signal.SIGHUP); sys.exit(0)", 1)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert "interrupted" not in done.stderr
    assert "unwound" in done.stdout


STARTS = {
    "script": "from lbi.cli.programs import {0}; {0}()",  # what an installed lbi-{0} does
    "module": "import runpy; runpy.run_module('lbi.cli.{0}', run_name='__main__', alter_sys=True)",
}


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize("command", ["train", "export", "run", "estimate"])
def test_ctrl_c_while_a_command_still_loads(command, start, tmp_path):
    """It arrives inside the first large import, which here would also swallow an exception."""
    (tmp_path / "click.py").write_text(
        "import os, signal, time\ntry:\n    os.kill(os.getpid(), signal.SIGINT); [time.sleep(0.1) for _ in range(600)]\nexcept BaseException:\n    pass\n"
    )
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-c", STARTS[start].format(command)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "interrupted\n")
