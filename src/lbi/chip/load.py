"""Loading of chip profiles: built-in ones by name, a user's own by path.

One TOML file per chip lies in ``hardware/``; docs/hardware.md specifies it and ``lbi.chip.schema`` checks it.
"""

from __future__ import annotations

import os
from functools import cache
from importlib.resources import files
from pathlib import Path

from lbi.chip.profile import HardwareProfile
from lbi.chip.schema import read_profile
from lbi.errors import Rule, UsageError
from lbi.system import toml

UNREADABLE = Rule("chip-unreadable", "a TOML file", "check the path")
NOT_LENT = Rule("unknown-costs", "a cost set of {names}", "copy the cost set into the file")
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
        text, where = _built_in(name), f"{name}.toml"
    elif name.endswith(".toml"):
        text, where = toml.read_text(name, UNREADABLE), name
    else:
        file = f"{name}.toml"
        fix = (
            f"--chip {file}" if os.path.isfile(file) else "choose one, or write your own (docs/howto/chip.md)"
        )
        raise UsageError(UNKNOWN.broken("--chip", repr(name), names=", ".join(profile_names()), fix=fix))
    return parse_profile(text, where)


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
    return read_profile(text, where, _lender)


def _lender(chip: str) -> HardwareProfile:
    """A built-in chip, for profiles that borrow one of its cost sets."""
    names = profile_names()
    if chip not in names:
        raise UsageError(NOT_LENT.broken("", f"a cost set of {chip!r}", names=", ".join(names)))
    return _parsed(_built_in(chip), f"{chip}.toml")


def _built_in(chip: str) -> str:
    """The text of a built-in chip's file."""
    return (files("lbi.hardware") / f"{chip}.toml").read_text(encoding="utf-8")


_parsed = cache(parse_profile)
"""``parse_profile``, once per text. For profiles that are only read from: callers of ``load_profile`` get one of their own."""
