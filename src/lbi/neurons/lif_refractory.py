"""CUBA-LIF with an absolute refractory period: Lava's ``LIFRefractory`` in Loihi's integers.

lava-nc 0.10.0 holds this model in floating point only (``PyLifRefractoryModelFloat``). Its rule for the
period is taken as it is; current, voltage and threshold are those of the fixed-point ``LIF``.
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
class FixedLifRefractory:
    """CUBA-LIF whose voltage stays at rest for ``refractory_period`` steps after a spike.

    ::

        u[t]  = wrap24(trunc0(u[t−1] · (4096 − (du + 1)) / 4096) + (a[t] << 6))
        w*[t] = max(w[t−1] − 1, 0)
        v*[t] = v[t−1] where w[t−1] > 0, else
                clip24(trunc0(v[t−1] · (4096 − dv) / 4096) + u[t] + (bias_mant << bias_exp))
        s[t]  = v*[t] > (vth << 6)
        v[t]  = 0, w[t] = refractory_period where s[t], else v*[t], w*[t]

    The current integrates during the period. w, the steps left, is the state variable ``wait``.

    du, dv: unsigned 12-bit (0 to 4095) · vth: unsigned 17-bit (0 to 131071) · refractory_period: 1 to 63
    bias_mant: (n,) signed 13-bit (−4096 to 4095) · bias_exp: unsigned 3-bit (0 to 7)
    """

    du: int
    dv: int
    vth: int
    refractory_period: int
    bias_mant: NDArray[np.int32]
    bias_exp: int = 0

    model: ClassVar[str] = "lif_refractory"
    state_variables: ClassVar[tuple[str, ...]] = ("u", "v", "wait")

    def __post_init__(self) -> None:
        for name in ("du", "dv", "vth", "refractory_period", "bias_exp"):
            object.__setattr__(self, name, int(getattr(self, name)))
        object.__setattr__(self, "bias_mant", frozen(self.bias_mant, np.int32))
        ranges = (
            ("du", 0, 4095), ("dv", 0, 4096), ("vth", 0, 131071), ("refractory_period", 1, 63),
            ("bias_exp", 0, 7),
        )  # fmt: skip
        problems = Problems()
        check_ranges(self, ranges, problems)
        problems.raise_as(InputError)

    @property
    def bias(self) -> NDArray[np.int32]:
        """(n,) the effective bias, ``bias_mant << bias_exp``, in state units."""
        return self.bias_mant << self.bias_exp

    def step(self, state: State, a: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Advance ``state`` (u, v, wait: (..., n) int32, changed in place) by one timestep; returns the spikes."""
        u, v, wait = state["u"], state["v"], state["wait"]
        u[...] = wrap24(decay(u, self.du + 1) + (a.astype(np.int32) << ACTIVATION_SHIFT))
        moved = clip24(decay(v, self.dv).astype(np.int64) + u + self.bias)
        v[...] = np.where(wait > 0, v, moved)
        spikes = v > (self.vth << ACTIVATION_SHIFT)
        v[spikes] = 0
        wait[...] = np.where(spikes, self.refractory_period, np.maximum(wait - 1, 0))
        return spikes
