"""Current-based leaky integrate-and-fire: Loihi's native neuron, Lava's ``LIF``, SLAYER's CUBA block.

Reference: Davies et al., IEEE Micro 38(1), 2018, equations 1–2; lava-nc 0.10.0 ``proc/lif/models.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Problems
from lbi.fixedpoint import ACTIVATION_SHIFT, DECAY_BITS, clip24, decay, wrap24

if TYPE_CHECKING:
    from lbi.profile import NumberFormats

State = dict[str, NDArray[Any]]

DECAYS = ("current_decay", "voltage_decay")


@dataclass(frozen=True, eq=False)
class CubaLif:
    """CUBA-LIF in float units, decays as fractions lost per timestep.

    ::

        u[t] = (1 − current_decay) · u[t−1] + a[t]
        v[t] = (1 − voltage_decay) · v[t−1] + u[t] + bias
        s[t] = v[t] > threshold;   v[t] = 0 where s[t]

    current_decay, voltage_decay: in [0, 1], shared by the population · threshold: > 0, in weight units
    bias: (n,) in weight units per timestep, or None
    """

    current_decay: float
    voltage_decay: float
    threshold: float
    bias: NDArray[np.float64] | None = None

    model: ClassVar[str] = "cuba_lif"
    state_variables: ClassVar[tuple[str, ...]] = ("u", "v")

    def __post_init__(self) -> None:
        for name in ("current_decay", "voltage_decay", "threshold"):
            object.__setattr__(self, name, float(getattr(self, name)))
        if self.bias is not None:
            object.__setattr__(self, "bias", frozen(self.bias, np.float64))
        problems = Problems()
        check_decays(self, problems)
        problems.check(
            bool(np.isfinite(self.threshold)) and self.threshold > 0,
            "threshold-range", "threshold", f"{self.threshold}", "a finite number above 0",
        )  # fmt: skip
        check_bias(self.bias, problems)
        problems.raise_as(InputError)

    def step(self, state: State, a: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Advance ``state`` (u, v: (..., n), changed in place) by one timestep; returns the spikes."""
        u, v = state["u"], state["v"]
        u[...] = u * (1.0 - self.current_decay) + a
        v[...] = v * (1.0 - self.voltage_decay) + u + (0.0 if self.bias is None else self.bias)
        spikes = v > self.threshold
        v[spikes] = 0.0
        return spikes

    def to_fixed(
        self, scale: float, n: int, formats: NumberFormats, where: str, problems: Problems
    ) -> FixedCubaLif:
        """In chip integers, ``scale`` mantissa units (of weight exponent 0) per float unit.

        What is out of the chip's range is noted in ``problems`` under ``where`` and clipped.
        """
        du, dv = decays_to_fixed(self, formats, where, problems)
        vth = int(np.clip(round(self.threshold * scale), 0, formats.threshold.maximum))
        bias_mant, bias_exp = bias_to_fixed(self.bias, scale, n, formats, where, problems)
        return FixedCubaLif(du=du, dv=dv, vth=vth, bias_mant=bias_mant, bias_exp=bias_exp)


@dataclass(frozen=True, eq=False)
class FixedCubaLif:
    """CUBA-LIF in Loihi's integers, as Lava's ``PyLifModelBitAcc``.

    ::

        u[t]  = wrap24(trunc0(u[t−1] · (4096 − (du + 1)) / 4096) + (a[t] << 6))
        v*[t] = clip24(trunc0(v[t−1] · (4096 − dv) / 4096) + u[t] + (bias_mant << bias_exp))
        s[t]  = v*[t] > (vth << 6);   v[t] = 0 where s[t], else v*[t]

    du: unsigned 12-bit (0 to 4095; −1, what netx makes of a current without decay, runs in Lava only)
    dv: unsigned 12-bit (0 to 4095) · vth: unsigned 17-bit (0 to 131071)
    bias_mant: (n,) signed 13-bit (−4096 to 4095) · bias_exp: unsigned 3-bit (0 to 7)
    """

    du: int
    dv: int
    vth: int
    bias_mant: NDArray[np.int32]
    bias_exp: int = 0

    model: ClassVar[str] = "cuba_lif"
    state_variables: ClassVar[tuple[str, ...]] = ("u", "v")
    became: ClassVar[dict[str, str]] = {"current_decay": "du", "voltage_decay": "dv", "threshold": "vth"}

    def __post_init__(self) -> None:
        for name in ("du", "dv", "vth", "bias_exp"):
            object.__setattr__(self, name, int(getattr(self, name)))
        object.__setattr__(self, "bias_mant", frozen(self.bias_mant, np.int32))
        problems = Problems()
        # The ranges that Lava's fixed-point model is defined on; a chip may allow less (rules.py).
        ranges = (("du", -1, 4095), ("dv", 0, 4096), ("vth", 0, 131071), ("bias_exp", 0, 7))
        check_ranges(self, ranges, problems)
        problems.raise_as(InputError)

    @property
    def bias(self) -> NDArray[np.int32]:
        """(n,) the effective bias, ``bias_mant << bias_exp``, in state units."""
        return self.bias_mant << self.bias_exp

    def to_float(self, scale: float) -> CubaLif:
        """The float neuron whose parameters are exactly these; ``scale`` mantissa units per float unit."""
        current, voltage = decays_to_float(self.du, self.dv)
        return CubaLif(current, voltage, self.vth / scale, bias_to_float(self.bias, scale))

    def step(self, state: State, a: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Advance ``state`` (u, v: (..., n) int32, changed in place) by one timestep; returns the spikes.

        a: (..., n) int32, the sum of all projections' shifted inputs.
        """
        u, v = state["u"], state["v"]
        u[...] = wrap24(decay(u, self.du + 1) + (a.astype(np.int32) << ACTIVATION_SHIFT))
        v[...] = clip24(decay(v, self.dv).astype(np.int64) + u + self.bias)
        spikes = v > (self.vth << ACTIVATION_SHIFT)
        v[spikes] = 0
        return spikes


def check_decays(neuron: Any, problems: Problems, names: tuple[str, ...] = DECAYS) -> None:
    """Note decays that are no fractions."""
    for name in names:
        value = getattr(neuron, name)
        problems.check(0.0 <= value <= 1.0, "decay-range", name, f"{value}", "0 to 1 (lost per step)")


def check_bias(bias: NDArray[np.float64] | None, problems: Problems) -> None:
    """Note biases that are not finite."""
    n_bad = 0 if bias is None else int(np.count_nonzero(~np.isfinite(bias)))
    problems.check(n_bad == 0, "not-finite", "bias", f"{n_bad} NaN or infinite values", "finite numbers")


def decays_to_fixed(
    neuron: Any, formats: NumberFormats, where: str, problems: Problems, names: tuple[str, ...] = DECAYS
) -> list[int]:
    """Each decay in 4096ths, the current's one less (``du``); what the chip cannot hold is noted and clipped."""
    unity = 1 << DECAY_BITS
    low, high = formats.decay.minimum, formats.decay.maximum
    found = []
    for name in names:
        value, less = getattr(neuron, name), int(name == "current_decay")
        units = round(value * unity) - less
        problems.check(
            low <= units <= high, f"{name.replace('_', '-')}-range", where, f"{name} {value:g}",
            f"{(low + less) / unity:g} to {(high + less) / unity:g}",
            f"train with a {name.replace('_', ' ')} inside the range",
        )  # fmt: skip
        found.append(min(max(units, low), high))
    return found


def decays_to_float(du: int, *others: int) -> list[float]:
    """The inverse of ``decays_to_fixed``."""
    return [units / (1 << DECAY_BITS) for units in (du + 1, *others)]


def check_ranges(record: Any, ranges: tuple[tuple[str, int, int], ...], problems: Problems) -> None:
    """Note every parameter outside its (name, lowest, highest), and biases beyond 13 bits."""
    for name, low, high in ranges:
        value = getattr(record, name)
        problems.check(low <= value <= high, f"{name}-range", name, f"{value}", f"{low} to {high}")
    if record.bias_mant.size:
        low, high = int(record.bias_mant.min()), int(record.bias_mant.max())
        problems.check(
            low >= -4096 and high <= 4095, "bias_mant-range", "bias_mant", f"{low} to {high}", "−4096 to 4095"
        )


def frozen(array: Any, dtype: Any) -> NDArray[Any]:
    """A copy that cannot be written to."""
    copy = np.array(array, dtype=dtype)
    copy.flags.writeable = False
    return copy


def bias_to_fixed(
    bias: NDArray[np.float64] | None,
    scale: float,
    n: int,
    formats: NumberFormats,
    where: str,
    problems: Problems,
) -> tuple[NDArray[np.int32], int]:
    """The mantissas on the smallest exponent that holds the largest bias; (n,) zeros without bias."""
    if bias is None or not np.any(bias):
        return np.zeros(n, dtype=np.int32), 0
    target = bias * scale * (1 << ACTIVATION_SHIFT)  # state units
    largest = formats.bias_mantissa.maximum
    peak = float(np.abs(target).max())
    for exponent in range(formats.bias_exponent.minimum, formats.bias_exponent.maximum + 1):
        if round(peak / (1 << exponent)) <= largest:
            break
    else:
        problems.add(
            "bias-range", where, f"bias {np.abs(bias).max():g} needs mantissa {peak / (1 << exponent):.0f}",
            f"up to {largest} at exponent {exponent}", "train with smaller biases or a smaller threshold",
        )  # fmt: skip
    return formats.bias_mantissa.round(target / (1 << exponent)).astype(np.int32), exponent


def bias_to_float(bias: NDArray[np.int32], scale: float) -> NDArray[np.float64] | None:
    """Biases in state units as float units; None where all are 0."""
    return bias / (scale * (1 << ACTIVATION_SHIFT)) if np.any(bias) else None
