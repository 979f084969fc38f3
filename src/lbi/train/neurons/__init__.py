"""The neuron models that can be trained, one file each, and one with its compiled kernels.

To add a model, add both files and its row below; its records are in ``lbi.network.neurons``.
"""

from lbi.train.neurons.atrlif import ATRLIF, atrlif
from lbi.train.neurons.cuba_lif import CUBA_LIF, cuba_lif
from lbi.train.neurons.integrator import INTEGRATOR

NEURONS = {model.name: model for model in (CUBA_LIF, ATRLIF, INTEGRATOR)}
"""Model name → its training side."""

__all__ = ["ATRLIF", "CUBA_LIF", "INTEGRATOR", "NEURONS", "atrlif", "cuba_lif"]
