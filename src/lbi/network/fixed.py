"""The integer network, as it runs on the chip: the same graph in Loihi's number formats."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from graphlib import TopologicalSorter
from math import prod
from os import PathLike
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Problems, Rule, UsageError
from lbi.network.csr import Weights
from lbi.network.fixedpoint import LAVA_FORMATS, IntFormat, NumberFormats
from lbi.network.graph import INPUT, Network, Readout, check_graph, drawn, named
from lbi.network.kept import Kept
from lbi.network.neurons import FixedNeuron
from lbi.network.values import read_only, same

NO_FIXED = Rule("argument", "a FixedNetwork", "{call} makes one")

LATENCY = Rule("latency", "a whole number of at least 0", "count chip timesteps from the input")
SCALE = Rule("scale", "a finite number above 0", "give mantissa units per float unit")
WEIGHTS_DTYPE = Rule("weights-dtype", "integers", "quantize the network first: lbi.quantize")
WEIGHTS_RANGE = Rule("weights-range", "{mode} {grid}", "round to the grid, or give another sign mode")
WEIGHT_EXP = Rule("weight-exp", "{allowed}", "scale the mantissas instead")
WEIGHT_BITS = Rule("weight-bits", "1 to 8", "lbi.network.fixed.num_weight_bits gives the fewest")
BITS_TOO_FEW = Rule(
    "weight-bits",
    "multiples of {step}, all that {bits} bits hold in sign mode {mode}: Lava cuts the rest",
    "store {needed} bits",
)
DELAY_VALUE = Rule("delay-value", "{allowed}", "shorten the delay")
LAG = Rule(
    "lag",
    "delay + 1 + latency(source) ≥ latency(target)",
    "give the target a smaller latency or the projection a longer delay",
)


class SignMode(IntEnum):
    """Signs that a projection's weights may have; values as in ``lava.utils.weightutils.SignMode``."""

    MIXED = 1
    EXCITATORY = 2
    INHIBITORY = 3

    def n_cut(self, bits: int) -> int:
        """Low bits that a mantissa of ``bits`` bits does not have; of mixed signs one bit is the sign.

        Args:
            bits: ``num_weight_bits``, 1 to 8.

        Returns:
            Bits, as lava-nc 0.10.0 counts them (``lava/utils/weightutils.py``, ``truncate_weights``).
        """
        return 8 - bits + (self is SignMode.MIXED)

    @property
    def lava_format(self) -> IntFormat:
        """The mantissas that Lava neither clips nor truncates; chips may store fewer."""
        return LAVA_FORMATS[self.format_name]

    def chip_format(self, formats: NumberFormats) -> IntFormat:
        """The mantissas that a chip stores.

        Args:
            formats: the chip's number formats.

        Returns:
            The grid for this sign mode, part of ``lava_format``.
        """
        grid: IntFormat = getattr(formats, self.format_name)
        return grid

    @property
    def format_name(self) -> str:
        """Name of its grid in a chip's number formats."""
        return f"weight_{self.name.lower()}"


@dataclass(frozen=True)
class FixedPopulation:
    """A population in chip integers.

    Attributes:
        name: unique in its network.
        shape: neurons are numbered in C order.
        neuron: the model's integers.
        scale: mantissa units (at weight exponent 0) per float unit; 64 · scale state units per float
            unit.
        latency: chip timesteps from an input spike to its effect here: the start of the population's own time.
        kept: which neurons of the population as trained these are; None for all of them.
    """

    name: str
    shape: tuple[int, ...]
    neuron: FixedNeuron
    scale: float = 1.0
    latency: int = 0
    kept: Kept | None = None

    @property
    def n(self) -> int:
        """Number of neurons."""
        return prod(self.shape)

    @property
    def n_trained(self) -> int:
        """Number of neurons before any were removed."""
        return self.n if self.kept is None else self.kept.n


@dataclass(frozen=True)
class FixedProjection:
    """Synapses in chip integers; a spike's contribution is ``shift(Σ mantissas, weight_exp)``.

    Attributes:
        name: unique in its network.
        source: a population or ``"input"``.
        target: a population.
        weights: (n_target, n_source), CSR or kernels: int16 mantissas in ``sign_mode.lava_format``.
        weight_exp: −8 to 7, shared, applied to the sum.
        num_weight_bits: 1 to 8 stored bits per mantissa.
        delay: extra chip timesteps, one int for all or (nnz,).
        n_rounded_to_zero: weights that quantization rounded to 0.
        rms_error: rms error of quantization over stored float weights, in float units.
        pattern: ones where the layer has weights, zero or not (``lbi.network.pattern``); None for the form's own.
    """

    name: str
    source: str
    target: str
    weights: Weights
    sign_mode: SignMode
    weight_exp: int = 0
    num_weight_bits: int = 8
    delay: int | NDArray[np.uint8] = 0
    n_rounded_to_zero: int = 0
    rms_error: float = 0.0
    pattern: Weights | None = None

    def __post_init__(self) -> None:
        if self.pattern is None:
            object.__setattr__(self, "pattern", self.weights.pattern())
        if isinstance(self.delay, np.ndarray):
            object.__setattr__(self, "delay", read_only(self.delay))

    def __eq__(self, other: object) -> bool:
        return same(self, other) if isinstance(other, FixedProjection) else NotImplemented

    __hash__ = None  # type: ignore[assignment]

    @property
    def max_delay(self) -> int:
        """The longest extra delay of all synapses, in chip timesteps."""
        return int(np.max(self.delay, initial=0))


@dataclass(frozen=True)
class FixedNetwork:
    """An integer spiking network made for one chip; every population updates in every chip timestep.

    A spike emitted at chip step t by ``source`` arrives at ``target`` at t + 1 + delay. The own time of a sample
    starts at a population's latency: at that step its state and all spikes in flight to it are cleared, and its
    step k is chip step latency + k. With ``lag = delay + 1 + latency(source) − latency(target)`` this is
    the trained network: lag 0 is the same step, lag 1 the previous one. Latencies of 0 describe the raw chip.

    Attributes:
        chip: name of the hardware profile it was quantized for.
        provenance: plain JSON values (where it came from, data set and encoding, training summary).

    Raises:
        InputError: naming everything that is inconsistent.
    """

    input_shape: tuple[int, ...]
    populations: tuple[FixedPopulation, ...]
    projections: tuple[FixedProjection, ...]
    readout: Readout
    chip: str
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_graph(self)
        self._check_numbers()

    def __repr__(self) -> str:
        """Populations and projections with their sizes in place of the arrays."""
        return drawn(f"FixedNetwork for {self.chip}", self)

    def _check_numbers(self) -> None:
        problems = Problems()
        for population in self.populations:
            where = f"population {population.name!r}"
            latency = population.latency
            LATENCY.check(problems, isinstance(latency, int | np.integer) and latency >= 0, where, latency)
            scale = population.scale
            SCALE.check(problems, bool(np.isfinite(scale)) and scale > 0, where, f"{scale}")
            if population.kept is not None:
                population.kept.check(population.n, f"{where}, kept", problems)
        for projection in self.projections:
            _check_weights(projection, problems)
            where = f"projection {projection.name!r}"
            longest, delays = projection.max_delay, LAVA_FORMATS["delay"]
            DELAY_VALUE.check(problems, longest <= delays.maximum, where, longest, allowed=delays)
            lags = self.lag(projection)
            LAG.check(
                problems,
                lags.size == 0 or int(lags.min()) >= 0,
                where,
                f"arrives {-int(lags.min(initial=0))} steps after it is due",
            )
        problems.raise_as(InputError)

    @property
    def n_in(self) -> int:
        """Number of input channels."""
        return prod(self.input_shape)

    @property
    def n_out(self) -> int:
        """Number of output neurons."""
        return self.population(self.readout.population).n

    @property
    def n_neurons(self) -> int:
        """Number of neurons over all populations."""
        return sum(population.n for population in self.populations)

    @property
    def depth(self) -> int:
        """Chip timesteps by which a run is longer than its sample: the largest latency."""
        return max(population.latency for population in self.populations)

    def population(self, name: str) -> FixedPopulation:
        """The population of that name.

        Args:
            name: the name.

        Returns:
            The population's record.

        Raises:
            UsageError: if there is none.
        """
        return named(self.populations, name)

    def latency(self, name: str) -> int:
        """Latency of a population, 0 for the input.

        Args:
            name: a population or ``"input"``.

        Returns:
            The latency in chip timesteps.
        """
        return 0 if name == INPUT else self.population(name).latency

    def lag(self, projection: FixedProjection) -> NDArray[np.int64]:
        """Steps of trained time after which spikes arrive: () for all synapses, or (nnz,).

        Args:
            projection: one of the network's.

        Returns:
            The lag in timesteps, of shape () or (nnz,).
        """
        offset = 1 + self.latency(projection.source) - self.latency(projection.target)
        return np.asarray(projection.delay, dtype=np.int64) + offset

    def evaluation_order(self) -> tuple[str, ...]:
        """Population names, ordered so that every source of a lag-0 projection precedes its target.

        Lags around a cycle add up to at least one step per projection, so an order always exists.
        """
        before: dict[str, set[str]] = {population.name: set() for population in self.populations}
        for projection in self.projections:
            if projection.source != INPUT and np.any(self.lag(projection) == 0):
                before[projection.target].add(projection.source)
        order: list[str] = []
        sorter, rank = TopologicalSorter(before), {name: i for i, name in enumerate(before)}
        sorter.prepare()
        while sorter.is_active():
            ready = sorted(sorter.get_ready(), key=rank.__getitem__)
            sorter.done(*ready)
            order += ready
        return tuple(order)


def _check_weights(projection: FixedProjection, problems: Problems) -> None:
    """Note mantissas that are off the grid of their sign mode or need more than the stored bits."""
    where = f"projection {projection.name!r}"
    mode, data, bits = projection.sign_mode, projection.weights.data, projection.num_weight_bits
    exponent, exponents = projection.weight_exp, LAVA_FORMATS["weight_exponent"]
    WEIGHT_EXP.check(problems, bool(exponents.holds(exponent)), where, exponent, allowed=exponents)
    in_range = WEIGHT_BITS.check(problems, 1 <= bits <= 8, where, bits)
    if not WEIGHTS_DTYPE.check(problems, data.dtype.kind in "iu", where, data.dtype):
        return
    n_off = int(np.count_nonzero(~mode.lava_format.holds(data)))
    fits = WEIGHTS_RANGE.check(
        problems, n_off == 0, where, f"{n_off} mantissas off the grid", mode=mode.name, grid=mode.lava_format
    )
    if fits and in_range and num_weight_bits(data, mode) > bits:
        step = 1 << mode.n_cut(bits)
        n_cut = int(np.count_nonzero(data % step))
        BITS_TOO_FEW.check(
            problems,
            False,
            where,
            f"{n_cut} of {data.size} mantissas need more than {bits} bits",
            step=step,
            bits=bits,
            mode=mode.name,
            needed=num_weight_bits(data, mode),
        )


def num_weight_bits(data: NDArray[Any], sign_mode: SignMode) -> int:
    """The fewest bits (1 to 8) that hold all mantissas exactly; low zero bits are not stored.

    Lava drops ``8 − bits`` low bits (one more for mixed signs, whose sign takes a bit): lava-nc 0.10.0,
    ``lava/utils/weightutils.py::truncate_weights``.

    Args:
        data: mantissas.
        sign_mode: signs that they may have.

    Returns:
        The number of bits, 1 to 8.
    """
    if data.size == 0:
        return 1
    low_zeros = int(np.bitwise_or.reduce(np.abs(data.astype(np.int64))))
    spare = (low_zeros & -low_zeros).bit_length() - 1
    bits = 8 - spare + (1 if sign_mode is SignMode.MIXED else 0)
    return max(1, min(8, bits))


def check_fixed(network: object) -> None:
    """Check that an argument is a FixedNetwork; the error names the call that makes one of it.

    Args:
        network: the argument of a public function.

    Raises:
        UsageError: for anything else.
    """
    if not isinstance(network, FixedNetwork):
        call = "lbi.quantize or lbi.load"
        if isinstance(network, str | PathLike):
            call = "lbi.load(path)"
        elif isinstance(network, Network):
            call = "lbi.quantize(network, chip)"
        raise UsageError(NO_FIXED.broken("network", f"a {type(network).__name__}", call=call))
