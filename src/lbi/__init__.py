"""Sparse spiking networks from training to the chip, exact zeros all the way.

``load`` a model or an export, ``quantize`` it for a chip, ``simulate`` it bit-exactly, ``estimate`` what
it costs. ``lbi.train`` holds the Bregman optimizers and loads torch on first use; the rest needs numpy.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lbi import interrupt

if interrupt.is_command():  # before the rest is loaded: Ctrl-C may come by then
    interrupt.listen()

from lbi.activity import Activity
from lbi.errors import LbiError
from lbi.estimate import Estimate, estimate
from lbi.fixed import FixedNetwork, FixedPopulation, FixedProjection, SignMode
from lbi.network import Network, Population, Projection, Readout
from lbi.neurons import CubaLif, FixedCubaLif
from lbi.profile import HardwareProfile, load_profile
from lbi.quantize import quantize
from lbi.simulate import SpikeEvents, simulate
from lbi.sparse import CsrMatrix
from lbi.store import save
from lbi.targets import load

if TYPE_CHECKING:
    from lbi import train

__version__ = "0.1.0"

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
