"""A target: the synapses as a list of edges, one line each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

TITLE = "edges as text: source neuron, target neuron, mantissa"
SUFFIX = ".edges"
TAKES = "fixed"


def check(job: Any) -> list[Any]:
    """Any network can be listed."""
    return []


def export(job: Any, path: Path) -> None:
    """Write the file."""
    lines = []
    for projection in job.fixed.projections:
        weights = projection.weights.to_csr()
        for row, column, value in zip(weights.row_of(), weights.indices, weights.data, strict=True):
            lines.append(f"{projection.source}[{column}] {projection.target}[{row}] {value}\n")
    path.write_text("".join(lines))
