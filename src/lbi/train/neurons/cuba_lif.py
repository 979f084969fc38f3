"""CUBA-LIF in training: ``lbi.network.neurons.CubaLif`` with a surrogate gradient, none through reset and threshold."""

from __future__ import annotations

from torch import Tensor

from lbi.network.neurons import CubaLif
from lbi.train.layers.scan import Kernels, TrainableNeuron, scan_decays


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

        u[t] = (1 − current_decay)·u[t−1] + a[t] + recurrent @ s[t−1]
        v[t] = (1 − voltage_decay)·v[t−1] + u[t] + bias;   s[t] = v[t] > threshold;   v[t] = 0 where s[t]

    Decays are fractions lost per step in [0, 1], scalars or (n,), and get gradients, as do ``bias`` (n,) and
    ``recurrent`` (n, n), rows post-synaptic. No gradient passes through reset and threshold.
    ``lbi.train.layers.surrogate`` lists the surrogates.

    Args:
        a: synaptic input, (n_samples, n_steps, n).
        current_decay: fraction of u lost per step.
        voltage_decay: fraction of v lost per step.
        threshold: in weight units.
        bias: (n,) or a number.
        recurrent: (n, n), rows post-synaptic, or None.
        surrogate: name of the surrogate gradient.
        slope: its slope.

    Returns:
        (n_samples, n_steps, n) zeros and ones, of the type of ``a``.

    Raises:
        UsageError: naming all unsuitable arguments.
    """
    decays = (current_decay, voltage_decay)
    return scan_decays(CUBA_LIF, a, recurrent, decays, (threshold,), bias, surrogate, slope)


CUBA_LIF = TrainableNeuron(CubaLif, Kernels(n_traces=2, cuda=True))
