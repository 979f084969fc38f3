"""The schema of a chip's TOML file: keys, units and values; all faults are reported in one pass.

The annotations of the records in ``lbi.chip.profile`` say what each quantity takes. This module adds what a
quantity needs besides its value (unit, source, confidence), and the references between parts of a file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any, Literal, get_type_hints

from annotated_types import Interval, MinLen

from lbi.chip.consistency import check_parts
from lbi.chip.events import ENERGY, ESSENTIAL, TIME
from lbi.chip.profile import (
    CONFIDENCES,
    COST,
    KNOWN,
    CheckPoint,
    CostSet,
    HardwareProfile,
    Limits,
    Measure,
    MemoryLayout,
    Mesh,
    Quantity,
    Scenario,
    StaticPower,
)
from lbi.errors import InputError, LbiError, Problems, Rule
from lbi.network.fixedpoint import LAVA_FORMATS, IntFormat, NumberFormats
from lbi.records import Fault, OneOf, Place, Reader, RecordError, Rules, Table, Takes, describe
from lbi.system import toml

VERSION = 1
"""Version of the schema, the file's ``schema``."""

UNPUBLISHED = "not published"
"""The confidence of a quantity without a value."""

FORMAT_UNITS = {
    "decay": "1/4096",
    "threshold": "mantissa",
    "bias_mantissa": "mantissa",
    "bias_exponent": "bits",
    "weight_exponent": "bits",
    "delay": "steps",
    "weight_mixed": "mantissa",
    "weight_excitatory": "mantissa",
    "weight_inhibitory": "mantissa",
}
"""Number format → unit."""

OPTIONAL_FORMATS = tuple(
    name for name in FORMAT_UNITS if name.startswith("weight_") and name != "weight_exponent"
)
"""Number formats that a file may leave out; they are Lava's then."""

LAVA = "lbi:LAVA"
"""Source of the number formats that a file leaves out."""

LAVA_RELEASE = "lava-nc 0.10.0"

ProfileOf = Callable[[str], HardwareProfile]
"""Built-in chip → its profile."""

NO_KEY = Rule("missing-key", "{allowed}", "copy it from the file of the nearest chip (docs/howto/chip.md)")
_NOT_TEXT = Rule("not-text", "{allowed}")
TEXT = Rules(kind=_NOT_TEXT, value=_NOT_TEXT)
NOT_A_TABLE = Rule("not-a-table", "a table")
TABLE = Rules(missing=NO_KEY, kind=NOT_A_TABLE, names_in_path=True)
NOT_A_QUANTITY = Rule("not-a-quantity", "{{ value, unit, source, confidence }}", "{fix}")
_SCHEMA_VERSION = Rule("schema-version", "{allowed}")
SCHEMA_VERSION = Rules(missing=_SCHEMA_VERSION, kind=_SCHEMA_VERSION, value=_SCHEMA_VERSION)
MISSING_VALUE = Rule("missing-value", f'a value, or confidence = "{UNPUBLISHED}"')
MUST_BE_PRICED = Rule("missing-value", "a value", "{fix}label an assumption")
NOT_KNOWN = Rule("impossible-value", "no value, or another confidence")
UNKNOWN_SOURCE = Rule(
    "unknown-source", "begins with one of {names}", 'declare it under [sources]: {key} = "full reference"'
)
UNKNOWN_COSTS = Rule("unknown-costs", "{names}")
NO_ENERGY = Rule(
    "no-energy", "a cost set with energies: {names}", "leave it out: nothing is known of its energy"
)
SOURCE_KEY = Rule("source-key", "a key without white space, ':' and ';', which sources are separated by")
ONE_PRICE = Rule("scenario", "either costs or energy_per_synop")

LAVAS = Rule("impossible-value", "part of {limit}: Lava and network.h5 hold no others")
_VALUE = Rule("impossible-value", "{allowed}")
_UNIT = Rule("wrong-unit", "{allowed}")
_SOURCE = Rule("missing-source", "keys of [sources], each with a place, separated by ';'")
_CONFIDENCE = Rule("confidence", "{allowed}")
VALUE = Rules(missing=MISSING_VALUE, kind=_VALUE, value=_VALUE, at_parent=True)
UNIT = Rules(missing=Rule("missing-unit", "{allowed}"), kind=_UNIT, value=_UNIT, at_parent=True)
SOURCE = Rules(missing=_SOURCE, kind=_SOURCE, value=_SOURCE, at_parent=True)
CONFIDENCE = Rules(missing=_CONFIDENCE, kind=_CONFIDENCE, value=_CONFIDENCE, at_parent=True)

Text = Annotated[str, MinLen(1), Takes("a text that is not empty"), TEXT]


def read_profile(text: str, where: str, profile_of: ProfileOf) -> HardwareProfile:
    """The profile in a TOML text.

    Args:
        text: the file's text.
        where: its name in error messages.
        profile_of: looks up another chip, for ``costs = "chip:name"``.

    Returns:
        The chip's profile.

    Raises:
        InputError: naming everything that is wrong.
    """
    table = toml.parse(text, where)
    context = _Context(table, profile_of)
    problems = Problems()
    try:
        values = _file().read(table, context)
    except RecordError as error:
        Place(where, TABLE, separator=".").note(error, problems)
    problems.raise_as(InputError)
    for key in values["sources"]:
        holds = not any(letter in ":;" or letter.isspace() for letter in key)
        SOURCE_KEY.check(problems, holds, f"{where}, sources", repr(key))
    profile = _profile(values, context)
    check_parts(profile, where, problems)
    problems.raise_as(InputError)
    return profile


class _Context:
    """What parts of a file refer to: its sources, its cost sets, those of other chips."""

    def __init__(self, table: Mapping[str, Any], profile_of: ProfileOf) -> None:
        self.sources = _keys(table.get("sources"))
        self.own_costs = {name: _has_energy(entry) for name, entry in _named(table.get("costs")).items()}
        self.profile_of = profile_of

    def check_source(self, source: Any) -> str:
        """A quantity's source: keys of [sources], each with a place."""
        if not (isinstance(source, str) and source):
            raise RecordError(Fault((), _SOURCE.broken("", repr(source))))
        names = ", ".join(self.sources)
        unknown = [
            part.strip() for part in source.split(";") if (part.split() or [""])[0] not in self.sources
        ]
        if unknown:
            keys = [(part, (part.split() or ["KEY"])[0]) for part in unknown]
            raise RecordError(
                *(Fault((), UNKNOWN_SOURCE.broken("", repr(p), names=names, key=key)) for p, key in keys)
            )
        return source

    def check_costs(self, reference: Any) -> str:
        """A reference to a cost set: a name of this file, or ``chip:name`` for a built-in chip's."""
        chip, _, name = str(reference).rpartition(":")
        lent = {costs.name: bool(costs.energy) for costs in self.profile_of(chip).costs} if chip else None
        known = self.own_costs if lent is None else lent
        if not known.get(name):
            rule = NO_ENERGY if name in known else UNKNOWN_COSTS
            names = ", ".join(name for name, has_energy in known.items() if has_energy) or "a chip's cost set"
            raise RecordError(Fault((), rule.broken("", repr(reference), names=names)))
        return str(reference)

    def lent(self, chip: str, name: str) -> tuple[CostSet, dict[str, str]]:
        """The energies of another chip's cost set, with the references that its prices cite.

        Both chips may use one key for two publications, so the other's keys carry its name.
        """
        lender = self.profile_of(chip)
        costs = next(costs for costs in lender.costs if costs.name == name)
        cited = {part.split()[0] for price in costs.energy.values() for part in price.source.split(";")}
        energy = {
            event: replace(
                price, source="; ".join(f"{chip}:{part.strip()}" for part in price.source.split(";"))
            )
            for event, price in costs.energy.items()
        }
        sources = {f"{chip}:{key}": text for key, text in lender.sources.items() if key in cited}
        return replace(costs, energy=energy, time={}), sources


def _named(table: Any) -> dict[str, Any]:
    return table if isinstance(table, dict) else {}


def _keys(table: Any) -> tuple[str, ...]:
    return tuple(_named(table))


def _has_energy(costs: Any) -> bool:
    return bool(_named(costs).get("energy"))


def _read_source(value: Any, context: _Context) -> str:
    return context.check_source(value)


def _read_costs(value: Any, context: _Context) -> str:
    try:
        return context.check_costs(value)
    except LbiError as error:  # of the other chip
        raise RecordError(*(Fault((), problem) for problem in error.problems)) from error


COSTS = Annotated[str, Reader(_read_costs)]


def _refuse(value: Any, _context: Any) -> None:
    found = f"{value!r}, yet {UNPUBLISHED}"
    raise RecordError(Fault((), NOT_KNOWN.broken("", found)))


@cache
def _entry(measure: Measure, published: bool) -> Table:
    """The keys of a quantity; one that is not published has no value."""
    value = measure.value if published else Annotated[Any, Reader(_refuse)]
    hints = {
        "value": Annotated[value, VALUE],
        "unit": Annotated[str, OneOf(measure.units), UNIT],
        "source": Annotated[str, Reader(_read_source), SOURCE],
        "confidence": Annotated[str, OneOf(CONFIDENCES), CONFIDENCE],
        "note": Annotated[str, TEXT],
    }
    optional = {"note"} if published else {"note", "value"}
    return Table(hints, frozenset(hints) - optional, TABLE)


def _quantity(measure: Measure) -> Any:
    """The annotation of a quantity, ``{ value, unit, source, confidence, note }``."""

    def read(entry: Any, context: _Context) -> Quantity:
        if not isinstance(entry, dict):
            value = f"{entry}".lower() if isinstance(entry, int | float) else "…"
            fix = f'write {{ value = {value}, unit = "{measure.units[0]}", source = "KEY place", confidence = "assumption" }}'
            raise RecordError(Fault((), NOT_A_QUANTITY.broken("", repr(entry), fix=fix)))
        published = entry.get("confidence") != UNPUBLISHED
        values = _entry(measure, published).read(entry, context)
        if not published and measure.known is not None:
            raise RecordError(Fault((), measure.known.broken("", UNPUBLISHED)))
        return Quantity(**({"value": None} | values))

    return Annotated[Any, Reader(read), Takes("{ value, unit, source, confidence }")]


@dataclass(frozen=True)
class _Grid(Quantity):
    """The ends of a number format, with its step."""

    step: int = 1

    @property
    def as_format(self) -> IntFormat:
        """The number format."""
        low, high = self.numbers
        return IntFormat(int(low), int(high), self.step)


def _unit(unit: str, step: int) -> str:
    return f"{unit} in steps of {step}" if step > 1 else unit


def _format(name: str, unit: str) -> Any:
    """The annotation of a number format, ``{ min, max, step, unit, source, confidence, note }``.

    The step is optional, 1 if it is left out; only weights have one.
    """
    most = 63 if name.endswith("exponent") else 2**31
    whole = Annotated[int, Interval(ge=-most, le=most), VALUE]
    keys = {"min": whole, "max": whole} | dict(_entry(Measure((unit,)), True).hints)
    del keys["value"]
    if name in OPTIONAL_FORMATS:
        keys["step"] = Annotated[int, Interval(ge=1, le=256), VALUE]
    table = Table(keys, frozenset(keys) - {"note", "step"}, TABLE)

    def read(entry: Any, context: _Context) -> _Grid:
        if isinstance(entry, dict) and entry.get("confidence") == UNPUBLISHED:
            raise RecordError(Fault((), KNOWN.broken("", UNPUBLISHED)))
        values = table.read(entry, context)
        low, high, step = values.pop("min"), values.pop("max"), values.pop("step", 1)
        found, limit = f"min {low}, max {high}, step {step}", LAVA_FORMATS.get(name)
        if low > high or low % step or high % step:
            allowed = f"whole numbers, −{most} ≤ min ≤ max ≤ {most}, both multiples of the step"
            raise RecordError(Fault((), _VALUE.broken("", found, allowed=allowed)))
        if limit is not None and not IntFormat(low, high, step).within(limit):
            raise RecordError(Fault((), LAVAS.broken("", found, limit=limit)))
        values["unit"] = _unit(unit, step)
        return _Grid((float(low), float(high)), **values, step=step)

    return Annotated[Any, Reader(read), Takes("{ min, max, unit, source, confidence }")]


def _table(hints: Mapping[str, Any], optional: tuple[str, ...] = ()) -> Any:
    table = Table(hints, frozenset(hints) - set(optional), TABLE)
    return Annotated[Any, Reader(table.read), Takes(f"a table with {_listed(hints, optional)}")]


def _listed(hints: Mapping[str, Any], optional: tuple[str, ...] = ()) -> str:
    """The keys of a table, as a reader of an error needs them to write it."""
    return ", ".join(f"{name} (optional)" if name in optional else name for name in hints)


def _each(hint: Any, section: str = "", least: int = 0) -> Any:
    """The annotation of a table of named entries, at least ``least``; ``section`` is its name if a file must have it."""
    entries = dict.__class_getitem__((str, hint))
    if not section:
        return entries
    words = f"{'at least one ' if least else ''}[{section}.NAME], each {describe(hint)}"
    return Annotated[entries, MinLen(least), Takes(words)]


def _measured(kind: type) -> dict[str, Any]:
    """The quantities among a record's fields, by the measures in its annotations."""
    found = {}
    for name, hint in get_type_hints(kind, include_extras=True).items():
        for measure in getattr(hint, "__metadata__", ()):
            if isinstance(measure, Measure):
                found[name] = _quantity(measure)
    return found


def _priced(section: str, events: tuple[str, ...], unit: str) -> Any:
    """The annotation of a table of prices: all events, or none where energy is not published."""
    fix = "leave the table empty, or " if section == "energy" else ""
    rule = replace(MUST_BE_PRICED, fix=MUST_BE_PRICED.fix.format(fix=fix))
    measures = {name: Measure((unit,), COST, rule if name in ESSENTIAL else None) for name in events}
    table = Table({name: _quantity(m) for name, m in measures.items()}, frozenset(events), TABLE)

    def read(entry: Any, context: _Context) -> dict[str, Any]:
        return {} if entry == {} and section == "energy" else table.read(entry, context)

    return Annotated[Any, Reader(read), Takes(f"a table with {', '.join(events)}")]


def _scenario() -> Any:
    hints = {"label": Text, "note": Text, "costs": COSTS, **_measured(Scenario)}
    table = Table(hints, frozenset({"label", "note"}), TABLE)

    def read(entry: Any, context: _Context) -> dict[str, Any]:
        faults = []
        if isinstance(entry, dict) and ("costs" in entry) == ("energy_per_synop" in entry):
            faults.append(Fault((), ONE_PRICE.broken("", "needs one way to price")))
        try:
            values = table.read(entry, context)
        except RecordError as error:
            raise RecordError(*faults, *error.faults) from None
        if faults:
            raise RecordError(*faults)
        return values

    return Annotated[Any, Reader(read)]


@cache
def _file() -> Table:
    """The whole file."""
    costs = {
        "label": Text,
        "basis": Text,
        "energy": _priced("energy", ENERGY, "pJ"),
        "time": _priced("time", TIME, "ns"),
    }
    checkpoint = {"label": Text, "costs": COSTS, "boundary": Text, **_measured(CheckPoint)}
    hints = {
        "schema": Annotated[Literal[1], SCHEMA_VERSION],
        "name": Text,
        "title": Text,
        "sources": Annotated[
            dict[str, Annotated[str, MinLen(1)]], TEXT, Takes("a table of texts, short name = publication")
        ],
        "limits": _table(_measured(Limits), ("neuron_profiles_per_core", "delay_of_full_core")),
        "neurons": _table(_measured(HardwareProfile)),
        "mesh": _table(_measured(Mesh)),
        "formats": _table(
            {name: _format(name, unit) for name, unit in FORMAT_UNITS.items()}, OPTIONAL_FORMATS
        ),
        "memory": _each(_table({"label": Text, **_measured(MemoryLayout)}, ("shared",)), "memory", least=1),
        "costs": _each(_table(costs, ("energy",)), "costs"),
        "static": _each(_table({"label": Text, **_measured(StaticPower)})),
        "scenarios": _each(_scenario()),
        "checkpoints": _each(_table(checkpoint, ("boundary", "updates_active", "updates_inactive"))),
    }
    return Table(hints, frozenset(hints) - {"static", "scenarios", "checkpoints"}, TABLE)


def _profile(values: dict[str, Any], context: _Context) -> HardwareProfile:
    """The records of a file's checked values."""
    costs = [
        CostSet(name, entry["label"], entry["basis"], entry.get("energy", {}), entry["time"])
        for name, entry in values["costs"].items()
    ]
    own, sources = {entry.name: entry for entry in costs}, dict(values["sources"])

    def cost_set(reference: str) -> CostSet:
        chip, _, name = reference.rpartition(":")
        if not chip:
            return own[name]
        lent, cited = context.lent(chip, name)
        sources.update(cited)
        return lent

    absent = {"costs": None, "energy_per_synop": None}
    scenarios = [
        Scenario(**({"name": name} | absent | entry | {"costs": _maybe(cost_set, entry.get("costs"))}))
        for name, entry in values.get("scenarios", {}).items()
    ]
    optional = {"boundary": "", "updates_active": None, "updates_inactive": None}
    checkpoints = [
        CheckPoint(**({"name": name} | optional | entry | {"costs": cost_set(entry["costs"])}))
        for name, entry in values.get("checkpoints", {}).items()
    ]
    grids = values["formats"] | {
        name: _lavas(name) for name in OPTIONAL_FORMATS if name not in values["formats"]
    }
    if len(grids) > len(values["formats"]):
        sources[LAVA] = LAVA_RELEASE
    return HardwareProfile(
        name=values["name"],
        title=values["title"],
        sources=sources,
        limits=Limits(**values["limits"]),
        models=values["neurons"]["models"],
        mesh=Mesh(**values["mesh"]),
        formats=NumberFormats(**{name: grid.as_format for name, grid in grids.items()}),
        memory=tuple(MemoryLayout(name=name, **entry) for name, entry in values["memory"].items()),
        costs=tuple(costs),
        scenarios=tuple(scenarios),
        static=tuple(StaticPower(name=name, **entry) for name, entry in values.get("static", {}).items()),
        checkpoints=tuple(checkpoints),
        format_origin=grids,
    )


def _maybe(function: Callable[[str], Any], value: str | None) -> Any:
    return None if value is None else function(value)


def _lavas(name: str) -> _Grid:
    """A grid of weights that a file leaves out."""
    grid = LAVA_FORMATS[name]
    ends, unit = (float(grid.minimum), float(grid.maximum)), _unit(FORMAT_UNITS[name], grid.step)
    source, note = f"{LAVA} utils/weightutils.py", "not in the chip's file"
    return _Grid(ends, unit, source, "third-party", note, step=grid.step)
