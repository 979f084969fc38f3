"""Locks of outputs: one process writes, and a dead one holds nothing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys

import pytest
from support.command import call

from lbi.errors import InputError
from lbi.system.locks import only_writer

HOLD = """
import sys, time
from pathlib import Path
from lbi.system.locks import only_writer
with only_writer(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(600)
"""


def test_a_second_writer_is_refused_until_the_first_ends_however_it_ends(tmp_path):
    goal = tmp_path / "model.pt"
    with subprocess.Popen([sys.executable, "-c", HOLD, goal], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(InputError, match=r"in-use: .*model\.pt: another process is writing it"):
            only_writer(goal).__enter__()
        process.kill()
    (left,) = tmp_path.iterdir()
    assert left.name.startswith(".model.pt.")
    with only_writer(goal):
        pass
    assert list(tmp_path.iterdir()) == []


def test_names_are_locked_one_by_one_and_links_as_their_target(tmp_path):
    (tmp_path / "link.pt").symlink_to(tmp_path / "model.pt")
    long = ["x" * 250 + end for end in ("ab", "cd")]
    with only_writer(tmp_path / "model.pt"), only_writer(tmp_path / long[0]), only_writer(tmp_path / long[1]):
        for taken in ("link.pt", long[0]):
            with pytest.raises(InputError, match="in-use"):
                only_writer(tmp_path / taken).__enter__()


def test_a_lock_that_its_holder_removed_meanwhile_is_taken_again(tmp_path, monkeypatch):
    from lbi.system import locks

    lock, removed = locks.locked, []

    def late(path):
        file = lock(path)
        if not removed:
            removed.append(path.unlink())
        return file

    monkeypatch.setattr(locks, "locked", late)
    with only_writer(tmp_path / "model.pt"), pytest.raises(InputError, match="in-use"):
        only_writer(tmp_path / "model.pt").__enter__()
    assert len(removed) == 1


def test_without_fcntl_nothing_is_locked(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with only_writer(tmp_path / "a"), only_writer(tmp_path / "a"):
        pass


def test_a_file_system_without_locks_is_used_without_them(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")

    def fails(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", fails)
    with only_writer(tmp_path / "a"), only_writer(tmp_path / "a"):
        pass


def test_two_trainings_to_one_output_are_refused(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    from lbi.cli.train import main

    arguments = ("--epochs", "0", "--hidden", "4", "-o", tmp_path / "model.pt", "-q")
    with only_writer(tmp_path / "model.pt"):
        done = call(main, *arguments)
    assert (done.code, [line[:13] for line in done.errors]) == (3, ["error: in-use"])
    with only_writer(tmp_path / "model.pt"), only_writer(tmp_path / "m.csv"):
        missing = ("--dataset", tmp_path / "missing.npz")  # refused before any data is loaded
        done = call(main, *arguments, "--metrics", tmp_path / "m.csv", *missing)
    assert (done.code, [line.partition("; ")[0] for line in done.errors]) == (
        3,
        [
            f"error: in-use: {tmp_path / name}: another process is writing it"
            for name in ("model.pt", "m.csv")
        ],
    )
    assert call(main, *arguments).code == 0
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]
