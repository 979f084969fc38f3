"""The pool of threads of the compiled kernels, whose waiting threads sleep, and those of OpenMP."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

SPIN_COUNT = "1000"
"""Iterations that a waiting thread of GNU's OpenMP runtime spins before it sleeps; its own default is 300,000."""


def bound_spinning() -> None:
    """Let waiting OpenMP threads sleep early, unless the user set ``GOMP_SPINCOUNT`` or ``OMP_WAIT_POLICY``.

    Threads of torch's runtime that spin while others compute cost little on an idle machine but multiply the
    run time on a busy one. The runtime reads the variable when it is loaded, so this only has an effect before
    ``import torch``. The kernels of this package do not depend on it: they use ``share``.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


class _Region:
    """One call of ``share``: the threads inside it, and whether others may still enter."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.work = work
        self.error: BaseException | None = None
        self._lock = threading.Lock()
        self._ended = threading.Lock()
        self._ended.acquire()
        self._inside = 0
        self._closed = False

    def enter(self) -> None:
        """Take part, unless the region is closed."""
        with self._lock:
            if self._closed:
                return
            self._inside += 1
        try:
            self.work()
        except BaseException as error:  # raised where ``share`` was called
            self.error = error
        self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._inside -= 1
            if self._closed and self._inside == 0:
                self._ended.release()

    def close(self) -> None:
        """Let no further thread enter, and wait for those inside, also if interrupted."""
        with self._lock:
            self._closed = True
            waits = self._inside > 0
        interrupt: BaseException | None = None
        while waits:
            try:
                self._ended.acquire()
                waits = False
            except BaseException as error:  # the threads inside still use the caller's arrays
                interrupt = error
        if interrupt is not None:
            raise interrupt


class _Pool:
    """Threads that sleep until a region is offered; they end with the process."""

    def __init__(self) -> None:
        self._offered: SimpleQueue[_Region] = SimpleQueue()
        self._n_threads = 0
        self._lock = threading.Lock()

    def offer(self, region: _Region, n: int) -> None:
        """Wake ``n`` threads for a region, starting them where they are missing."""
        if self._n_threads < n:
            with self._lock:
                while self._n_threads < n:
                    self._n_threads += 1
                    name = f"lbi-{self._n_threads}"
                    threading.Thread(
                        target=self._serve, name=name, args=(self._n_threads,), daemon=True
                    ).start()
        for _ in range(n):
            self._offered.put(region)

    def _serve(self, number: int) -> None:
        _this.number = number
        while True:
            self._offered.get().enter()


_this = threading.local()
_pool = _Pool()


def number() -> int:
    """The number of the calling thread: from 1 on in the pool, 0 elsewhere."""
    return getattr(_this, "number", 0)


def _forget() -> None:
    """Start with a new pool in a forked process, which has none of its parent's threads."""
    global _pool
    _pool = _Pool()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def share(work: Callable[[], object], n_threads: int) -> None:
    """Call ``work`` in this thread and in up to ``n_threads − 1`` others at once.

    ``work`` claims pieces of the work until none is left and returns; it should release the GIL meanwhile. A thread that
    wakes when all pieces are claimed does not take part and is not waited for, so on a busy machine this thread does
    alone what the others are not scheduled for.

    Args:
        work: the function; its result is ignored.
        n_threads: threads that can be kept busy.

    Raises:
        BaseException: the first error of any of the calls.
    """
    if n_threads <= 1:
        work()
        return
    region = _Region(work)
    _pool.offer(region, n_threads - 1)
    try:
        work()
    finally:
        region.close()
    if region.error is not None:
        raise region.error
