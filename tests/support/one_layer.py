"""A network of one projection onto one population."""

from __future__ import annotations

import numpy as np

from lbi import CsrMatrix, FixedCubaLif, FixedNetwork, FixedPopulation, FixedProjection, Readout, SignMode


def one_layer(
    weights, *, du=4095, dv=4096, vth=1, bias=0, exponent=0, sign_mode=SignMode.MIXED, **projection
):
    """input → layer; by default u and v forget at once: v = (Σ weights) << 6 in every step."""
    weights = CsrMatrix.from_dense(np.array(weights, dtype=np.int16))
    n_out, n_in = weights.shape
    neuron = FixedCubaLif(du, dv, vth, np.full(n_out, bias))
    return FixedNetwork(
        (n_in,),
        (FixedPopulation("layer", (n_out,), neuron),),
        (FixedProjection("w", "input", "layer", weights, sign_mode, exponent, **projection),),
        Readout("layer"),
        "loihi2",
    )
