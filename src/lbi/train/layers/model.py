"""The trainable network: a chain of populations, each of one neuron model, with or without recurrence.

As in ``lbi.network.graph.Network`` and on the chip, decays and thresholds are shared by a population, and decays are
multiples of 1/4096.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from dataclasses import fields as dataclass_fields
from itertools import accumulate
from typing import Any, cast

import torch
from torch import Tensor, nn

from lbi import records
from lbi.errors import InputError, Problems, Rule
from lbi.network.fixedpoint import DECAY_BITS
from lbi.network.graph import READOUTS, is_name
from lbi.train.layers.event_linear import event_linear
from lbi.train.layers.mantissas import chip_bias, chip_formats, mantissas
from lbi.train.layers.scan import scan
from lbi.train.layers.surrogate import SURROGATES
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
    "readout-kind", "neurons that spike, but integrators as the output of membrane_max and membrane_mean"
)
SURROGATE = Rule("unknown-surrogate", "{allowed}")
SLOPE = Rule("slope", "above 0")
NEURON_MODEL = Rule("neuron-model", "{allowed}")
RECURRENCE = Rule("recurrence", "neurons that spike")
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
    ``train_decays``. The n neurons are shared out evenly, the first parts taking what is left over.

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
        return tuple(getattr(self, name)) if name in SHARED else tuple(self.options.get(name, ()))

    def to_dict(self) -> dict[str, Any]:
        """Plain types only; the options stand beside the other fields, under their own names."""
        plain = asdict(self)
        options = plain.pop("options")
        return {**plain, **dict.fromkeys(ALWAYS_WRITTEN, ()), **options}

    @property
    def sizes(self) -> tuple[int, ...]:
        """Neurons of each part."""
        given = (len(self.current_decay), len(self.voltage_decay), *map(len, self.options.values()))
        k = next((n_entries for n_entries in given if n_entries), 1)
        return tuple(self.n // k + (1 if i < self.n % k else 0) for i in range(k))

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
            N_NEURONS.check(problems, population.n >= len(population.sizes), where, f"{population.n} neurons")
            _check_neuron(population, where, problems)
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

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain types."""
        return {
            **asdict(self),
            "input_shape": list(self.input_shape),
            "populations": [population.to_dict() for population in self.populations],
        }

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> ModelConfig:
        """The inverse of ``to_dict``; raises InputError for fields that are missing, unknown or of a wrong type.

        Args:
            fields: plain types.

        Returns:
            The configuration.
        """
        entries = fields.get("populations")
        if isinstance(entries, list | tuple):
            fields = {**fields, "populations": [_gathered(entry) for entry in entries]}
        return records.parse(cls, fields, records.Place("config", IN_FILE), InputError)


SHARED = ("current_decay", "voltage_decay", "threshold")
"""Parameters of neuron models that are fields of their own in PopulationConfig."""

ALWAYS_WRITTEN = ("threshold_decay", "refractory_decay", "threshold_step")
"""Parameters that files hold for every model, without entries where it has none of them: version 1 of ``model.pt``."""


def _gathered(entry: Any) -> Any:
    """A population of a file with the parameters of its neuron model gathered under ``options``."""
    if not isinstance(entry, Mapping):
        return entry
    known = {name for model in NEURONS.values() for name in model.parameters} - set(SHARED)
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
        problems, model.spikes or not population.recurrent, where, f"recurrent {population.neuron!r}"
    )
    own = model.parameters
    names = dict.fromkeys((*SHARED, *own, *population.options))
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


class PopulationLayer(nn.Module):
    """One layer with its input: ``weight`` (n, n_source), ``recurrent`` (n, n) or None, decays, bias.

    ``scale``, (n_parts,) float64, holds mantissa units per float unit, or 0 while training is in floats
    (``lbi.train.layers.chip_exact``). Decays (``current_decay`` and others) are (n_parts,) float64 in units of 1/4096,
    so that they represent the grid exactly; the forward pass rounds them to whole units, and gradients pass straight
    through. Levels (``threshold`` and others) are buffers (n,). ``only_living`` leaves out gradients of weights that are
    0 where that saves time (on a CPU, in floats, with few weights left): they are 0 then.
    """

    only_living: bool = False

    config: PopulationConfig
    weight: nn.Parameter
    recurrent: nn.Parameter | None
    bias: nn.Parameter | None
    part: Tensor
    scale: Tensor

    def __init__(self, config: PopulationConfig, n_source: int, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.neuron = NEURONS[config.neuron]
        self.weight = nn.Parameter(_uniform(config.n, n_source, 1.0, generator))
        self.recurrent = (
            nn.Parameter(_uniform(config.n, config.n, 0.3, generator)) if config.recurrent else None
        )
        self.bias = nn.Parameter(torch.zeros(config.n)) if config.bias else None
        sizes = torch.tensor(config.sizes)
        self.register_buffer("part", torch.arange(len(sizes)).repeat_interleave(sizes), persistent=False)
        for name in self.neuron.fixed:
            level = torch.tensor(config.parameter(name), dtype=torch.float64)[self.part]
            self.register_buffer(name, level, persistent=False)
        self.register_buffer("scale", torch.zeros(len(sizes), dtype=torch.float64))
        for name in self.neuron.decays:
            units = (torch.tensor(config.parameter(name), dtype=torch.float64) * GRID).round()
            if config.train_decays:
                self.register_parameter(name, nn.Parameter(units))
            else:
                self.register_buffer(name, units)

    def kept(self, name: str, dtype: torch.dtype) -> Tensor:
        """(n,) factor kept per step for the decay of that name; on the grid, differentiable.

        Args:
            name: a decay of the model.
            dtype: type of the result.

        Returns:
            The factors.
        """
        units = getattr(self, name)
        on_grid = units + (on_grid_units(units.detach(), name) - units.detach())
        return (1.0 - on_grid / GRID).to(dtype)[self.part]

    def forward(self, spikes: Tensor, surrogate: str, slope: float) -> tuple[Tensor, Tensor]:
        """Spikes and voltages before reset, each (n_samples, n_steps, n), from spikes of the source.

        Args:
            spikes: (n_samples, n_steps, n_source).
            surrogate: name of the surrogate gradient.
            slope: its slope.

        Returns:
            The spikes and the voltages.
        """
        dtype = self.weight.dtype
        kept = [self.kept(name, dtype) for name in self.neuron.decays]
        levels = [getattr(self, name) for name in self.neuron.fixed]
        bias = self.weight.new_zeros(self.config.n) if self.bias is None else self.bias
        if not self.on_chip:
            neuron = [*kept, *(level.to(dtype) for level in levels), bias]
            few = self.only_living
            a = event_linear(spikes, self.weight, only_living=few)
            return scan(self.neuron, a, self.recurrent, neuron, surrogate, slope, only_living=few)
        scale = self.scale[self.part]
        a = event_linear(spikes, mantissas(self.weight, scale))
        recurrent = None if self.recurrent is None else mantissas(self.recurrent, scale)
        whole = [(level.double() * scale).round().to(dtype) for level in levels]
        neuron = [*kept, *whole, chip_bias(bias, scale, self.part)]
        return scan(self.neuron, a, recurrent, neuron, surrogate, slope, chip=True)

    @property
    def on_chip(self) -> bool:
        """True if the forward pass computes in the chip's integers, that is, if every part has a scale."""
        return bool((self.scale > 0).all())


def decay_range(name: str) -> tuple[int, int]:
    """The smallest and largest decay of that name on the chip, in units of 1/4096.

    Args:
        name: a decay of a model.

    Returns:
        Both ends.
    """
    decay, less = chip_formats().decay, int(name == "current_decay")  # Lava's du is one less than the decay
    return decay.minimum + less, decay.maximum + less


def on_grid_units(units: Tensor, name: str) -> Tensor:
    """Decays in units of 1/4096, rounded and clamped to the chip's range.

    Args:
        units: decays in units of 1/4096.
        name: which decay they are.

    Returns:
        Whole units.
    """
    return units.round().clamp(*decay_range(name))


def _uniform(n_out: int, n_in: int, gain: float, generator: torch.Generator) -> Tensor:
    """U(−b, b) with b = gain·√(3 / n_in), so that an input row has norm ``gain``."""
    bound = gain * math.sqrt(3.0 / n_in)
    return (torch.rand(n_out, n_in, generator=generator) * 2 - 1) * bound


class SpikingNetwork(nn.Module):
    """The network of a ``ModelConfig``, with weights drawn from a seed."""

    def __init__(self, config: ModelConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        generator = torch.Generator().manual_seed(seed)
        sizes = [config.n_in, *(population.n for population in config.populations)]
        self.layers = nn.ModuleDict(
            {
                population.name: PopulationLayer(population, n_source, generator)
                for population, n_source in zip(config.populations, sizes, strict=False)
            }
        )

    @staticmethod
    def state_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
        """Name → shape of the entries of ``state_dict``, computed without allocating them.

        Args:
            config: the configuration.

        Returns:
            The shapes.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        n_source = config.n_in
        for population in config.populations:
            n, n_parts = population.n, len(population.sizes)
            prefix = f"layers.{population.name}."
            shapes |= {
                f"{prefix}{name}": (n_parts,) for name in ("scale", *NEURONS[population.neuron].decays)
            }
            shapes[f"{prefix}weight"] = (n, n_source)
            if population.recurrent:
                shapes[f"{prefix}recurrent"] = (n, n)
            if population.bias:
                shapes[f"{prefix}bias"] = (n,)
            n_source = n
        return shapes

    def forward(self, spikes: Tensor, dropout: float = 0.0) -> list[tuple[Tensor, Tensor]]:
        """(spikes, voltages before reset) of every population, each (n_samples, n_steps, n).

        Args:
            spikes: (n_samples, n_steps, n_in) of 0 and 1, any type.
            dropout: fraction of hidden neurons silenced per sample.

        Returns:
            One pair per population, in order.
        """
        run = []
        for i, layer in enumerate(self.layers.values()):
            run.append(layer(spikes, self.config.surrogate, self.config.slope))
            spikes = run[-1][0]
            if dropout > 0 and i + 1 < len(self.layers):
                # Drawn on the CPU: the same on every device.
                kept = torch.rand(spikes.shape[0], 1, spikes.shape[2], device="cpu") >= dropout
                spikes = spikes * kept.to(spikes)
        return run

    def populations(self) -> list[PopulationLayer]:
        """The layers, first to last."""
        return [cast(PopulationLayer, layer) for layer in self.layers.values()]

    def weights(self) -> dict[str, Tensor]:
        """Projection name → weight tensor, in the order of the network's projections."""
        found: dict[str, Tensor] = {}
        for layer in self.populations():
            found[f"{layer.config.name}.weight"] = layer.weight
            if layer.recurrent is not None:
                found[f"{layer.config.name}.recurrent"] = layer.recurrent
        return found

    def n_weights(self) -> int:
        """Number of possible synapses."""
        return sum(weight.numel() for weight in self.weights().values())

    def n_active(self) -> int:
        """Number of synapses that are not exactly 0."""
        return sum(int(torch.count_nonzero(weight)) for weight in self.weights().values())
