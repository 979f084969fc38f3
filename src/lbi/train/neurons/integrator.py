"""The leaky integrator in training: ``lbi.network.neurons.Integrator``, read by its voltage; it never spikes."""

from __future__ import annotations

from lbi.network.neurons import Integrator
from lbi.train.layers.scan import Kernels, TrainableNeuron

INTEGRATOR = TrainableNeuron(Integrator, Kernels(n_traces=2, cuda=True))
