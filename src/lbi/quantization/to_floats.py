"""Conversion of a chip's integers to the float network that they represent."""

from __future__ import annotations

from typing import Any

import numpy as np

from lbi.errors import InputError, Rule
from lbi.network.fixed import FixedNetwork, FixedProjection
from lbi.network.graph import INPUT, Network, Population, Projection

INSTANT_FEEDBACK = Rule(
    "instant-feedback", "populations in the order of their signals", "list sources before targets"
)


def dequantize(fixed: FixedNetwork) -> Network:
    """The float network whose parameters are exactly the values that the integers represent.

    Its spikes can differ from those of the integers, which round.

    Args:
        fixed: the network in integers.

    Returns:
        The float network.

    Raises:
        InputError: for a raw chip graph whose populations are not listed in signal order.
    """
    order = {INPUT: -1} | {population.name: i for i, population in enumerate(fixed.populations)}
    return Network(
        fixed.input_shape,
        tuple(Population(p.name, p.shape, p.neuron.to_float(p.scale)) for p in fixed.populations),
        tuple(_projection(fixed, projection, order) for projection in fixed.projections),
        fixed.readout,
        dict(fixed.provenance),
    )


def _projection(fixed: FixedNetwork, projection: FixedProjection, order: dict[str, int]) -> Projection:
    scale = fixed.population(projection.target).scale
    back = order[projection.source] >= order[projection.target]
    delay: Any = fixed.lag(projection)
    delay = delay - (1 if back else 0)
    where = f"projection {projection.name!r}"
    if int(np.min(delay, initial=0)) < 0:
        raise InputError(
            INSTANT_FEEDBACK.broken(where, "arrives in the step it is sent, against the order of evaluation")
        )
    weights, _ = projection.weights.with_data(projection.weights.data * (2.0**projection.weight_exp / scale))
    if isinstance(delay, np.ndarray):
        delay = delay.astype(np.uint8)
    return Projection(
        projection.name, projection.source, projection.target, weights, delay, projection.pattern
    )
