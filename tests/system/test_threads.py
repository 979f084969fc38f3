"""Waiting threads sleep early, unless the user decided otherwise."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from lbi.system.threads import SPIN_COUNT, bound_spinning


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
