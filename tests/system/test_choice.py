"""Choices in compiled code: the same bits as a branch, and plain stores without AVX-512."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import numpy as np
import pytest
from numba import njit

from lbi.system.choice import chosen, written

NUMBERS = np.array([0.0, -0.0, 1.5, np.inf, -np.inf, np.nan, 1e-45], np.float32)


@njit
def choose(condition, first, second):
    return chosen(condition, first, second)


@njit
def write(flags, numbers, held):
    for i in range(flags.size):
        held[i] = written(flags[i], numbers[i], held[i])


def test_a_choice_is_one_of_both():
    assert choose(True, np.int32(3), np.int32(4)) == 3
    assert choose(False, np.int32(3), np.int32(4)) == 4


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_held_numbers_keep_their_bits(dtype):
    new, old = (pairs.reshape(-1).astype(dtype) for pairs in np.meshgrid(NUMBERS, NUMBERS))
    for flag in (0, 1):
        held = old.copy()
        write(np.full(new.size, flag, np.uint8), new, held)
        assert held.tobytes() == (new if flag else old).tobytes()


COMPILED = """
import numpy as np
from numba import njit
from lbi.simulation import kernels
from lbi.train.neurons import atrlif_kernels
from lbi.train.optim import fused_cpu

def refractory(a, u, v, wait, bias, parameters, spikes, active):
    return kernels.lif_refractory(a, u, v, wait, bias, parameters, spikes, active)

def numbers(*shape):
    return np.ones(shape, np.float32)

step, forward, refractory = (
    njit(function, error_model="numpy")
    for function in (fused_cpu._adam_held.py_func, atrlif_kernels.forward.py_func, refractory)
)
step(*[numbers(64)] * 5, np.ones(64, np.uint8), 2, numbers(12))
forward(numbers(2, 3, 64), numbers(0, 0), np.zeros(0, np.int64), numbers(7, 64), numbers(4, 2, 3, 64), np.zeros(1, np.int64))
refractory(*np.ones((5, 64), np.int32), np.ones(6, np.int64), *np.ones((2, 64), np.uint8))
for function in (step, forward, refractory):
    for code in function.inspect_asm().values():
        print(function.py_func.__name__, "ymm" in code, sum("maskmov" in line and line.rstrip().endswith(")") for line in code.split("\\n")))
"""


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="instructions of x86-64")
def test_without_avx512_no_loop_of_states_stores_under_a_mask():
    avx2 = "+sse4.2,+popcnt,+avx,+avx2,+fma,+bmi,+bmi2"
    variables = {**os.environ, "NUMBA_CPU_NAME": "znver3", "NUMBA_CPU_FEATURES": avx2}
    found = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, env=variables, check=False
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines() == ["_adam_held True 0", "forward True 0", "refractory True 0"]
