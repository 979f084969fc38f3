"""The trace's columns add up to the report's figures."""

from __future__ import annotations

import csv
import io

import numpy as np
from support.handmade_networks import population, projection

from lbi import FixedNetwork, Readout
from lbi.costing.estimation import estimate
from lbi.costing.report.trace import COLUMNS, TraceWriter
from lbi.quantization.compaction import compact


def test_dense_synops_are_those_of_the_network_as_trained():
    """a1 has no targets and goes. Input 0 spikes in steps 0 and 1: dense 2 · 2 weights onto a, sparse 2 · 1.

    a0 spikes in its steps 0 and 1 too: 2 · 1 weight onto b.
    """
    fixed = FixedNetwork(
        (1,),
        (population("a", 2, latency=1), population("b", 1, latency=2)),
        (projection("input", "a", [[2], [2]]), projection("a", "b", [[2, 0]])),
        Readout("b"),
        "loihi1",
    )
    small = compact(fixed)
    assert small.population("a").n == 1
    text = io.StringIO()
    writer = TraceWriter(csv.writer(text))
    found = estimate(
        small,
        spikes=np.array([[[1], [1], [0]]], dtype=np.uint8),
        on_activity=lambda start, activity: writer.add("net", small, start, activity),
    )
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in csv.reader(io.StringIO(text.getvalue()))]

    def total(name: str, column: str) -> int:
        return sum(int(row[column]) for row in rows if row["name"] == name and row["kind"] == "projection")

    first, second = (p.name for p in small.projections)
    assert (total(first, "synops_dense"), total(first, "synops_sparse")) == (4, 2)
    assert (total(second, "synops_dense"), total(second, "synops_sparse")) == (2, 2)
    assert [p.synops_dense_per_step * 3 for p in found.projections] == [4, 2]
