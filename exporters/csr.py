"""``--target csr``: a folder of plain arrays, as input for other compilers.

``weights/<projection>.npz`` can be read with ``scipy.sparse.load_npz``; ``bias_mant/<population>.npy`` holds bias
mantissas, ``delay/<projection>.npy`` delays per synapse in steps, ``manifest.json`` everything else.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lbi.files import plain_json
from lbi.network.fixed import FixedPopulation, FixedProjection

if TYPE_CHECKING:
    from lbi.exporters import Job

    from lbi.errors import Problem

TITLE = "folder of scipy CSR matrices (.npz) and a manifest, in chip integers"
SUFFIX = ".csr"
TAKES = "fixed"

MANIFEST = ("lbi.csr", 1)
"""Format and version of manifest.json."""


def check(job: Job) -> list[Problem]:
    """No reasons: CSR can hold every network.

    Args:
        job: the network, its chip and options.

    Returns:
        An empty list, of no reasons against an export.
    """
    return []


def export(job: Job, path: Path) -> None:
    """Write the folder ``path``, which does not exist yet.

    Args:
        job: the network, its chip and options.
        path: a folder that does not exist yet.
    """
    fixed = job.fixed
    for folder in (path, path / "weights"):
        folder.mkdir()
    plain_json.write(
        path / "manifest.json",
        {
            "format": MANIFEST[0],
            "version": MANIFEST[1],
            "chip": fixed.chip,
            "input_shape": list(fixed.input_shape),
            "readout": {"population": fixed.readout.population, "kind": fixed.readout.kind},
            "populations": [_population(population, path) for population in fixed.populations],
            "projections": [_projection(projection, path) for projection in fixed.projections],
            "provenance": dict(fixed.provenance),
        },
    )


def _population(population: FixedPopulation, path: Path) -> dict[str, Any]:
    record: dict[str, Any] = {
        "name": population.name,
        "shape": list(population.shape),
        "model": population.neuron.model,
        "latency": population.latency,
        "scale": population.scale,
    }
    for name, value in vars(population.neuron).items():
        record[name] = value
        if isinstance(value, np.ndarray):
            folder = path / name
            folder.mkdir(exist_ok=True)
            np.save(folder / f"{population.name}.npy", value)
            record[name] = f"{name}/{population.name}.npy"
    return record


def _projection(projection: FixedProjection, path: Path) -> dict[str, Any]:
    weights = projection.weights.to_csr()
    file = f"weights/{projection.name}.npz"
    # The arrays of scipy.sparse.save_npz, which itself would write the time of day into the archive.
    archive = io.BytesIO()  # on a full disk numpy itself would print a traceback
    np.savez(
        archive,
        format=np.array(b"csr"),
        shape=np.array(weights.shape),
        data=weights.data.astype(np.int16),
        indices=weights.indices,
        indptr=weights.indptr,
    )
    (path / file).write_bytes(archive.getvalue())
    delay: Any = projection.delay
    if isinstance(delay, np.ndarray):
        (path / "delay").mkdir(exist_ok=True)
        np.save(path / "delay" / f"{projection.name}.npy", delay)
        delay = f"delay/{projection.name}.npy"
    return {
        "name": projection.name,
        "source": projection.source,
        "target": projection.target,
        "weights": file,
        "shape": list(weights.shape),
        "nnz": weights.nnz,
        "sign_mode": projection.sign_mode.name.lower(),
        "weight_exp": projection.weight_exp,
        "num_weight_bits": projection.num_weight_bits,
        "delay": delay,
    }
