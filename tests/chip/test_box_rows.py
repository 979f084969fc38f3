"""Counted rows of boxes against the listed ones of the same boxes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.random_kernels import convolution

from lbi import FixedProjection, SignMode, load_profile
from lbi.chip.box_rows import BoxRows
from lbi.chip.memory import INDEXED, SHARED, entries, row_format, shared_bits
from lbi.network.parts import Box


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
@pytest.mark.parametrize("kind", [INDEXED, SHARED])
@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_counts_are_those_of_the_list(chip, kind, seed):
    """Many boxes of one map, so that kinds of boxes come again at other places."""
    rng = np.random.default_rng(seed)
    weights = convolution(rng, (int(rng.integers(1, 4)), *(int(n) for n in rng.integers(3, 12, 2))))
    projection = FixedProjection("p", "input", "a", weights, SignMode.MIXED)
    layout = load_profile(chip).layout
    rows = BoxRows(projection, kind, layout)
    for _ in range(40):
        starts = [int(rng.integers(0, n)) for n in weights.output_shape]
        stops = [int(rng.integers(a, n)) + 1 for a, n in zip(starts, weights.output_shape, strict=True)]
        box = Box(weights.output_shape, *zip(starts, stops, strict=True))
        sources, counts = entries(projection, kind, layout).synapses_per_source(box)
        if kind == SHARED:
            bits = shared_bits(projection, box, layout)
        else:
            bits = row_format(projection, layout).indexed_bits(counts, box.n)
        assert rows.measure(box) == (bits, sources.size)
