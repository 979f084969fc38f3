"""Loading of chip profiles: built-in ones by name, a user's own by path.

One TOML file per chip lies in ``hardware/``; docs/hardware.md specifies it and ``lbi.chip.schema`` checks it.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path

from lbi.chip.profile import CostSet, HardwareProfile
from lbi.chip.schema import read_profile
from lbi.errors import LbiWarning, Rule, UsageError
from lbi.system import toml

UNREADABLE = Rule("chip-unreadable", "a TOML file", "check the path")
NAMED = Rule(
    "chip-name",
    "another name than those of the built-in chips",
    "give it one of its own: an export made for it says this name, and is estimated with the built-in chip where --chip is left out",
)
UNKNOWN = Rule("unknown-chip", "{names}, or a path ending in .toml", "{fix}")


def profile_names() -> tuple[str, ...]:
    """Names of the chips that come with the package, sorted."""
    names = (entry.name for entry in files("lbi.hardware").iterdir())
    return tuple(sorted(name.removesuffix(".toml") for name in names if name.endswith(".toml")))


def load_profile(chip: str | Path) -> HardwareProfile:
    """The profile of a chip.

    Args:
        chip: name of a built-in chip (``"loihi2"``), or path of a TOML file.

    Returns:
        The chip's limits, number formats, memory layouts and costs.

    Raises:
        UsageError: for an unknown name.
        InputError: naming everything that is wrong in the file.
    """
    name = str(chip)
    if name in profile_names():
        text, where = _builtin(name), f"{name}.toml"
    elif name.endswith(".toml"):
        text, where = toml.read_text(name, UNREADABLE), name
    else:
        file = f"{name}.toml"
        fix = (
            f"--chip {file}" if os.path.isfile(file) else "choose one, or write your own (docs/howto/chip.md)"
        )
        raise UsageError(UNKNOWN.broken("--chip", repr(name), names=", ".join(profile_names()), fix=fix))
    profile = parse_profile(text, where)
    if where == name and profile.name in profile_names() and text != _builtin(profile.name):
        _warn_of_name(where, profile.name)
    return profile


@cache
def _warn_of_name(where: str, name: str) -> None:
    """Warn, once for a file, of a chip of one's own that cannot be told from a built-in one."""
    warnings.warn(str(NAMED.broken(where, f"name = {name!r}")), LbiWarning, stacklevel=3)


def _builtin(name: str) -> str:
    return (files("lbi.hardware") / f"{name}.toml").read_text(encoding="utf-8")


def parse_profile(text: str, where: str) -> HardwareProfile:
    """The profile in a TOML text.

    Args:
        text: the file's text.
        where: its name in error messages.

    Returns:
        The chip's profile.

    Raises:
        InputError: naming every unknown key, missing unit and impossible value.
    """
    return read_profile(text, where, _cost_sets_of)


def _cost_sets_of(chip: str) -> Mapping[str, CostSet]:
    """Name → cost set of another chip, for profiles that borrow one."""
    return {costs.name: costs for costs in load_profile(chip).costs}
