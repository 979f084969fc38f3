"""The leaky integrator in training: ``lbi.network.neurons.Integrator``, read by its voltage; it never spikes."""

from __future__ import annotations

import torch
from torch import Tensor

from lbi.train.layers.scan import NeuronModel


def reference(
    a: Tensor,
    recurrent: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    bias: Tensor,
    surrogate: str,
    slope: float,
) -> tuple[Tensor, Tensor]:
    """``lbi.train.layers.scan.scan`` step by step, without a spike; alpha, beta: kept per step."""
    u = v = torch.zeros_like(a[:, 0])
    voltages = []
    for t in range(a.shape[1]):
        u = alpha * u + a[:, t]
        v = beta * v + u + bias
        voltages.append(v)
    return torch.zeros_like(a), torch.stack(voltages, 1)


INTEGRATOR = NeuronModel(
    name="integrator",
    decays=("current_decay", "voltage_decay"),
    levels=(),
    n_traces=2,
    n_carried=0,
    reference=reference,
    spikes=False,
)
