"""Neuron models, one file each: float parameters as trained, integer parameters as on the chip.

A file holds two frozen records, ``<Model>`` (float) and ``Fixed<Model>`` (integers), each with
``step``, the model's equations on plain arrays. To add a model, add its file and its row below;
the compiled kernel of the simulator and the Lava process that runs it are found by ``model``.
"""

from __future__ import annotations

from lbi.neurons.cuba_lif import CubaLif, FixedCubaLif

FLOAT_MODELS = {model.model: model for model in (CubaLif,)}
"""Model name → float record."""

FIXED_MODELS = {model.model: model for model in (FixedCubaLif,)}
"""Model name → integer record."""

__all__ = ["FIXED_MODELS", "FLOAT_MODELS", "CubaLif", "FixedCubaLif"]
