"""Settings and limits of the process with which a command cannot run are named."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from support import cases

from lbi.cli.run import main
from lbi.files import network_h5


@pytest.mark.parametrize(("name", "value"), [("NUMBA_DISABLE_JIT", "1"), ("NUMBA_NUM_THREADS", "0")])
def test_a_setting_with_which_nothing_is_compiled_is_named(name, value, tmp_path):
    fixed, spikes = cases.make("feed_forward")
    network_h5.save(fixed, tmp_path / "network.h5")
    np.savez(tmp_path / "s.npz", spikes=spikes)
    program = "from lbi.cli.programs import run; run()"
    arguments = ["network.h5", "--backend", "sim", "--spikes", "s.npz"]
    done = subprocess.run(
        ["env", f"{name}={value}", sys.executable, "-c", program, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: environment: {name}: {value}; allowed: ")
    assert line.endswith(f"fix: unset {name}")


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        ImportError("libtorch_cpu.so: failed to map segment from shared object"),
        OSError(12, "Cannot allocate memory"),
    ],
)
def test_too_little_memory_is_named(error, monkeypatch):
    code, (line,) = main._explain(error)
    assert (code, line.partition(";")[0]) == (1, "memory: not enough memory")


def test_settings_are_not_blamed_for_other_errors(monkeypatch):
    monkeypatch.setenv("NUMBA_NUM_THREADS", "many")
    monkeypatch.setenv("NUMBA_DISABLE_JIT", "0")
    assert main._explain(RuntimeError("x"))[1][0].startswith("internal: RuntimeError: x")
