"""Current-based leaky integrate-and-fire: Loihi's native neuron, Lava's ``LIF``, SLAYER's CUBA block.

Reference: Davies et al., IEEE Micro 38(1), 2018, equations 1–2; lava-nc 0.10.0 ``proc/lif/models.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lbi.errors import Problems
from lbi.network.fixedpoint import ACTIVATION_SHIFT, DECAY_BITS, clip24, decay, wrap24
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
    check_threshold,
    decays_to_fixed,
    decays_to_float,
)
from lbi.network.neurons.thresholds import threshold_to_fixed

if TYPE_CHECKING:
    from lbi.network.fixedpoint import NumberFormats


@dataclass(frozen=True, eq=False)
class CubaLif(FloatParameters):
    """CUBA-LIF in float units, decays as fractions lost per timestep.

        u[t] = (1 − current_decay) · u[t−1] + a[t]
        v[t] = (1 − voltage_decay) · v[t−1] + u[t] + bias
        s[t] = v[t] > threshold;   v[t] = 0 where s[t]

    Attributes:
        current_decay: in [0, 1], shared by the population.
        voltage_decay: in [0, 1], shared by the population.
        threshold: above 0, in weight units.
        bias: (n,) in weight units per timestep, or None.
    """

    current_decay: float
    voltage_decay: float
    threshold: float
    bias: NDArray[np.float64] | None = None

    model: ClassVar[str] = "cuba_lif"
    state_variables: ClassVar[tuple[str, ...]] = ("u", "v")

    def _check(self, problems: Problems) -> None:
        super()._check(problems)
        check_threshold(self.threshold, problems)

    @staticmethod
    def advance(
        ops: Arithmetic,
        state: Mapping[str, Any],
        a: Any,
        kept: Mapping[str, Any],
        levels: Mapping[str, Any],
        bias: Any,
    ) -> tuple[dict[str, Any], Any, Any]:
        """The equations above; the reset passes no gradient."""
        u = kept["current_decay"] * state["u"] + a
        v = kept["voltage_decay"] * state["v"] + u + bias
        spikes = ops.above(v, levels["threshold"])
        return {"u": u, "v": v * (1.0 - ops.constant(spikes))}, spikes, v

    def to_fixed(
        self, scale: float, n: int, formats: NumberFormats, where: str, problems: Problems
    ) -> FixedCubaLif:
        """The neuron in chip integers, with ``scale`` mantissa units (of weight exponent 0) per float unit.

        Values outside the chip's range are noted in ``problems`` under ``where`` and clipped.
        """
        du, dv = decays_to_fixed(self, formats, where, problems)
        bias_mant, bias_exp = bias_to_fixed(self.bias, scale, n, formats, where, problems)
        whole = (du + 1, dv) == (1 << DECAY_BITS, 0) and not np.any(
            (bias_mant << bias_exp) % (1 << ACTIVATION_SHIFT)
        )
        vth = min(threshold_to_fixed(self.threshold, scale, whole), formats.threshold.maximum)
        return FixedCubaLif(du=du, dv=dv, vth=vth, bias_mant=bias_mant, bias_exp=bias_exp)


@dataclass(frozen=True, eq=False)
class FixedCubaLif(FixedParameters):
    """CUBA-LIF in Loihi's integers, as Lava's ``PyLifModelBitAcc``.

        u[t]  = wrap24(trunc0(u[t−1] · (4096 − (du + 1)) / 4096) + (a[t] << 6))
        v*[t] = clip24(trunc0(v[t−1] · (4096 − dv) / 4096) + u[t] + (bias_mant << bias_exp))
        s[t]  = v*[t] > (vth << 6);   v[t] = 0 where s[t], else v*[t]

    Attributes:
        du: unsigned 12-bit (0 to 4095; −1, what netx makes of a current without decay, runs in Lava
            only).
        dv: 0 to 4096 in Lava (4096 keeps nothing); 12 bits on the chips (0 to 4095).
        vth: unsigned 17-bit (0 to 131071).
        bias_mant: (n,) signed 13-bit (−4096 to 4095).
        bias_exp: unsigned 3-bit (0 to 7).
    """

    du: int
    dv: int
    vth: int
    bias_mant: NDArray[np.int32]
    bias_exp: int = 0

    model: ClassVar[str] = "cuba_lif"
    state_variables: ClassVar[tuple[str, ...]] = ("u", "v")
    integers = (
        IntField("du", -1, 4095, "decay", of="current_decay"),
        IntField("dv", 0, 4096, "decay", of="voltage_decay"),
        IntField("vth", 0, 131071, "threshold", of="threshold"),
        *BIAS,
    )

    def leaks(self) -> Leaks:
        """A voltage above the threshold, and no other, fires and is reset."""
        threshold = self.vth << ACTIVATION_SHIFT
        return Leaks(self.du + 1, self.dv, threshold, silent_up_to=threshold, fires_above=threshold)

    def to_float(self, scale: float) -> CubaLif:
        """The float neuron with exactly these parameters, for ``scale`` mantissa units per float unit."""
        current, voltage = decays_to_float(self.du, self.dv)
        return CubaLif(current, voltage, self.vth / scale, bias_to_float(self.bias, scale))

    def step(self, state: State, a: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Advance ``state`` (u, v: (..., n) int32, changed in place) by one timestep; returns the spikes."""
        u, v = state["u"], state["v"]
        u[...] = wrap24(decay(u, self.du + 1) + (a.astype(np.int32) << ACTIVATION_SHIFT))
        v[...] = clip24(decay(v, self.dv).astype(np.int64) + u + self.bias)
        spikes = v > (self.vth << ACTIVATION_SHIFT)
        v[spikes] = 0
        return spikes


LIF = LavaProcess(
    process="lava.proc.lif.process.LIF",
    resetting="lava.proc.lif.process.LIFReset",
    arguments={name: (name, 1) for name in ("du", "dv", "vth", "bias_mant", "bias_exp")},
)

MODEL = NeuronModel(CubaLif, FixedCubaLif, lava=LIF, nir=("CubaLIF", "LIF"), netx="CUBA")
