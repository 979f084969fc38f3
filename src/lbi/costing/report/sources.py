"""Text lines with the sources of an estimate's figures: in short, and number by number."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import starmap

from lbi.chip.profile import HardwareProfile
from lbi.costing.costs import labelled, price_source
from lbi.costing.result import Estimate

PRICED = ("limits.", "mesh.", "memory.", "costs.", "static.", "scenarios.")
"""Numbers that the printed figures depend on: neither number formats nor published measurements."""
COUNTED_AS_0 = ("costs.", "scenarios.")
"""Numbers that count as 0 where they are not published; no limit is checked then."""


def source_note(estimate: Estimate) -> str:
    """Where the prices of the table come from, and how sure they are.

    Args:
        estimate: the estimate.

    Returns:
        A sentence; ``source_lines`` lists every number.
    """
    profile = estimate.profile
    static = "; ".join(f"{entry.power.source} ({entry.power.confidence})" for entry in profile.static)
    per_synop = [s.energy_per_synop for s in profile.scenarios if s.energy_per_synop is not None]
    parts = {
        "energy": price_source(profile, "energy"),
        "time": price_source(profile, "time"),
        "static energy": static,
        "energy of what-ifs": labelled(
            (s.costs.label, s.costs.energy.values()) for s in profile.scenarios if s.costs
        ),
        "energy per synaptic operation": "; ".join(f"{q.source} ({q.confidence})" for q in per_synop),
    }
    shown = " · ".join(f"{what}: {text}" for what, text in parts.items() if text)
    return f"Sources: {shown}; every number and reference: --sources"


def source_lines(profile: HardwareProfile) -> list[str]:
    """Every number of a chip that the printed figures depend on, with its source, and the references.

    Args:
        profile: the chip.

    Returns:
        A line per place in the chip's file, then one per key that these cite.
    """
    places: dict[str, dict[tuple[str, str], list[str]]] = {}
    cited = set()
    for name, number in profile.quantities():
        if name.startswith(PRICED) and (number.known or name.startswith(COUNTED_AS_0)):
            place, _, last = name.rpartition(".")
            group = places.setdefault(place, {}).setdefault((number.source, number.confidence), [])
            group.append(f"{last} {number}" if number.known else last)
            cited |= {part.split()[0] for part in number.source.split(";")}
    lines = [f"{place}: {'; '.join(starmap(_group, groups.items()))}" for place, groups in places.items()]
    return [*lines, *(f"{key}: {text}" for key, text in profile.sources.items() if key in cited)]


def _group(origin: tuple[str, str], numbers: list[str]) -> str:
    """Numbers of one source."""
    source, confidence = origin
    if confidence == "not published":
        return f"{', '.join(numbers)} not published, counted as 0 ({source})"
    return f"{', '.join(numbers)} ({source}, {confidence})"


def profiles(estimates: Iterable[Estimate]) -> list[HardwareProfile]:
    """The chips of some estimates, each once; two that differ are two, even under one name.

    Args:
        estimates: the estimates.

    Returns:
        Their chips, in the same order.
    """
    found: list[HardwareProfile] = []
    for estimate in estimates:
        if estimate.profile not in found:
            found.append(estimate.profile)
    return found
