"""The schema of a chip's TOML file: keys, units and values, checked in one pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from typing import Any

from lbi.chip.events import ENERGY, ESSENTIAL, TIME
from lbi.chip.profile import (
    CONFIDENCES,
    CheckPoint,
    CostSet,
    HardwareProfile,
    Limits,
    MemoryLayout,
    Mesh,
    Quantity,
    Scenario,
    StaticPower,
)
from lbi.errors import InputError, LbiError, Problems
from lbi.network.fixedpoint import IntFormat, NumberFormats
from lbi.system import toml

VERSION = 1

LIMITS = {
    "cores_per_chip": "cores",
    "chips_per_system": "chips",
    "compartments_per_core": "compartments",
    "input_axons_per_core": "axons",
    "output_axons_per_core": "axons",
    "core_memory": "bits",
    "state_per_neuron": "bits",
    "axon_entry": "bits",
}
"""Limit → unit. All are counts of at least 1."""

MESH = {"columns": "tiles", "rows": "tiles", "cores_per_tile": "cores"}

FORMATS = {
    "decay": "1/4096",
    "threshold": "mantissa",
    "bias_mantissa": "mantissa",
    "bias_exponent": "bits",
    "weight_exponent": "bits",
    "delay": "steps",
}

MEMORY = {
    "capacity": "bits",
    "word": "bits",
    "header": "bits",
    "block": "synapses",
    "weight_bits": "bits",
    "index_bits": "bits",
    "dense_index": "bits",
    "delay": "bits",
}

_LISTS = (
    "weight_bits",
    "index_bits",
    "models",
    "energy_per_synop",
    "synops",
    "updates_active",
    "updates_inactive",
)
_MAY_BE_ZERO = ("header", "dense_index", "delay")
_TOP = (
    "schema",
    "name",
    "title",
    "sources",
    "limits",
    "neurons",
    "mesh",
    "formats",
    "memory",
    "costs",
    "scenarios",
    "static",
    "checkpoints",
)


CostSetsOf = Callable[[str], Mapping[str, CostSet]]
"""Built-in chip → its cost sets by name."""


def read_profile(text: str, where: str, cost_sets_of: CostSetsOf) -> HardwareProfile:
    """The profile in a TOML text.

    Args:
        text: the file's text.
        where: its name in error messages.
        cost_sets_of: looks up another chip's cost sets, for ``costs = "chip:name"``.

    Returns:
        The chip's profile.

    Raises:
        InputError: naming everything that is wrong.
    """
    return _Reader(where, cost_sets_of).profile(toml.parse(text, where))


class _Reader:
    """Reader of one file that collects problems, and quantities by dotted name."""

    def __init__(self, where: str, cost_sets_of: CostSetsOf) -> None:
        self.where = where
        self.cost_sets_of = cost_sets_of
        self.problems = Problems()
        self.sources: dict[str, str] = {}
        self.origin: dict[str, Quantity] = {}

    def profile(self, table: dict[str, Any]) -> HardwareProfile:
        check = self.problems.check
        self.keys(table, "", _TOP, required=_TOP[:-3])
        check(
            table.get("schema") == VERSION,
            "schema-version",
            f"{self.where}, schema",
            f"{table.get('schema')!r}",
            f"{VERSION}",
        )
        name, title = (self.text(table, "", key) for key in ("name", "title"))
        self.sources = {
            key: value
            for key, value in self.table(table, "sources").items()
            if check(
                isinstance(value, str) and bool(value),
                "not-text",
                f"{self.where}, [sources] {key}",
                f"{value!r}",
                "a reference",
            )
        }
        neurons = self.table(table, "neurons")
        self.keys(neurons, "neurons", ("models",), required=("models",))
        values: dict[str, Any] = {
            "limits": self.group(table, "limits", LIMITS, Limits),
            "models": self.quantity(neurons, "neurons", "models", "models"),
            "mesh": self.group(table, "mesh", MESH, Mesh),
            "formats": self.formats(table),
            "memory": self.each(table, "memory", self.layout),
            "costs": self.each(table, "costs", self.costs),
        }
        check(
            bool(table.get("memory")), "missing-key", f"{self.where}, [memory]", "no layout", "at least one"
        )
        self.known_costs = {costs.name: costs for costs in values["costs"] if costs is not None}
        values["static"] = self.each(table, "static", self.static)
        values["scenarios"] = self.each(table, "scenarios", self.scenario)
        values["checkpoints"] = self.each(table, "checkpoints", self.checkpoint)
        self.problems.raise_as(InputError)
        return HardwareProfile(name=name, title=title, sources=self.sources, origin=self.origin, **values)

    def add(self, code: str, path: str, found: str, allowed: str, remedy: str = "") -> None:
        self.problems.add(code, f"{self.where}, {path}", found, allowed, remedy)

    def keys(
        self, table: dict[str, Any], path: str, known: Iterable[str], required: Iterable[str] = ()
    ) -> None:
        known = tuple(known)
        for key in table:
            if key not in known:
                self.add("unknown-key", _join(path, key), "not in the schema", ", ".join(known))
        for key in required:
            if key not in table:
                self.add("missing-key", _join(path, key), "absent", "required")

    def table(self, table: dict[str, Any], key: str, path: str = "") -> dict[str, Any]:
        value = table.get(key, {})
        if isinstance(value, dict):
            return value
        self.add("not-a-table", f"[{_join(path, key)}]", f"{value!r}", "a table")
        return {}

    def text(self, table: dict[str, Any], path: str, key: str) -> str:
        value = table.get(key, "")
        if not (isinstance(value, str) and value):
            self.add("not-text", _join(path, key), f"{value!r}", "a text that is not empty")
        return str(value)

    def each(self, table: dict[str, Any], section: str, read: Any) -> tuple[Any, ...]:
        entries = self.table(table, section)
        return tuple(read(name, self.table(entries, name, section)) for name in entries)

    def group(self, table: dict[str, Any], section: str, units: dict[str, str], kind: Any) -> Any:
        entries = self.table(table, section)
        self.keys(entries, section, units, required=units)
        return kind(**{key: self.quantity(entries, section, key, unit) for key, unit in units.items()})

    def formats(self, table: dict[str, Any]) -> NumberFormats:
        entries = self.table(table, "formats")
        self.keys(entries, "formats", FORMATS, required=FORMATS)
        formats = {}
        for key, unit in FORMATS.items():
            path, entry = f"formats.{key}", self.table(entries, key, "formats")
            if key in entries:
                self.keys(entry, path, ("min", "max", "unit", "source", "confidence", "note"), ("min", "max"))
            low, high = entry.get("min", 0), entry.get("max", 0)
            most = 63 if key.endswith("exponent") else 2**31
            if not (_is_whole(low) and _is_whole(high) and -most <= low <= high <= most):
                allowed = f"whole numbers, −{most} ≤ min ≤ max ≤ {most}"
                self.add("impossible-value", path, f"min {low!r}, max {high!r}", allowed)
                low = high = 0
            self.record(entry, path, unit, (float(low), float(high)))
            formats[key] = IntFormat(low, high)
        return NumberFormats(**formats)

    def quantity(self, table: dict[str, Any], path: str, key: str, unit: str) -> Quantity:
        """One ``{ value, unit, source, confidence, note }`` record; a placeholder if it is wrong."""
        path = _join(path, key)
        entry = table.get(key)
        if entry is None:
            return Quantity(None, unit, "", "not published")
        if not isinstance(entry, dict):
            self.add("not-a-quantity", path, f"{entry!r}", "{ value, unit, source, confidence }")
            return Quantity(None, unit, "", "not published")
        self.keys(entry, path, ("value", "unit", "source", "confidence", "note"))
        value = entry.get("value")
        unpublished = entry.get("confidence") == "not published"
        if unpublished and value is not None:
            self.add(
                "impossible-value", path, f"{value!r}, yet not published", "no value, or another confidence"
            )
        elif not unpublished and value is None:
            self.add("missing-value", path, "no value", 'a value, or confidence = "not published"')
        elif value is not None:
            value = self.value(value, path, key)
        return self.record(entry, path, unit, value)

    def value(self, value: Any, path: str, key: str) -> Any:
        """A checked number, or a tuple where the key takes a list."""
        if key == "models":
            if isinstance(value, list) and value and all(isinstance(name, str) for name in value):
                return tuple(value)
            self.add("impossible-value", path, f"{value!r}", 'a list of model names, or ["*"]')
            return None
        if key in _LISTS:
            numbers = value if isinstance(value, list) and all(map(_is_number, value)) else []
            if numbers and numbers[0] > 0 and numbers == sorted(numbers):
                return tuple(float(number) for number in numbers)
            self.add("impossible-value", path, f"{value!r}", "a rising list of numbers above 0")
            return None
        is_cost = path.startswith("costs.")
        lowest = (
            0 if is_cost or key in _MAY_BE_ZERO else 1 if path.startswith(("limits", "memory", "mesh")) else 0
        )
        whole = path.startswith(("limits", "memory", "mesh"))
        if not _is_number(value) or value < lowest or (whole and not _is_whole(value)):
            kind = "whole number" if whole else "finite number"
            self.add("impossible-value", path, f"{value!r}", f"a {kind} of at least {lowest}")
            return None
        return value

    def record(self, entry: dict[str, Any], path: str, unit: str, value: Any) -> Quantity:
        """The Quantity of a checked value, after checks of its unit, source and confidence."""
        units = (unit, "mW/core") if unit == "mW/chip" else (unit,)
        found = entry.get("unit")
        if found is None:
            self.add("missing-unit", path, "no unit", " or ".join(units))
        elif found not in units:
            self.add("wrong-unit", path, f"{found!r}", " or ".join(units))
        confidence = entry.get("confidence")
        if confidence not in CONFIDENCES:
            self.add("confidence", path, f"{confidence!r}", ", ".join(CONFIDENCES))
        source = entry.get("source")
        if not (isinstance(source, str) and source):
            self.add(
                "missing-source", path, f"{source!r}", "keys of [sources], each with a place, apart by ';'"
            )
        else:
            for part in source.split(";"):
                if not part.split() or part.split()[0] not in self.sources:
                    self.add(
                        "unknown-source",
                        path,
                        f"{part.strip()!r}",
                        f"begins with one of {', '.join(self.sources)}",
                    )
        note = entry.get("note", "")
        if not isinstance(note, str):
            self.add("not-text", f"{path}.note", f"{note!r}", "a text")
        quantity = Quantity(value, str(found or unit), str(source), str(confidence), str(note))
        self.origin[path] = quantity
        return quantity

    def layout(self, name: str, table: dict[str, Any]) -> MemoryLayout:
        path = f"memory.{name}"
        self.keys(table, path, ("label", *MEMORY), required=("label", *MEMORY))
        numbers = {key: self.quantity(table, path, key, unit) for key, unit in MEMORY.items()}
        for key in MEMORY:
            if key != "block" and key in table and not numbers[key].known and not self.problems:
                self.add("missing-value", f"{path}.{key}", "not published", "a value; an assumption will do")
        return MemoryLayout(name=name, label=self.text(table, path, "label"), **numbers)

    def costs(self, name: str, table: dict[str, Any]) -> CostSet:
        path = f"costs.{name}"
        self.keys(table, path, ("label", "basis", "energy", "time"), required=("label", "basis"))
        priced = {}
        for section, events, unit in (("energy", ENERGY, "pJ"), ("time", TIME, "ns")):
            entries = self.table(table, section, path)
            where = f"{path}.{section}"
            self.keys(entries, where, events, required=events if entries or section == "time" else ())
            priced[section] = {
                key: self.quantity(entries, where, key, unit) for key in events if key in entries
            }
            for key in ESSENTIAL:
                if key in priced[section] and priced[section][key].confidence == "not published":
                    self.add(
                        "missing-value",
                        f"{where}.{key}",
                        "not published",
                        "a value",
                        f"{'leave the table empty, or ' if section == 'energy' else ''}label an assumption",
                    )
        return CostSet(name, self.text(table, path, "label"), self.text(table, path, "basis"), **priced)

    def static(self, name: str, table: dict[str, Any]) -> StaticPower:
        path = f"static.{name}"
        self.keys(table, path, ("label", "power"), required=("label", "power"))
        return StaticPower(
            name, self.text(table, path, "label"), self.quantity(table, path, "power", "mW/chip")
        )

    def cost_set(self, reference: Any, path: str) -> CostSet:
        """The cost set of a name, or of ``chip:name`` for a built-in chip's."""
        chip, _, name = str(reference).rpartition(":")
        known: Mapping[str, CostSet] = self.known_costs
        if chip:
            try:
                known = self.cost_sets_of(chip)
            except LbiError as error:
                self.problems.take(error)
                known = {}
        if name in known:
            return known[name]
        self.add("unknown-costs", f"{path}.costs", f"{reference!r}", ", ".join(known) or "a chip's cost set")
        return CostSet(name, "", "", {}, {})

    def scenario(self, name: str, table: dict[str, Any]) -> Scenario:
        path = f"scenarios.{name}"
        self.keys(table, path, ("label", "note", "costs", "energy_per_synop"), required=("label", "note"))
        if ("costs" in table) == ("energy_per_synop" in table):
            self.add("scenario", path, "needs one way to price", "either costs or energy_per_synop")
        per_synop = "energy_per_synop" in table
        return Scenario(
            name,
            self.text(table, path, "label"),
            self.text(table, path, "note"),
            costs=self.cost_set(table["costs"], path) if "costs" in table else None,
            energy_per_synop=self.quantity(table, path, "energy_per_synop", "pJ") if per_synop else None,
        )

    def checkpoint(self, name: str, table: dict[str, Any]) -> CheckPoint:
        path = f"checkpoints.{name}"
        units = {
            "synops": "synops",
            "updates_active": "updates",
            "updates_inactive": "updates",
            "measured": "pJ",
        }
        self.keys(table, path, ("label", "costs", *units), required=("label", "costs", "synops", "measured"))
        numbers = {
            key: self.quantity(table, path, key, unit) if key in table else None
            for key, unit in units.items()
        }
        costs = self.cost_set(table.get("costs"), path)
        return CheckPoint(name=name, label=self.text(table, path, "label"), costs=costs, **numbers)  # type: ignore[arg-type]


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_RECORDS = ((Limits, LIMITS), (Mesh, MESH), (NumberFormats, FORMATS))
assert all({field.name for field in fields(kind)} == set(names) for kind, names in _RECORDS)
