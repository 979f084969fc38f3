"""Configuration of the trainable network: a chain of populations, each of one neuron model, with or without recurrence.

As in ``lbi.network.graph.Network`` and on the chip, decays and thresholds are shared by a population, and decays are
multiples of 1/4096.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from dataclasses import fields as dataclass_fields
from difflib import get_close_matches
from itertools import accumulate
from typing import Any

from lbi import records
from lbi.errors import InputError, Problems, Rule
from lbi.network.fixedpoint import DECAY_BITS, LAVA_FORMATS
from lbi.network.graph import READOUTS, is_name
from lbi.train.layers.mantissas import chip_formats
from lbi.train.layers.surrogate import SURROGATES
from lbi.train.layers.wiring import ALL_TO_ALL, Shape, Wiring
from lbi.train.neurons import NEURONS

GRID = 1 << DECAY_BITS
"""Decays are multiples of 1/GRID."""

INPUT_SHAPE = Rule("input-shape", "sizes of at least 1")
NO_POPULATION = Rule("no-population", "at least one")
NAME_TAKEN = Rule("name-taken", "one population of each name")
NAME = Rule("name", "letters, digits, '_', '-'; not 'input'")
N_NEURONS = Rule("population-shape", "at least one per part")
READOUT = Rule("readout-kind", "{allowed}")
READOUT_NEURON = Rule(
    "readout-kind",
    "neurons that spike, but integrators as the output of membrane_max, membrane_mean and membrane_last",
)
SURROGATE = Rule("unknown-surrogate", "{allowed}")
SLOPE = Rule("slope", "above 0")
OPTION = Rule("population-option", "fields and parameters of a neuron model", "{fix}")
NEURON_MODEL = Rule("neuron-model", "{allowed}")
RECURRENCE = Rule("recurrence", "neurons that spike, and no convolution")
RECURRENT_DELAY = Rule("recurrent-delay", "0 to {longest} timesteps (none without recurrence)")
SHORTEST_DELAY = Rule("recurrent-delay", "0 to the longest, {longest} timesteps")
PARTS = Rule("parts", "one per part of each of {allowed}, none of the others")
DECAY = Rule("decay-range", f"{{low}}/{GRID} to {{high}}/{GRID} (lost per step)")

_OF_FILE = Rule("config", "{allowed}", "write the file with this version of lbi-snn, or train it again")
IN_FILE = records.Rules(missing=_OF_FILE, unknown=_OF_FILE, kind=_OF_FILE, value=_OF_FILE)
"""Rules for the fields of a configuration read from a file."""


PERIOD = Rule("period-range", "a whole number of timesteps, 1 or more")


@dataclass(frozen=True, init=False)
class PopulationConfig:
    """A layer of neurons in one or more parts, each with its own decays and threshold; a part is a population on the chip.

    Every parameter of the neuron model has one entry per part; decays are fractions lost per step, where training starts if
    ``train_decays``. The n neurons (of a convolution, its channels) are shared out evenly, the first parts taking what is left over.

    Attributes:
        name: Name of the population.
        n: Its neurons.
        current_decay: One entry per part; none if the model has no such parameter.
        voltage_decay: The same.
        threshold: The same, in weight units.
        recurrent: Whether the population feeds itself.
        bias: Whether every neuron has a bias.
        train_decays: Whether decays are trained.
        neuron: Name of the neuron model, a row of ``lbi.train.neurons.NEURONS``.
        wiring: How it is connected to the layer before.
        recurrent_delay: Longest of the ``delays``, in timesteps.
        recurrent_delay_from: The shortest of them.
        options: The model's other parameters by name, which are also accepted as keyword arguments.
    """

    name: str
    n: int
    current_decay: tuple[float, ...] = ()
    voltage_decay: tuple[float, ...] = ()
    threshold: tuple[float, ...] = (1.0,)
    recurrent: bool = False
    bias: bool = False
    train_decays: bool = False
    neuron: str = "cuba_lif"
    wiring: Wiring = ALL_TO_ALL
    recurrent_delay: int = 0
    recurrent_delay_from: int = 0
    options: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __init__(
        self,
        name: str,
        n: int,
        current_decay: tuple[float, ...] = (),
        voltage_decay: tuple[float, ...] = (),
        threshold: tuple[float, ...] = (1.0,),
        recurrent: bool = False,
        **more: Any,
    ) -> None:
        given = (name, n, current_decay, voltage_decay, threshold, recurrent)
        own = dict(zip((entry.name for entry in dataclass_fields(self)), given, strict=False))
        for entry in dataclass_fields(self)[len(own) : -1]:
            own[entry.name] = more.pop(entry.name, entry.default)
        problems = Problems()
        for unknown in sorted(more.keys() - _options() - {"options"}):
            near = get_close_matches(unknown, {*own, *_options()}, n=1)
            fix = f"{near[0]}?" if near else "leave it out"
            OPTION.check(problems, False, f"population {name!r}", repr(unknown), fix=fix)
        problems.raise_as(InputError)
        own["options"] = {**more.pop("options", {}), **more}
        for key, value in own.items():
            object.__setattr__(self, key, value)

    def parameter(self, name: str) -> tuple[float, ...]:
        """The entries of a parameter of the neuron model.

        Args:
            name: ``current_decay``, ``voltage_decay``, ``threshold`` or one of the options.

        Returns:
            One entry per part; none if it is not given.
        """
        return tuple(getattr(self, name)) if name in COMMON else tuple(self.options.get(name, ()))

    def to_dict(self) -> dict[str, Any]:
        """Plain types only; the options stand beside the other fields, under their own names."""
        plain = asdict(self)
        options = plain.pop("options")
        for name in ("recurrent_delay", "recurrent_delay_from"):
            if not plain[name]:
                del plain[name]
        return {**plain, **dict.fromkeys(ALWAYS_WRITTEN, ()), **options}

    @property
    def delays(self) -> tuple[int, ...]:
        """Timesteps that the spikes of each neuron take to the layer itself beyond one: shortest to longest, over and over."""
        shortest, longest = self.recurrent_delay_from, self.recurrent_delay
        return tuple(shortest + i % (longest - shortest + 1) for i in range(self.n))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Neurons of each part."""
        given = (len(self.current_decay), len(self.voltage_decay), *map(len, self.options.values()))
        k = next((n_entries for n_entries in given if n_entries), 1)
        rows = self.wiring.channels or self.n
        per_row = self.n // max(1, rows)
        return tuple((rows // k + (1 if i < rows % k else 0)) * per_row for i in range(k))

    @property
    def parts(self) -> dict[str, slice]:
        """Population → its neurons: the layer's name, or with several parts ``name_1``, ``name_2``, …."""
        ends = list(accumulate(self.sizes, initial=0))
        names = (
            [self.name] if len(self.sizes) == 1 else [f"{self.name}_{i + 1}" for i in range(len(self.sizes))]
        )
        return {name: slice(*ends[i : i + 2]) for i, name in enumerate(names)}


@dataclass(frozen=True)
class ModelConfig:
    """A chain of populations, of which the last is read out; ``lbi.train.layers.surrogate`` explains the slope.

    Raises:
        InputError: naming everything that is out of range.
    """

    input_shape: tuple[int, ...]
    populations: tuple[PopulationConfig, ...]
    readout: str = "spike_count"
    surrogate: str = "fast_sigmoid"
    slope: float = 5.0

    def __post_init__(self) -> None:
        problems = Problems()
        INPUT_SHAPE.check(
            problems,
            bool(self.input_shape) and all(size >= 1 for size in self.input_shape),
            "config",
            self.input_shape,
        )
        names = [population.name for population in self.populations]
        NO_POPULATION.check(problems, bool(names), "config", "no population")
        NAME_TAKEN.check(problems, len(set(names)) == len(names), "config", names)
        for population in self.populations:
            where = f"config, population {population.name!r}"
            NAME.check(
                problems,
                is_name(population.name) and "." not in population.name and population.name != "input",
                where,
                repr(population.name),
            )
            N_NEURONS.check(problems, min(population.sizes) >= 1, where, f"{population.n} neurons")
            lag, longest = population.recurrent_delay, LAVA_FORMATS["delay"].maximum
            longest = longest if population.recurrent else 0
            RECURRENT_DELAY.check(problems, 0 <= lag <= longest, where, lag, longest=longest)
            first = population.recurrent_delay_from
            SHORTEST_DELAY.check(problems, 0 <= first <= max(0, lag), where, first, longest=lag)
            _check_neuron(population, where, problems)
        self._check_wiring(problems)
        READOUT.check(
            problems, self.readout in READOUTS, "config", repr(self.readout), allowed=", ".join(READOUTS)
        )
        for i, population in enumerate(self.populations):
            counted = self.readout == "spike_count" or i + 1 < len(self.populations)
            integrates = population.neuron in NEURONS and not NEURONS[population.neuron].spikes
            READOUT_NEURON.check(
                problems,
                counted != integrates,
                f"config, population {population.name!r}",
                f"{population.neuron!r} under {self.readout!r}",
            )
        SURROGATE.check(
            problems,
            self.surrogate in SURROGATES,
            "config",
            repr(self.surrogate),
            allowed=", ".join(SURROGATES),
        )
        SLOPE.check(problems, math.isfinite(self.slope) and self.slope > 0, "config", self.slope)
        problems.raise_as(InputError)

    @property
    def n_in(self) -> int:
        """Number of input channels."""
        return math.prod(self.input_shape)

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """Shapes of the input and of every population, in order."""
        shapes = [self.input_shape]
        for population in self.populations:
            shapes.append(population.wiring.shape(shapes[-1], population.n))
        return tuple(shapes)

    def _check_wiring(self, problems: Problems) -> None:
        shape = self.input_shape
        for population in self.populations:
            where = f"config, population {population.name!r}"
            if not population.wiring.check(shape, population.n, where, problems):
                return
            shape = population.wiring.shape(shape, population.n)

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain types."""
        return {
            **asdict(self),
            "input_shape": list(self.input_shape),
            "populations": [population.to_dict() for population in self.populations],
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ModelConfig:
        """The inverse of ``to_dict``.

        Args:
            fields: plain types.

        Returns:
            A checked configuration.

        Raises:
            InputError: for fields that are missing, unknown or of a wrong type.
        """
        entries = fields.get("populations")
        if isinstance(entries, list | tuple):
            fields = {**fields, "populations": [_gathered(entry) for entry in entries]}
        return records.parse(cls, fields, records.Place("config", IN_FILE), InputError)


COMMON = ("current_decay", "voltage_decay", "threshold")
"""Parameters of neuron models that are fields of their own in PopulationConfig."""

ALWAYS_WRITTEN = ("threshold_decay", "refractory_decay", "threshold_step")
"""Parameters that files hold for every model, without entries where it has none of them: version 1 of ``model.pt``."""


def _options() -> set[str]:
    """The parameters of all neuron models that are no fields of their own."""
    return {name for model in NEURONS.values() for name in model.parameters} - set(COMMON)


def _gathered(entry: Any) -> Any:
    """A population of a file with the parameters of its neuron model gathered under ``options``."""
    if not isinstance(entry, Mapping):
        return entry
    known = _options()
    options = {name: value for name, value in entry.items() if name in known and value not in ([], ())}
    return {**{name: value for name, value in entry.items() if name not in known}, "options": options}


def _check_neuron(population: PopulationConfig, where: str, problems: Problems) -> None:
    model = NEURONS.get(population.neuron)
    if model is None:
        problems.note(
            NEURON_MODEL.broken(where, repr(population.neuron), allowed=", ".join(map(repr, NEURONS)))
        )
        return
    RECURRENCE.check(
        problems,
        not population.recurrent or (model.spikes and not population.wiring.channels),
        where,
        f"recurrent {population.neuron!r}",
    )
    own = model.parameters
    names = dict.fromkeys((*COMMON, *own, *population.options))
    counts = {name: len(population.parameter(name)) for name in names}
    k = len(population.sizes)
    PARTS.check(
        problems,
        all(count == (k if name in own else 0) for name, count in counts.items()),
        where,
        ", ".join(f"{count} of {name}" for name, count in counts.items() if count or name in own),
        allowed=", ".join(own),
    )
    for name in model.decays:
        low, high = decay_range(name)
        for value in population.parameter(name):
            DECAY.check(
                problems, low / GRID <= value <= high / GRID, f"{where}, {name}", value, low=low, high=high
            )
    for name in model.levels:
        for value in population.parameter(name):
            holds = math.isfinite(value) and (value > 0 or (value == 0 and name != "threshold"))
            rule = Rule(f"{name.replace('_', '-')}-range", "above 0" if name == "threshold" else "0 or more")
            rule.check(problems, holds, where, value)
    for name in model.record.periods:
        for value in population.parameter(name):
            PERIOD.check(problems, value >= 1 and value == int(value), f"{where}, {name}", value)


def decay_range(name: str) -> tuple[int, int]:
    """The smallest and largest decay of that name on the chip, in units of 1/4096.

    Args:
        name: a decay of a model.

    Returns:
        (smallest, largest).
    """
    decay, less = chip_formats().decay, int(name == "current_decay")  # Lava's du is one less than the decay
    return decay.minimum + less, decay.maximum + less
