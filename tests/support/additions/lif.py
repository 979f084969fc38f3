"""A neuron model: leaky integrate-and-fire without a current, as Lava's ``LIF`` with the fastest current decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lbi.network.fixedpoint import ACTIVATION_SHIFT, DECAY_BITS, clip24, decay, wrap24
from lbi.network.neurons.model import LavaProcess, NeuronModel
from lbi.network.neurons.parameters import (
    BIAS,
    FixedParameters,
    FloatParameters,
    IntField,
    Leaks,
    bias_to_fixed,
    bias_to_float,
    decays_to_fixed,
)


@dataclass(frozen=True, eq=False)
class Lif(FloatParameters):
    """``v[t] = (1 − voltage_decay) · v[t−1] + a[t] + bias``; a spike above the threshold resets v."""

    voltage_decay: float
    threshold: float
    bias: NDArray[np.float64] | None = None

    model: ClassVar[str] = "lif"
    state_variables: ClassVar[tuple[str, ...]] = ("u", "v")
    decays = ("voltage_decay",)

    @staticmethod
    def advance(ops, state, a, kept, levels, bias):  # type: ignore[no-untyped-def]
        """The equation above."""
        v = kept["voltage_decay"] * state["v"] + a + bias
        spikes = ops.above(v, levels["threshold"])
        return {"u": a, "v": v * (1.0 - ops.constant(spikes))}, spikes, v

    def to_fixed(self, scale: float, n: int, formats: Any, where: str, problems: Any) -> FixedLif:
        """In chip integers."""
        (dv,) = decays_to_fixed(self, formats, where, problems)
        bias = bias_to_fixed(self.bias, scale, n, formats, where, problems)
        return FixedLif(dv, min(round(self.threshold * scale), formats.threshold.maximum), *bias)


@dataclass(frozen=True, eq=False)
class FixedLif(FixedParameters):
    """``v*[t] = clip24(trunc0(v[t−1] · (4096 − dv) / 4096) + wrap24(a[t] << 6) + bias)``, reset above ``vth << 6``."""

    dv: int
    vth: int
    bias_mant: NDArray[np.int32]
    bias_exp: int = 0

    model: ClassVar[str] = "lif"
    state_variables: ClassVar[tuple[str, ...]] = ("u", "v")
    integers = (
        IntField("dv", 0, 4096, "decay", of="voltage_decay"),
        IntField("vth", 0, 131071, "threshold", of="threshold"),
        *BIAS,
    )

    def leaks(self) -> Leaks:
        """The current keeps nothing; a voltage above the threshold is reset."""
        return Leaks(1 << DECAY_BITS, self.dv, reset_above=self.vth << ACTIVATION_SHIFT)

    def step(self, state: Any, a: Any) -> Any:
        """The equation above."""
        state["u"][...] = wrap24(a.astype(np.int32) << ACTIVATION_SHIFT)
        state["v"][...] = clip24(decay(state["v"], self.dv).astype(np.int64) + state["u"] + self.bias)
        spikes = state["v"] > (self.vth << ACTIVATION_SHIFT)
        state["v"][spikes] = 0
        return spikes

    def to_float(self, scale: float) -> Lif:
        """The float neuron whose parameters are exactly these."""
        return Lif(self.dv / (1 << DECAY_BITS), self.vth / scale, bias_to_float(self.bias, scale))


LAVA = LavaProcess(
    process="lava.proc.lif.process.LIF",
    resetting="lava.proc.lif.process.LIFReset",
    arguments={"du": 4095, **{name: (name, 1) for name in ("dv", "vth", "bias_mant", "bias_exp")}},
)

MODEL = NeuronModel(Lif, FixedLif, lava=LAVA, nir=("LIF",))
