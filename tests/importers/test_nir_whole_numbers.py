"""Numbers of NIR nodes that must be whole: arrays, texts and fractions are refused by name."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from lbi.errors import InputError
from lbi.importers.nir_nodes import LINEAR
from lbi.importers.signal import Signal

CONV = {
    "weight": np.ones((2, 2, 3, 3)),
    "bias": np.zeros(2),
    "stride": 1,
    "padding": 1,
    "dilation": 1,
    "groups": 1,
}
POOL = {"kernel_size": np.array([2, 2]), "stride": np.array([2, 2]), "padding": 0}
FLATTEN = {"start_dim": 0, "end_dim": -1}
NODES = {"Conv2d": CONV, "SumPool2d": POOL, "AvgPool2d": POOL, "Flatten": FLATTEN}
WRONG = [np.ones(3, int), np.zeros(0), "two", 1.5, np.nan, 1e30, None, np.array([[1, 2], [3, 4]])]
FREE = {"weight", "bias"}


def result(kind, **changed):
    signal = Signal.spikes("input", (2, 4, 4))
    return LINEAR[kind](SimpleNamespace(**{**NODES[kind], **changed}), signal, 1.0)


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind, node in NODES.items() for name in node if name not in FREE]
)
def test_whole_numbers(kind, name):
    assert result(kind) is not None
    for wrong in WRONG:
        if name == "padding" and isinstance(wrong, str):
            continue  # a text there names a padding
        with pytest.raises(InputError, match=r"nir-parameter: .*whole number"):
            result(kind, **{name: wrong})
