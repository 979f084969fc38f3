"""Ratios of two records of costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lbi.costing.ranges import Range, ratio

RATIO_KEYS = (
    "synops_per_step",
    "neuron_updates_per_step",
    "spikes_per_step",
    "synaptic_memory_bits",
    "n_cores",
)

BY_COST_SET = {"energy_pj_per_step": "energy_by_cost_set", "time_ns_per_step": "time_by_cost_set"}
"""Key of a range over cost sets → key of the ranges by cost set."""


def ratios(over: Mapping[str, Any], under: Mapping[str, Any]) -> dict[str, Any]:
    """``over / under`` key by key; ranges are divided within each cost set; None where undefined.

    Args:
        over: one record of costs.
        under: another.

    Returns:
        Key → ratio; None where a figure is missing or the divisor is 0.
    """
    result: dict[str, Any] = {}
    for key in RATIO_KEYS:
        a, b = over[key], under[key]
        result[key] = None if a is None or not b else a / b
    for key, sets in BY_COST_SET.items():
        found = ratio(*({name: Range(**ends) for name, ends in side[sets].items()} for side in (over, under)))
        result[key] = None if found is None else found.to_dict()
    return result
