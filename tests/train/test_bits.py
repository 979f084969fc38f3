"""Masks of nonzeros, which the training kernels find spikes with."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("numba")

from lbi.train.layers.event_linear import pack  # noqa: E402


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.bool, torch.int16, torch.int64, torch.float32, torch.float64]
)
@pytest.mark.parametrize("n", [1, 63, 64, 65, 200])
def test_events_are_where_rows_are_not_zero(dtype, n):
    """NumPy's nonzeros, also of −0.0 (zero) and NaN (not zero), and at both ends of a mask."""
    generator = torch.Generator().manual_seed(n)
    rows = (torch.rand(50, n, generator=generator) < 0.2).to(dtype)
    rows[0, 0], rows[1, -1] = 1, 1
    if dtype.is_floating_point:
        rows[2], rows[3, n // 2] = -0.0, float("nan")
    events = pack(rows, 64)
    assert events is not None
    expected = rows.numpy().nonzero()
    assert np.array_equal(np.repeat(np.arange(50), np.diff(events[0].numpy())), expected[0])
    assert np.array_equal(events[1].numpy(), expected[1])
