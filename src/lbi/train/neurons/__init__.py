"""Neuron models in training: all models of ``lbi.network.neurons.MODELS``, some with compiled kernels.

A model without kernels trains with the equations of its float record in plain PyTorch. Kernels need a file
``<model>_kernels.py`` and a row in ``COMPILED``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from lbi.network.neurons import MODELS
from lbi.train.layers.scan import TrainableNeuron
from lbi.train.neurons.atrlif import ATRLIF, atrlif
from lbi.train.neurons.cuba_lif import CUBA_LIF, cuba_lif
from lbi.train.neurons.integrator import INTEGRATOR

COMPILED = {model.name: model for model in (CUBA_LIF, ATRLIF, INTEGRATOR)}
"""Model name → the model with its compiled kernels."""


class _Models(Mapping[str, TrainableNeuron]):
    """All registered models, with compiled kernels if they exist."""

    def __getitem__(self, name: str) -> TrainableNeuron:
        return COMPILED.get(name) or TrainableNeuron(MODELS[name].floats)

    def __iter__(self) -> Iterator[str]:
        return iter(MODELS)

    def __len__(self) -> int:
        return len(MODELS)


NEURONS = _Models()
"""Model name → the model in training."""

__all__ = ["ATRLIF", "COMPILED", "CUBA_LIF", "INTEGRATOR", "NEURONS", "atrlif", "cuba_lif"]
