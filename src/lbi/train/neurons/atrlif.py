"""The adaptive neuron in training: ``lbi.network.neurons.AtrLif`` with a surrogate gradient.

A spike raises the threshold by a step and the refractoriness by twice the threshold; both decay. The refractoriness
is this neuron's reset, and as with CUBA-LIF the spike in it is treated as a constant. The adaptive threshold is its
slow memory, and gradients pass through the spikes that raised it (Bellec et al., NeurIPS 2018,
arXiv:1803.09574). In SLAYER's ALIF, gradients pass through neither.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lbi.train.layers.scan import NeuronModel, scan_decays
from lbi.train.layers.surrogate import Spike


def atrlif(
    a: Tensor,
    current_decay: Tensor | float,
    voltage_decay: Tensor | float,
    threshold_decay: Tensor | float,
    refractory_decay: Tensor | float,
    threshold: Tensor | float = 1.0,
    threshold_step: Tensor | float = 0.1,
    *,
    bias: Tensor | None = None,
    recurrent: Tensor | None = None,
    surrogate: str = "fast_sigmoid",
    slope: float = 5.0,
) -> Tensor:
    """Spikes (n_samples, n_steps, n) of adaptive neurons driven by synaptic input ``a`` of that shape.

    ::

        u[t]  = (1 − current_decay)·u[t−1] + a[t] + recurrent @ s[t−1]
        v[t]  = (1 − voltage_decay)·v[t−1] + u[t] + bias
        θ*[t] = (1 − threshold_decay)·θ[t−1];   r*[t] = (1 − refractory_decay)·r[t−1]
        s[t]  = v[t] − r*[t] − θ*[t] ≥ threshold
        r[t]  = r*[t] + 2·(θ*[t] + threshold),  θ[t] = θ*[t] + threshold_step  where s[t]

    Decays are fractions lost per step in [0, 1], scalars or (n,), and get gradients, as do ``bias`` (n,) and
    ``recurrent`` (n, n), rows post-synaptic; threshold and threshold_step get none. The surrogate is of
    v − r* − θ* (``lbi.train.layers.surrogate``).

    Raises:
        UsageError: naming all unsuitable arguments.
    """
    decays = (current_decay, voltage_decay, threshold_decay, refractory_decay)
    return scan_decays(ATRLIF, a, recurrent, decays, (threshold, threshold_step), bias, surrogate, slope)


def reference(
    a: Tensor,
    recurrent: Tensor | None,
    alpha: Tensor,
    beta: Tensor,
    keep_theta: Tensor,
    keep_r: Tensor,
    threshold: Tensor,
    threshold_step: Tensor,
    bias: Tensor,
    surrogate: str,
    slope: float,
) -> tuple[Tensor, Tensor]:
    """``lbi.train.layers.scan.scan`` step by step; alpha, beta, keep_theta, keep_r: kept per step."""
    u = v = theta = r = s = torch.zeros_like(a[:, 0])
    spikes, voltages = [], []
    for t in range(a.shape[1]):
        u = alpha * u + a[:, t] + (0.0 if recurrent is None else s @ recurrent.T)
        v = beta * v + u + bias
        theta, r = keep_theta * theta, keep_r * r
        s = Spike.apply(v - r - theta, threshold, surrogate, slope, True)
        r = r + 2.0 * (theta + threshold) * s.detach()
        theta = theta + threshold_step * s
        spikes.append(s)
        voltages.append(v)
    return torch.stack(spikes, 1), torch.stack(voltages, 1)


ATRLIF = NeuronModel(
    name="atrlif",
    decays=("current_decay", "voltage_decay", "threshold_decay", "refractory_decay"),
    levels=("threshold", "threshold_step"),
    n_traces=4,
    n_carried=4,
    reference=reference,
)
