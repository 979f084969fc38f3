"""Options as files, flags and earlier runs give them, before they are checked."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lbi.errors import Problems, Rule
from lbi.system import toml

MAPPINGS = ("encoding", "regularizer_options")
"""Options with parts, each of which can be given as NAME.PART."""

WRITTEN_IF_CHOSEN = (
    "budget",
    "chip",
    "dead_every",
    "regularizer",
    "regularizer_options",
    "teacher",
    "teacher_share",
    "teacher_temperature",
    "layer_densities",
    "prune_from",
    "update_every",
    "drop",
    "rewiring_l1",
    "temperature",
    "recurrent_delay",
    "recurrent_delay_from",
    "update_share",
    "price_updates",
)
"""Options that files leave out at their default, so that they stay the same as those of earlier versions."""

UNREADABLE = Rule("config-unreadable", "a TOML file", "check the path")

REMOVED = {"synops": 0.0}
"""Options of earlier versions → the value with which they did nothing; files with it are read as before."""

GONE = Rule(
    "removed-option",
    "{neutral}: this loss term never paid and was removed",
    "train with --budget synops=NUMBER",
)


def read_toml(file: Path) -> dict[str, Any]:
    """The values of a TOML file.

    Args:
        file: its path.

    Returns:
        Name → value.

    Raises:
        InputError: if it cannot be read or is not TOML.
    """
    return toml.parse(toml.read_text(file, UNREADABLE), str(file))


def of_today(given: Mapping[str, Any], where: str, problems: Problems) -> dict[str, Any]:
    """Options without those that are gone and had no effect; notes a problem for each that had one.

    Args:
        given: option → value.
        where: the file or run that gives them.
        problems: receives the problems.

    Returns:
        The options that there still are, in the same order.
    """
    for name, neutral in REMOVED.items():
        GONE.check(
            problems,
            given.get(name, neutral) == neutral,
            f"{where}, {name}",
            given.get(name),
            neutral=neutral,
        )
    return {name: value for name, value in given.items() if name not in REMOVED}


def parted(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Options, and apart from them those named "NAME.PART", which change a part of the mapping NAME.

    Args:
        options: option → value.

    Returns:
        The options; NAME → PART → value.
    """
    rest = dict(options)
    parts: dict[str, dict[str, Any]] = {name: {} for name in MAPPINGS}
    for name in options:
        whole, _, part = name.partition(".")
        if part and whole in MAPPINGS:
            parts[whole][part] = rest.pop(name)
    return rest, {whole: part for whole, part in parts.items() if part}
