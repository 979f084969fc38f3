"""CUBA-LIF in training: ``lbi.network.neurons.CubaLif`` with a surrogate gradient, none through reset and threshold."""

from __future__ import annotations

import torch
from torch import Tensor

from lbi.train.layers.scan import NeuronModel, scan_decays
from lbi.train.layers.surrogate import Spike


def cuba_lif(
    a: Tensor,
    current_decay: Tensor | float,
    voltage_decay: Tensor | float,
    threshold: Tensor | float = 1.0,
    *,
    bias: Tensor | None = None,
    recurrent: Tensor | None = None,
    surrogate: str = "fast_sigmoid",
    slope: float = 5.0,
) -> Tensor:
    """Spikes (n_samples, n_steps, n) of CUBA-LIF neurons driven by synaptic input ``a`` of that shape.

    ::

        u[t] = (1 − current_decay)·u[t−1] + a[t] + recurrent @ s[t−1]
        v[t] = (1 − voltage_decay)·v[t−1] + u[t] + bias;   s[t] = v[t] > threshold;   v[t] = 0 where s[t]

    Decays are fractions lost per step in [0, 1], scalars or (n,), and get gradients, as do ``bias`` (n,) and
    ``recurrent`` (n, n), rows post-synaptic. No gradient passes through reset and threshold.
    ``lbi.train.layers.surrogate`` lists the surrogates.

    Raises:
        UsageError: naming all unsuitable arguments.
    """
    decays = (current_decay, voltage_decay)
    return scan_decays(CUBA_LIF, a, recurrent, decays, (threshold,), bias, surrogate, slope)


def reference(
    a: Tensor,
    recurrent: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    threshold: Tensor,
    bias: Tensor,
    surrogate: str,
    slope: float,
) -> tuple[Tensor, Tensor]:
    """``lbi.train.layers.scan.scan`` step by step; alpha, beta: kept per step."""
    u = v = s = torch.zeros_like(a[:, 0])
    spikes, voltages = [], []
    for t in range(a.shape[1]):
        u = alpha * u + a[:, t] + (0.0 if recurrent is None else s @ recurrent.T)
        before_reset = beta * v + u + bias
        s = Spike.apply(before_reset, threshold, surrogate, slope)
        v = before_reset * (1.0 - s.detach())
        spikes.append(s)
        voltages.append(before_reset)
    return torch.stack(spikes, 1), torch.stack(voltages, 1)


CUBA_LIF = NeuronModel(
    name="cuba_lif",
    decays=("current_decay", "voltage_decay"),
    levels=("threshold",),
    n_traces=2,
    n_carried=2,
    reference=reference,
    cuda=True,
)
