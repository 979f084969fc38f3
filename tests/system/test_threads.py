"""Threads of the kernels: how many, the pool, and OpenMP threads that sleep early unless the user decided otherwise."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading

import pytest

from lbi.system.threads import SPIN_COUNT, bound_spinning, share


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, SPIN_COUNT),
        ({"GOMP_SPINCOUNT": "7"}, "7"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, None),
        ({"OMP_WAIT_POLICY": "ACTIVE", "GOMP_SPINCOUNT": "7"}, "7"),
    ],
)
def test_a_setting_of_the_user_wins(given, expected, monkeypatch):
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    bound_spinning()
    assert os.environ.get("GOMP_SPINCOUNT") == expected


def test_training_sets_it_before_torch_is_loaded():
    pytest.importorskip("torch")
    code = (
        "import sys, os, builtins; real = builtins.__import__\n"
        "def spy(name, *rest):\n"
        "    if name == 'torch' and 'torch' not in sys.modules: print(os.environ.get('GOMP_SPINCOUNT'))\n"
        "    return real(name, *rest)\n"
        "builtins.__import__ = spy\n"
        "import lbi.train"
    )
    environment = {
        key: value for key, value in os.environ.items() if key not in {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"}
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.split()[0] == SPIN_COUNT


def claimed(n_threads: int, n: int) -> list[int]:
    """The pieces that ``n_threads`` threads took, with a claim that is atomic under the lock."""
    counter, lock, taken = itertools.count(), threading.Lock(), []

    def work() -> None:
        while True:
            with lock:
                piece = next(counter)
                if piece >= n:
                    return
                taken.append(piece)

    share(work, n_threads)
    return taken


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_every_piece_is_taken_once(n_threads):
    for n in (0, 1, 7, 300):
        assert sorted(claimed(n_threads, n)) == list(range(n))


def test_threads_work_at_the_same_time():
    meeting = threading.Barrier(3, timeout=60)
    share(meeting.wait, 3)  # raises BrokenBarrierError unless three threads are inside at once
    assert not meeting.broken


def test_a_thread_that_wakes_too_late_is_not_waited_for():
    release = threading.Event()
    held = threading.Thread(target=share, args=(lambda: release.wait(60), 2))
    held.start()  # it and the pool's thread wait inside
    late: list[int] = []
    try:
        share(lambda: late.append(threading.get_ident()), 2)
        assert late[0] == threading.get_ident()
    finally:
        release.set()
        held.join()


@pytest.mark.parametrize("n_threads", [1, 4])
def test_an_error_reaches_the_caller_and_the_pool_goes_on(n_threads):
    def fail() -> None:
        raise ValueError("no such piece")

    with pytest.raises(ValueError, match="no such piece"):
        share(fail, n_threads)
    assert sorted(claimed(n_threads, 20)) == list(range(20))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_has_a_pool_of_its_own():
    claimed(3, 10)
    pid = os.fork()
    if pid == 0:
        os._exit(0 if sorted(claimed(3, 50)) == list(range(50)) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
