"""LIF with adaptive threshold and relative refractoriness: the adaptive neuron of the speech benchmarks.

Reference: lava-nc 0.10.0 ``proc/atrlif/models.py`` (``PyATRLIFModelFixed``), after SLAYER's ALIF.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Problems
from lbi.fixedpoint import ACTIVATION_SHIFT, clip24, decay, wrap24
from lbi.neurons.cuba_lif import State, check_ranges, frozen


@dataclass(frozen=True, eq=False)
class FixedAtrLif:
    """ATRLIF in Loihi's integers, as Lava's ``PyATRLIFModelFixed``.

    ::

        u[t]  = wrap24(trunc0(u[t−1] · (4096 − (delta_i + 1)) / 4096) + (a[t] << 6))
        v[t]  = clip24(trunc0(v[t−1] · (4096 − delta_v) / 4096) + u[t] + (bias_mant << bias_exp))
        θ*[t] = trunc0(θ[t−1] · (4096 − delta_theta) / 4096)
        r*[t] = trunc0(r[t−1] · (4096 − delta_r) / 4096)
        s[t]  = v[t] − r*[t] ≥ θ*[t] + (theta_0 << 6)
        r[t]  = r*[t] + 2 · (θ*[t] + (theta_0 << 6)),  θ[t] = θ*[t] + (theta_step << 6)  where s[t]

    v is not reset. u is Lava's ``i``; the state variable ``theta`` is the threshold's excess over its
    baseline: Lava's ``theta`` is ``theta + (theta_0 << 6)``. Lava takes the deltas as fractions, here they
    are their 4096ths (Lava's integer 0 for ``delta_i`` overflows int32 where its float 0.0 does not).

    delta_i: 0 to 4095 · delta_v, delta_theta, delta_r: 0 to 4096 · theta_0, theta_step: 0 to 131071
    bias_mant: (n,) signed 13-bit (−4096 to 4095) · bias_exp: unsigned 3-bit (0 to 7)
    """

    delta_i: int
    delta_v: int
    delta_theta: int
    delta_r: int
    theta_0: int
    theta_step: int
    bias_mant: NDArray[np.int32]
    bias_exp: int = 0

    model: ClassVar[str] = "atrlif"
    state_variables: ClassVar[tuple[str, ...]] = ("u", "v", "theta", "r")

    def __post_init__(self) -> None:
        ranges = (
            ("delta_i", 0, 4095), ("delta_v", 0, 4096), ("delta_theta", 0, 4096), ("delta_r", 0, 4096),
            ("theta_0", 0, 131071), ("theta_step", 0, 131071), ("bias_exp", 0, 7),
        )  # fmt: skip
        for name, _, _ in ranges:
            object.__setattr__(self, name, int(getattr(self, name)))
        object.__setattr__(self, "bias_mant", frozen(self.bias_mant, np.int32))
        problems = Problems()
        check_ranges(self, ranges, problems)
        problems.raise_as(InputError)

    @property
    def bias(self) -> NDArray[np.int32]:
        """(n,) the effective bias, ``bias_mant << bias_exp``, in state units."""
        return self.bias_mant << self.bias_exp

    def step(self, state: State, a: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Advance ``state`` (u, v, theta, r: (..., n) int32, in place) by one timestep; returns the spikes."""
        u, v, theta, r = state["u"], state["v"], state["theta"], state["r"]
        u[...] = wrap24(decay(u, self.delta_i + 1) + (a.astype(np.int32) << ACTIVATION_SHIFT))
        v[...] = clip24(decay(v, self.delta_v).astype(np.int64) + u + self.bias)
        theta[...] = decay(theta, self.delta_theta)
        r[...] = decay(r, self.delta_r)
        threshold = theta + (self.theta_0 << ACTIVATION_SHIFT)
        spikes = v - r >= threshold
        r[...] = np.where(spikes, r + 2 * threshold, r)
        theta[...] = np.where(spikes, theta + (self.theta_step << ACTIVATION_SHIFT), theta)
        return spikes
