"""Sparse spiking networks from training to the chip, exact zeros all the way.

``load`` a model or an export, ``quantize`` it for a chip, ``simulate`` it bit-exactly, ``estimate`` what
it costs. ``lbi.train`` holds the Bregman optimizers and loads torch on first use; the rest needs numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lbi.system import signals

if signals.is_command():  # before the rest is loaded: Ctrl-C may come by then
    signals.listen()

from lbi._version import __version__ as __version__
from lbi.chip.load import load_profile
from lbi.chip.profile import HardwareProfile
from lbi.costing.estimation import Estimate, estimate
from lbi.deploy.targets import load
from lbi.errors import LbiError
from lbi.files.network_h5 import save
from lbi.network.activity import Activity
from lbi.network.csr import CsrMatrix
from lbi.network.fixed import FixedNetwork, FixedPopulation, FixedProjection, SignMode
from lbi.network.graph import Network, Population, Projection, Readout
from lbi.network.neurons import CubaLif, FixedCubaLif
from lbi.quantization.to_integers import quantize
from lbi.simulation.run import SpikeEvents, simulate

if TYPE_CHECKING:
    from lbi import train

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
    "estimate",
    "load",
    "load_profile",
    "quantize",
    "save",
    "simulate",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "train":  # the only part that imports torch
        return import_module("lbi.train")
    raise AttributeError(f"module 'lbi' has no attribute {name!r}")
