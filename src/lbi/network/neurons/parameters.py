"""What the neuron models share: their state, how parameters are checked, and how they become integers and floats again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Problems
from lbi.network.fixedpoint import ACTIVATION_SHIFT, DECAY_BITS

if TYPE_CHECKING:
    from lbi.network.fixedpoint import NumberFormats

State = dict[str, NDArray[Any]]


class FloatParameters:
    """Base of the float records: decays are fractions, the bias is a frozen array of finite numbers or None.

    decays: parameters that are fractions lost per timestep, the current's first · levels: those in weight units
    """

    decays: ClassVar[tuple[str, ...]] = ("current_decay", "voltage_decay")
    levels: ClassVar[tuple[str, ...]] = ("threshold",)
    bias: NDArray[np.float64] | None

    def __post_init__(self) -> None:
        for name in (*self.decays, *self.levels):
            object.__setattr__(self, name, float(getattr(self, name)))
        if self.bias is not None:
            object.__setattr__(self, "bias", frozen(self.bias, np.float64))
        problems = Problems()
        self._check(problems)
        problems.raise_as(InputError)

    def _check(self, problems: Problems) -> None:
        for name in self.decays:
            value = getattr(self, name)
            problems.check(0.0 <= value <= 1.0, "decay-range", name, f"{value}", "0 to 1 (lost per step)")
        n_bad = 0 if self.bias is None else int(np.count_nonzero(~np.isfinite(self.bias)))
        problems.check(n_bad == 0, "not-finite", "bias", f"{n_bad} NaN or infinite values", "finite numbers")


class FixedParameters:
    """Base of the integer records: every parameter in its range, the bias as mantissas on one exponent.

    ranges: (parameter, lowest, highest) that Lava's fixed-point model is defined on; a chip may allow less
    """

    ranges: ClassVar[tuple[tuple[str, int, int], ...]]
    bias_mant: NDArray[np.int32]
    bias_exp: int

    def __post_init__(self) -> None:
        for name, _, _ in self.ranges:
            object.__setattr__(self, name, int(getattr(self, name)))
        object.__setattr__(self, "bias_mant", frozen(self.bias_mant, np.int32))
        problems = Problems()
        for name, low, high in self.ranges:
            value = getattr(self, name)
            problems.check(low <= value <= high, f"{name}-range", name, f"{value}", f"{low} to {high}")
        if self.bias_mant.size:
            low, high = int(self.bias_mant.min()), int(self.bias_mant.max())
            problems.check(
                low >= -4096 and high <= 4095,
                "bias_mant-range",
                "bias_mant",
                f"{low} to {high}",
                "−4096 to 4095",
            )
        problems.raise_as(InputError)

    @property
    def bias(self) -> NDArray[np.int32]:
        """(n,) the effective bias, ``bias_mant << bias_exp``, in state units."""
        return self.bias_mant << self.bias_exp


def frozen(array: Any, dtype: Any) -> NDArray[Any]:
    """A copy that cannot be written to."""
    copy = np.array(array, dtype=dtype)
    copy.flags.writeable = False
    return copy


def check_threshold(threshold: float, problems: Problems) -> None:
    """Note a threshold that is not finite or not above 0."""
    problems.check(
        bool(np.isfinite(threshold)) and threshold > 0,
        "threshold-range",
        "threshold",
        f"{threshold}",
        "a finite number above 0",
    )


def decays_to_fixed(
    neuron: FloatParameters, formats: NumberFormats, where: str, problems: Problems
) -> list[int]:
    """Each decay in 4096ths, the current's one less (``du``); what the chip cannot hold is noted and clipped."""
    unity = 1 << DECAY_BITS
    low, high = formats.decay.minimum, formats.decay.maximum
    found = []
    for name in neuron.decays:
        value, less = getattr(neuron, name), int(name == "current_decay")
        units = round(value * unity) - less
        problems.check(
            low <= units <= high,
            f"{name.replace('_', '-')}-range",
            where,
            f"{name} {value:g}",
            f"{(low + less) / unity:g} to {(high + less) / unity:g}",
            f"train with a {name.replace('_', ' ')} inside the range",
        )
        found.append(min(max(units, low), high))
    return found


def decays_to_float(du: int, *others: int) -> list[float]:
    """The inverse of ``decays_to_fixed``."""
    return [units / (1 << DECAY_BITS) for units in (du + 1, *others)]


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
            "bias-range",
            where,
            f"bias {np.abs(bias).max():g} needs mantissa {peak / (1 << exponent):.0f}",
            f"up to {largest} at exponent {exponent}",
            "train with smaller biases or a smaller threshold",
        )
    return formats.bias_mantissa.round(target / (1 << exponent)).astype(np.int32), exponent


def bias_to_float(bias: NDArray[np.int32], scale: float) -> NDArray[np.float64] | None:
    """Biases in state units as float units; None where all are 0."""
    return bias / (scale * (1 << ACTIVATION_SHIFT)) if np.any(bias) else None
