"""Checks between parts of a chip's file: cores and mesh, grids and widths of weights, cores and indices, barriers."""

from __future__ import annotations

import numpy as np

from lbi.chip.profile import HardwareProfile, MemoryLayout
from lbi.errors import Problems, Rule
from lbi.network.fixed import SignMode, num_weight_bits
from lbi.network.fixedpoint import NumberFormats

MESH = Rule(
    "mesh-too-small",
    "columns · rows · cores_per_tile of at least {least}, limits.cores_per_chip",
    "state a mesh that holds all cores, or fewer cores per chip",
)
NARROW = Rule(
    "weight-bits",
    "{bits} bits, which formats.{name} ({grid}) takes",
    "state the grid that the layout stores: {name} = {{ min = {low}, max = {high}, step = {step}, … }}",
)
INDEX = Rule(
    "index-bits",
    "{bits} bits, which limits.compartments_per_core ({limit:,}) takes",
    "give a wider index, or compartments_per_core of at most {most:,}",
)
BARRIERS = tuple(
    Rule(code, "at least barrier_low, {low:g} ns") for code in ("missing-value", "impossible-value")
)


def check_parts(profile: HardwareProfile, where: str, problems: Problems) -> None:
    """Note all parts of a chip that contradict each other.

    Args:
        profile: the chip.
        where: name of its file.
        problems: receives the faults.
    """
    n_cores, mesh = profile.limits.cores_per_chip, profile.mesh
    n_places = int(mesh.columns.number * mesh.rows.number * mesh.cores_per_tile.number)
    MESH.check(
        problems, n_cores.number <= n_places, f"{where}, mesh", f"{n_places} cores", least=int(n_cores.number)
    )
    for layout in profile.memory:
        _check_widths(layout, profile.formats, f"{where}, memory.{layout.name}.weight_bits", problems)
    _check_index(profile, where, problems)
    for costs in profile.costs:
        low, high = costs.time["barrier_low"].number, costs.time["barrier_high"]
        found = f"{high.number:g} ns" if high.known else "not published"
        rule, place = BARRIERS[high.known], f"{where}, costs.{costs.name}.time.barrier_high"
        rule.check(problems, low <= high.number, place, found, low=low)


def _check_widths(layout: MemoryLayout, formats: NumberFormats, where: str, problems: Problems) -> None:
    """A layout's weights are wide enough for the chip's grids: what they would cut is in no figure."""
    widest = int(max(layout.weight_bits.numbers))
    for mode in SignMode:
        grid = mode.chip_format(formats)
        bits = num_weight_bits(np.arange(grid.minimum, grid.maximum + 1, grid.step), mode)
        step = 1 << mode.n_cut(widest) if widest < bits else 1
        ends = {
            SignMode.MIXED: (-256, 256 - step),
            SignMode.EXCITATORY: (0, 256 - step),
            SignMode.INHIBITORY: (step - 256, 0),
        }
        low, high = ends[mode]
        values = {"name": mode.format_name, "grid": grid, "low": low, "high": high, "step": step}
        NARROW.check(problems, bits <= widest, where, f"up to {widest} bits", bits=bits, **values)


def _check_index(profile: HardwareProfile, where: str, problems: Problems) -> None:
    """The index of the layout in use addresses a whole core; of the others, a core takes what the index addresses."""
    limit, layout = profile.limits.compartments_per_core.limit, profile.layout
    bits, widest = ((limit or 1) - 1).bit_length(), layout.widest_index
    place, found = f"{where}, memory.{layout.name}.index_bits", f"up to {widest} bits"
    INDEX.check(problems, bits <= widest, place, found, bits=bits, limit=limit or 1, most=1 << widest)
