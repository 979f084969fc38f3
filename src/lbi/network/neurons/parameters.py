"""Bases of the neuron models' records, and the conversion of parameters to integers and back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Problems, Rule
from lbi.network.fixedpoint import ACTIVATION_SHIFT, DECAY_BITS
from lbi.network.values import check_whole, read_only, same

if TYPE_CHECKING:
    from lbi.network.fixedpoint import NumberFormats


State = dict[str, NDArray[Any]]

DECAY = Rule("decay-range", "0 to 1 (lost per step)")
ONE_NUMBER = Rule(
    "one-number",
    "one for all neurons of a population",
    "make a population for each value; thresholds may be made equal by scaling weights",
)
FINITE_BIAS = Rule("not-finite", "finite numbers")
THRESHOLD = Rule("threshold-range", "a finite number above 0")
CHIP_DECAY = "train with a {name} inside the range"
CHIP_BIAS = Rule(
    "bias-range", "up to {largest} at exponent {exponent}", "train with smaller biases or a smaller threshold"
)
CHIP_BIAS_LEAST = Rule(
    "bias-range",
    "{allowed} at exponent {exponent}",
    "train with biases of at least the chip's lowest, or for another chip",
)


@dataclass(frozen=True)
class IntField:
    """An integer parameter of a neuron model, or one array of them per population.

    Attributes:
        name: The field of the integer record.
        low: The least value that Lava's fixed-point model is defined on.
        high: The largest such value.
        chip_format: The field of ``NumberFormats`` that the value must fit on a chip; empty if chips do not differ.
        of: The parameter of the float record that it represents, for the account of an export.
    """

    name: str
    low: int
    high: int
    chip_format: str = ""
    of: str = ""

    @property
    def rule(self) -> Rule:
        """The rule that a value outside the range breaks."""
        return Rule(f"{self.name}-range", f"{self.low} to {self.high}")


BIAS = (
    IntField("bias_mant", -4096, 4095, "bias_mantissa"),
    IntField("bias_exp", 0, 7, "bias_exponent"),
)
"""The bias of every model: signed 13-bit mantissas on one unsigned 3-bit exponent."""


@dataclass(frozen=True)
class Leaks:
    """The leaks and the reset that bound the current ``u`` and the voltage ``v`` of a model for any input.

    Attributes:
        current: 4096ths of the current that are lost per step.
        voltage: 4096ths of the voltage that are lost per step.
        reset_above: State value above which a voltage is reset to 0; None if it never is.
        silent_up_to: State value up to which a voltage causes no spike in a neuron that has not fired yet; None if
            nothing is proved.
        fires_above: State value above which a voltage causes a spike in every state of the neuron; None if nothing is
            proved.
    """

    current: int
    voltage: int
    reset_above: int | None = None
    silent_up_to: int | None = None
    fires_above: int | None = None


class Arithmetic(Protocol):
    """The operations of a float model's equations that differ between numpy and a framework with gradients."""

    def above(self, x: Any, threshold: Any) -> Any:
        """1 where x > threshold, else 0; differentiable by a surrogate.

        Args:
            x: an array or tensor.
            threshold: a number, or one per neuron.

        Returns:
            Zeros and ones, of the shape of x.
        """

    def at_least(self, x: Any, threshold: Any) -> Any:
        """1 where x ≥ threshold, else 0; differentiable by a surrogate.

        Args:
            x: an array or tensor.
            threshold: a number, or one per neuron.

        Returns:
            Zeros and ones, of the shape of x.
        """

    def constant(self, x: Any) -> Any:
        """The same values, detached from the gradient.

        Args:
            x: an array or tensor.

        Returns:
            The values of x, in the same shape.
        """

    def never(self, x: Any) -> Any:
        """0 everywhere, for neurons that do not spike; the shape of x.

        Args:
            x: an array or tensor.

        Returns:
            Zeros, of the shape of x.
        """

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        """x where the condition holds, else y.

        Args:
            condition: booleans, or zeros and ones.
            x: an array or tensor.
            y: an array or tensor.

        Returns:
            The chosen values, in the shape to which all three broadcast.
        """  # noqa: D403


class NumpyArithmetic(Arithmetic):
    """``Arithmetic`` on numpy arrays; spikes are booleans."""

    def above(self, x: Any, threshold: Any) -> Any:
        """True where x > threshold."""
        return x > threshold

    def at_least(self, x: Any, threshold: Any) -> Any:
        """True where x ≥ threshold."""
        return x >= threshold

    def constant(self, x: Any) -> Any:
        """The array itself: numpy has no gradients."""
        return x

    def never(self, x: Any) -> Any:
        """False everywhere."""
        return np.zeros(np.shape(x), dtype=np.bool_)

    def where(self, condition: Any, x: Any, y: Any) -> Any:
        """``numpy.where``."""
        return np.where(condition, x, y)


class FloatParameters(ABC):
    """Base of the float records, with decays as fractions and the bias as a frozen array of finite numbers or None.

    Attributes:
        model: The model's name in files and options.
        state_variables: The state of a neuron, ``u`` and ``v`` first.
        decays: Parameters that are fractions lost per timestep.
        levels: Parameters in weight units.
        periods: Parameters that are whole numbers of timesteps.
        options: Parameters with separate training options → their default. Levels are in thresholds.
        spikes: False for a model that never spikes and is read by its voltage.
    """

    model: ClassVar[str]
    state_variables: ClassVar[tuple[str, ...]]
    decays: ClassVar[tuple[str, ...]] = ("current_decay", "voltage_decay")
    levels: ClassVar[tuple[str, ...]] = ("threshold",)
    periods: ClassVar[tuple[str, ...]] = ()
    options: ClassVar[Mapping[str, float]] = {}
    spikes: ClassVar[bool] = True
    bias: NDArray[np.float64] | None

    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Any]]

        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

        def __getattr__(self, name: str) -> Any:
            """A parameter of the model."""

    def __post_init__(self) -> None:
        problems = Problems()
        for name in (*self.decays, *self.levels, *self.periods):
            value, number = getattr(self, name), int if name in self.periods else float
            single = ONE_NUMBER.check(problems, np.ndim(value) == 0, name, f"{np.size(value)} values")
            if single and (number is float or check_whole(value, np.int64, name, problems)):
                object.__setattr__(self, name, number(value))
        problems.raise_as(InputError)
        if self.bias is not None:
            object.__setattr__(self, "bias", read_only(self.bias, np.float64))
        problems = Problems()
        self._check(problems)
        problems.raise_as(InputError)

    def __eq__(self, other: object) -> bool:
        return same(self, other) if type(self) is type(other) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def _check(self, problems: Problems) -> None:
        for name in self.decays:
            value = getattr(self, name)
            DECAY.check(problems, 0.0 <= value <= 1.0, name, value)
        n_bad = 0 if self.bias is None else int(np.count_nonzero(~np.isfinite(self.bias)))
        FINITE_BIAS.check(problems, n_bad == 0, "bias", f"{n_bad} NaN or infinite values")

    @staticmethod
    @abstractmethod
    def advance(
        ops: Arithmetic,
        state: Mapping[str, Any],
        a: Any,
        kept: Mapping[str, Any],
        levels: Mapping[str, Any],
        bias: Any,
    ) -> tuple[dict[str, Any], Any, Any]:
        """The model's equations for one timestep, for numpy arrays and for tensors with gradients.

        Args:
            ops: The operations that differ between the two.
            state: The state variables after the step before, each (..., n).
            a: Synaptic input (..., n), in weight units.
            kept: Name of each decay → fraction kept per step, a number or (n,).
            levels: Name of each level and period → its value, a number or (n,).
            bias: A number or (n,), in weight units per step.

        Returns:
            The state variables after the step, the spikes, and the voltage before a reset, each (..., n).
        """

    def step(self, state: State, a: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Advance ``state`` by one timestep.

        Args:
            state: The state variables, each (..., n) float64; changed in place.
            a: Synaptic input (..., n), in weight units.

        Returns:
            The spikes (..., n).
        """
        kept = {name: 1.0 - getattr(self, name) for name in self.decays}
        levels = {name: getattr(self, name) for name in (*self.levels, *self.periods)}
        bias = 0.0 if self.bias is None else self.bias
        new, spikes, _ = self.advance(NumpyArithmetic(), state, a, kept, levels, bias)
        for name in self.state_variables:
            state[name][...] = new[name]
        return np.asarray(spikes, dtype=np.bool_)

    @abstractmethod
    def to_fixed(
        self, scale: float, n: int, formats: NumberFormats, where: str, problems: Problems
    ) -> FixedParameters:
        """The neuron in chip integers; values outside the chip's range are noted and clipped.

        Args:
            scale: Mantissa units (of weight exponent 0) per float unit.
            n: Neurons of the population.
            formats: The chip's number formats.
            where: The population, for messages.
            problems: Receives the values that the chip cannot hold.

        Returns:
            The integer record of the model.
        """


class FixedParameters(ABC):
    """Base of the integer records, with range checks of all parameters and the bias as mantissas with one exponent.

    Attributes:
        model: The model's name in files and options.
        state_variables: The state of a neuron, ``u`` and ``v`` first.
        integers: The integer parameters, with the range that Lava's model is defined on; a chip may allow less.
        spikes: False for a model that never spikes and is read by its voltage.
    """

    model: ClassVar[str]
    state_variables: ClassVar[tuple[str, ...]]
    integers: ClassVar[tuple[IntField, ...]]
    spikes: ClassVar[bool] = True
    bias_mant: NDArray[np.int32]
    bias_exp: int

    if TYPE_CHECKING:
        __dataclass_fields__: ClassVar[dict[str, Any]]

        def __init__(self, *args: Any, **kwargs: Any) -> None: ...

        def __getattr__(self, name: str) -> Any:
            """A parameter of the model."""

    def __eq__(self, other: object) -> bool:
        return same(self, other) if type(self) is type(other) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        problems = Problems()
        for entry in self.integers:
            name, value = entry.name, getattr(self, entry.name)
            if name == "bias_mant":
                if check_whole(value, np.int32, name, problems):
                    object.__setattr__(self, name, read_only(value, np.int32))
            elif ONE_NUMBER.check(
                problems, np.ndim(value) == 0, name, f"{np.size(value)} values"
            ) and check_whole(value, np.int64, name, problems):
                object.__setattr__(self, name, int(value))
        problems.raise_as(InputError)
        for entry in self.integers:
            values = np.asarray(getattr(self, entry.name))
            if not values.size:
                continue
            low, high = values.min(), values.max()
            found = f"{low} to {high}" if values.ndim else f"{low}"
            entry.rule.check(problems, bool(entry.low <= low and high <= entry.high), entry.name, found)
        problems.raise_as(InputError)

    @property
    def bias(self) -> NDArray[np.int32]:
        """(n,) the effective bias, ``bias_mant << bias_exp``, in state units."""
        return self.bias_mant << self.bias_exp

    @property
    def integer_name(self) -> dict[str, str]:
        """Parameter of the float record → the integer that represents it."""
        return {entry.of: entry.name for entry in self.integers if entry.of}

    def arrays(self) -> dict[str, NDArray[Any]]:
        """The parameters with one value per neuron: name → (n,)."""
        values = {entry.name: getattr(self, entry.name) for entry in self.integers}
        return {name: value for name, value in values.items() if isinstance(value, np.ndarray)}

    def leaks(self) -> Leaks | None:
        """The leaks that bound current and voltage; None if nothing is proved.

        Returns:
            Leaks of a model whose current and voltage follow the equations in ``lbi.simulation.bounds``.
        """
        return None

    @abstractmethod
    def step(self, state: State, a: NDArray[np.int32]) -> NDArray[np.bool_]:
        """Advance ``state`` by one timestep in the chip's integers.

        Args:
            state: The state variables, each (..., n) int32; changed in place.
            a: The sum of all projections' shifted inputs (..., n), in mantissa units.

        Returns:
            The spikes (..., n).
        """

    @abstractmethod
    def to_float(self, scale: float) -> FloatParameters:
        """The float neuron with exactly these parameters.

        Args:
            scale: Mantissa units per float unit.

        Returns:
            The float record of the model.
        """


def check_threshold(threshold: float, problems: Problems) -> None:
    """Note a threshold that is not finite or not above 0.

    Args:
        threshold: the threshold.
        problems: receives what is wrong.
    """
    THRESHOLD.check(problems, bool(np.isfinite(threshold)) and threshold > 0, "threshold", threshold)


def decays_to_fixed(
    neuron: FloatParameters, formats: NumberFormats, where: str, problems: Problems
) -> list[int]:
    """Decays in 4096ths, that of the current reduced by one (``du``); values out of range are noted and clipped.

    A decay one step outside the chip's range becomes the end of the range, which is no worse than the rounding of other
    decays to whole steps: a voltage without memory (1) keeps 1/4096, and a current that never decays (0) loses it.

    Args:
        neuron: a float record.
        formats: the chip's number formats.
        where: the population, for messages.
        problems: receives what is wrong.

    Returns:
        One integer per decay, in the record's order.
    """
    unity = 1 << DECAY_BITS
    low, high = formats.decay.minimum, formats.decay.maximum
    found = []
    for name in neuron.decays:
        value, less = getattr(neuron, name), int(name == "current_decay")
        units = round(value * unity) - less
        nearest = min(max(units, low), high)
        least, most = max(low + less - 1, 0), min(high + less + 1, unity)
        allowed = f"{least / unity:g} to {most / unity:g}"
        rule = Rule(
            f"{name.replace('_', '-')}-range", allowed, CHIP_DECAY.format(name=name.replace("_", " "))
        )
        rule.check(problems, abs(units - nearest) <= 1, where, f"{name} {value:g}")
        found.append(nearest)
    return found


def decays_to_float(du: int, *others: int) -> list[float]:
    """The inverse of ``decays_to_fixed``.

    Args:
        du: the current's decay in 4096ths, less one.
        *others: the other decays in 4096ths.

    Returns:
        Fractions lost per step.
    """
    return [units / (1 << DECAY_BITS) for units in (du + 1, *others)]


def bias_to_fixed(
    bias: NDArray[np.float64] | None,
    scale: float,
    n: int,
    formats: NumberFormats,
    where: str,
    problems: Problems,
) -> tuple[NDArray[np.int32], int]:
    """The mantissas for the smallest exponent that can hold the largest bias; (n,) zeros without a bias.

    Args:
        bias: (n,) float units, or None.
        scale: mantissa units per float unit.
        n: number of neurons.
        formats: the chip's number formats.
        where: the population, for messages.
        problems: receives what is wrong.

    Returns:
        The mantissas (n,) and the exponent.
    """
    target = np.zeros(n) if bias is None else bias * scale * (1 << ACTIVATION_SHIFT)  # state units
    lowest, largest = formats.bias_mantissa.minimum, formats.bias_mantissa.maximum
    peak = float(np.abs(target).max(initial=0.0))
    least = float(target.min(initial=peak))
    for exponent in range(formats.bias_exponent.minimum, formats.bias_exponent.maximum + 1):
        holds = round(least / (1 << exponent)) >= lowest or lowest >= 0
        if round(peak / (1 << exponent)) <= largest and holds:
            break
    mantissa, bias = least / (1 << exponent), np.zeros(1) if bias is None else bias
    if round(peak / (1 << exponent)) > largest:
        needed = f"bias {np.abs(bias).max():g} needs mantissa {peak / (1 << exponent):.0f}"
        problems.note(CHIP_BIAS.broken(where, needed, largest=largest, exponent=exponent))
    elif round(mantissa) < lowest:
        needed = f"bias {bias.min():g} needs mantissa {mantissa:.0f}"
        problems.note(CHIP_BIAS_LEAST.broken(where, needed, allowed=formats.bias_mantissa, exponent=exponent))
    return formats.bias_mantissa.round(target / (1 << exponent)).astype(np.int32), exponent


def bias_to_float(bias: NDArray[np.int32], scale: float) -> NDArray[np.float64] | None:
    """Biases in state units as float units; None if all are 0.

    Args:
        bias: (n,) state units.
        scale: mantissa units per float unit.

    Returns:
        (n,) float units; None if all biases are 0.
    """
    return bias / (scale * (1 << ACTIVATION_SHIFT)) if np.any(bias) else None
