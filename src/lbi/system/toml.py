"""Parse untrusted TOML."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from lbi.errors import InputError, Rule
from lbi.system.paths import not_a_file

SYNTAX = Rule("toml-syntax", "TOML")


def read_text(path: str | Path, unreadable: Rule) -> str:
    """The text of a TOML file.

    Args:
        path: the file.
        unreadable: the rule that a path which is no readable file breaks.

    Returns:
        The text.

    Raises:
        InputError: if it cannot be read.
    """
    if why := not_a_file(path):
        raise InputError(unreadable.broken(str(path), why))
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(unreadable.broken(str(path), f"cannot be read ({error})")) from error


def parse(text: str, where: str) -> dict[str, Any]:
    """The table of a TOML text.

    Integers are limited to 64 bits, as TOML 1.0 requires. Python's parser accepts larger ones, and some of those
    cannot be printed.

    Args:
        text: the file's content.
        where: the file's name, for errors.

    Returns:
        The parsed table.

    Raises:
        InputError: if the text is not TOML.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        table = tomllib.loads(text)
        _check_numbers(table)
    except (ValueError, RecursionError) as error:
        raise InputError(SYNTAX.broken(where, str(error))) from error
    return table


def _check_numbers(value: Any) -> None:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("an integer of more than 64 bits")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_numbers(inner)
