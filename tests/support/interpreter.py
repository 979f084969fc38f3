"""The package's Triton kernels in Triton's interpreter on the CPU."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import pytest

from lbi.train.neurons import COMPILED

MODULES = (
    "lbi.train.layers.scan_cuda",
    "lbi.train.optim.fused_cuda",
    "lbi.train.neurons.arithmetic_cuda",
    *(f"lbi.train.neurons.{name}_cuda" for name, model in COMPILED.items() if model.kernels.cuda),
)
"""Modules with kernels, and those that launch them."""


@contextmanager
def interpreted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[ModuleType]]:
    """The first two of ``MODULES``, imported again so that their kernels are interpreted.

    Triton chooses between compiler and interpreter when a function is decorated. Its own library is already loaded, so the
    functions that the kernels take from it are decorated again.
    """
    triton = pytest.importorskip("triton")
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    for name in ("sum", "cumsum"):
        monkeypatch.setattr(triton.language, name, triton.jit(getattr(triton.language, name).fn))
    for name in MODULES:
        monkeypatch.delitem(sys.modules, name, raising=False)
    yield [importlib.import_module(name) for name in MODULES[:2]]
    for name in MODULES:
        sys.modules.pop(name, None)
