"""The reference simulation: one numpy line per equation, for float and integer networks.

The compiled simulator is tested against it, and float networks run in it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbi.errors import InputError, Problems, Rule
from lbi.network.activity import Activity, PopulationActivity, ProjectionActivity
from lbi.network.fixed import FixedNetwork
from lbi.network.fixedpoint import shift
from lbi.network.graph import INPUT, Network
from lbi.network.spikes import SpikeEvents, check_spikes

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

RECORDED = Rule("record-variable", "{allowed}")


def simulate(
    network: Network | FixedNetwork, spikes: ArrayLike | SpikeEvents, record: str | Iterable[str] = ()
) -> Activity:
    """The activity of a network, in which every sample starts from rest.

    The equations are those of the neuron models (``lbi.network.neurons``); docs/architecture.md explains time.

    Args:
        network: a float or integer network.
        spikes: (n_samples, n_steps, n_in), 0 and 1, or events.
        record: variables to record for all populations that have them: "spikes", "active" and state variables of the neuron.

    Returns:
        Outputs, counts and recorded variables.

    Raises:
        InputError: for unusable spikes, or variables that no population has.
    """
    spikes = check_spikes(spikes, network.input_shape)
    n_samples, n_steps, _ = spikes.shape
    fixed = isinstance(network, FixedNetwork)
    value: Any = np.int32 if fixed else np.float64
    neurons: dict[str, Any] = {population.name: population.neuron for population in network.populations}
    sizes = {population.name: population.n for population in network.populations}
    variables = [(name, variable) for name in sizes for variable in neurons[name].state_variables]
    state: dict[str, dict[str, NDArray[Any]]] = {name: {} for name in sizes}
    for name, variable in variables:
        state[name][variable] = np.zeros((n_samples, sizes[name]), dtype=value)
    traces: dict[tuple[str, str], NDArray[Any]] = {
        (name, kind): np.zeros((n_samples, n_steps, n), dtype=np.uint8)
        for name, n in sizes.items()
        for kind in ("spikes", "active")
    }
    for name, variable in variables:
        traces[name, variable] = np.zeros((n_samples, n_steps, sizes[name]), dtype=value)
    known = sorted({variable for _, variable in traces})
    wanted = (record,) if isinstance(record, str) else tuple(record)
    problems = Problems()
    for variable in wanted:
        RECORDED.check(problems, variable in known, "record", repr(variable), allowed=", ".join(known))
    problems.raise_as(InputError)
    traces[INPUT, "spikes"] = spikes
    parts: list[tuple[Any, Any]] = [(p, by_lag(network, p)) for p in network.projections]

    for t in range(n_steps):
        for name in network.evaluation_order():
            a: NDArray[Any] = np.zeros((n_samples, sizes[name]), dtype=value)
            for projection, lags in parts:
                for lag, weights in lags if projection.target == name else ():
                    if t >= lag:
                        before = traces[projection.source, "spikes"][:, t - lag].astype(weights.dtype)
                        arriving = (weights @ before.T).T
                        a += shift(arriving, projection.weight_exp) if fixed else arriving
            bias = neurons[name].bias
            busy = (a != 0) | (False if bias is None else bias != 0)
            for values in state[name].values():
                busy |= values != 0
            traces[name, "active"][:, t] = busy
            traces[name, "spikes"][:, t] = neurons[name].step(state[name], a)
            for variable, values in state[name].items():
                traces[name, variable][:, t] = values
    return _activity(network, traces, wanted)


def _activity(
    network: Network | FixedNetwork, traces: dict[tuple[str, str], NDArray[Any]], wanted: tuple[str, ...]
) -> Activity:
    def count(name: str, kind: str) -> NDArray[np.int64]:
        return traces[name, kind].sum(axis=2, dtype=np.int64)

    names = [population.name for population in network.populations]
    return Activity(
        output_spikes=traces[network.readout.population, "spikes"],
        input_spikes=count(INPUT, "spikes"),
        populations={
            name: PopulationActivity(count(name, "spikes"), count(name, "active")) for name in names
        },
        projections={
            projection.name: ProjectionActivity(
                events=count(projection.source, "spikes"),
                synops=traces[projection.source, "spikes"].astype(np.int64) @ projection.weights.fan_out(),
            )
            for projection in network.projections
        },
        recorded={key: trace for key, trace in traces.items() if key[0] != INPUT and key[1] in wanted},
        output_membrane=traces[network.readout.population, "v"] if network.readout.of_membrane else None,
    )


def by_lag(network: Any, projection: Any) -> list[tuple[int, csr_matrix]]:
    """The projection's weights per lag, shortest first: Lava shifts the sum of each delay separately.

    Args:
        network: the network.
        projection: one of its projections.

    Returns:
        (lag, weights) pairs.
    """
    lags = network.lag(projection)
    weights = projection.weights.to_scipy()
    if weights.dtype.kind in "iu":
        weights = weights.astype(np.int64)
    if lags.ndim == 0:
        return [(int(lags), weights)]
    parts = []
    for lag in np.unique(lags):
        part = weights.copy()
        part.data = np.where(lags == lag, part.data, 0)
        parts.append((int(lag), part))
    return parts or [(0, weights)]
