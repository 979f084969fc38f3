"""Ratios of two records of costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

RATIO_KEYS = (
    "synops_per_step",
    "neuron_updates_per_step",
    "spikes_per_step",
    "synaptic_memory_bits",
    "n_cores",
    "energy_pj_per_step",
    "time_ns_per_step",
)


def ratios(over: Mapping[str, Any], under: Mapping[str, Any]) -> dict[str, Any]:
    """``over / under`` key by key; ranges are divided end by end; None where undefined.

    Args:
        over: one record of costs.
        under: another.

    Returns:
        Key → ratio.
    """
    result: dict[str, Any] = {}
    for key in RATIO_KEYS:
        a, b = over[key], under[key]
        if a is None or b is None:
            result[key] = None
        elif isinstance(a, dict):
            result[key] = {end: _ratio(a[end], b[end]) for end in ("low", "high")}
        else:
            result[key] = _ratio(a, b)
    return result


def _ratio(a: float, b: float) -> float | None:
    return a / b if b else None
