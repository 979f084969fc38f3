"""Alias of ``lbi.simulation.oracle``, the slow and obvious simulation."""

from __future__ import annotations

from lbi.network.spikes import check_spikes
from lbi.simulation.oracle import by_lag, simulate

__all__ = ["by_lag", "check_spikes", "simulate"]
