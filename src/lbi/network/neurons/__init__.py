"""Neuron models, one file each: float parameters as trained, integer parameters as on the chip.

A file holds two frozen records, ``<Model>`` (float) and ``Fixed<Model>`` (integers), each with
``step``, the model's equations on plain arrays, ``to_fixed`` or ``to_float``, and in the integer one ``integer_name``: for
each float parameter, the name of the integer made from it. ``parameters`` has what all of them share. To add a model,
add its file and its row below; the compiled kernel of the simulator and the Lava process that runs it are found
by ``model``.
"""

from __future__ import annotations

from typing import TypeAlias

from lbi.network.neurons.atrlif import AtrLif, FixedAtrLif
from lbi.network.neurons.cuba_lif import CubaLif, FixedCubaLif
from lbi.network.neurons.integrator import FixedIntegrator, Integrator
from lbi.network.neurons.lif_refractory import FixedLifRefractory, LifRefractory

Neuron: TypeAlias = CubaLif | LifRefractory | AtrLif | Integrator

FLOAT_MODELS: dict[str, type[Neuron]] = {
    model.model: model for model in (CubaLif, LifRefractory, AtrLif, Integrator)
}
"""Model name → float record."""

FixedNeuron: TypeAlias = FixedCubaLif | FixedLifRefractory | FixedAtrLif | FixedIntegrator

FIXED_MODELS: dict[str, type[FixedNeuron]] = {
    model.model: model for model in (FixedCubaLif, FixedLifRefractory, FixedAtrLif, FixedIntegrator)
}
"""Model name → integer record."""

__all__ = [
    "FIXED_MODELS",
    "FLOAT_MODELS",
    "AtrLif",
    "CubaLif",
    "FixedAtrLif",
    "FixedCubaLif",
    "FixedIntegrator",
    "FixedLifRefractory",
    "FixedNeuron",
    "Integrator",
    "LifRefractory",
    "Neuron",
]
