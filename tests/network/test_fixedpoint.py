"""Every integer primitive against a slow oracle in Python ints, with hand-picked edges."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lbi.network import fixedpoint
from lbi.network.fixedpoint import IntFormat

LIMIT = 2**23
STATE = st.integers(-LIMIT, LIMIT)
INT32 = st.integers(-(2**31), 2**31 - 1)


def to_int32(x: int) -> int:
    return (x + 2**31) % 2**32 - 2**31


@given(STATE, st.integers(0, 4096))
@example(-1, 1)
@example(1, 4095)
@example(LIMIT - 1, 0)
@example(-LIMIT + 1, 4096)
def test_decay_shifts_the_magnitude_and_keeps_the_sign(state, d):
    magnitude = abs(state) * (4096 - d) // 4096
    assert int(fixedpoint.decay(np.array(state), d)) == (magnitude if state >= 0 else -magnitude)


@given(INT32)
@example(LIMIT)
@example(LIMIT + 1)
@example(-LIMIT)
@example(-LIMIT + 1)
@example(2**31 - 1)
@example(-(2**31))
def test_wrap24(x):
    # lava-nc: above 2^23 subtract 2^24; then, at or below −2^23, the unwrapped value plus 2^24
    expected = x - 2 * LIMIT if x > LIMIT else x
    expected = x + 2 * LIMIT if expected <= -LIMIT else expected
    assert int(fixedpoint.wrap24(np.array(x))) == to_int32(expected)


@given(st.integers(-(2**40), 2**40))
@example(LIMIT - 1)
@example(LIMIT)
@example(-LIMIT)
def test_clip24(x):
    assert int(fixedpoint.clip24(np.array(x))) == max(-LIMIT + 1, min(LIMIT - 1, x))


@given(st.integers(-(2**30), 2**30), st.integers(-8, 7))
@example(-1, -1)
@example(1, -1)
@example(2**30, 7)
def test_shift_floors_and_keeps_32_bits(x, exponent):
    expected = x << exponent if exponent > 0 else x >> -exponent
    assert int(fixedpoint.shift(np.array(x), exponent)) == to_int32(expected)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0, 0), (0.9, 0), (1.0, 0), (1.1, 2), (3.0, 4), (-3.0, -4), (253.9, 254), (900, 254), (-900, -254)],
)
def test_rounding_to_the_even_grid(value, expected):
    assert int(IntFormat(-254, 254, step=2).round(value)) == expected


def test_a_format_tells_what_it_holds():
    values = np.array([-256, -254, -1, 0, 2, 255])
    assert IntFormat(-254, 254, step=2).holds(values).tolist() == [False, True, False, True, True, False]
