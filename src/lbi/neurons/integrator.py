"""A leaky integrator that never spikes: the readout of membrane potentials.

In Lava it is a ``LIF`` with ``vth = 2**17``: shifted, that is 2^23, one more than a voltage can be. netx gives
this neuron, without any leak of the current (``du = −1``), to a layer that has none of its own.
Reference: lava-nc 0.10.0 ``proc/lif/models.py``; lava-dl 0.6.0 ``netx/hdf5.py`` (``create_dense``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Problems
from lbi.fixedpoint import ACTIVATION_SHIFT, clip24, decay, wrap24
from lbi.neurons.cuba_lif import State, check_ranges, frozen

NEVER = 1 << 17
"""Lava's ``vth`` that no voltage exceeds."""


@dataclass(frozen=True, eq=False)
class FixedIntegrator:
    """Loihi's current and voltage without a threshold, as Lava's ``PyLifModelBitAcc`` with ``vth = 2**17``.

    ::

        u[t] = wrap24(trunc0(u[t−1] · (4096 − (du + 1)) / 4096) + (a[t] << 6))
        v[t] = clip24(trunc0(v[t−1] · (4096 − dv) / 4096) + u[t] + (bias_mant << bias_exp))

    du: −1 (no leak, in Lava only) to 4095 · dv: 0 to 4096
    bias_mant: (n,) signed 13-bit (−4096 to 4095) · bias_exp: unsigned 3-bit (0 to 7)
    """

    du: int
    dv: int
    bias_mant: NDArray[np.int32]
    bias_exp: int = 0

    model: ClassVar[str] = "integrator"
    state_variables: ClassVar[tuple[str, ...]] = ("u", "v")

    def __post_init__(self) -> None:
        for name in ("du", "dv", "bias_exp"):
            object.__setattr__(self, name, int(getattr(self, name)))
        object.__setattr__(self, "bias_mant", frozen(self.bias_mant, np.int32))
        problems = Problems()
        check_ranges(self, (("du", -1, 4095), ("dv", 0, 4096), ("bias_exp", 0, 7)), problems)
        problems.raise_as(InputError)

    @property
    def bias(self) -> NDArray[np.int32]:
        """(n,) the effective bias, ``bias_mant << bias_exp``, in state units."""
        return self.bias_mant << self.bias_exp

    def step(self, state: State, a: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Advance ``state`` (u, v: (..., n) int32, changed in place) by one timestep; no spikes."""
        u, v = state["u"], state["v"]
        u[...] = wrap24(decay(u, self.du + 1) + (a.astype(np.int32) << ACTIVATION_SHIFT))
        v[...] = clip24(decay(v, self.dv).astype(np.int64) + u + self.bias)
        return np.zeros(v.shape, dtype=np.bool_)
