"""``--target nir``: the float network as NIR (``.nir``), with the time step it is meant for.

A population becomes ``CubaLIF`` (an integrator ``CubaLI``, or ``LI`` where its current has no memory), with time
constants τ = dt / decay and with R and w_in such that one Euler step of ``dt`` is the trained step:

    (1 − dt/τ_syn) = 1 − current_decay      (dt/τ_syn) w_in = 1
    (1 − dt/τ_mem) = 1 − voltage_decay      (dt/τ_mem) R = 1      (dt/τ_mem) v_leak = bias

which is how snnTorch, norse and spikingjelly read it. A current without memory has τ_syn = dt, since norse ignores R of
``LIF``; its bias is an ``Affine``'s, since readers refuse or misread ``v_leak``. With dt = 1 (steps, as sinabs counts) it is
a ``LIF``. A convolution between feature
maps is a ``Conv2d``, ``SumPool2d`` or ``AvgPool2d``, its neurons have three dimensions, and a ``Flatten`` follows; other
projections are dense matrices: exact zeros are written, and dropped again when ``lbi`` reads the file. Nodes
are named with letters, digits and ``_``; "input" and "output" are the ends, as other readers expect. ``metadata/lbi`` holds
dt, the order of evaluation, the populations' names, the readout and the provenance.
"""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Problems, Rule, UsageError, require
from lbi.network.convolution import image, without_groups
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.fixed import FixedNetwork
from lbi.network.graph import INPUT, Network, Population, Projection
from lbi.network.neurons import MODELS
from lbi.network.neurons.thresholds import in_single
from lbi.quantization.to_floats import dequantize

if TYPE_CHECKING:
    from lbi.exporters import Job

    from lbi.errors import Problem

TITLE = "Neuromorphic Intermediate Representation, in floats"
SUFFIX = ".nir"
TAKES = "float"

DT = 1e-4
"""Seconds per step unless the network says otherwise (``meta["nir"]["dt"]``): what snnTorch hard-codes."""

NO_LEAK = 2.0**60
"""τ/dt of a decay of 0: 1 − 2^−60 is 1 in floating point, and 2^60 · 2^−60 is 1."""


SILENT_SOURCE = Rule("no-spikes", "no projection from there", "remove the projection")
MODEL = Rule("neuron-model", "{models}", "use --target loihi or csr")
STEP = Rule("time-step", "seconds above 0", "give --dt in seconds, such as 0.001")


def check(job: Job) -> list[Problem]:
    """One problem per population without a NIR node, and per synapse that would carry an integrator's voltage.

    Args:
        job: the network, its chip and options.

    Returns:
        The problems; none if NIR can hold the network.
    """
    problems = Problems()
    silent = {p.name for p in job.network.populations if not p.neuron.spikes}
    for projection in job.network.projections:
        found = f"leads out of {projection.source!r}, which never spikes; in NIR it would carry its voltage"
        where = f"projection {projection.name!r}"
        SILENT_SOURCE.check(problems, projection.source not in silent, where, found)
    for population in job.network.populations:
        model = population.neuron.model
        where = f"population {population.name!r}"
        held = [name for name, entry in MODELS.items() if entry.nir]
        found = f"NIR has no node for {model!r}"
        MODEL.check(problems, model in held, where, found, models=", ".join(map(repr, held)))
    return list(problems)


def notes(job: Job) -> list[str]:
    """The time step, and properties that other readers ignore.

    Args:
        job: the network, its chip and options.

    Returns:
        One line each, for people.
    """
    network = _floats(job)
    dt = _step(network, job.dt)
    found = [
        f"time step {dt:g} s; snnTorch reads 0.0001 s, spikingjelly and norse what from_nir is given as dt"
        " (by default 0.0001 and 0.001)"
    ]
    biased = [p.name for p in network.populations if _has_v_leak(p)]
    if biased:
        names = ", ".join(map(repr, biased))
        found.append(
            f"biases of {names} are v_leak, which snnTorch refuses and norse adds to the current too"
        )
    if any(np.any(projection.delay) for projection in network.projections):
        found.append("delays are Delay nodes, which snnTorch, norse and spikingjelly do not read")
    return found


def export(job: Job, path: Path) -> None:
    """Write the ``.nir`` file ``path``.

    Args:
        job: the network, its chip and options.
        path: a file that does not exist yet.

    Raises:
        InputError: with all reasons why NIR cannot hold the network.
        UsageError: for a time step that is not above 0.
    """
    require("nir", "nir")
    import nir

    Problems(check(job)).raise_as(InputError)
    network = _floats(job)
    file = io.BytesIO()  # HDF5 crashes on a full disk
    nir.write(file, graph(network, job.dt))
    path.write_bytes(file.getvalue())


def graph(network: Network, dt: float | None = None) -> Any:
    """The network as a ``nir.NIRGraph``.

    Args:
        network: float, of neuron models in ``MODELS``.
        dt: seconds per step; None for the network's own (``meta["nir"]["dt"]``) or ``DT``.

    Returns:
        The graph, with readout and ``meta`` as JSON in its metadata.

    Raises:
        UsageError: for a time step that is not above 0.
    """
    import nir

    step = _step(network, dt)
    build = _Build(step, network)
    build.nodes["input"] = nir.Input(input_type={"input": np.array(build.input_shape)})
    for population in network.populations:
        build.names[population.name] = build.add(
            population.name, _neuron(population, step, build.shapes[population.name])
        )
    biased = {p.name: p.neuron.bias for p in network.populations if p.neuron.bias is not None}
    for name in [population.name for population in network.populations if _has_v_leak(population)]:
        del biased[name]
    for projection in network.projections:
        build.projection(projection, biased)
    for population in network.populations:
        node = build.names[population.name]
        if population.name in biased or not any(end == node for _, end in build.edges):
            build.no_input(population, biased.get(population.name))
    n_out = network.population(network.readout.population).n
    build.nodes["output"] = nir.Output(output_type={"output": np.array([n_out])})
    build.edges.append((build.names[network.readout.population], "output"))
    entry = {
        "dt": step,
        "names": {node: name for name, node in build.names.items()},
        "order": [build.names[population.name] for population in network.populations],
        "nothing": sorted(build.nothing),
        "projections": [projection.name for projection in network.projections],
        "readout": network.readout.kind,
        "meta": {key: value for key, value in network.meta.items() if key != "nir"},
    }
    text = json.dumps(entry, sort_keys=True, allow_nan=False)
    return nir.NIRGraph(nodes=build.nodes, edges=build.edges, metadata={"lbi": text})


def _floats(job: Job) -> Network:
    return dequantize(job.network) if isinstance(job.network, FixedNetwork) else job.network


def _step(network: Network, given: float | None) -> float:
    step = float(dict(network.meta.get("nir", {})).get("dt", DT) if given is None else given)
    if not (np.isfinite(step) and step > 0):
        raise UsageError(STEP.broken("--dt", step))
    return step


def _has_v_leak(population: Population) -> bool:
    """True where the bias must be ``v_leak``: it drives a voltage whose current has a memory."""
    neuron = population.neuron
    return neuron.bias is not None and bool(np.any(neuron.bias)) and _current_decay(population) != 1.0


def _current_decay(population: Population) -> float:
    """The decay of the population's current; 1 for a model without a current, as for one without memory."""
    return float(getattr(population.neuron, "current_decay", 1.0))


class _Build:
    """A graph under construction: nodes by name, edges, and the node of each population.

    Args:
        dt: seconds per step.
        network: the network.
    """

    def __init__(self, dt: float, network: Network) -> None:
        self.dt, self.n_in = dt, network.n_in
        self.maps = maps(network)
        seen = any(q.source == INPUT and q.target in self.maps for q in network.projections)
        self.input_shape = image(network.input_shape) if seen else network.input_shape
        self.shapes = {p.name: p.shape if p.name in self.maps else (p.n,) for p in network.populations}
        self.flattened: dict[str, str] = {}
        self.nodes: dict[str, Any] = {}
        self.edges: list[tuple[str, str]] = []
        self.names: dict[str, str] = {}
        self.nothing: list[str] = []

    def add(self, wanted: str, node: Any) -> str:
        """Add a node under a name that Python and other readers accept, and return that name."""
        name = "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in wanted)
        name = f"n{name}" if not name or name[0].isdigit() else name
        while name in self.nodes or name in ("input", "output"):
            name += "_"
        self.nodes[name] = node
        return name

    @property
    def start(self) -> str:
        """The node of the flat input; counted from the end, its dimensions leave a reader's batch dimension alone."""
        return self.flat("input", self.input_shape)

    def flat(self, node: str, shape: tuple[int, ...]) -> str:
        """The name of a ``Flatten`` behind a node of that shape; the node itself where it is flat."""
        import nir

        if len(shape) == 1:
            return node
        if node not in self.flattened:
            kind = nir.Flatten({"input": np.array(shape)}, start_dim=-len(shape), end_dim=-1)
            self.flattened[node] = self.add("flatten" if node == "input" else f"{node}_flatten", kind)
            self.edges.append((node, self.flattened[node]))
        return self.flattened[node]

    def convolution(self, projection: Projection, bias: NDArray[np.float64] | None) -> None:
        """Add a ``Conv2d``, or a pooling where the kernels are one, behind a ``Delay`` if it has one."""
        start = "input" if projection.source == INPUT else self.names[projection.source]
        weights = projection.weights
        assert isinstance(weights, ConvolutionWeights)
        if projection.max_delay:
            import nir

            waiting = nir.Delay(delay=np.full(weights.input_shape, float(projection.max_delay) * self.dt))
            late = self.add(f"{projection.name}_delay", waiting)
            self.edges.append((start, late))
            start = late
        per_channel = None if bias is None else bias.reshape(weights.output_shape)[:, 0, 0]
        name = self.add(projection.name, _conv_node(weights, per_channel))
        self.edges += [(start, name), (name, self.names[projection.target])]

    def projection(self, projection: Projection, biased: dict[str, NDArray[np.float64]]) -> None:
        """Add one ``Linear`` per delay, behind a ``Delay`` if it is not 0.

        The first one without delay takes its target's bias from ``biased``, as an ``Affine``.
        """
        import nir

        if projection.target in self.maps:
            self.convolution(projection, biased.pop(projection.target, None))
            return
        if projection.source == INPUT:
            start = self.start
        else:
            start = self.flat(self.names[projection.source], self.shapes[projection.source])
        end = self.names[projection.target]
        weights = projection.weights.to_csr()
        delays = np.broadcast_to(projection.delay, weights.data.shape)
        distinct = np.unique(delays) if delays.size else np.zeros(1, dtype=np.int64)
        kind = weights.data.dtype if weights.data.dtype.kind == "f" else np.float64
        for delay in distinct:
            dense = np.zeros(weights.shape, dtype=kind)
            here = delays == delay
            dense[weights.row_of()[here], weights.indices[here]] = weights.data[here]
            bias = None if delay else biased.pop(projection.target, None)
            node = nir.Linear(dense) if bias is None else nir.Affine(dense, np.asarray(bias, np.float64))
            name = self.add(projection.name if distinct.size == 1 else f"{projection.name}_{delay}", node)
            if delay:
                waiting = nir.Delay(delay=np.full(weights.shape[1], float(delay) * self.dt))
                late = self.add(f"{name}_delay", waiting)
                self.edges.append((start, late))
            self.edges += [(late if delay else start, name), (name, end)]

    def no_input(self, population: Population, bias: NDArray[np.float64] | None) -> None:
        """Add zero input to a population that NIR would regard as an input, with a bias that has no other place."""
        import nir

        dense = np.zeros((population.n, self.n_in))
        node = nir.Linear(dense) if bias is None else nir.Affine(dense, np.asarray(bias, np.float64))
        name = self.add(f"nothing_to_{population.name}", node)
        self.nothing.append(name)
        self.edges += [(self.start, name), (name, self.names[population.name])]


def maps(network: Network) -> set[str]:
    """The populations that are written as feature maps: all that leads into them are convolutions of maps.

    NIR cannot give a flat signal its shape back, so one dense projection makes a population flat, and its convolutions
    matrices. The output is flat. Biases must be the same throughout a channel, as those of ``Conv2d`` are.

    Args:
        network: the network.

    Returns:
        Names of populations.
    """
    into = {p.name: [q for q in network.projections if q.target == p.name] for p in network.populations}
    found = {
        p.name
        for p in network.populations
        if p.name != network.readout.population and into[p.name] and _bias_by_channel(p)
    }
    shapes = {INPUT: image(network.input_shape)} | {p.name: p.shape for p in network.populations}
    while True:
        kept = {
            name
            for name in found
            if all(
                isinstance(q.weights, ConvolutionWeights)
                and q.weights.fits(shapes[q.source], shapes[name])
                and q.source in {INPUT, *found}
                for q in into[name]
            )
        }
        if kept == found:
            return found
        found = kept


def _bias_by_channel(population: Population) -> bool:
    """True for a three-dimensional population without bias, or with one number per channel."""
    if len(population.shape) != 3 or _has_v_leak(population):
        return False
    bias = population.neuron.bias
    if bias is None:
        return True
    channels = bias.reshape(population.shape[0], -1)
    return bool(np.all(channels == channels[:, :1]))


def _conv_node(weights: ConvolutionWeights, bias: NDArray[np.float64] | None) -> Any:
    """``SumPool2d`` or ``AvgPool2d`` for one window of ones or of 1 / size per channel, otherwise ``Conv2d``."""
    import nir

    own, kernel = weights.convolution, weights.kernel
    steps = {"stride": np.array(own.stride), "padding": np.array(own.padding)}
    pools = (
        bias is None and own.dilation == (1, 1) and own.groups == kernel.shape[0] == weights.input_shape[0]
    )
    for value, kind in ((1.0, nir.SumPool2d), (1.0 / kernel[0, 0].size, nir.AvgPool2d)):
        if pools and np.all(kernel == value):
            return kind(kernel_size=np.array(kernel.shape[2:]), **steps)
    return nir.Conv2d(
        input_shape=weights.input_shape[1:],
        weight=without_groups(kernel, own.groups),
        dilation=np.array(own.dilation),
        groups=1,  # NIR's type check takes the kernels of groups for fewer inputs
        bias=np.zeros(kernel.shape[0]) if bias is None else np.array(bias, np.float64),
        **steps,
    )


def _neuron(population: Population, dt: float, shape: tuple[int, ...]) -> Any:
    import nir

    neuron, n = population.neuron, population.n

    def filled(value: float) -> NDArray[np.float64]:
        return np.full(shape, value)

    current_decay = _current_decay(population)
    slow = 1 / neuron.voltage_decay if neuron.voltage_decay else NO_LEAK
    fast = 1 / current_decay if current_decay else NO_LEAK
    bias = neuron.bias if neuron.bias is not None and _has_v_leak(population) else np.zeros(n)
    values = {
        "tau": filled(dt * slow),
        "tau_mem": filled(dt * slow),
        "tau_syn": filled(dt * fast),
        "w_in": filled(fast),
        "r": filled(slow),
        "v_leak": (bias * slow).reshape(shape),
        "v_reset": np.zeros(shape),
    }
    if neuron.threshold is not None:
        values["v_threshold"] = filled(in_single(neuron.threshold))
    without_current = current_decay == 1.0 and (neuron.threshold is None or dt == 1.0)
    names = MODELS[neuron.model].nir
    kind = getattr(nir, names[-1] if without_current else names[0])
    return kind(**{name: value for name, value in values.items() if name in kind.__dataclass_fields__})
