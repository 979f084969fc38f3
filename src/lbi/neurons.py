"""Alias of ``lbi.network.neurons``, the neuron models."""

from __future__ import annotations

from lbi.network.neurons import *  # noqa: F403
from lbi.network.neurons import __all__ as __all__
