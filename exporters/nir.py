"""``--target nir``: the float network as NIR (``.nir``), with the time step it is meant for.

A population becomes ``CubaLIF``, or ``LIF`` where its current has no memory (integrators: ``CubaLI``, ``LI``), with time constants τ = dt / decay
and with R and w_in such that one Euler step of ``dt`` is the trained step::

    (1 − dt/τ_syn) = 1 − current_decay      (dt/τ_syn) w_in = 1
    (1 − dt/τ_mem) = 1 − voltage_decay      (dt/τ_mem) R = 1      (dt/τ_mem) v_leak = bias

which is also how snnTorch writes and reads it. NIR knows dense matrices only: exact zeros are written, and
dropped again when ``lbi`` reads the file. ``metadata/lbi`` holds dt, the order of evaluation, the readout and the provenance.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Problems, require
from lbi.network.fixed import FixedNetwork
from lbi.network.graph import INPUT, Network, Population, Projection
from lbi.quantization.to_floats import dequantize

if TYPE_CHECKING:
    from lbi.deploy.job import ExportJob
    from lbi.errors import Problem

TITLE = "Neuromorphic Intermediate Representation, in floats"
SUFFIX = ".nir"
TAKES = "float"

DT = 1e-4
"""Seconds per step unless the network says otherwise (``meta["nir"]["dt"]``): what snnTorch hard-codes."""

NO_LEAK = 2.0**60
"""τ/dt of a decay of 0: 1 − 2^−60 is 1 in floating point, and 2^60 · 2^−60 is 1."""

MODELS = ("cuba_lif", "integrator")


def check(job: ExportJob) -> list[Problem]:
    """Every population that NIR has no node for, and synapses that would carry an integrator's voltage there."""
    problems = Problems()
    silent = {p.name for p in job.network.populations if p.neuron.model == "integrator"}
    for projection in job.network.projections:
        problems.check(
            projection.source not in silent,
            "no-spikes",
            f"projection {projection.name!r}",
            f"leads out of {projection.source!r}, which never spikes; in NIR it would carry its voltage",
            "none from there",
            "remove the projection",
        )
    for population in job.network.populations:
        model = population.neuron.model
        problems.check(
            model in MODELS,
            "neuron-model",
            f"population {population.name!r}",
            f"NIR has no node for {model!r}",
            ", ".join(map(repr, MODELS)),
            "use --target loihi or csr",
        )
    return list(problems)


def export(job: ExportJob, path: Path) -> None:
    """Write the ``.nir`` file. Raises InputError with every reason why it cannot be."""
    require("nir", "nir")
    import nir

    Problems(check(job)).raise_as(InputError)
    network = dequantize(job.network) if isinstance(job.network, FixedNetwork) else job.network
    file = io.BytesIO()  # HDF5 crashes on a full disk
    nir.write(file, graph(network))
    path.write_bytes(file.getvalue())


def graph(network: Network, dt: float | None = None) -> Any:
    """The network as ``nir.NIRGraph``; dt: seconds per step, default the network's own or ``DT``."""
    import nir

    step = float(dt or dict(network.meta.get("nir", {})).get("dt", DT))
    source = _unused("input", network)
    nodes: dict[str, Any] = {source: nir.Input(input_type={"input": np.array(network.input_shape)})}
    edges: list[tuple[str, str]] = []
    start = source
    if len(network.input_shape) > 1:
        start = _unused("flatten", network)
        nodes[start] = nir.Flatten(
            input_type={"input": np.array(network.input_shape)}, start_dim=0, end_dim=-1
        )
        edges.append((source, start))
    for population in network.populations:
        nodes[population.name] = _neuron(population, step)
    for projection in network.projections:
        first = start if projection.source == INPUT else projection.source
        _add_projection(nodes, edges, first, projection, step, network)
    for population in network.populations:
        if not any(end == population.name for _, end in edges):  # NIR takes it for an input otherwise
            silent = _unused_node(f"nothing_to_{population.name}", nodes, network)
            nodes[silent] = nir.Linear(weight=np.zeros((population.n, network.n_in)))
            edges += [(start, silent), (silent, population.name)]
    sink = _unused("output", network)
    n_out = network.population(network.readout.population).n
    nodes[sink] = nir.Output(output_type={"output": np.array([n_out])})
    edges.append((network.readout.population, sink))
    entry = {
        "dt": step,
        "order": [population.name for population in network.populations],
        "readout": network.readout.kind,
        "meta": {key: value for key, value in network.meta.items() if key != "nir"},
    }
    text = json.dumps(entry, sort_keys=True, allow_nan=False)
    return nir.NIRGraph(nodes=nodes, edges=edges, metadata={"lbi": text})


def _unused(name: str, network: Network) -> str:
    taken = {population.name for population in network.populations}
    taken |= {projection.name for projection in network.projections}
    while name in taken:
        name += "_"
    return name


def _neuron(population: Population, dt: float) -> Any:
    import nir

    neuron, n = population.neuron, population.n

    def filled(value: float) -> NDArray[np.float64]:
        return np.full(n, value)

    slow = 1 / neuron.voltage_decay if neuron.voltage_decay else NO_LEAK
    fast = 1 / neuron.current_decay if neuron.current_decay else NO_LEAK
    bias = np.zeros(n) if neuron.bias is None else neuron.bias
    shared = {"r": filled(slow), "v_leak": bias * slow}
    if neuron.threshold is not None:
        shared |= {"v_threshold": filled(neuron.threshold), "v_reset": np.zeros(n)}
    if neuron.current_decay == 1.0:
        kind = nir.LI if neuron.threshold is None else nir.LIF
        return kind(tau=filled(dt * slow), **shared)
    kind = nir.CubaLI if neuron.threshold is None else nir.CubaLIF
    return kind(tau_syn=filled(dt * fast), tau_mem=filled(dt * slow), w_in=filled(fast), **shared)


def _add_projection(
    nodes: dict[str, Any],
    edges: list[tuple[str, str]],
    start: str,
    projection: Projection,
    dt: float,
    network: Network,
) -> None:
    """A ``Linear`` per projection; behind a ``Delay`` where there is one, one of each per delay that occurs."""
    import nir

    weights = projection.weights
    delays = np.broadcast_to(projection.delay, weights.data.shape)
    distinct = np.unique(delays) if delays.size else np.zeros(1, dtype=np.int64)
    for delay in distinct:
        name = projection.name if distinct.size == 1 else f"{projection.name}_{delay}"
        name = _unused_node(name, nodes, network)
        dense = np.zeros(
            weights.shape, dtype=weights.data.dtype if weights.data.dtype.kind == "f" else np.float64
        )
        here = delays == delay
        dense[weights.row_of()[here], weights.indices[here]] = weights.data[here]
        nodes[name] = nir.Linear(weight=dense)
        if delay:
            late = _unused_node(f"{name}_delay", nodes, network)
            nodes[late] = nir.Delay(delay=np.full(weights.shape[1], float(delay) * dt))
            edges += [(start, late), (late, name), (name, projection.target)]
        else:
            edges += [(start, name), (name, projection.target)]


def _unused_node(name: str, nodes: dict[str, Any], network: Network) -> str:
    while name in nodes or any(name == population.name for population in network.populations):
        name += "_"
    return name
