"""Checks of untrusted plain values (TOML, JSON, checkpoints) against the annotations of a record.

A record is a dataclass whose annotations say what each field accepts, in the vocabulary of ``annotated_types``:

    density: Annotated[float, Interval(gt=0, le=1)] = 0.2

pydantic does the checks and is loaded on first use. All faults of a value are reported in one pass, each with
its path. Values are not converted (neither ``true`` nor ``"3"`` is a number), except integers to floats
and lists to tuples. NaN, infinity and integers of more than 64 bits are refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from lbi.errors import LbiError, Problem, Problems, Rule

Record = TypeVar("Record")

MISSING_KEY = Rule("missing-key", "{allowed}")
UNKNOWN_KEY = Rule("unknown-key", "{allowed}")
WRONG_TYPE = Rule("wrong-type", "{allowed}")
IMPOSSIBLE_VALUE = Rule("impossible-value", "{allowed}")


@dataclass(frozen=True)
class Rules:
    """The rules for faults of a field, or of all fields of a record.

    Attributes:
        missing: no value for a field without default.
        unknown: a name that is no field's.
        kind: a value of a wrong type.
        value: a value out of range.
        at_parent: True to place the fault of a value at the record, not at its field.
        names_in_path: True to place unknown and missing fields at their own path, not at the record.

    Rules may use ``{allowed}``, a description of what the field accepts.
    """

    missing: Rule = MISSING_KEY
    unknown: Rule = UNKNOWN_KEY
    kind: Rule = WRONG_TYPE
    value: Rule = IMPOSSIBLE_VALUE
    at_parent: bool = False
    names_in_path: bool = False


@dataclass(frozen=True)
class Takes:
    """A description of what a field accepts, in place of the one made from its annotation."""

    words: str


@dataclass(frozen=True)
class OneOf:
    """The names that a text field accepts, for names that are only known at run time."""

    names: tuple[str, ...]


@dataclass(frozen=True)
class Reader:
    """A field that is read by a function.

    Attributes:
        read: called with the plain value and the context; returns the field's value, or raises ``RecordError``.
    """

    read: Callable[[Any, Any], Any]


@dataclass(frozen=True)
class Fault:
    """What is wrong at a path inside a value."""

    path: tuple[str, ...]
    problem: Problem

    def inside(self, *path: str) -> Fault:
        """The same fault with a prefix to its path.

        Args:
            *path: names from outside to inside.

        Returns:
            A copy with the longer path.
        """
        return Fault((*path, *self.path), self.problem)


class RecordError(ValueError):
    """Everything that is wrong with one value."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__(*faults)
        self.faults = faults


@dataclass(frozen=True)
class Table:
    """The fields of a plain mapping.

    Attributes:
        hints: field → annotation.
        required: fields without default.
        rules: for faults of fields without their own ``Rules``.
    """

    hints: Mapping[str, Any]
    required: frozenset[str] = frozenset()
    rules: Rules = field(default=Rules())

    @classmethod
    def of(cls, kind: type, rules: Rules, *, partial: bool = False) -> Table:
        """The fields of a dataclass; ``partial``: none of them is required.

        Args:
            kind: a dataclass with annotations.
            rules: rules of its fields.
            partial: True if no field is required.

        Returns:
            The table of the fields that the constructor takes.
        """
        hints = get_type_hints(kind, include_extras=True)
        own = [entry for entry in fields(kind) if entry.init]
        required = {
            entry.name for entry in own if entry.default is MISSING and entry.default_factory is MISSING
        }
        return cls(
            {entry.name: hints[entry.name] for entry in own},
            frozenset() if partial else frozenset(required),
            rules,
        )

    def read(self, values: Any, context: Any = None) -> dict[str, Any]:
        """The checked values of a mapping.

        Args:
            values: a plain mapping.
            context: what the annotations' readers refer to.

        Returns:
            Field → value.

        Raises:
            RecordError: naming everything that is wrong.
        """
        from pydantic import ValidationError

        if not isinstance(values, Mapping):
            raise RecordError(Fault((), _broken(self.rules.kind, repr(values), "a table")))
        try:
            return self._adapter().validate_python(dict(values), context=context)
        except ValidationError as error:
            found = error.errors(include_url=False)
            raise RecordError(*(fault for entry in found for fault in self._faults(entry, values))) from None

    def _adapter(self) -> Any:
        adapter = self.__dict__.get("adapter")
        if adapter is None:
            from pydantic import TypeAdapter
            from typing_extensions import NotRequired, TypedDict

            plain = {
                name: _strict(hint, self.rules)
                if name in self.required
                else NotRequired[_strict(hint, self.rules)]
                for name, hint in self.hints.items()
            }
            kind = TypedDict("kind", plain)  # type: ignore[misc]
            kind.__pydantic_config__ = {"extra": "forbid", "allow_inf_nan": False}  # type: ignore[attr-defined]
            adapter = TypeAdapter(kind)
            object.__setattr__(self, "adapter", adapter)
        return adapter

    def _faults(self, entry: Mapping[str, Any], values: Mapping[str, Any]) -> Iterator[Fault]:
        """The faults described by one of pydantic's errors."""
        name, within = entry["loc"][0], list(entry["loc"][1:])
        if entry["type"] in ("extra_forbidden", "invalid_key"):  # the latter: a key that is no text
            near = get_close_matches(str(name), self.hints, n=1)
            hint = f" (did you mean {near[0]!r}?)" if near else ""
            found = f"has {name!r}, which this version does not know{hint}"
            problem = _broken(self.rules.unknown, found, ", ".join(self.hints))
            yield Fault((str(name),) if self.rules.names_in_path else (), problem)
            return
        annotation = self.hints[name]
        rules = next((m for m in _metadata(annotation) if isinstance(m, Rules)), self.rules)
        if entry["type"] == "missing":
            problem = _broken(rules.missing, f"has no {name!r}", describe(annotation))
            yield Fault((str(name),) if rules.names_in_path else (), problem)
            return
        path = () if rules.at_parent else _path(str(name), within, values.get(name))
        cause = entry.get("ctx", {}).get("error")
        if isinstance(cause, RecordError):
            yield from (fault.inside(*path) for fault in cause.faults)
        elif isinstance(cause, LbiError):
            yield from (Fault(path, problem) for problem in cause.problems)
        else:
            wrong_kind = entry["type"].endswith(("_type", "_parsing", "_error", "_size"))
            wrong_kind = wrong_kind and entry["type"] not in ("literal_error", "value_error")
            rule = rules.kind if wrong_kind else rules.value
            words = describe(_inner(annotation, within), kind=wrong_kind)
            yield Fault(path, _broken(rule, f"{entry['input']!r}", words))


def _broken(rule: Rule, found: str, allowed: str) -> Problem:
    return rule.broken("", found, allowed=allowed)


def _path(name: str, within: list[Any], value: Any) -> tuple[str, ...]:
    """Names on the path to a fault; entries of a list are named by their own name if they have one."""
    path: list[str] = [name]
    for step in within:
        entry = value[step] if isinstance(value, list | tuple | Mapping) else None
        if isinstance(step, str):
            path.append(step)
        elif isinstance(entry, Mapping):
            path[-1] = f"{path[-1].removesuffix('s')} {entry.get('name', step)!r}"
        else:
            path[-1] = f"{path[-1]}[{step}]"
        value = entry
    return tuple(path)


def _metadata(hint: Any) -> tuple[Any, ...]:
    return hint.__metadata__ if get_origin(hint) is Annotated else ()


def _bare(hint: Any) -> Any:
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _inner(hint: Any, within: list[Any]) -> Any:
    """The annotation of an entry inside a field's value."""
    for _ in within:
        arguments = get_args(_bare(hint))
        if not arguments:
            return Any
        hint = arguments[-1] if arguments[-1] is not Ellipsis else arguments[0]
    return hint


@cache
def _strict_kinds() -> dict[Any, Any]:
    from pydantic import Field, Strict

    whole = Annotated[int, Strict(), Field(ge=-(2**63), lt=2**63)]
    return {int: whole} | {kind: Annotated[kind, Strict()] for kind in (float, bool, str)}


def _strict(hint: Any, rules: Rules) -> Any:
    """The annotation in pydantic's form, without conversions between kinds of values."""
    from pydantic import AfterValidator, PlainValidator, WrapValidator
    from pydantic_core import PydanticCustomError

    metadata = _metadata(hint)
    for entry in metadata:
        if isinstance(entry, Reader):

            def read(value: Any, info: Any, reader: Reader = entry) -> Any:
                return reader.read(value, info.context)

            return Annotated[Any, PlainValidator(read)]
        if isinstance(entry, OneOf):

            def one_of(value: str, names: tuple[str, ...] = entry.names) -> str:
                if value not in names:
                    raise PydanticCustomError("one_of", "not one of the names")
                return value

            metadata = (*metadata, AfterValidator(one_of))
    bare = _bare(hint)
    origin, arguments = get_origin(bare), get_args(bare)
    if is_dataclass(bare):
        result = _strict(Annotated[Any, Reader(_record_reader(bare, rules))], rules)  # type: ignore[arg-type]
    elif origin in (tuple, list):
        result = origin[tuple(_strict(a, rules) if a is not Ellipsis else a for a in arguments)]
    elif set(arguments) == {int, float}:
        result = Annotated[_strict_kinds()[float], WrapValidator(_as_given)]
    elif origin in (Union, UnionType):
        result = Union[tuple(_strict(argument, rules) for argument in arguments)]  # noqa: UP007  (of a variable number)
    elif origin is not None and issubclass(origin if isinstance(origin, type) else object, Mapping):
        result = dict[tuple(_strict(argument, rules) for argument in arguments)]  # type: ignore[misc]
    else:
        result = _strict_kinds().get(bare, bare)
    for entry in metadata:
        if not isinstance(entry, Takes | OneOf | Rules):
            result = Annotated[result, entry]
    return result


def _as_given(value: Any, check: Callable[[Any], float]) -> Any:
    """The number itself; an integer stays an integer."""
    checked = check(value)
    return value if isinstance(value, int) else checked


def _record_reader(kind: type[Record], rules: Rules) -> Callable[[Any, Any], Record]:
    table = Table.of(kind, rules)

    def read(value: Any, context: Any) -> Record:
        return value if isinstance(value, kind) else kind(**table.read(value, context))

    return read


NOUNS = {int: "whole number", float: "number", bool: "flag", str: "text", Any: "value"}


def describe(hint: Any, *, kind: bool = True) -> str:
    """A description of what an annotation accepts: "a whole number of 0 or more"; without ``kind``, "0 or more".

    Args:
        hint: an annotation.
        kind: whether the type is named.

    Returns:
        A noun phrase; without ``kind`` the bounds alone.
    """
    for entry in _metadata(hint):
        if isinstance(entry, Takes):
            return entry.words
        if isinstance(entry, OneOf):
            return ", ".join(entry.names)
    bare = _bare(hint)
    origin, arguments = get_origin(bare), get_args(bare)
    if origin is Literal:
        return ", ".join(map(str, arguments))
    if set(arguments) == {int, float}:
        return describe(float)
    if origin in (Union, UnionType):
        return " or ".join("nothing" if a is NoneType else describe(a) for a in arguments)
    if origin in (tuple, list):
        return f"a list of {NOUNS.get(_bare(arguments[0]), 'table')}s"
    if bare is bool:
        return "true or false"
    noun = NOUNS.get(bare, "table")
    bounds = _bounds(hint)
    if not bounds:
        return f"a {noun}"
    return f"a {noun}, {bounds}" if kind else bounds


def _bounds(hint: Any) -> str:
    found: dict[str, Any] = {}
    for entry in _metadata(hint):
        for name in ("gt", "ge", "lt", "le"):
            value = getattr(entry, name, None)
            if value is not None:
                found[name] = value
    low = f"above {found['gt']}" if "gt" in found else str(found.get("ge", ""))
    high = f"below {found['lt']}" if "lt" in found else str(found.get("le", ""))
    if not high:
        return low if not low or "gt" in found else f"{low} or more"
    if not low:
        return high if "lt" in found else f"up to {high}"
    if "gt" in found:
        return f"{low}, up to {high}"
    return f"{low} up to {high}" if "lt" in found else f"{low} to {high}"


@dataclass(frozen=True)
class Place:
    """The origin of a value, and the form of its faults.

    Attributes:
        where: name of the file; empty where a field's name says enough.
        rules: rules of the record's fields.
        separator: between the names of a path.
        whole: name of the record, for faults of no field, where ``where`` is empty.
    """

    where: str = ""
    rules: Rules = field(default=Rules())
    separator: str = ", "
    whole: str = ""

    def note(self, faults: RecordError, problems: Problems) -> None:
        """Note faults as problems at their full paths.

        Args:
            faults: the faults.
            problems: receives the faults.
        """
        for fault in faults.faults:
            path = self.separator.join(fault.path)
            outer = ", ".join(part for part in (self.where, path) if part)
            problems.note(fault.problem.inside(outer or self.whole))


def arguments(
    kind: type, values: Any, place: Place, problems: Problems, *, partial: bool = False
) -> dict[str, Any]:
    """The checked arguments of a record.

    Args:
        kind: a dataclass with annotations.
        values: a plain mapping.
        place: where it comes from.
        problems: receives all faults.
        partial: True if no field is required.

    Returns:
        Field → value, for the fields given; empty if anything is wrong.
    """
    try:
        return _table(kind, place.rules, partial).read(values)
    except RecordError as faults:
        place.note(faults, problems)
        return {}


@cache
def _table(kind: type, rules: Rules, partial: bool) -> Table:
    return Table.of(kind, rules, partial=partial)


def parse(kind: type[Record], values: Any, place: Place, error: type[LbiError]) -> Record:
    """A record from a plain mapping.

    Args:
        kind: a dataclass with annotations.
        values: a plain mapping.
        place: where it comes from.
        error: type of the error.

    Returns:
        The record, constructed from the checked values.

    Raises:
        LbiError: of type ``error``, naming all faults.
    """
    problems = Problems()
    checked = arguments(kind, values, place, problems)
    problems.raise_as(error)
    return kind(**checked)


def check(record: Any, place: Place, problems: Problems) -> bool:
    """Note the faults of a record that was constructed directly.

    Args:
        record: a dataclass.
        place: where it comes from.
        problems: receives the faults.

    Returns:
        True if there are no faults.
    """
    values = {entry.name: getattr(record, entry.name) for entry in fields(record) if entry.init}
    before = len(list(problems))
    arguments(type(record), values, place, problems)
    return len(list(problems)) == before
