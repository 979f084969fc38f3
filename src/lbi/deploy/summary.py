"""The description of an export: its populations and projections, and the effect of quantization on each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from lbi import tables
from lbi.network.fixed import FixedNetwork, FixedPopulation, FixedProjection
from lbi.network.fixedpoint import ACTIVATION_SHIFT
from lbi.network.graph import Network, Population, Projection
from lbi.network.pattern import density, n_positions, n_weights
from lbi.network.restored import restored

if TYPE_CHECKING:
    from lbi.chip.memory import ProjectionBits
    from lbi.quantization.compaction import Compaction


def populations(fixed: FixedNetwork, compaction: Compaction) -> list[dict[str, Any]]:
    """One record of JSON values per population: its integers, latency and scale, and what was removed from it.

    Args:
        fixed: the network.
        compaction: the compaction that made it.

    Returns:
        One dictionary per population, in the network's order.
    """
    return [
        {
            "name": population.name,
            "shape": list(population.shape),
            "model": population.neuron.model,
            "latency": population.latency,
            "scale": population.scale,
            "n_trained": population.n_trained,
            "removed": compaction.removed(population.name),
            **_parameters(population),
        }
        for population in fixed.populations
    ]


def projections(
    fixed: FixedNetwork, formats: Mapping[str, str], bits: Mapping[str, ProjectionBits]
) -> list[dict[str, Any]]:
    """One record of JSON values per projection.

    Args:
        fixed: the network; its density is that of the layer as trained, before neurons were removed.
        formats: projection → "dense", "indexed" or "shared", as the chip stores it.
        bits: projection → its synaptic memory in bits, in each format.

    Returns:
        The records, in the network's order.
    """
    return [
        {
            "name": projection.name,
            "source": projection.source,
            "target": projection.target,
            "shape": list(projection.weights.shape),
            "nnz": projection.weights.nnz,
            "n_dense": n_positions(trained),
            **dict(zip(("n_active", "n_weights"), n_weights(trained), strict=True)),
            "density": density(trained),
            "format": formats[projection.name],
            "bits": projection.num_weight_bits,
            "weight_exp": projection.weight_exp,
            "sign_mode": projection.sign_mode.name.lower(),
            "max_delay": projection.max_delay,
            "n_rounded_to_zero": projection.n_rounded_to_zero,
            "memory_bits": {
                "dense": bits[projection.name].dense,
                "indexed": bits[projection.name].indexed,
                "shared": bits[projection.name].shared,
            },
        }
        for projection, trained in zip(fixed.projections, restored(fixed).projections, strict=True)
    ]


def removed_text(compaction: Compaction) -> str:
    """What compaction removed, as a line for people that continues the title.

    Args:
        compaction: the compaction.

    Returns:
        A line break and the line; empty if nothing was removed.
    """
    parts = []
    for name, codes in compaction.reasons.items():
        counts = {reason: n for reason, n in compaction.removed(name).items() if n}
        if counts:
            why = ", ".join(f"{n} {reason}" for reason, n in counts.items())
            parts.append(f"{sum(counts.values()):,} of {codes.size:,} of {name} ({why})")
    return f"\nremoved, since they cannot change the output: {'; '.join(parts)}" if parts else ""


def account(network: Network, fixed: FixedNetwork) -> list[dict[str, Any]]:
    """The account of quantization: one record ``{where, parameter, float, integer, error}`` per parameter.

    Args:
        network: the float network.
        fixed: its integers.

    Returns:
        The records. ``error`` is the value that the integer represents minus the float, in float units; for weights
        and biases it is the rms over all values. Weights also state how many rounded to zero.
    """
    rows: list[dict[str, Any]] = []
    for before, after in zip(network.populations, fixed.populations, strict=True):
        rows += _neuron_rows(before, after)
    for projection, stored in zip(network.projections, fixed.projections, strict=True):
        rows.append(
            {
                "where": f"projection {projection.name}",
                "parameter": "weights",
                "float": f"{projection.weights.nnz} values",
                "integer": f"{stored.weights.nnz} values",
                "error": stored.rms_error,
                "n_rounded_to_zero": stored.n_rounded_to_zero,
            }
        )
    return rows


def as_text(title: str, records: list[dict[str, Any]], n_cores: int | None) -> str:
    """The projections as a plain-text table, for a file or a terminal.

    Args:
        title: the first line.
        records: one record per projection.
        n_cores: cores of the placement; None without one.

    Returns:
        The title, the table and a line with the totals, ending in a line break.
    """
    header = ("projection", "shape", "nnz", "density", "format", "bits", "exponent", "rounded to zero")
    rows = [
        (
            record["name"],
            "×".join(map(str, record["shape"])),
            f"{record['nnz']:,}",
            f"{record['density']:.4f}",
            record["format"],
            str(record["bits"]),
            str(record["weight_exp"]),
            f"{record['n_rounded_to_zero']:,}",
        )
        for record in records
    ]
    table = tables.plain(tables.make(header, rows, left=range(len(header))))
    total = _total(sum(record["nnz"] for record in records), sum(record["n_dense"] for record in records))
    cores = "" if n_cores is None else f", {n_cores} core{'s' if n_cores != 1 else ''}"
    return "\n".join([title, "", table, "", total + cores, ""])


def float_text(network: Network | FixedNetwork) -> str:
    """The network without a chip as a plain-text table: what a target that takes floats writes.

    Args:
        network: the network as loaded.

    Returns:
        A title, the table and a line with the totals, ending in a line break.
    """
    layers: tuple[Projection | FixedProjection, ...] = network.projections
    trained: tuple[Projection | FixedProjection, ...] = layers
    if isinstance(network, FixedNetwork):
        trained = restored(network).projections
    n = sum(population.n for population in network.populations)
    title = f"{network.n_in} inputs, {n} neurons in {len(network.populations)} populations, in floats"
    rows = [
        (
            projection.name,
            "×".join(map(str, projection.weights.shape)),
            f"{projection.weights.nnz:,}",
            f"{density(before):.4f}",
        )
        for projection, before in zip(layers, trained, strict=True)
    ]
    table = tables.plain(tables.make(("projection", "shape", "nnz", "density"), rows, left=range(4)))
    nnz = sum(projection.weights.nnz for projection in layers)
    size = sum(n_positions(projection) for projection in trained)
    return "\n".join([title, "", table, "", _total(nnz, size), ""])


def _total(nnz: int, size: int) -> str:
    return f"{nnz:,} of {size:,} synapses ({nnz / size if size else 0:.2%})"


def _parameters(population: FixedPopulation) -> dict[str, Any]:
    """The neuron's integers: scalars as values, arrays as their range."""
    values: dict[str, Any] = {}
    for name, value in vars(population.neuron).items():
        if isinstance(value, np.ndarray):
            values[name] = {"min": value.min().item(), "max": value.max().item()} if value.size else None
        else:
            values[name] = value
    return values


def _neuron_rows(before: Population, after: FixedPopulation) -> list[dict[str, Any]]:
    where, scale = f"population {before.name}", after.scale
    neuron, stands_for = after.neuron, after.neuron.to_float(scale)
    rows = [
        {
            "where": where,
            "parameter": f"{parameter} → {integer}",
            "float": float(getattr(before.neuron, parameter)),
            "integer": int(getattr(neuron, integer)),
            "error": getattr(stands_for, parameter) - float(getattr(before.neuron, parameter)),
        }
        for parameter, integer in neuron.integer_name.items()
    ]
    bias = before.neuron.bias
    if bias is not None:
        error = neuron.bias / (scale * (1 << ACTIVATION_SHIFT)) - bias
        rows.append(
            {
                "where": where,
                "parameter": "bias → bias_mant << bias_exp",
                "float": f"{bias.size} values",
                "integer": f"exponent {neuron.bias_exp}",
                "error": float(np.sqrt(np.mean(np.square(error)))),
            }
        )
    return rows
