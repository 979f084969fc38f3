"""Numbers as text: every figure keeps its digits, and no two different ones look equal where they are compared."""

from __future__ import annotations

import pytest
from support.handmade_networks import two_layer_network

from lbi.costing.estimation import estimate
from lbi.costing.recorded_budget import RecordedUse
from lbi.costing.report.figures import bits, count, duration, energy, times
from lbi.costing.report.sources import source_note


@pytest.mark.parametrize(
    ("pj", "text"),
    [
        (0.0, "0 pJ"),
        (999.4, "999 pJ"),
        (999.5, "1 nJ"),
        (999.7, "1 nJ"),
        (1000.0, "1 nJ"),
        (999_600.0, "1 µJ"),
        (12_345.0, "12.3 nJ"),
        (9.996e14, "1,000 J"),
    ],
)
def test_energies_take_the_unit_of_the_rounded_figure(pj, text):
    assert energy(pj) == text


@pytest.mark.parametrize(
    ("kib", "text"),
    [(1023.94, "1,023.9 KiB"), (1023.96, "1.0 MiB"), (1023.97 * 1024, "1.0 GiB"), (2.0**31, "2,048.0 GiB")],
)
def test_memory_takes_the_unit_of_the_rounded_figure(kib, text):
    assert bits(kib * 8192).endswith(f" ({text})")


def test_times_too():
    assert (duration(999.9), duration(9.999e5)) == ("1 µs", "1 ms")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (0.004, "0.004"),
        (0.0049, "0.0049"),
        (0.01, "0.01"),
        (3.14159, "3.14"),
        (999.999, "1,000"),
        (12_345.6, "12,346"),
        (7.0, "7"),
    ],
)
def test_small_counts_are_not_0(value, text):
    assert count(value) == text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [(0.004, "0.004 ×"), (1.0, "1.00 ×"), (99.994, "99.99 ×"), (99.996, "100 ×"), (258.4, "258 ×")],
)
def test_ratios_keep_two_digits(ratio, text):
    assert times(ratio, 1.0) == text


@pytest.mark.parametrize(
    ("use", "text"),
    [
        (RecordedUse("energy", 40, 38.2149, "nJ", True, "x"), "energy 38.21 of 40 nJ (x), met"),
        (RecordedUse("energy", 40, 40.003, "nJ", False, "x"), "energy 40.003 of 40 nJ (x), NOT MET"),
        (RecordedUse("energy", 40, 40.0, "nJ", True), "energy 40 of 40 nJ, met"),
        (RecordedUse("synops", 1_234_567, 1_234_568.0, "", False), "synops 1,234,568 of 1,234,567, NOT MET"),
        (RecordedUse("cores", 1, None, "", False), "cores no placement of 1, NOT MET"),
    ],
)
def test_a_use_that_exceeds_its_limit_shows_it(use, text):
    assert str(use) == text


def test_prices_of_the_table_name_their_sources():
    fixed, spikes = two_layer_network()
    loihi1, loihi2 = (source_note(estimate(fixed, spikes=spikes, chip=chip)) for chip in ("loihi1", "loihi2"))
    assert "energy: Davies 2018, Table 2 (published); SANA-FE fit (third-party)" in loihi1
    assert "static energy: F20 Table 1 (derived); B19 Table 1 (published)" in loihi1
    assert "Sources: time: Loihi 1 times, divided by Intel's ratios (derived, published)" in loihi2
    assert "energy per synaptic operation: MMF25" in loihi2
    assert "(inferred)" in loihi2
