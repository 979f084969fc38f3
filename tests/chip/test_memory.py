"""Synaptic memory in bits: against nengo-loihi's counts, a worked example, and loops over axons."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lbi import CsrMatrix, FixedProjection, SignMode, load_profile
from lbi.chip.memory import RowFormat, host_bytes, projection_bits, row_format
from lbi.network.parts import Run

LOIHI1 = load_profile("loihi1")

# (targets, synapses in the row, weight bits, delay bits, format, bits): what nengo-loihi 1.1.0's
# SynapseConfig(weight_bits=…, idx_bits=…, compression=0 or 3, n_synapses=63, delay_bits=…).bits_per_axon(n)
# returned for random rows, idx_bits being the first of its INDEX_BITS_MAP (past 0) that addresses the targets.
# fmt: off
NENGO_LOIHI = [
    (219, 1, 4, 6, "dense", 64), (1008, 604, 4, 0, "indexed", 9088), (621, 374, 5, 0, "dense", 2240), (549, 271, 2, 6, "dense", 2496),
    (721, 166, 4, 0, "dense", 832), (960, 513, 2, 0, "dense", 1600), (859, 82, 4, 6, "dense", 896), (971, 283, 3, 0, "indexed", 3968),
    (675, 297, 1, 0, "indexed", 3584), (674, 25, 5, 0, "indexed", 448), (70, 25, 3, 0, "dense", 128), (904, 225, 2, 0, "dense", 704),
    (812, 75, 2, 0, "dense", 256), (928, 414, 4, 0, "indexed", 6208), (111, 62, 6, 0, "dense", 384), (483, 127, 1, 6, "indexed", 2112),
    (82, 50, 6, 0, "indexed", 704), (746, 382, 8, 0, "dense", 3392), (34, 5, 4, 6, "indexed", 128), (306, 31, 6, 6, "dense", 384),
    (641, 87, 3, 0, "indexed", 1216), (100, 75, 6, 0, "dense", 576), (993, 562, 3, 0, "indexed", 7872), (306, 290, 3, 6, "dense", 2880),
    (155, 129, 8, 0, "dense", 1216), (586, 515, 4, 0, "dense", 2624), (729, 227, 1, 0, "indexed", 2752), (543, 250, 6, 0, "indexed", 4224),
    (145, 24, 6, 0, "indexed", 384), (818, 686, 6, 0, "dense", 4800), (371, 325, 6, 6, "dense", 4288), (938, 790, 8, 0, "indexed", 15040),
    (499, 482, 6, 0, "dense", 3392), (925, 552, 5, 0, "indexed", 8832), (622, 258, 8, 0, "dense", 2368), (894, 721, 5, 6, "indexed", 15872),
    (486, 33, 5, 0, "dense", 192), (884, 609, 6, 0, "indexed", 10368), (161, 104, 4, 0, "dense", 512), (937, 439, 8, 0, "dense", 3968),
    (86, 46, 4, 0, "indexed", 576), (859, 737, 1, 0, "indexed", 8832), (138, 117, 5, 6, "indexed", 2304), (356, 84, 6, 6, "dense", 1088),
    (67, 8, 1, 6, "dense", 128), (163, 147, 5, 0, "dense", 896), (893, 424, 1, 6, "indexed", 7616), (207, 61, 5, 0, "indexed", 832),
    (906, 701, 8, 6, "dense", 10496), (177, 71, 8, 0, "indexed", 1216), (368, 279, 1, 0, "dense", 576), (30, 10, 6, 0, "dense", 128),
    (585, 412, 3, 0, "indexed", 5760), (951, 908, 8, 0, "dense", 8192), (402, 96, 8, 0, "dense", 896), (198, 94, 6, 0, "indexed", 1408),
    (621, 180, 8, 0, "indexed", 3392), (325, 186, 1, 6, "dense", 1472), (120, 34, 1, 0, "indexed", 320), (304, 44, 2, 0, "dense", 128),
]
# fmt: on


def projection(dense: np.ndarray, bits: int = 8, delay: int = 0) -> FixedProjection:
    weights = CsrMatrix.from_dense(dense.astype(np.int16))
    return FixedProjection("p", "input", "a", weights, SignMode.MIXED, num_weight_bits=bits, delay=delay)


def per_row(rng: np.random.Generator, n_out: int, n_in: int, density: float) -> np.ndarray:
    return np.where(rng.random((n_out, n_in)) < density, 2, 0)


@pytest.mark.parametrize("case", NENGO_LOIHI, ids=str)
def test_rows_equal_nengo_loihi(case):
    n_targets, n, weight_bits, delay_bits, kind, expected = case
    rows = row_format(projection(np.full((1, 1), 2), weight_bits, 1 if delay_bits else 0), LOIHI1.layout)
    assert rows.bits_per_synapse == weight_bits + delay_bits
    bits = rows.dense_bits(1, n) if kind == "dense" else rows.indexed_bits([n], n_targets)
    assert bits == expected


@given(
    n=st.integers(0, 5000),
    bits=st.integers(1, 30),
    header=st.integers(0, 40),
    word=st.sampled_from([1, 8, 32, 64]),
    block=st.sampled_from([None, 1, 7, 64]),
)
def test_a_row_is_its_blocks_written_out(n, bits, header, word, block):
    """Block by block in Python ints, as a chip's compiler would lay the row out."""
    expected, rest = 0, n
    while rest > 0:
        here = rest if block is None else min(rest, block)
        raw = here * bits + header
        expected += (raw + word - 1) // word * word
        rest -= here
    assert int(RowFormat(bits, header, word, block, (6,), 0).row_bits(n, bits)) == expected


def test_worked_example():
    """512 inputs, 256 targets, 8 bits, 26 synapses per axon (10 %).

    dense:   4 blocks of 64 · 8 + 10 = 522 → 576 bits; 4 · 576 = 2304 per axon; 512 · 2304 = 1,179,648
    indexed: 8 bits of index (2^8 = 256 targets): 26 · 16 + 10 = 426 → 448 per axon; 512 · 448 = 229,376
    """
    rng = np.random.default_rng(0)
    dense = np.zeros((256, 512))
    for source in range(512):
        dense[rng.choice(256, 26, replace=False), source] = 2
    bits = projection_bits(projection(dense), {"a": 256}, LOIHI1)
    assert (bits.dense, bits.indexed, bits.chosen, bits.bits) == (1_179_648, 229_376, "indexed", 229_376)
    assert bits.dense / LOIHI1.layout.capacity.number == 1.125  # does not fit a core
    # CSR on the host, rows = targets: 13,312 · (1 + 4) + 257 · 4; a dense array of bytes: 512 · 256
    assert host_bytes(projection(dense)).csr == 13_312 * 5 + 257 * 4
    assert host_bytes(projection(dense)).dense == 131_072
    # The same with one row per axon instead (facts: 68,612 and 108,548 bytes).
    assert host_bytes(projection(dense.T)).csr == 68_612
    assert host_bytes(projection(dense.T), value_bytes=4).csr == 108_548


CROSSOVER = {
    8: (0.60, 0.56, 0.53, 0.50, 0.47),
    6: (0.54, 0.50, 0.47, 0.44, 0.41),
    4: (0.45, 0.42, 0.38, 0.36, 0.33),
}
"""Weight bits → the density below which the indexed format is smaller, at 64, 128, 256, 512, 1024 targets."""


@pytest.mark.parametrize("weight_bits", CROSSOVER)
@pytest.mark.parametrize("column", range(5))
def test_crossover_density(weight_bits, column):
    """The table is exact to 0.02 (stated with it) and rounded to 0.01: 0.025 beside it the choice is certain."""
    n_out, crossover = 64 << column, CROSSOVER[weight_bits][column]
    rng = np.random.default_rng(7)

    def chosen(density: float) -> str:
        drawn = projection(per_row(rng, n_out, 400, density), weight_bits)
        return projection_bits(drawn, {"a": n_out}, LOIHI1).chosen

    assert chosen(crossover - 0.025) == "indexed"
    assert chosen(crossover + 0.025) == "dense"


def test_a_target_larger_than_a_core_is_split():
    """1500 targets on cores of 1024: each source has a row on both cores where it has synapses."""
    dense = np.zeros((1500, 3))
    dense[[0, 1023], 0] = dense[1024, 1] = 2
    bits = projection_bits(projection(dense), {"a": 1500}, LOIHI1)
    # source 0: 2 synapses of 8 + 10 bits on core 0: 46 → 64; source 1: one on core 1: 27 → 64; source 2: none
    assert bits.indexed == 128
    # per source 16 blocks of 576 on core 0; 476 = 7 · 64 + 28 targets on core 1: 7 · 576 + (28 · 8 + 10 → 256)
    assert bits.dense == 3 * (16 * 576 + 7 * 576 + 256)


def test_dense_is_not_chosen_where_it_needs_more_axons_than_a_core_has():
    wide = projection(np.full((1, 5000), 2), bits=8)
    assert LOIHI1.limits.input_axons_per_core.limit == 4096
    bits = projection_bits(wide, {"a": 1}, LOIHI1)
    assert bits.chosen == "indexed"


def test_seven_bits_are_stored_as_eight_on_loihi_1():
    assert row_format(projection(np.ones((1, 1)) * 2, bits=7), LOIHI1.layout).bits_per_synapse == 8


def test_the_lava_log_layout_stores_an_index_even_in_dense_rows():
    """20 bits per synapse (8 + 12) and one header of 11 per row, padded to 64: 100 · 20 + 11 = 2011 → 2048."""
    loihi2 = load_profile("loihi2")
    layout = next(layout for layout in loihi2.memory if layout.name == "lava_log")
    bits = projection_bits(projection(np.full((100, 4), 2)), {"a": 100}, loihi2, layout)
    assert bits.dense == bits.indexed == 4 * 2048


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 0.5))
def test_synapses_per_source_counts_columns(seed, density):
    rng = np.random.default_rng(seed)
    dense = per_row(rng, 20, int(rng.integers(1, 200)), density)
    start, stop = sorted(rng.integers(0, 21, 2))
    sources, counts = projection(dense).weights.synapses_per_source(Run(int(start), int(stop)))
    expected = {j: int(np.count_nonzero(dense[start:stop, j])) for j in range(dense.shape[1])}
    assert dict(zip(sources.tolist(), counts.tolist(), strict=True)) == {
        j: n for j, n in expected.items() if n
    }
