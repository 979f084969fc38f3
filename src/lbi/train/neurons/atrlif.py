"""The adaptive neuron in training: ``lbi.network.neurons.AtrLif`` with a surrogate gradient.

A spike raises the threshold by a step and the refractoriness by twice the threshold; both decay. The refractoriness
is this neuron's reset, and as with CUBA-LIF the spike in it is treated as a constant. The adaptive threshold is its
slow memory, and gradients pass through the spikes that raised it (Bellec et al., NeurIPS 2018,
arXiv:1803.09574). In SLAYER's ALIF, gradients pass through neither.
"""

from __future__ import annotations

from torch import Tensor

from lbi.network.neurons import AtrLif
from lbi.train.layers.scan import Kernels, TrainableNeuron, scan_decays


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

        u[t]  = (1 − current_decay)·u[t−1] + a[t] + recurrent @ s[t−1]
        v[t]  = (1 − voltage_decay)·v[t−1] + u[t] + bias
        θ*[t] = (1 − threshold_decay)·θ[t−1];   r*[t] = (1 − refractory_decay)·r[t−1]
        s[t]  = v[t] − r*[t] − θ*[t] ≥ threshold
        r[t]  = r*[t] + 2·(θ*[t] + threshold),  θ[t] = θ*[t] + threshold_step  where s[t]

    Decays are fractions lost per step in [0, 1], scalars or (n,), and get gradients, as do ``bias`` (n,) and
    ``recurrent`` (n, n), rows post-synaptic; threshold and threshold_step get none. The surrogate is of
    v − r* − θ* (``lbi.train.layers.surrogate``).

    Args:
        a: synaptic input, (n_samples, n_steps, n).
        current_decay: fraction of u lost per step.
        voltage_decay: fraction of v lost per step.
        threshold_decay: fraction of θ lost per step.
        refractory_decay: fraction of r lost per step.
        threshold: in weight units.
        threshold_step: rise of the threshold per spike.
        bias: (n,) or a number.
        recurrent: (n, n), rows post-synaptic, or None.
        surrogate: name of the surrogate gradient.
        slope: its slope.

    Returns:
        (n_samples, n_steps, n) zeros and ones, of the type of ``a``.

    Raises:
        UsageError: naming all unsuitable arguments.
    """
    decays = (current_decay, voltage_decay, threshold_decay, refractory_decay)
    return scan_decays(ATRLIF, a, recurrent, decays, (threshold, threshold_step), bias, surrogate, slope)


ATRLIF = TrainableNeuron(AtrLif, Kernels(n_traces=4, cuda=True))
