"""A chip as data: number formats, limits, memory formats and costs, each with its source.

One TOML file per chip lies in ``hardware/``; ``load_profile`` also reads a user's own file.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lbi.errors import InputError, Problem, Problems, UsageError
from lbi.fixedpoint import IntFormat


@dataclass(frozen=True)
class NumberFormats:
    """The integers a chip stores: what quantization may produce."""

    decay: IntFormat
    threshold: IntFormat
    bias_mantissa: IntFormat
    bias_exponent: IntFormat
    weight_exponent: IntFormat
    delay: IntFormat


@dataclass(frozen=True)
class HardwareProfile:
    """One chip."""

    name: str
    title: str
    formats: NumberFormats


def profile_names() -> tuple[str, ...]:
    """Names of the chips that come with the package."""
    from importlib.resources import files

    return tuple(
        sorted(entry.name[:-5] for entry in files("lbi.hardware").iterdir() if entry.name.endswith(".toml"))
    )


def load_profile(chip: str | Path) -> HardwareProfile:
    """The profile of a built-in chip (``"loihi2"``) or of a TOML file.

    Raises UsageError for an unknown name, InputError naming all that is wrong in a file.
    """
    from importlib.resources import files

    name = str(chip)
    if name in profile_names():
        text, where = (files("lbi.hardware") / f"{name}.toml").read_text(encoding="utf-8"), f"{name}.toml"
    elif name.endswith(".toml"):
        try:
            text, where = Path(name).read_text(encoding="utf-8"), name
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(
                Problem("chip-unreadable", name, f"cannot be read ({error})", "a TOML file")
            ) from error
    else:
        raise UsageError(
            Problem(
                "unknown-chip",
                "--chip",
                repr(name),
                f"{', '.join(profile_names())}, or a path ending in .toml",
            )
        )
    return parse_profile(text, where)


def parse_profile(text: str, where: str) -> HardwareProfile:
    """A profile from TOML text."""
    import sys

    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        table: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(Problem("toml-syntax", where, str(error), "TOML")) from error
    problems = Problems()
    formats = {}
    for field in NumberFormats.__dataclass_fields__:
        entry = table.get("formats", {}).get(field)
        if problems.check(
            isinstance(entry, dict) and isinstance(entry.get("min"), int) and isinstance(entry.get("max"), int),
            "format-missing", f"{where}, [formats.{field}]", f"{entry!r}", "a table with whole min and max",
        ):  # fmt: skip
            formats[field] = IntFormat(entry["min"], entry["max"])
    problems.raise_as(InputError)
    return HardwareProfile(
        name=str(table["name"]), title=str(table["title"]), formats=NumberFormats(**formats)
    )
