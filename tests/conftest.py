"""Shared fixtures. ``tests/support`` holds the helpers; pytest puts ``tests`` on the path (pyproject.toml)."""

from __future__ import annotations

import re
import signal
import warnings
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from lbi.system import lava_compat
from lbi.system.threads import bound_spinning

# Started in the background or under nohup, we would hand ignored signals on to the commands that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)


# Tests import Lava in this process, too; on newer Pythons it needs its patches.
lava_compat.install()

bound_spinning()  # test modules load torch before lbi.train

# Without torch the tests of training are left out; all others run.
TORCH_IMPORT = re.compile(
    r"^(import torch|from torch|import lbi\.train|from lbi\.train|from support import peers|from support.peers)",
    re.MULTILINE,
)
collect_ignore = [
    str(path)
    for path in Path(__file__).parent.rglob("test_*.py")
    if not find_spec("torch") and TORCH_IMPORT.search(path.read_text(encoding="utf-8"))
]

settings.register_profile(
    "default", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
settings.load_profile("default")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let Lava be first to set multiprocessing's start method: it insists, and other frameworks set it too."""
    if len({item.path for item in items}) > 1 and find_spec("lava"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import lava.magma.runtime.message_infrastructure.multiprocessing  # noqa: F401


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(1)
