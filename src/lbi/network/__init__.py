"""The network that the package carries: float and integer graphs, CSR weights, neuron models, activity."""

from __future__ import annotations

from lbi.network.graph import INPUT, Network, Population, Projection, Readout

__all__ = ["INPUT", "Network", "Population", "Projection", "Readout"]
