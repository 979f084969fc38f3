"""Claims of compiled code: every piece is taken once, by its own thread while that has some."""

from __future__ import annotations

import threading

import numpy as np
import pytest

pytest.importorskip("numba")

from numba import njit

from lbi.system.claims import claim, claim_near, turns_of_shares
from lbi.system.threads import number, share


@njit(nogil=True)
def take_all(taken, turns):
    piece = claim(turns)
    while piece < len(taken):
        taken[piece] += 1
        piece = claim(turns)


@njit(nogil=True)
def take_near(taken, takers, order, turns, own):
    piece, rank = claim_near(turns, len(taken), own), 0
    while piece >= 0:
        taken[piece] += 1
        takers[piece] = own
        order[piece] = rank
        piece, rank = claim_near(turns, len(taken), own), rank + 1


@pytest.mark.parametrize("n_threads", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [0, 1, 2, 5, 64, 1000])
def test_every_piece_is_claimed_once(n, n_threads):
    taken, turns = np.zeros(n, np.int64), np.zeros(1, np.int64)
    share(lambda: take_all(taken, turns), n_threads)
    near, shares = np.zeros(n, np.int64), turns_of_shares(n_threads)
    rest = np.zeros((2, n), np.int64)
    share(lambda: take_near(near, rest[0], rest[1], shares, number()), n_threads)
    assert np.array_equal(taken, np.ones(n))
    assert np.array_equal(near, np.ones(n))


@pytest.mark.parametrize("own", [0, 1, 2, 3, 11])
def test_a_thread_takes_its_own_share_first_and_then_those_of_the_others(own):
    n, n_shares = 10, 3
    taken, takers, order = (np.zeros(n, np.int64) for _ in range(3))
    take_near(taken, takers, order, turns_of_shares(n_shares), own)
    bounds = [k * n // n_shares for k in range(n_shares + 1)]
    shares = [range(*bounds[k : k + 2]) for k in range(n_shares)]
    expected = [piece for k in range(n_shares) for piece in shares[(own + k) % n_shares]]
    assert np.argsort(order).tolist() == expected


def test_a_thread_of_the_pool_keeps_its_number():
    seen: list[list[int]] = []
    for _ in range(5):
        meeting, numbers = threading.Barrier(2, timeout=60), []

        def work(meeting=meeting, numbers=numbers) -> None:
            numbers.append(number())
            meeting.wait()

        share(work, 2)
        seen.append(sorted(numbers))
    assert number() == 0
    assert all(first == 0 and other > 0 for first, other in seen)
