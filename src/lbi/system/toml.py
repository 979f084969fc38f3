"""TOML texts as tables, whatever is in them."""

from __future__ import annotations

import sys
from typing import Any

from lbi.errors import InputError, Problem


def parse(text: str, where: str) -> dict[str, Any]:
    """The table of a TOML text; ``where`` names it. Raises InputError for a text that is none.

    Whole numbers have 64 bits, as TOML 1.0 asks; Python's reader takes any, and some break what prints them.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        table = tomllib.loads(text)
        _check_numbers(table)
    except (ValueError, RecursionError) as error:
        raise InputError(Problem("toml-syntax", where, str(error), "TOML")) from error
    return table


def _check_numbers(value: Any) -> None:
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError("a whole number of more than 64 bits")
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        _check_numbers(inner)
