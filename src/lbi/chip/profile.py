"""A chip as data: limits, number formats, memory layouts, costs and static power, each with its source.

Records only: ``lbi.chip.load`` reads them from the TOML files in ``hardware/``, ``lbi.chip.schema`` checks the files.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any

from annotated_types import Ge, Gt, Le, Len, MinLen, Predicate

from lbi.errors import Rule
from lbi.network.fixedpoint import NumberFormats
from lbi.records import OneOf, Takes

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
            if isinstance(value[0], str):
                return ", ".join(map(str, value))
            return f"{', '.join(f'{v:g}' for v in value)} {self.unit}"
        return f"{value:,.10g} {self.unit}"


def _rises(numbers: tuple[float, ...]) -> bool:
    return list(numbers) == sorted(numbers)


MOST = 1 << 48
"""Upper bound of a chip's counts, so that no sum of them leaves 64 bits."""

COUNT = Annotated[int, Ge(1), Le(MOST), Takes("a whole number from 1 to 2^48")]
COUNT_OR_NONE = Annotated[int, Ge(0), Le(MOST), Takes("a whole number from 0 to 2^48")]
COST = Annotated[int | float, Ge(0), Takes("a finite number of at least 0")]
MEASURED = Annotated[int | float, Gt(0), Takes("a finite number above 0")]
RISING = Annotated[
    tuple[Annotated[float, Gt(0)], ...],
    MinLen(1),
    Predicate(_rises),
    Takes("a rising list of numbers above 0"),
]
WIDTHS = Annotated[
    tuple[Annotated[int, Ge(1), Le(64)], ...],
    MinLen(1),
    Predicate(_rises),
    Takes("a rising list of whole numbers from 1 to 64"),
]
NAMES = Annotated[tuple[str, ...], MinLen(1), Takes('a list of model names, or ["*"]')]

BY_ROWS, BY_KERNELS = "rows", "kernels"
"""What a core stores once for a convolution: rows that are equal but for their place, or the kernels."""

SHARING = Annotated[
    tuple[Annotated[str, OneOf((BY_ROWS, BY_KERNELS))], ...],
    Len(1, 1),
    Takes(f'["{BY_ROWS}"] or ["{BY_KERNELS}"]'),
]

KNOWN = Rule("missing-value", "a value; an assumption will do")
"""The rule that a quantity without value breaks where one is needed."""


@dataclass(frozen=True)
class Measure:
    """What a quantity of a chip's file takes.

    Attributes:
        units: the units it may be given in.
        value: annotation of its value.
        known: the rule it breaks without value; None if it may be unpublished.
    """

    units: tuple[str, ...]
    value: Any = COUNT
    known: Rule | None = None


Cores = Annotated[Quantity, Measure(("cores",), COUNT, KNOWN)]
Bits = Annotated[Quantity, Measure(("bits",))]
Axons = Annotated[Quantity, Measure(("axons",))]
Tiles = Annotated[Quantity, Measure(("tiles",), COUNT, KNOWN)]
KnownBits = Annotated[Quantity, Measure(("bits",), COUNT, KNOWN)]
LayoutExtraBits = Annotated[Quantity, Measure(("bits",), COUNT_OR_NONE, KNOWN)]
LayoutWidths = Annotated[Quantity, Measure(("bits",), WIDTHS, KNOWN)]
Updates = Annotated[Quantity | None, Measure(("updates",), RISING, KNOWN)]


@dataclass(frozen=True)
class Limits:
    """Capacities of a core, a chip and a system; a Quantity without a value is a limit that is not checked."""

    cores_per_chip: Cores
    chips_per_system: Annotated[Quantity, Measure(("chips",))]
    compartments_per_core: Annotated[Quantity, Measure(("compartments",))]
    input_axons_per_core: Axons
    output_axons_per_core: Axons
    core_memory: Bits
    state_per_neuron: KnownBits
    axon_entry: Bits
    neuron_profiles_per_core: Annotated[Quantity | None, Measure(("profiles",))] = None
    """Different sets of decays and refractory periods on a core; no limit is checked without it."""
    delay_of_full_core: Annotated[Quantity | None, Measure(("steps",))] = None
    """Longest delay with all of a core's compartments; longer ones take compartments that are not counted."""


@dataclass(frozen=True)
class Mesh:
    """The network on chip: ``columns × rows`` tiles, each with ``cores_per_tile`` cores, XY routing."""

    columns: Tiles
    rows: Tiles
    cores_per_tile: Cores


@dataclass(frozen=True)
class MemoryLayout:
    """The storage of one axon's row of synapses; ``lbi.chip.memory`` has the formula.

    Attributes:
        capacity: bits per core.
        block: synapses that share a header (None: the whole row).
        shared: what is stored once for a convolution; without it, convolutions are stored unrolled.
    """

    name: str
    label: str
    capacity: KnownBits
    word: KnownBits
    header: LayoutExtraBits
    block: Annotated[Quantity, Measure(("synapses",))]
    weight_bits: LayoutWidths
    index_bits: LayoutWidths
    dense_index: LayoutExtraBits
    delay: LayoutExtraBits
    shared: Annotated[Quantity | None, Measure(("forms",), SHARING)] = None

    @property
    def widest_index(self) -> int:
        """Bits of the widest index; it addresses 2^bits neurons."""
        return int(max(self.index_bits.numbers))

    @property
    def sharing(self) -> str | None:
        """``BY_ROWS``, ``BY_KERNELS``, or None if convolutions are stored unrolled."""
        value = None if self.shared is None else self.shared.value
        return str(value[0]) if isinstance(value, tuple) else None


@dataclass(frozen=True)
class CostSet:
    """Energy in pJ and time in ns per event, one consistent set from one origin.

    Attributes:
        energy: event name → Quantity in pJ; empty if not published.
        time: event name → Quantity in ns; empty in a set of another chip. ``lbi.chip.events`` names the events.
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
    energy_per_synop: Annotated[Quantity | None, Measure(("pJ",), RISING, KNOWN)]


@dataclass(frozen=True)
class StaticPower:
    """Power without any activity, for one boundary of measurement."""

    name: str
    label: str
    power: Annotated[Quantity, Measure(("mW/chip", "mW/core"), COST, KNOWN)]


@dataclass(frozen=True)
class CheckPoint:
    """A published measurement: the counts of a workload, the energy measured in pJ, and what was inside the measurement."""

    name: str
    label: str
    costs: CostSet
    boundary: str
    synops: Annotated[Quantity, Measure(("synops",), RISING, KNOWN)]
    updates_active: Updates
    updates_inactive: Updates
    measured: Annotated[Quantity, Measure(("pJ",), MEASURED, KNOWN)]


@dataclass(frozen=True)
class HardwareProfile:
    """One chip as described in its file (docs/hardware.md); every number is a ``Quantity``.

    The sources of costs that a scenario or check point takes from another chip carry that chip's name: ``loihi1:D18``.

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
    models: Annotated[Quantity, Measure(("models",), NAMES)]
    mesh: Mesh
    formats: NumberFormats
    memory: tuple[MemoryLayout, ...]
    costs: tuple[CostSet, ...]
    scenarios: tuple[Scenario, ...]
    static: tuple[StaticPower, ...]
    checkpoints: tuple[CheckPoint, ...]
    format_origin: Mapping[str, Quantity]
    """Number format → its ends with their source, for reports."""

    @property
    def layout(self) -> MemoryLayout:
        """The memory layout used by placement and main figures: the first of the file."""
        return self.memory[0]

    @property
    def has_energy(self) -> bool:
        """True if any cost set of the chip itself has energies."""
        return any(costs.energy for costs in self.costs)

    def supports(self, model: str) -> bool:
        """Test for a neuron model that the chip runs.

        Args:
            model: name of a neuron model.

        Returns:
            True if the profile lists the model, or every model ("*").
        """
        names = self.models.value if isinstance(self.models.value, tuple) else ()
        return "*" in names or model in names

    def cost_sets(self) -> Iterator[tuple[str, CostSet]]:
        """Place in the file → cost set: the chip's own, and others under the first scenario or check point that uses each."""
        yield from ((f"costs.{costs.name}", costs) for costs in self.costs)
        listed = list(self.costs)
        users = (("scenarios", self.scenarios), ("checkpoints", self.checkpoints))
        for section, user in ((section, user) for section, entries in users for user in entries):
            if user.costs is not None and user.costs not in listed:
                listed.append(user.costs)
                yield f"{section}.{user.name}", user.costs

    def quantities(self) -> Iterator[tuple[str, Quantity]]:
        """All numbers that a figure can depend on, with their dotted names; those of other chips' cost sets, too."""
        yield from _quantities("limits", self.limits)
        yield "neurons.models", self.models
        yield from _quantities("mesh", self.mesh)
        yield from ((f"formats.{name}", ends) for name, ends in self.format_origin.items())
        for layout in self.memory:
            yield from _quantities(f"memory.{layout.name}", layout)
        for place, costs in self.cost_sets():
            for kind, prices in (("energy", costs.energy), ("time", costs.time)):
                yield from ((f"{place}.{kind}.{event}", price) for event, price in prices.items())
        for power in self.static:
            yield from _quantities(f"static.{power.name}", power)
        for scenario in self.scenarios:
            yield from _quantities(f"scenarios.{scenario.name}", scenario)
        for point in self.checkpoints:
            yield from _quantities(f"checkpoints.{point.name}", point)


def _quantities(place: str, record: Any) -> Iterator[tuple[str, Quantity]]:
    """The quantities among a record's fields."""
    for entry in fields(record):
        value = getattr(record, entry.name)
        if isinstance(value, Quantity):
            yield f"{place}.{entry.name}", value
