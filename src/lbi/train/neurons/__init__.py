"""The neuron models that can be trained, one file each, and one with its compiled kernels.

To add a model, add both files and its row below; its records are in ``lbi.neurons``.
"""

from lbi.train.neurons.atrlif import ATRLIF, atrlif
from lbi.train.neurons.cuba_lif import CUBA_LIF, cuba_lif

NEURONS = {model.name: model for model in (CUBA_LIF, ATRLIF)}
"""Model name → what training knows of it."""

__all__ = ["ATRLIF", "CUBA_LIF", "NEURONS", "atrlif", "cuba_lif"]
