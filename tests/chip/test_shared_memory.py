"""Memory of convolutions whose rows or kernels are stored once per core, by hand count."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import lbi.hardware
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.random_kernels import convolution

from lbi import FixedProjection, SignMode, load_profile
from lbi.chip.memory import SHARED, bits_on_cores, can_share, entries, projection_bits, shared_bits
from lbi.chip.schema import read_profile
from lbi.errors import InputError
from lbi.network.convolution import Convolution
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.parts import Box, Run

LOIHI1, LOIHI2 = load_profile("loihi1"), load_profile("loihi2")
LAVA_LOG = next(layout for layout in LOIHI2.memory if layout.name == "lava_log")


def projection(kernel: np.ndarray, shape: tuple[int, int, int], **more) -> FixedProjection:
    options = {"stride": (1, 1), "padding": (0, 0)} | more
    weights = ConvolutionWeights(Convolution(np.asarray(kernel, dtype=np.int16), **options), shape)
    return FixedProjection("p", "input", "a", weights, SignMode.MIXED)


def sized(p: FixedProjection) -> dict[str, int]:
    return {"a": p.weights.shape[0]}


def test_rows_of_a_3_by_3_convolution():
    """1 × 8 × 8, padding 1, one kernel of 9 weights of 8 bits; 64 targets: an index of 6 bits, 14 bits a synapse.

    An input under the kernel of all outputs lies under taps {0, 1, 2} of an axis, at the ends under {0, 1} and {1, 2}:
    9 distinct rows of 4, 4, 4, 4 (corners), 6, 6, 6, 6 (edges) and 9 synapses.
    4 · 14 + 10 = 66 → 128; 6 · 14 + 10 = 94 → 128; 9 · 14 + 10 = 136 → 192 bits
    unrolled: 4 corners, 24 edges, 36 inside: 28 · 128 + 36 · 192; dense: 64 rows of 64 · 8 + 10 = 522 → 576
    """
    p = projection(np.full((1, 1, 3, 3), 2), (1, 8, 8), padding=(1, 1))
    bits = projection_bits(p, sized(p), LOIHI1)
    assert bits.shared == 8 * 128 + 192
    assert bits.indexed == 28 * 128 + 36 * 192
    assert bits.dense == 64 * 576
    assert (bits.chosen, bits.bits, bits.unrolled) == (SHARED, 8 * 128 + 192, 28 * 128 + 36 * 192)


def test_rows_of_a_convolution_with_stride_2():
    """1 × 8 × 8 → 4 × 4, kernel 2 × 2: an input lies under one tap, (0 or 1, 0 or 1): 4 distinct rows of one synapse."""
    p = projection(np.full((1, 1, 2, 2), 2), (1, 8, 8), stride=(2, 2))
    bits = projection_bits(p, sized(p), LOIHI1)
    assert (bits.shared, bits.indexed) == (4 * 64, 64 * 64)


def test_zeros_of_a_kernel_are_not_in_shared_rows():
    """Two of nine weights are left, a corner (0, 0) and the middle (1, 1). No padding: 8 × 8 → 6 × 6, 36 targets: 6 bits.

    An input lies under the corner, the middle, or both: three rows, however the border cuts the zeros of the kernel.
    One synapse takes 14 + 10 → 64 bits, two take 2 · 14 + 10 = 38 → 64.
    """
    kernel = np.zeros((1, 1, 3, 3))
    kernel[0, 0, 0, 0], kernel[0, 0, 1, 1] = 2, -4
    p = projection(kernel, (1, 8, 8))
    bits = projection_bits(p, sized(p), LOIHI1)
    assert bits.shared == 3 * 64
    assert bits.indexed == (36 + 36 - 25) * 64  # 36 inputs under each tap, 25 under both


def test_a_tile_has_the_rows_of_its_own_border():
    """Columns 0 to 3 of 8 targets of a kernel of 3, padding 1: inputs 0 to 4 under taps {0,1}, {0,1,2} · 2, {1,2}, {2}.

    Input x is under tap j of output x + 1 − j. Output 0: inputs 0, 1 (taps 1, 2); 1: 0–2; 2: 1–3; 3: 2–4.
    Input 0: taps 0 (of output 1), 1; 1: 0, 1, 2; 2: 0, 1, 2; 3: 1, 2; 4: 2. Rows: {0,1}, {0,1,2}, {1,2}, {2}: 2 + 3 + 2 + 1 synapses.
    """
    p = projection(np.full((1, 1, 1, 3), 2), (1, 1, 8), padding=(0, 1))
    tile = Box((1, 1, 8), (0, 1), (0, 1), (0, 4))
    sources, counts = p.weights.synapses_per_source(tile)
    assert dict(zip(sources.tolist(), counts.tolist(), strict=True)) == {0: 2, 1: 3, 2: 3, 3: 2, 4: 1}
    assert shared_bits(p, tile, LOIHI1.layout) == 4 * 64
    assert bits_on_cores(p, [tile], LOIHI1.layout, SHARED).indexed == 5 * 64
    assert shared_bits(p, Run(0, 4), LOIHI1.layout) == 4 * 64  # the same neurons as a run


def test_kernels_on_loihi_2():
    """6 → 4 channels in 2 groups, 3 × 3, 8 bits: one row per input channel, of the group's 2 output channels: 18 weights.

    first layout: 18 · 8 + 10 = 154 → 192, six rows; lava_log: 18 · 8 + 11 = 155 → 192. Half of the weights are zero: stored too.
    Of output channels 1 to 2 each group has one: 9 · 8 + 10 = 82 → 128, six rows; of channel 3 only the second group's inputs have rows.
    """
    kernel = np.where(np.arange(4 * 3 * 9) % 2, 2, 0).reshape(4, 3, 3, 3)
    p = projection(kernel, (6, 8, 8), groups=2, padding=(1, 1))
    assert projection_bits(p, sized(p), LOIHI2).shared == 6 * 192
    assert projection_bits(p, sized(p), LOIHI2, LAVA_LOG).shared == 6 * 192
    assert shared_bits(p, Box((4, 8, 8), (1, 3), (0, 8), (0, 8)), LOIHI2.layout) == 6 * 128
    assert shared_bits(p, Box((4, 8, 8), (3, 4), (2, 4), (0, 8)), LOIHI2.layout) == 3 * 128
    assert shared_bits(p, Run(3 * 64 + 5, 3 * 64 + 20), LOIHI2.layout) == 3 * 128


def test_shared_kernels_are_read_with_their_zeros_and_shared_rows_without():
    """3 × 3 with one weight on 4 × 4 without padding: 4 synapses; all 9 places of 4 outputs are 36 reads."""
    kernel = np.zeros((1, 1, 3, 3))
    kernel[0, 0, 1, 1] = 2
    p = projection(kernel, (1, 4, 4))
    assert entries(p, SHARED, LOIHI1.layout).nnz == 4
    assert entries(p, SHARED, LOIHI2.layout).nnz == 36
    assert entries(p, "indexed", LOIHI2.layout).nnz == 4


def test_pooling_of_16_channels():
    """2 × 2 sums of 16 channels: 4 taps · 16 channels = 64 rows of one synapse on Loihi 1, 16 rows of 4 weights on Loihi 2."""
    p = projection(np.full((16, 1, 2, 2), 64), (16, 16, 16), stride=(2, 2), groups=16)
    assert projection_bits(p, sized(p), LOIHI1).shared == 64 * 64
    assert projection_bits(p, sized(p), LOIHI2).shared == 16 * 64  # 4 · 8 + 10 = 42 → 64


def test_a_chip_without_the_rule_charges_the_unrolled_form():
    layout = dataclasses.replace(LOIHI1.layout, shared=None)
    chip = dataclasses.replace(LOIHI1, memory=(layout,))
    p = projection(np.full((1, 1, 3, 3), 2), (1, 8, 8), padding=(1, 1))
    bits = projection_bits(p, sized(p), chip)
    assert not can_share(p, layout)
    assert (bits.shared, bits.chosen, bits.bits, bits.unrolled) == (
        None,
        "indexed",
        bits.indexed,
        bits.indexed,
    )
    assert bits.indexed == projection_bits(p, sized(p), LOIHI1).unrolled


def test_the_rule_of_a_file_is_one_of_two():
    text = (Path(lbi.hardware.__path__[0]) / "loihi1.toml").read_text(encoding="utf-8")
    assert read_profile(text, "chip.toml", dict).layout.sharing == "rows"
    wrong = text.replace('shared = { value = ["rows"]', 'shared = { value = ["columns"]')
    with pytest.raises(InputError, match=r'memory.loihi1.shared.*\["rows"\] or \["kernels"\]'):
        read_profile(wrong, "chip.toml", dict)
    line = next(line for line in text.splitlines() if line.startswith("shared = "))
    unknown = text.replace(line, 'shared = { unit = "forms", source = "D18", confidence = "not published" }')
    assert read_profile(unknown, "chip.toml", dict).layout.sharing is None


@given(st.integers(0, 2**32 - 1))
def test_shared_rows_never_take_more_than_unrolled_ones(seed):
    rng = np.random.default_rng(seed)
    weights = convolution(rng, (int(rng.integers(1, 4)), *(int(n) for n in rng.integers(3, 10, 2))))
    p = FixedProjection("p", "input", "a", weights, SignMode.MIXED)
    spans = [sorted(rng.choice(n + 1, 2, replace=False)) for n in weights.output_shape]
    box = Box(weights.output_shape, *((int(first), int(last)) for first, last in spans))
    bits = bits_on_cores(p, [box], LOIHI1.layout, SHARED)
    assert 0 <= bits.shared <= bits.indexed
