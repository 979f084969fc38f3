"""A leaky integrator that never spikes: the readout of membrane potentials.

In Lava it is a ``LIF`` with ``vth = 2**17``: shifted, that is 2^23, one above the largest voltage. netx gives
this neuron, without leak of the current (``du = −1``), to layers without neurons.
Reference: lava-nc 0.10.0 ``proc/lif/models.py``; lava-dl 0.6.0 ``netx/hdf5.py`` (``create_dense``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lbi.errors import Problems
from lbi.network.fixedpoint import ACTIVATION_SHIFT, clip24, decay, wrap24
from lbi.network.neurons.model import LavaProcess, NeuronModel
from lbi.network.neurons.parameters import (
    BIAS,
    Arithmetic,
    FixedParameters,
    FloatParameters,
    IntField,
    Leaks,
    State,
    bias_to_fixed,
    bias_to_float,
    decays_to_fixed,
    decays_to_float,
)

if TYPE_CHECKING:
    from lbi.network.fixedpoint import NumberFormats

NEVER = 1 << 17
"""Lava's ``vth`` that no voltage exceeds."""


@dataclass(frozen=True, eq=False)
class Integrator(FloatParameters):
    """A leaky integrator in float units, decays as fractions lost per timestep; it never spikes.

        u[t] = (1 − current_decay) · u[t−1] + a[t]
        v[t] = (1 − voltage_decay) · v[t−1] + u[t] + bias

    Attributes:
        current_decay: in [0, 1], shared by the population.
        voltage_decay: in [0, 1], shared by the population.
        bias: (n,) in weight units per timestep, or None.
    """

    current_decay: float
    voltage_decay: float
    bias: NDArray[np.float64] | None = None

    model: ClassVar[str] = "integrator"
    state_variables: ClassVar[tuple[str, ...]] = ("u", "v")
    threshold: ClassVar[None] = None
    levels = ()
    spikes = False

    @staticmethod
    def advance(
        ops: Arithmetic,
        state: Mapping[str, Any],
        a: Any,
        kept: Mapping[str, Any],
        levels: Mapping[str, Any],
        bias: Any,
    ) -> tuple[dict[str, Any], Any, Any]:
        """The equations above, without a spike."""
        u = kept["current_decay"] * state["u"] + a
        v = kept["voltage_decay"] * state["v"] + u + bias
        return {"u": u, "v": v}, ops.never(v), v

    def to_fixed(
        self, scale: float, n: int, formats: NumberFormats, where: str, problems: Problems
    ) -> FixedIntegrator:
        """The neuron in chip integers, with ``scale`` mantissa units (of weight exponent 0) per float unit.

        Values outside the chip's range are noted in ``problems`` under ``where`` and clipped.
        """
        du, dv = decays_to_fixed(self, formats, where, problems)
        bias_mant, bias_exp = bias_to_fixed(self.bias, scale, n, formats, where, problems)
        return FixedIntegrator(du=du, dv=dv, bias_mant=bias_mant, bias_exp=bias_exp)


@dataclass(frozen=True, eq=False)
class FixedIntegrator(FixedParameters):
    """Loihi's current and voltage without a threshold, as Lava's ``PyLifModelBitAcc`` with ``vth = 2**17``.

        u[t] = wrap24(trunc0(u[t−1] · (4096 − (du + 1)) / 4096) + (a[t] << 6))
        v[t] = clip24(trunc0(v[t−1] · (4096 − dv) / 4096) + u[t] + (bias_mant << bias_exp))

    Attributes:
        du: −1 (no leak, in Lava only) to 4095.
        dv: 0 to 4096.
        bias_mant: (n,) signed 13-bit (−4096 to 4095).
        bias_exp: unsigned 3-bit (0 to 7).
    """

    du: int
    dv: int
    bias_mant: NDArray[np.int32]
    bias_exp: int = 0

    model: ClassVar[str] = "integrator"
    state_variables: ClassVar[tuple[str, ...]] = ("u", "v")
    spikes = False
    integers = (
        IntField("du", -1, 4095, "decay", of="current_decay"),
        IntField("dv", 0, 4096, "decay", of="voltage_decay"),
        *BIAS,
    )

    def leaks(self) -> Leaks:
        """The voltage is never reset."""
        return Leaks(self.du + 1, self.dv)

    def to_float(self, scale: float) -> Integrator:
        """The float neuron with exactly these parameters, for ``scale`` mantissa units per float unit."""
        current, voltage = decays_to_float(self.du, self.dv)
        return Integrator(current, voltage, bias_to_float(self.bias, scale))

    def step(self, state: State, a: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Advance ``state`` (u, v: (..., n) int32, changed in place) by one timestep; no spikes."""
        u, v = state["u"], state["v"]
        u[...] = wrap24(decay(u, self.du + 1) + (a.astype(np.int32) << ACTIVATION_SHIFT))
        v[...] = clip24(decay(v, self.dv).astype(np.int64) + u + self.bias)
        return np.zeros(v.shape, dtype=np.bool_)


LIF = LavaProcess(
    process="lava.proc.lif.process.LIF",
    resetting="lava.proc.lif.process.LIFReset",
    arguments={**{name: (name, 1) for name in ("du", "dv", "bias_mant", "bias_exp")}, "vth": NEVER},
)

MODEL = NeuronModel(Integrator, FixedIntegrator, lava=LIF, nir=("CubaLI", "LI"), netx="CUBA")
