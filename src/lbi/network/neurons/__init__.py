"""Neuron models, one file each, and their registry.

A model's file holds two frozen records, ``<Model>`` (float parameters, as trained) and ``Fixed<Model>`` (integers, as
on the chip), each with the model's equations, and ends with its row ``MODEL``. Everything else follows from it: the
checks against a chip's number formats, bounds on the state, the file, the Lava process, the NIR node, training in plain
PyTorch, the options of ``lbi-train``. Compiled kernels are optional: for the simulator in ``lbi.simulation``, for training
in ``lbi.train.neurons``; a model without them runs and trains by its slow equations.

To add a model, add its file, its row in ``MODELS`` and its rows in docs/formats.md, docs/reference/neurons.md and the
README; ``tests/network/test_neuron_conformance.py`` and ``tests/train/test_conformance.py`` then cover it. A model's file
imports from ``model`` and ``parameters`` in this folder, not from this module, which imports it.
"""

from __future__ import annotations

from typing import TypeAlias

from lbi.network.neurons import atrlif, cuba_lif, integrator, lif_refractory
from lbi.network.neurons.atrlif import AtrLif, FixedAtrLif
from lbi.network.neurons.cuba_lif import CubaLif, FixedCubaLif
from lbi.network.neurons.integrator import FixedIntegrator, Integrator
from lbi.network.neurons.lif_refractory import FixedLifRefractory, LifRefractory
from lbi.network.neurons.model import LavaProcess, NeuronModel
from lbi.network.neurons.parameters import FixedParameters, FloatParameters

MODELS: dict[str, NeuronModel] = {
    model.name: model for model in (cuba_lif.MODEL, lif_refractory.MODEL, atrlif.MODEL, integrator.MODEL)
}
"""The registry: model name → its row."""

Neuron: TypeAlias = FloatParameters
FixedNeuron: TypeAlias = FixedParameters

FLOAT_MODELS: dict[str, type[FloatParameters]] = {name: model.floats for name, model in MODELS.items()}
"""Model name → float record, for the models of this package."""

FIXED_MODELS: dict[str, type[FixedParameters]] = {name: model.integers for name, model in MODELS.items()}
"""Model name → integer record, for the models of this package."""

__all__ = [
    "FIXED_MODELS",
    "FLOAT_MODELS",
    "MODELS",
    "AtrLif",
    "CubaLif",
    "FixedAtrLif",
    "FixedCubaLif",
    "FixedIntegrator",
    "FixedLifRefractory",
    "FixedNeuron",
    "FixedParameters",
    "FloatParameters",
    "Integrator",
    "LavaProcess",
    "LifRefractory",
    "Neuron",
    "NeuronModel",
]
