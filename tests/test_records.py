"""Plain values are checked against annotations, and all faults are reported in one pass with their paths."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Interval

from lbi.errors import InputError, Problems, Rule, UsageError
from lbi.records import OneOf, Place, Rules, Takes, arguments, check, describe, parse


@dataclass(frozen=True)
class Part:
    name: str
    n: Annotated[int, Ge(1)]
    decays: tuple[Annotated[float, Interval(gt=0, le=1)], ...] = ()


@dataclass(frozen=True)
class Whole:
    parts: tuple[Part, ...]
    rate: Annotated[float, Gt(0)] = 1.0
    kind: Literal["a", "b"] = "a"
    title: str | None = None
    flag: bool = False
    model: Annotated[str, OneOf(("lif", "alif"))] = "lif"
    extra: Mapping[str, Any] = field(default_factory=dict)


FILE = Place("file")
GOOD: dict[str, Any] = {"parts": [{"name": "hidden", "n": 3, "decays": [1, 0.5]}]}


def faults(values: Any) -> list[str]:
    with pytest.raises(InputError, match="file") as caught:
        parse(Whole, values, FILE, InputError)
    return [str(problem) for problem in caught.value.problems]


def test_plain_values_become_records():
    whole = parse(Whole, {**GOOD, "rate": 2, "extra": {"list": [1]}}, FILE, InputError)
    assert whole == Whole((Part("hidden", 3, (1.0, 0.5)),), 2.0, extra={"list": [1]})
    assert isinstance(whole.rate, float)


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ({"rate": 0}, "impossible-value: file, rate: 0; allowed: above 0"),
        ({"rate": True}, "wrong-type: file, rate: True; allowed: a number, above 0"),
        ({"rate": "2"}, "wrong-type: file, rate: '2'; allowed: a number, above 0"),
        ({"rate": float("nan")}, "impossible-value: file, rate: nan; allowed: above 0"),
        ({"rate": 10**400}, "wrong-type"),
        ({"kind": "c"}, "impossible-value: file, kind: 'c'; allowed: a, b"),
        ({"model": "liff"}, "impossible-value: file, model: 'liff'; allowed: lif, alif"),
        ({"model": 3}, "wrong-type: file, model: 3; allowed: lif, alif"),
        ({"title": 3}, "wrong-type: file, title: 3; allowed: a text or nothing"),
        ({"flag": 1}, "wrong-type: file, flag: 1; allowed: true or false"),
        ({"extra": 1}, "wrong-type: file, extra: 1; allowed: a table"),
        ({"rat": 1}, "unknown-key: file: has 'rat', which this version does not know (did you mean 'rate'?)"),
        ({0: 1}, "unknown-key: file: has 0, which this version does not know"),
        ({None: 1}, "unknown-key: file: has 'None', which this version does not know"),
        ({"parts": "two"}, "wrong-type: file, parts: 'two'; allowed: a list of tables"),
        ({"parts": [3]}, "wrong-type: file, parts[0]: 3; allowed: a table"),
        (
            {"parts": [{"name": "in", "n": 2**64}]},
            "impossible-value: file, part 'in', n: 18446744073709551616",
        ),
        ({"parts": [{"name": "in", "n": 2.0}]}, "wrong-type: file, part 'in', n: 2.0"),
        ({"parts": [{"name": "in"}]}, "missing-key: file, part 'in': has no 'n'; allowed: a whole number"),
        (
            {"parts": [{"name": "in", "n": 1, "decays": [0.5, 2]}]},
            "impossible-value: file, part 'in', decays[1]: 2; allowed: above 0, up to 1",
        ),
    ],
)
def test_each_fault_has_its_path(values, fault):
    found = faults({**GOOD, **values})
    assert len(found) == 1
    assert found[0].startswith(fault)


def test_all_faults_are_told_at_once():
    bad = {"parts": [{"name": "a", "n": 0}, {"n": 1, "m": 1}], "rate": -1, "kind": 3, "other": 1}
    assert len(faults(bad)) == 6
    assert faults(3) == ["wrong-type: file: 3; allowed: a table"]


def test_records_made_by_hand_and_parts_of_them_are_checked():
    problems = Problems()
    assert check(Whole((Part("a", 1),)), FILE, problems)
    assert not check(Whole((Part("a", 1),), rate=-1), FILE, problems)
    assert arguments(Whole, {"rate": 2}, FILE, problems, partial=True) == {"rate": 2.0}
    assert len(list(problems)) == 1


def test_rules_give_code_words_and_place():
    option = Rule("option", "{allowed}", "see --help")
    place = Place(rules=Rules(unknown=option, value=option), whole="options")
    with pytest.raises(UsageError, match="option: rate: -1; allowed: above 0; fix: see --help") as caught:
        parse(Whole, {**GOOD, "rate": -1, "zzz": 1}, place, UsageError)
    assert [problem.where for problem in caught.value.problems] == ["rate", "options"]


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (Annotated[int, Ge(0)], "a whole number, 0 or more"),
        (Annotated[float, Interval(ge=0, lt=1)], "a number, 0 up to below 1"),
        (Annotated[float, Interval(ge=0, le=1)], "a number, 0 to 1"),
        (Annotated[float, Interval(gt=0), Takes("a share")], "a share"),
        (tuple[int, ...], "a list of whole numbers"),
        (bool, "true or false"),
    ],
)
def test_annotations_in_words(hint, words):
    assert describe(hint) == words
