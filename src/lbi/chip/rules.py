"""Limits of a chip on single numbers and neurons, one function per rule; ``check`` reports all violations.

Limits that concern neurons sharing a core are checked by ``lbi.chip.placement``, which calls these rules first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lbi.chip.memory import row_format
from lbi.chip.profile import HardwareProfile
from lbi.errors import Problem, Problems, Rule
from lbi.network.fixed import FixedNetwork, FixedProjection
from lbi.network.fixedpoint import IntFormat

Check = Callable[[FixedNetwork, HardwareProfile, Problems], None]

QUANTIZE = "quantize for {chip}: lbi-export --chip {chip}"
SPARSER = "train with a higher sparsity (lbi-train --density)"
MODEL = Rule(
    "neuron-model",
    "{models} on {chip}",
    "use one of these models, or a chip with programmable neurons",
)
MANTISSA = Rule("weight-mantissa", "{allowed} in sign mode {mode}", QUANTIZE)
EXPONENT = Rule("weight-exponent", "{allowed}", QUANTIZE)
BITS = Rule("weight-bits", "up to {widest}", QUANTIZE)
DELAY = Rule("delay", "{allowed}", "train with delays in this range")
FAN_IN = Rule("fan-in", "{limit} input axons per core", SPARSER)
FAN_IN_MEMORY = Rule("fan-in-memory", "{limit} bits per core ({layout})", SPARSER)


def neuron_models(fixed: FixedNetwork, profile: HardwareProfile, problems: Problems) -> None:
    """The chip runs every population's neuron model.

    Args:
        fixed: the network.
        profile: the chip.
        problems: receives the violations.
    """
    for population in fixed.populations:
        runs_model(population.neuron.model, f"population {population.name!r}", profile, problems)


def runs_model(model: str, where: str, profile: HardwareProfile, problems: Problems) -> None:
    """The chip runs a neuron model.

    Args:
        model: the model's name.
        where: what has it.
        profile: the chip.
        problems: receives the violation.
    """
    allowed = ", ".join(map(str, profile.models.value or ()))  # type: ignore[arg-type]
    holds = profile.supports(model)
    MODEL.check(problems, holds, where, f"model {model!r}", models=allowed, chip=profile.title)


def neuron_numbers(fixed: FixedNetwork, profile: HardwareProfile, problems: Problems) -> None:
    """Every integer parameter of every neuron model is within the chip's format for it.

    Args:
        fixed: the network.
        profile: the chip.
        problems: receives the violations.
    """
    for population in fixed.populations:
        for entry in population.neuron.integers:
            if not entry.chip_format:
                continue
            allowed: IntFormat = getattr(profile.formats, entry.chip_format)
            values = np.asarray(getattr(population.neuron, entry.name))
            if values.size and not bool(np.all(allowed.holds(values))):
                found = f"{values.min()} to {values.max()}" if values.ndim else f"{values}"
                rule = Rule(f"{entry.name.replace('_', '-')}-range", "{allowed}", QUANTIZE)
                where = f"population {population.name!r}, {entry.name}"
                problems.note(rule.broken(where, found, allowed=allowed, chip=profile.name))


def projection_numbers(fixed: FixedNetwork, profile: HardwareProfile, problems: Problems) -> None:
    """Weights, their exponents and bits, and delays are within the chip's formats.

    Args:
        fixed: the network.
        profile: the chip.
        problems: receives the violations.
    """
    widest = int(max(profile.layout.weight_bits.numbers))
    for projection in fixed.projections:
        where = f"projection {projection.name!r}"
        exponent, bits, delay = projection.weight_exp, projection.num_weight_bits, projection.max_delay
        allowed, delays = profile.formats.weight_exponent, profile.formats.delay
        in_range = bool(allowed.holds(exponent))
        EXPONENT.check(problems, in_range, where, exponent, allowed=allowed, chip=profile.name)
        grid, mode = projection.sign_mode.chip_format(profile.formats), projection.sign_mode.name
        n_off = int(np.count_nonzero(~grid.holds(projection.weights.data)))
        found = f"{n_off} of {projection.weights.n_parameters} mantissas off the chip's grid"
        MANTISSA.check(problems, n_off == 0, where, found, allowed=grid, mode=mode, chip=profile.name)
        BITS.check(problems, bits <= widest, where, bits, widest=widest, chip=profile.name)
        least = int(np.min(projection.delay, initial=delay))
        found = f"{delay} steps" if delay > delays.maximum else f"{least} steps"
        fits = delays.minimum <= least and delay <= delays.maximum
        DELAY.check(problems, fits, where, found, allowed=delays)


def fan_in(fixed: FixedNetwork, profile: HardwareProfile, problems: Problems) -> None:
    """The synapses of every neuron fit one core, with an input axon and a memory row per source.

    Args:
        fixed: the network.
        profile: the chip.
        problems: receives the violations.
    """
    axon_limit = profile.limits.input_axons_per_core.limit
    capacity = int(profile.layout.capacity.number)
    for population in fixed.populations:
        into: dict[str, list[FixedProjection]] = {}
        bits = np.zeros(population.n, dtype=np.int64)
        for projection in fixed.projections:
            if projection.target == population.name:
                into.setdefault(projection.source, []).append(projection)
                one = row_format(projection, profile.layout).indexed_bits([1], 1)
                bits += projection.weights.fan_in() * one
        axons = sum((_n_sources(projections) for projections in into.values()), np.zeros_like(bits))
        where = f"population {population.name!r}, neuron {int(axons.argmax())}"
        n_over = int(np.count_nonzero(axons > axon_limit)) if axon_limit is not None else 0
        found = f"{int(axons.max())} sources, each an input axon ({n_over} neurons are over the limit)"
        FAN_IN.check(problems, n_over == 0, where, found, limit=axon_limit)
        n_over = int(np.count_nonzero(bits > capacity))
        found = f"{int(bits.max())} bits of synapses for one neuron ({n_over} neurons are over the limit)"
        label = profile.layout.label
        FAN_IN_MEMORY.check(problems, n_over == 0, where, found, limit=capacity, layout=label)


def _n_sources(projections: list[FixedProjection]) -> NDArray[np.int64]:
    """(n_target,) sources per neuron, over all projections from the same source."""
    if len(projections) == 1:
        return projections[0].weights.fan_in()
    patterns = [projection.weights.to_scipy() for projection in projections]
    for pattern in patterns:
        pattern.data = np.ones_like(pattern.data)
    return np.diff(sum(patterns[1:], patterns[0]).indptr).astype(np.int64)


CHECKS: tuple[Check, ...] = (neuron_models, neuron_numbers, projection_numbers, fan_in)


def check(fixed: FixedNetwork, profile: HardwareProfile) -> list[Problem]:
    """All violations of the chip's limits by single numbers or neurons; empty if there are none.

    Args:
        fixed: the network.
        profile: the chip.

    Returns:
        The violations, each with its place, what was found, what is allowed and a fix.
    """
    problems = Problems()
    for rule in CHECKS:
        rule(fixed, profile, problems)
    return list(problems)
