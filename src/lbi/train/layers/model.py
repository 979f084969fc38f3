"""The trainable network of a ``ModelConfig``: its layers, and the forward pass in floats and in the chip's integers."""

from __future__ import annotations

import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from lbi.errors import Problems, Rule, UsageError
from lbi.train.layers.config import (
    ALWAYS_WRITTEN,
    COMMON,
    GRID,
    ModelConfig,
    PopulationConfig,
    decay_range,
)
from lbi.train.layers.mantissas import chip_bias, mantissas
from lbi.train.layers.scan import scan
from lbi.train.layers.wiring import Shape
from lbi.train.neurons import NEURONS

__all__ = [
    "ALWAYS_WRITTEN",
    "COMMON",
    "GRID",
    "ModelConfig",
    "PopulationConfig",
    "PopulationLayer",
    "SpikingNetwork",
    "decay_range",
    "on_grid_units",
]

SPIKES_SHAPE = Rule(
    "input-shape", "(n_samples, n_steps, {n_in})", "give the channels that the network was built for"
)
SPIKES_VALUES = Rule(
    "input-values", "0 and 1", "encode numbers as spikes: what is not 0 would count as one spike"
)
DTYPE = Rule("dtype", "float32 or float64", "keep the network in float32")


class PopulationLayer(nn.Module):
    """One layer with its input: ``weight``, ``recurrent`` (n, n) or None, decays, bias.

    ``weight`` is (n, n_source), or for a convolution (channels, channels of the source, height, width); ``bias`` has an
    entry per neuron or channel.
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
    delays: Tensor | None
    part: Tensor
    scale: Tensor

    def __init__(self, config: PopulationConfig, source: Shape, generator: torch.Generator) -> None:
        super().__init__()
        self.config = config
        self.source = source
        shape = config.wiring.weight_shape(source, config.n)
        self.per_row = config.n // shape[0]  # neurons that share a row of the weight: the places of a channel
        self.neuron = NEURONS[config.neuron]
        self.weight = nn.Parameter(_uniform(shape, 1.0 / config.wiring.pool, generator))
        self.recurrent = (
            nn.Parameter(_uniform((config.n, config.n), 0.3, generator)) if config.recurrent else None
        )
        self.bias = nn.Parameter(torch.zeros(shape[0])) if config.bias else None
        sizes = torch.tensor(config.sizes)
        self.register_buffer("part", torch.arange(len(sizes)).repeat_interleave(sizes), persistent=False)
        lags = torch.tensor(config.delays) if config.recurrent and config.recurrent_delay else None
        self.register_buffer("delays", lags, persistent=False)
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
            (n,) factors 1 − decay.
        """
        units = getattr(self, name)
        on_grid = units + (on_grid_units(units.detach(), name) - units.detach())
        kept = (1.0 - on_grid / GRID).to(dtype)
        # The same values; a gather and its gradient take long for the many neurons of a convolution.
        return kept.expand(self.config.n) if kept.numel() == 1 and not kept.requires_grad else kept[self.part]

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
        if bias.numel() != self.config.n:
            bias = bias.repeat_interleave(self.per_row)
        if not self.on_chip:
            neuron = [*kept, *(level.to(dtype) for level in levels), bias]
            few = self.only_living
            a = self.arriving(spikes, self.weight, only_living=few)
            return scan(
                self.neuron, a, self.recurrent, neuron, surrogate, slope, only_living=few, delays=self.delays
            )
        scale = self.scale[self.part]
        a = self.arriving(spikes, mantissas(self.weight, scale[:: self.per_row]))
        recurrent = None if self.recurrent is None else mantissas(self.recurrent, scale)
        whole = [(level.double() * scale).round().to(dtype) for level in levels]
        neuron = [*kept, *whole, chip_bias(bias, scale, self.part)]
        return scan(self.neuron, a, recurrent, neuron, surrogate, slope, chip=True, delays=self.delays)

    def arriving(self, spikes: Tensor, weight: Tensor, *, only_living: bool = False) -> Tensor:
        """The synaptic input from spikes of the source.

        Args:
            spikes: (n_samples, n_steps, n_source).
            weight: the layer's weights.
            only_living: give weights that are 0 no gradient (0).

        Returns:
            (n_samples, n_steps, n).
        """
        return self.config.wiring.arriving(spikes, weight, self.source, only_living=only_living)

    @property
    def on_chip(self) -> bool:
        """True if the forward pass computes in the chip's integers, that is, if every part has a scale."""
        return bool((self.scale > 0).all())


def _are_spikes(values: Tensor) -> bool:
    """Whether all values are 0 or 1; of the few ways to find out this one takes least time."""
    if values.dtype is torch.bool or not values.numel():
        return True
    return bool(values.amax() <= 1) and (values.dtype is torch.uint8 or torch.equal(values * values, values))


def on_grid_units(units: Tensor, name: str) -> Tensor:
    """Decays in units of 1/4096, rounded and clamped to the chip's range.

    Args:
        units: decays in units of 1/4096.
        name: which decay they are.

    Returns:
        Whole numbers, of the type of ``units``.
    """
    return units.round().clamp(*decay_range(name))


def _uniform(shape: Shape, gain: float, generator: torch.Generator) -> Tensor:
    """U(−b, b) with b = gain·√(3 / n_in), so that a row of n_in inputs has norm ``gain``."""
    bound = gain * math.sqrt(3.0 / math.prod(shape[1:]))
    return (torch.rand(shape, generator=generator) * 2 - 1) * bound


class SpikingNetwork(nn.Module):
    """The network of a ``ModelConfig``, with weights drawn from a seed."""

    def __init__(self, config: ModelConfig, seed: int = 0) -> None:
        super().__init__()
        self.config = config
        generator = torch.Generator().manual_seed(seed)
        self.layers = nn.ModuleDict(
            {
                population.name: PopulationLayer(population, source, generator)
                for population, source in zip(config.populations, config.shapes, strict=False)
            }
        )

    @staticmethod
    def state_shapes(config: ModelConfig) -> dict[str, tuple[int, ...]]:
        """Name → shape of the entries of ``state_dict``, computed without allocating them.

        Args:
            config: the configuration.

        Returns:
            One entry per tensor.
        """
        shapes: dict[str, tuple[int, ...]] = {}
        for population, source in zip(config.populations, config.shapes, strict=False):
            n, n_parts = population.n, len(population.sizes)
            prefix = f"layers.{population.name}."
            shapes |= {
                f"{prefix}{name}": (n_parts,) for name in ("scale", *NEURONS[population.neuron].decays)
            }
            weight = shapes[f"{prefix}weight"] = population.wiring.weight_shape(source, n)
            if population.recurrent:
                shapes[f"{prefix}recurrent"] = (n, n)
            if population.bias:
                shapes[f"{prefix}bias"] = weight[:1]
        return shapes

    def forward(self, spikes: Tensor, dropout: float = 0.0) -> list[tuple[Tensor, Tensor]]:
        """(spikes, voltages before reset) of every population, each (n_samples, n_steps, n).

        Args:
            spikes: (n_samples, n_steps, n_in) of 0 and 1, any dtype.
            dropout: fraction of hidden neurons silenced per sample.

        Returns:
            One pair per population, in order.

        Raises:
            UsageError: for another number of channels, and (on a CPU) for values other than 0 and 1.
        """
        self._check_input(spikes)
        run = []
        for i, layer in enumerate(self.layers.values()):
            run.append(layer(spikes, self.config.surrogate, self.config.slope))
            spikes = run[-1][0]
            if dropout > 0 and i + 1 < len(self.layers):
                # Drawn on the CPU: the same on every device.
                kept = torch.rand(spikes.shape[0], 1, spikes.shape[2], device="cpu") >= dropout
                spikes = spikes * kept.to(spikes)
        return run

    def _check_input(self, spikes: Tensor) -> None:
        problems, n_in = Problems(), math.prod(self.config.input_shape)
        fits = spikes.ndim == 3 and spikes.shape[2] == n_in
        named = SPIKES_SHAPE.check(problems, fits, "spikes", tuple(spikes.shape), n_in=n_in)
        if named and spikes.is_cpu and self.populations()[0].weight.is_cpu:  # a GPU would have to wait for it
            SPIKES_VALUES.check(problems, _are_spikes(spikes), "spikes", "other values")
        problems.raise_as(UsageError)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """As torch's, but not to half precision: decays are whole numbers up to 4096, which it does not hold."""
        moved = fn(torch.zeros(0, dtype=torch.float32, device="cpu")).dtype
        if moved not in (torch.float32, torch.float64):
            raise UsageError(DTYPE.broken("SpikingNetwork", str(moved)))
        return super()._apply(fn, recurse)

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
        counts = [torch.count_nonzero(weight) for weight in self.weights().values()]
        return int(torch.stack(counts).sum())  # read at once: a GPU would have to wait for each
