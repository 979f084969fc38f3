"""The simulator's 32-bit decay against Python's integers of any size."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st
from numba import njit

from lbi.simulation.kernels import decayed


@njit
def all_decayed(states, keep):
    return np.array([decayed(x, keep) for x in states])


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1, max_size=50), st.integers(0, 4096))
@example([-(2**31), 2**31 - 1, -(2**23), 2**23, -4097, -4096, -4095, -1, 0, 1], 4096)
@example([-(2**31), 2**31 - 1, -(2**23), 2**23, -4097, -4096, -4095, -1, 0, 1], 4095)
def test_a_decay_is_the_truncated_product(states, keep):
    wanted = [(abs(x) * keep >> 12) * (-1 if x < 0 else 1) for x in states]
    assert all_decayed(np.array(states, np.int32), np.uint32(keep)).tolist() == wanted
