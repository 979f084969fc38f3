"""CUBA-LIF with an absolute refractory period: Lava's ``LIFRefractory`` in Loihi's integers.

lava-nc 0.10.0 has this model only in floating point (``PyLifRefractoryModelFloat``). The rule for the
period is the same; current, voltage and threshold are those of the fixed-point ``LIF``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lbi.errors import Problems, Rule
from lbi.network.fixedpoint import ACTIVATION_SHIFT, clip24, decay, wrap24
from lbi.network.neurons.cuba_lif import CubaLif
from lbi.network.neurons.model import NeuronModel
from lbi.network.neurons.parameters import (
    BIAS,
    Arithmetic,
    FixedParameters,
    IntField,
    Leaks,
    State,
    bias_to_float,
    decays_to_float,
)

if TYPE_CHECKING:
    from lbi.network.fixedpoint import NumberFormats


LONGEST = 63
"""Steps of the longest refractory period (nengo-loihi; brian2_loihi allows 64)."""

PERIOD = Rule("refractory_period-range", f"1 to {LONGEST}")


@dataclass(frozen=True, eq=False)
class LifRefractory(CubaLif):
    """CUBA-LIF in float units whose voltage stays at rest for ``refractory_period`` steps after a spike.

        u[t] = (1 − current_decay) · u[t−1] + a[t]
        v[t] = 0 in the refractory period, else (1 − voltage_decay) · v[t−1] + u[t] + bias
        s[t] = v[t] > threshold;   v[t] = 0 where s[t]

    Attributes:
        refractory_period: steps, 1 to 63, during which the current integrates. A period of 1 is the behaviour of
            snnTorch's ``Synaptic`` with ``reset_mechanism="zero"`` and its default ``reset_delay=True``.
    """

    refractory_period: int = 1

    model: ClassVar[str] = "lif_refractory"
    state_variables: ClassVar[tuple[str, ...]] = ("u", "v", "wait")
    periods = ("refractory_period",)
    options: ClassVar[Mapping[str, float]] = {"refractory_period": 1}

    def _check(self, problems: Problems) -> None:
        super()._check(problems)
        PERIOD.check(
            problems, 1 <= self.refractory_period <= LONGEST, "refractory_period", self.refractory_period
        )

    @staticmethod
    def advance(
        ops: Arithmetic,
        state: Mapping[str, Any],
        a: Any,
        kept: Mapping[str, Any],
        levels: Mapping[str, Any],
        bias: Any,
    ) -> tuple[dict[str, Any], Any, Any]:
        """The equations above; the reset and the waiting pass no gradient."""
        u = kept["current_decay"] * state["u"] + a
        waiting = state["wait"] > 0
        moved = kept["voltage_decay"] * state["v"] + u + bias
        v = ops.where(waiting, state["v"], moved)
        spikes = ops.above(v, levels["threshold"])
        fired = ops.constant(spikes)
        left = ops.where(waiting, state["wait"] - 1, state["wait"])
        wait = ops.where(fired > 0, levels["refractory_period"] + 0 * left, left)
        return {"u": u, "v": v * (1.0 - fired), "wait": wait}, spikes, v

    def to_fixed(  # type: ignore[override]
        self, scale: float, n: int, formats: NumberFormats, where: str, problems: Problems
    ) -> FixedLifRefractory:
        """The neuron in chip integers; values outside the chip's range are noted in ``problems`` and clipped."""
        base: Any = super().to_fixed(scale, n, formats, where, problems)
        return FixedLifRefractory(
            base.du, base.dv, base.vth, self.refractory_period, base.bias_mant, base.bias_exp
        )


@dataclass(frozen=True, eq=False)
class FixedLifRefractory(FixedParameters):
    """CUBA-LIF whose voltage stays at rest for ``refractory_period`` steps after a spike.

        u[t]  = wrap24(trunc0(u[t−1] · (4096 − (du + 1)) / 4096) + (a[t] << 6))
        w*[t] = max(w[t−1] − 1, 0)
        v*[t] = v[t−1] where w[t−1] > 0, else
                clip24(trunc0(v[t−1] · (4096 − dv) / 4096) + u[t] + (bias_mant << bias_exp))
        s[t]  = v*[t] > (vth << 6)
        v[t]  = 0, w[t] = refractory_period where s[t], else v*[t], w*[t]

    The current integrates during the period. w, the steps left, is the state variable ``wait``.

    Attributes:
        du: unsigned 12-bit (0 to 4095).
        dv: 0 to 4096 in Lava (4096 keeps nothing); 12 bits on the chips (0 to 4095).
        vth: unsigned 17-bit (0 to 131071).
        refractory_period: 1 to 63.
        bias_mant: (n,) signed 13-bit (−4096 to 4095).
        bias_exp: unsigned 3-bit (0 to 7).
    """

    du: int
    dv: int
    vth: int
    refractory_period: int
    bias_mant: NDArray[np.int32]
    bias_exp: int = 0

    model: ClassVar[str] = "lif_refractory"
    state_variables: ClassVar[tuple[str, ...]] = ("u", "v", "wait")
    integers = (
        IntField("du", 0, 4095, "decay", of="current_decay"),
        IntField("dv", 0, 4096, "decay", of="voltage_decay"),
        IntField("vth", 0, 131071, "threshold", of="threshold"),
        IntField("refractory_period", 1, LONGEST),
        *BIAS,
    )

    def leaks(self) -> Leaks:
        """A voltage above the threshold, and no other, fires and is reset; in the period it does not move."""
        threshold = self.vth << ACTIVATION_SHIFT
        return Leaks(self.du + 1, self.dv, threshold, silent_up_to=threshold)

    def to_float(self, scale: float) -> LifRefractory:
        """The float neuron with exactly these parameters, for ``scale`` mantissa units per float unit."""
        current, voltage = decays_to_float(self.du, self.dv)
        bias = bias_to_float(self.bias, scale)
        return LifRefractory(current, voltage, self.vth / scale, bias, self.refractory_period)

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


MODEL = NeuronModel(LifRefractory, FixedLifRefractory)
