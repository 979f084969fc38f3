"""Limits of a chip on single numbers and neurons, one function per rule; ``check`` reports all violations.

Limits that concern neurons sharing a core are checked by ``lbi.chip.placement``, which calls these rules first.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lbi.chip.memory import row_format
from lbi.chip.profile import HardwareProfile
from lbi.errors import Problem, Problems
from lbi.network.fixed import FixedNetwork, FixedProjection
from lbi.network.fixedpoint import IntFormat

Rule = Callable[[FixedNetwork, HardwareProfile, Problems], None]


def neuron_models(fixed: FixedNetwork, profile: HardwareProfile, problems: Problems) -> None:
    """The chip runs every population's neuron model."""
    for population in fixed.populations:
        model = population.neuron.model
        allowed = ", ".join(map(str, profile.models.value or ()))  # type: ignore[arg-type]
        problems.check(
            profile.supports(model),
            "neuron-model",
            f"population {population.name!r}",
            f"model {model!r}",
            f"{allowed} on {profile.title}",
            "use one of these models, or a chip with programmable neurons",
        )


def neuron_numbers(fixed: FixedNetwork, profile: HardwareProfile, problems: Problems) -> None:
    """Every integer parameter of every neuron model is within the chip's format for it."""
    for population in fixed.populations:
        for entry in population.neuron.integers:
            if not entry.chip_format:
                continue
            allowed: IntFormat = getattr(profile.formats, entry.chip_format)
            values = np.asarray(getattr(population.neuron, entry.name))
            if values.size and not bool(np.all(allowed.holds(values))):
                problems.add(
                    f"{entry.name.replace('_', '-')}-range",
                    f"population {population.name!r}, {entry.name}",
                    f"{values.min()} to {values.max()}" if values.ndim else f"{values}",
                    f"{allowed}",
                    f"quantize for {profile.name}: lbi-export --chip {profile.name}",
                )


def projection_numbers(fixed: FixedNetwork, profile: HardwareProfile, problems: Problems) -> None:
    """Weight exponents, weight bits and delays are within the chip's formats."""
    widest = int(max(profile.layout.weight_bits.numbers))
    for projection in fixed.projections:
        where = f"projection {projection.name!r}"
        allowed = profile.formats.weight_exponent
        problems.check(
            bool(allowed.holds(projection.weight_exp)),
            "weight-exponent",
            where,
            f"{projection.weight_exp}",
            f"{allowed}",
            f"quantize for {profile.name}: lbi-export --chip {profile.name}",
        )
        problems.check(
            projection.num_weight_bits <= widest,
            "weight-bits",
            where,
            f"{projection.num_weight_bits}",
            f"up to {widest}",
            "quantize to fewer bits",
        )
        problems.check(
            projection.max_delay <= profile.formats.delay.maximum,
            "delay",
            where,
            f"{projection.max_delay} steps",
            f"{profile.formats.delay}",
            "train with shorter delays",
        )


def fan_in(fixed: FixedNetwork, profile: HardwareProfile, problems: Problems) -> None:
    """The synapses of every neuron fit one core, with an input axon and a memory row per source."""
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
        problems.check(
            n_over == 0,
            "fan-in",
            where,
            f"{int(axons.max())} sources, each an input axon ({n_over} neurons are over the limit)",
            f"{axon_limit} input axons per core",
            "train with a higher sparsity (lbi-train --density)",
        )
        n_over = int(np.count_nonzero(bits > capacity))
        problems.check(
            n_over == 0,
            "fan-in-memory",
            where,
            f"{int(bits.max())} bits of synapses for one neuron ({n_over} neurons are over the limit)",
            f"{capacity} bits per core ({profile.layout.label})",
            "train with a higher sparsity (lbi-train --density)",
        )


def _n_sources(projections: list[FixedProjection]) -> NDArray[np.int64]:
    """(n_target,) sources per neuron, over all projections from the same source."""
    if len(projections) == 1:
        return projections[0].weights.fan_in()
    patterns = [projection.weights.to_scipy() for projection in projections]
    for pattern in patterns:
        pattern.data = np.ones_like(pattern.data)
    return np.diff(sum(patterns[1:], patterns[0]).indptr).astype(np.int64)


RULES: tuple[Rule, ...] = (neuron_models, neuron_numbers, projection_numbers, fan_in)


def check(fixed: FixedNetwork, profile: HardwareProfile) -> list[Problem]:
    """All violations of the chip's limits by single numbers or neurons; empty if there are none."""
    problems = Problems()
    for rule in RULES:
        rule(fixed, profile, problems)
    return list(problems)
