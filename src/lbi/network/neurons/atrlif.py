"""LIF with adaptive threshold and relative refractoriness: the adaptive neuron of the speech benchmarks.

Reference: lava-nc 0.10.0 ``proc/atrlif/models.py`` (``PyATRLIFModelFixed``), after SLAYER's ALIF.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lbi.errors import Problems, Rule
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

if TYPE_CHECKING:
    from lbi.network.fixedpoint import NumberFormats


STEP = Rule("threshold-step-range", "a finite number of at least 0")
CHIP_STEP = Rule("threshold-step-range", "up to {highest}", "train with a smaller threshold step")


@dataclass(frozen=True, eq=False)
class AtrLif(FloatParameters):
    """The adaptive neuron in float units, decays as fractions lost per timestep.

        u[t]  = (1 − current_decay) · u[t−1] + a[t]
        v[t]  = (1 − voltage_decay) · v[t−1] + u[t] + bias
        θ*[t] = (1 − threshold_decay) · θ[t−1]
        r*[t] = (1 − refractory_decay) · r[t−1]
        s[t]  = v[t] − r*[t] − θ*[t] ≥ threshold
        r[t]  = r*[t] + 2 · (θ*[t] + threshold),  θ[t] = θ*[t] + threshold_step  where s[t]

    v is not reset; the state variable ``theta`` is the threshold's excess over its baseline.

    Attributes:
        current_decay: in [0, 1], shared by the population.
        voltage_decay: in [0, 1].
        threshold_decay: in [0, 1].
        refractory_decay: in [0, 1].
        threshold: above 0, in weight units.
        threshold_step: ≥ 0, in weight units.
        bias: (n,) in weight units per timestep, or None.
    """

    current_decay: float
    voltage_decay: float
    threshold_decay: float
    refractory_decay: float
    threshold: float
    threshold_step: float
    bias: NDArray[np.float64] | None = None

    model: ClassVar[str] = "atrlif"
    state_variables: ClassVar[tuple[str, ...]] = ("u", "v", "theta", "r")
    decays = ("current_decay", "voltage_decay", "threshold_decay", "refractory_decay")
    levels = ("threshold", "threshold_step")
    options: ClassVar[Mapping[str, float]] = {
        "threshold_step": 0.1,
        "threshold_decay": 0.05,
        "refractory_decay": 0.25,
    }

    def _check(self, problems: Problems) -> None:
        super()._check(problems)
        check_threshold(self.threshold, problems)
        holds = bool(np.isfinite(self.threshold_step)) and self.threshold_step >= 0
        STEP.check(problems, holds, "threshold_step", self.threshold_step)

    @staticmethod
    def advance(
        ops: Arithmetic,
        state: Mapping[str, Any],
        a: Any,
        kept: Mapping[str, Any],
        levels: Mapping[str, Any],
        bias: Any,
    ) -> tuple[dict[str, Any], Any, Any]:
        """The equations above.

        The refractoriness is this neuron's reset, so the spike in it passes no gradient, as with CUBA-LIF. The
        adaptive threshold is the neuron's slow memory, and gradients pass through the spikes that raised it
        (Bellec et al., NeurIPS 2018, arXiv:1803.09574). In SLAYER's ALIF gradients pass through neither.
        """
        u = kept["current_decay"] * state["u"] + a
        v = kept["voltage_decay"] * state["v"] + u + bias
        theta = kept["threshold_decay"] * state["theta"]
        r = kept["refractory_decay"] * state["r"]
        spikes = ops.at_least(v - r - theta, levels["threshold"])
        r = r + 2.0 * (theta + levels["threshold"]) * ops.constant(spikes)
        theta = theta + levels["threshold_step"] * spikes
        return {"u": u, "v": v, "theta": theta, "r": r}, spikes, v

    def to_fixed(
        self, scale: float, n: int, formats: NumberFormats, where: str, problems: Problems
    ) -> FixedAtrLif:
        """The neuron in chip integers, with ``scale`` mantissa units (of weight exponent 0) per float unit.

        Values outside the chip's range are noted in ``problems`` under ``where`` and clipped.
        """
        delta_i, delta_v, delta_theta, delta_r = decays_to_fixed(self, formats, where, problems)
        highest = formats.threshold.maximum
        theta_0, theta_step = (round(value * scale) for value in (self.threshold, self.threshold_step))
        found = f"threshold_step {self.threshold_step:g}, on the chip {theta_step}"
        CHIP_STEP.check(problems, theta_step <= highest, where, found, highest=highest)
        bias_mant, bias_exp = bias_to_fixed(self.bias, scale, n, formats, where, problems)
        levels = min(theta_0, highest), min(theta_step, highest)
        return FixedAtrLif(delta_i, delta_v, delta_theta, delta_r, *levels, bias_mant, bias_exp)


@dataclass(frozen=True, eq=False)
class FixedAtrLif(FixedParameters):
    """ATRLIF in Loihi's integers, as Lava's ``PyATRLIFModelFixed``.

        u[t]  = wrap24(trunc0(u[t−1] · (4096 − (delta_i + 1)) / 4096) + (a[t] << 6))
        v[t]  = clip24(trunc0(v[t−1] · (4096 − delta_v) / 4096) + u[t] + (bias_mant << bias_exp))
        θ*[t] = trunc0(θ[t−1] · (4096 − delta_theta) / 4096)
        r*[t] = trunc0(r[t−1] · (4096 − delta_r) / 4096)
        s[t]  = v[t] − r*[t] ≥ θ*[t] + (theta_0 << 6)
        r[t]  = r*[t] + 2 · (θ*[t] + (theta_0 << 6)),  θ[t] = θ*[t] + (theta_step << 6)  where s[t]

    v is not reset. u is Lava's ``i``; the state variable ``theta`` is the threshold's excess over its
    baseline: Lava's ``theta`` is ``theta + (theta_0 << 6)``. Lava takes the deltas as fractions, here they
    are their 4096ths (Lava's integer 0 for ``delta_i`` overflows int32 where its float 0.0 does not).

    Attributes:
        delta_i: 0 to 4095.
        delta_v: 0 to 4096.
        delta_theta: 0 to 4096.
        delta_r: 0 to 4096.
        theta_0: 0 to 131071.
        theta_step: 0 to 131071.
        bias_mant: (n,) signed 13-bit (−4096 to 4095).
        bias_exp: unsigned 3-bit (0 to 7).
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
    integers = (
        IntField("delta_i", 0, 4095, "decay", of="current_decay"),
        IntField("delta_v", 0, 4096, "decay", of="voltage_decay"),
        IntField("delta_theta", 0, 4096, "decay", of="threshold_decay"),
        IntField("delta_r", 0, 4096, "decay", of="refractory_decay"),
        IntField("theta_0", 0, 131071, "threshold", of="threshold"),
        IntField("theta_step", 0, 131071, "threshold", of="threshold_step"),
        *BIAS,
    )

    def leaks(self) -> Leaks:
        """The voltage is never reset; before the first spike the threshold is its baseline, which fires if reached."""
        baseline = self.theta_0 << ACTIVATION_SHIFT
        return Leaks(self.delta_i + 1, self.delta_v, silent_up_to=baseline - 1)

    def to_float(self, scale: float) -> AtrLif:
        """The float neuron with exactly these parameters, for ``scale`` mantissa units per float unit."""
        deltas = (self.delta_i, self.delta_v, self.delta_theta, self.delta_r)
        current, voltage, threshold, refractory = decays_to_float(*deltas)
        return AtrLif(
            current,
            voltage,
            threshold,
            refractory,
            self.theta_0 / scale,
            self.theta_step / scale,
            bias_to_float(self.bias, scale),
        )

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


DELTAS = ("delta_i", "delta_v", "delta_theta", "delta_r")

LAVA = LavaProcess(
    process="lava.proc.atrlif.process.ATRLIF",
    arguments={
        **{name: (name, 1 / (1 << DECAY_BITS)) for name in DELTAS},
        "theta": ("theta_0", 1),
        **{name: (name, 1) for name in ("theta_0", "theta_step", "bias_mant", "bias_exp")},
    },
    at_rest={"i": 0, "v": 0, "theta": ("theta_0", 1 << ACTIVATION_SHIFT), "r": 0},
)

MODEL = NeuronModel(AtrLif, FixedAtrLif, lava=LAVA)
