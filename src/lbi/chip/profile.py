"""A chip as data: limits, number formats, memory layouts, costs and static power, each with its source.

Records only: ``lbi.chip.load`` reads them from the TOML files in ``hardware/``, ``lbi.chip.schema`` checks the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lbi.network.fixedpoint import NumberFormats

CONFIDENCES = ("published", "derived", "third-party", "inferred", "assumption", "not published")
"""How far a number can be trusted, best first; "derived" is arithmetic on published numbers."""


@dataclass(frozen=True)
class Quantity:
    """One number of a chip, with its unit, source and confidence.

    Attributes:
        value: a number, a tuple of numbers or of names, or None where ``confidence`` is "not published".
        unit: the unit.
        source: keys of the profile's sources, each with a place.
        confidence: one of ``CONFIDENCES``.
        note: conditions, arithmetic, doubts; may be empty.
    """

    value: float | tuple[float, ...] | tuple[str, ...] | None
    unit: str
    source: str
    confidence: str
    note: str = ""

    @property
    def known(self) -> bool:
        """False for a number that has not been published."""
        return self.value is not None

    @property
    def number(self) -> float:
        """The single number; 0 where it is not published, which reports state."""
        if self.value is None:
            return 0.0
        if isinstance(self.value, tuple):
            raise TypeError(f"{self.value} is not a single number")
        return self.value

    @property
    def numbers(self) -> tuple[float, ...]:
        """The numbers of a list; none where it is not published."""
        if self.value is None:
            return ()
        values = self.value if isinstance(self.value, tuple) else (self.value,)
        return tuple(float(value) for value in values)

    @property
    def limit(self) -> int | None:
        """The value as a limit: an integer, or None if no limit is known."""
        return None if self.value is None else int(self.number)

    def __str__(self) -> str:
        value = self.value
        if value is None:
            return "not published"
        if isinstance(value, tuple):
            return f"{', '.join(f'{v:g}' if isinstance(v, float) else str(v) for v in value)} {self.unit}"
        return f"{value:,.10g} {self.unit}"


@dataclass(frozen=True)
class Limits:
    """Capacities of a core, a chip and a system; a Quantity without a value is an unknown limit."""

    cores_per_chip: Quantity
    chips_per_system: Quantity
    compartments_per_core: Quantity
    input_axons_per_core: Quantity
    output_axons_per_core: Quantity
    core_memory: Quantity
    state_per_neuron: Quantity
    axon_entry: Quantity


@dataclass(frozen=True)
class Mesh:
    """The network on chip: ``columns × rows`` tiles, each with ``cores_per_tile`` cores, XY routing."""

    columns: Quantity
    rows: Quantity
    cores_per_tile: Quantity


@dataclass(frozen=True)
class MemoryLayout:
    """The storage of one axon's row of synapses; ``lbi.chip.memory`` has the formula.

    Attributes:
        capacity: bits per core.
        block: synapses that share a header (None: the whole row).
    """

    name: str
    label: str
    capacity: Quantity
    word: Quantity
    header: Quantity
    block: Quantity
    weight_bits: Quantity
    index_bits: Quantity
    dense_index: Quantity
    delay: Quantity


@dataclass(frozen=True)
class CostSet:
    """Energy in pJ and time in ns per event, one consistent set from one origin.

    Attributes:
        energy: event name → Quantity in pJ; empty if not published.
        time: event name → Quantity in ns. ``lbi.chip.events`` names the events.
    """

    name: str
    label: str
    basis: str
    energy: Mapping[str, Quantity]
    time: Mapping[str, Quantity]


@dataclass(frozen=True)
class Scenario:
    """A hypothetical energy model with a label: another chip's costs, or a range per synaptic operation."""

    name: str
    label: str
    note: str
    costs: CostSet | None
    energy_per_synop: Quantity | None


@dataclass(frozen=True)
class StaticPower:
    """Power without any activity, for one boundary of measurement."""

    name: str
    label: str
    power: Quantity


@dataclass(frozen=True)
class CheckPoint:
    """A published measurement: the counts of a workload and the energy measured, in pJ."""

    name: str
    label: str
    costs: CostSet
    synops: Quantity
    updates_active: Quantity | None
    updates_inactive: Quantity | None
    measured: Quantity


@dataclass(frozen=True)
class HardwareProfile:
    """One chip as described in its file (docs/hardware.md); every number is a ``Quantity``.

    Attributes:
        name: value of ``--chip``.
        title: name for people.
        sources: the keys that quantities cite → full references.
        limits: cores, neurons, axons and memory.
        models: neuron models the chip runs.
        mesh: tiles.
        formats: ranges of the integers.
        memory: layouts of synapses, of which the first is used.
        costs: pJ and ns per event.
        scenarios: hypothetical energy models.
        static: power without activity in mW.
        checkpoints: published measurements for comparison.
    """

    name: str
    title: str
    sources: Mapping[str, str]
    limits: Limits
    models: Quantity
    mesh: Mesh
    formats: NumberFormats
    memory: tuple[MemoryLayout, ...]
    costs: tuple[CostSet, ...]
    scenarios: tuple[Scenario, ...]
    static: tuple[StaticPower, ...]
    checkpoints: tuple[CheckPoint, ...]
    origin: Mapping[str, Quantity]
    """All quantities of the file by dotted name, including number formats, for reports."""

    @property
    def layout(self) -> MemoryLayout:
        """The memory layout used by placement and main figures: the first of the file."""
        return self.memory[0]

    @property
    def has_energy(self) -> bool:
        """True if any cost set of the chip itself has energies."""
        return any(costs.energy for costs in self.costs)

    def supports(self, model: str) -> bool:
        """True if the chip runs a neuron model."""
        names = self.models.value if isinstance(self.models.value, tuple) else ()
        return "*" in names or model in names

    def quantities(self) -> Iterator[tuple[str, Quantity]]:
        """All numbers with their dotted names, in the file's order."""
        yield from self.origin.items()
