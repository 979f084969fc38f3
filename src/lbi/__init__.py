"""Sparse spiking networks, from training to neuromorphic chips, with exact zeros kept throughout.

``load`` a model or an export, ``quantize`` it for a chip, ``simulate`` it bit for bit as Lava computes it, and
``estimate`` what it costs, ``export`` it. ``import lbi`` loads none of this: each name is imported on first use, so that
only training and the import of torch models need torch, and the commands start fast.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lbi._version import __version__

if TYPE_CHECKING:
    from lbi import datasets, errors, exporters, importers, network, neurons, reference, train  # noqa: F401
    from lbi.chip.load import load_profile
    from lbi.chip.profile import HardwareProfile
    from lbi.costing.estimation import estimate
    from lbi.costing.result import Estimate
    from lbi.deploy.exporting import export
    from lbi.deploy.targets import load
    from lbi.errors import LbiError
    from lbi.files.network_h5 import save
    from lbi.network.activity import Activity
    from lbi.network.csr import CsrMatrix
    from lbi.network.fixed import FixedNetwork, FixedPopulation, FixedProjection, SignMode
    from lbi.network.graph import Network, Population, Projection, Readout
    from lbi.network.neurons import CubaLif, FixedCubaLif
    from lbi.network.spikes import SpikeEvents
    from lbi.quantization.compaction import compact
    from lbi.quantization.to_integers import quantize
    from lbi.simulation.run import simulate

__all__ = [
    "Activity",
    "CsrMatrix",
    "CubaLif",
    "Estimate",
    "FixedCubaLif",
    "FixedNetwork",
    "FixedPopulation",
    "FixedProjection",
    "HardwareProfile",
    "LbiError",
    "Network",
    "Population",
    "Projection",
    "Readout",
    "SignMode",
    "SpikeEvents",
    "__version__",
    "compact",
    "estimate",
    "export",
    "load",
    "load_profile",
    "quantize",
    "save",
    "simulate",
]

MODULES = ("datasets", "errors", "exporters", "importers", "network", "neurons", "reference", "train")
"""Public modules that are attributes of ``lbi`` without an import of their own; ``train`` needs torch."""

ORIGINS = {
    "Activity": "lbi.network.activity",
    "CsrMatrix": "lbi.network.csr",
    "CubaLif": "lbi.network.neurons",
    "Estimate": "lbi.costing.result",
    "FixedCubaLif": "lbi.network.neurons",
    "FixedNetwork": "lbi.network.fixed",
    "FixedPopulation": "lbi.network.fixed",
    "FixedProjection": "lbi.network.fixed",
    "HardwareProfile": "lbi.chip.profile",
    "LbiError": "lbi.errors",
    "Network": "lbi.network.graph",
    "Population": "lbi.network.graph",
    "Projection": "lbi.network.graph",
    "Readout": "lbi.network.graph",
    "SignMode": "lbi.network.fixed",
    "SpikeEvents": "lbi.network.spikes",
    "compact": "lbi.quantization.compaction",
    "estimate": "lbi.costing.estimation",
    "export": "lbi.deploy.exporting",
    "load": "lbi.deploy.targets",
    "load_profile": "lbi.chip.load",
    "quantize": "lbi.quantization.to_integers",
    "save": "lbi.files.network_h5",
    "simulate": "lbi.simulation.run",
}
"""Public name → the module that defines it. Type checkers read the imports above; a test compares the two."""

if not TYPE_CHECKING:  # so that type checkers report names that do not exist

    def __getattr__(name: str) -> Any:
        """Import a public name on first use (PEP 562)."""
        if name in ORIGINS:
            value = getattr(import_module(ORIGINS[name]), name)
        elif name in MODULES:
            value = import_module(f"lbi.{name}")
        else:
            raise AttributeError(f"module 'lbi' has no attribute {name!r}")
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *ORIGINS, *MODULES})
