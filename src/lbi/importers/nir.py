"""Import of NIR files (``.nir``) as float networks, with an explicit time step.

NIR defines differential equations with time constants in no agreed unit; a network in steps follows only with a step
``dt`` (``nir_time``). Every neuron node takes one step of Euler's method:

    CubaLIF   I[t] = (1 − dt/τ_syn) I[t−1] + (dt/τ_syn) w_in S[t]
              v[t] = (1 − dt/τ_mem) v[t−1] + (dt/τ_mem) (v_leak + R I[t])
    LIF       v[t] = (1 − dt/τ) v[t−1] + (dt/τ) (v_leak + R I[t])
    IF        v[t] = v[t−1] + dt R I[t]

and CubaLI, LI, I the same without spikes, to end a network: their voltage is read. That is ``CubaLif`` with
current_decay dt/τ_syn, voltage_decay dt/τ_mem and the gains multiplied into the weights. Source: Pedersen et al.,
Nature Communications 15, 8122 (2024), doi:10.1038/s41467-024-52259-9. Some writers mean something else: ``WRITERS``.
"""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Problems, Rule, require
from lbi.files.untrusted_hdf5 import open_tree
from lbi.importers.builder import Builder
from lbi.importers.nir_graph import Graph, flatten
from lbi.importers.nir_nodes import LINEAR, NEURONS, floats, text
from lbi.importers.nir_time import (
    WRITERS,
    NirWarning,
    TimeStep,
    Writer,
    check_rockpool,
    losses,
    time_step,
)
from lbi.importers.signal import Signal
from lbi.limits import MOST_NEURONS
from lbi.network.graph import INPUT, READOUTS, Network, is_name
from lbi.system.paths import not_a_file

METADATA = "lbi"
"""Key of our own entry in a graph's metadata: JSON with ``dt``, ``order``, ``names``, ``readout`` and ``meta``; ``nothing``, the
nodes that stand for a missing input, and ``projections``, their order."""

MISSING = Rule("file-missing", "", "check the path")
BROKEN = Rule("nir-file", "a .nir file of a NIR writer", "write it again with nir.write")
PARAMETER = Rule("nir-parameter", "{allowed}", "write the graph again with such values")
RESET = Rule("reset-value", "0", "train with a reset to 0: the chip's neuron has no other")
NODE = Rule("nir-node", ", ".join([*NEURONS, *LINEAR]), "replace it before writing the file")
SCALES = Rule(
    "nir-scales",
    "a finite number above 0 for each of {names}",
    "write the file again with lbi-export --target nir",
)
SHAPE = Rule(
    "input-shape", "whole numbers above 0", "write the graph with the shape of one sample in one step"
)
READOUT = Rule("readout", "one node of neurons", "end the network with the neurons that are read")
UNCONNECTED = Rule("unconnected", "at least one edge", "connect the node, or leave it out")
UNKNOWN_SHAPE = Rule("shape-unknown", "parameters of the layer's shape", "write one value for each neuron")

GRID = 1e-3
"""Distance from an integer at which weights still fit the scales that a file states, in mantissas."""


def load(path: str | Path, dt: float | None = None, writer: str | None = None) -> Network:
    """The network of a ``.nir`` file.

    Args:
        path: the file.
        dt: seconds per step; None for the one that the file states or implies (``nir_time``).
        writer: one of ``WRITERS``, for files of a framework that deviates from the specification.

    Returns:
        The float network. ``meta["nir"]`` holds ``dt``, ``dt_from``, ``writer`` and ``notes``, lines on properties of
        the model that the file may not contain.

    Raises:
        InputError: naming every node that cannot be imported, and a missing time step.
        UsageError: for an unknown writer, or a step that is not above 0.

    Warns:
        NirWarning: each of the ``notes``.
    """
    require("nir", "nir")
    import nir

    path = Path(path)
    if why := not_a_file(path):
        raise InputError(MISSING.broken(str(path), why))
    with open_tree(path, BROKEN.broken(str(path), "not a readable NIR file")):
        try:
            graph = nir.read(path)
        except (ValueError, AttributeError, AssertionError, TypeError):
            graph = nir.read(path, type_check=False)  # files from before NIR's types
    return from_graph(graph, str(path), dt, writer)


def from_graph(
    graph: Any, where: str = "graph", dt: float | None = None, writer: str | None = None
) -> Network:
    """The network of a live ``nir.NIRGraph``; arguments, result and errors as for ``load``.

    Args:
        graph: the graph.
        where: its name in messages.
        dt: seconds per step.
        writer: one of ``WRITERS``.

    Returns:
        The network.
    """
    flat = flatten(graph, where)
    ours = _own_metadata(graph)
    _check_nodes(flat, where).raise_as(InputError)
    step = time_step(flat, where, dt, ours.get("dt"), writer)
    check_rockpool(flat, where, step)
    reader = _Reader(flat, where, step, ours)
    network = _in_order(reader.network(tuple(ours.get("order", ()))), ours.get("projections", []))
    notes = [] if ours else losses(flat, step)
    meta = {**ours.get("meta", {}), **network.meta}
    if "scales" in meta:
        notes += _check_scales(meta, network, where)
    for note in notes:
        warnings.warn(f"{where}: {note}", NirWarning, stacklevel=2)
    meta["nir"] = {"dt": step.seconds, "dt_from": step.source, "writer": step.writer, "notes": notes}
    readout = network.readout
    if readout.of_membrane:
        readout = replace(readout, kind=ours.get("readout", readout.kind))
    return replace(network, readout=readout, meta=meta)


def _check_nodes(graph: Graph, where: str) -> Problems:
    """Note nodes that cannot be imported in any graph."""
    problems = Problems()
    for name, node in graph.nodes.items():
        kind = type(node).__name__
        place = f"{where}, node {name!r}"
        if kind in (*NEURONS, *LINEAR):
            _check_parameters(node, kind, place, problems)
        reset = np.asarray(0.0 if getattr(node, "v_reset", None) is None else node.v_reset)
        if _is_numbers(reset):
            found = f"v_reset {reset.min():g} to {reset.max():g}"
            RESET.check(problems, not np.any(reset), place, found)
        known = kind in (*NEURONS, *LINEAR, "Input", "Output")
        NODE.check(problems, known, place, f"{kind} cannot be imported")
    return problems


def _check_parameters(node: Any, kind: str, place: str, problems: Problems) -> None:
    for key, value in vars(node).items():
        named = kind.startswith("Conv") and key == "padding" and text(value) in ("same", "valid")
        if key not in _NOT_NUMBERS and not named:
            PARAMETER.check(
                problems,
                _is_numbers(value) and (key not in _ALONE or np.size(value) == 1),
                f"{place}, {key}",
                _brief(value),
                allowed="one number" if key in _ALONE else "finite numbers",
            )


def _own_metadata(graph: Any) -> dict[str, Any]:
    entry = (graph.metadata or {}).get(METADATA)
    if entry is None:
        return {}
    try:
        found = json.loads(text(entry))
        json.dumps(found, allow_nan=False)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    dt, names = found.get("dt"), found.get("names", {})
    lists = {key: found.get(key, []) for key in ("order", "nothing", "projections")}
    fits = {
        "dt": isinstance(dt, float | int) and 0 < dt < np.inf,
        **{
            key: isinstance(value, list) and all(isinstance(name, str) for name in value)
            for key, value in lists.items()
        },
        "names": isinstance(names, dict)
        and all(map(is_name, names.values()))
        and INPUT not in names.values(),
        "meta": isinstance(found.get("meta"), dict),
        "readout": found.get("readout") in READOUTS,
    }
    return {key: found[key] for key, holds in fits.items() if holds and key in found}


def _in_order(network: Network, names: list[str]) -> Network:
    """The network with its projections in the given order, if it names exactly these."""
    found = {projection.name: projection for projection in network.projections}
    if set(names) != set(found) or len(names) != len(found):
        return network
    return replace(network, projections=tuple(found[name] for name in names))


def _check_scales(meta: dict[str, Any], network: Network, where: str) -> list[str]:
    """Check the scales in a file against its weights; if they do not fit, they are removed from ``meta`` with a note.

    A network trained in integers states scales so that rounding changes nothing: scale · weight is an integer.
    Raises InputError for values that are not scales.
    """
    scales, names = meta["scales"], [population.name for population in network.populations]
    holds = isinstance(scales, dict) and all(
        isinstance(scale, float | int) and not isinstance(scale, bool) and 0 < scale < np.inf
        for scale in scales.values()
    )
    if not holds:
        raise InputError(SCALES.broken(f"{where}, metadata, scales", _brief(scales), names=", ".join(names)))
    off = 0.0
    for projection in network.projections:
        mantissas = projection.weights.data * float(scales.get(projection.target, 0.0))
        off = max(off, float(np.max(np.abs(mantissas - np.rint(mantissas)), initial=0.0)))
    if off <= GRID:
        return []
    del meta["scales"]
    return ["the scales in its metadata do not fit its weights, which someone has changed: left out"]


class _Reader:
    """Reader of a flat graph that turns linear nodes into signals and neuron nodes into populations."""

    def __init__(self, graph: Graph, where: str, step: TimeStep, ours: dict[str, Any]) -> None:
        self.graph, self.where, self.names = graph, where, ours.get("names", {})
        self.nothing = set(ours.get("nothing", ()))
        self.dt, self.writer = step.seconds, WRITERS[step.writer]
        self.problems = Problems()
        self.shapes: dict[str, tuple[int, ...]] = {}

    def network(self, order: tuple[str, ...]) -> Network:
        graph = self.graph
        names = graph.order(order)
        self.place = {name: index for index, name in enumerate(names)}
        self.labels = self._labels(names)
        input_shape = self._input_shape()
        self.shapes[graph.input] = input_shape
        builder = Builder(input_shape)
        for name in names:
            try:
                signal = self._into(name, name)
                self._add(builder, name, signal)
            except InputError as error:
                self.problems.take(error, inside=f"{self.where}, into node {name!r}")
                self.shapes.setdefault(name, (1,))
        readout = self._readout()
        self.problems = Problems([*self.problems, *builder.problems])
        self.problems.raise_as(InputError)
        return builder.network(readout)

    def _input_shape(self) -> tuple[int, ...]:
        sizes = np.asarray(self.graph.nodes[self.graph.input].input_type["input"]).reshape(-1)
        whole = sizes.dtype.kind in "iu" and bool(np.all(sizes > 0)) and prod(map(int, sizes)) <= MOST_NEURONS
        SHAPE.check(self.problems, whole, f"{self.where}, input", _brief(sizes))
        self.problems.raise_as(InputError)
        return _shape(sizes)

    def _readout(self) -> str | None:
        before = self.graph.before(self.graph.output)
        if len(before) == 1 and before[0] in self.place:
            return self.labels[before[0]]
        found = f"comes from {', '.join(map(repr, before)) or 'nothing'}"
        self.problems.note(READOUT.broken(f"{self.where}, output", found))
        return None

    def _labels(self, nodes: list[str]) -> dict[str, str]:
        """Population names of neuron nodes: those that this package noted, otherwise node names, made valid and unique.

        A layer in parts is ``name_1``, ``name_2`` …, so no other node keeps a name of that form.
        """
        labels: dict[str, str] = {}
        for node in nodes:
            clean = "".join(letter if letter.isalnum() or letter in "_-." else "_" for letter in node)
            base, _, number = clean.rpartition("_")
            if base in nodes and number.isdigit() and node not in self.names:
                clean = f"{base}_n{number}"
            label = self.names.get(node, clean)
            while label in (INPUT, "", *labels.values()):
                label += "_"
            labels[node] = label
        return labels

    def _into(self, node: str, target: str) -> Signal:
        """The sum of all inputs of a node, relative to ``target``'s step."""
        parts = [self._out_of(name, target) for name in self.graph.before(node)]
        if not parts:
            raise InputError(UNCONNECTED.broken(node, "nothing flows in"))
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        return total

    def _out_of(self, name: str, target: str) -> Signal:
        node = self.graph.nodes[name]
        if name == self.graph.input:
            return Signal.spikes(INPUT, self.shapes[name])
        if name in self.place:
            back = self.place[name] >= self.place[target]
            shape = self.shapes.get(name) or self._neuron_shape(name)
            spikes = Signal.spikes(self.labels[name], shape)
            return spikes.delayed(1) if back else spikes
        signal = LINEAR[type(node).__name__](node, self._into(name, target), self.dt)
        if name in self.nothing:  # a projection would have places for weights, which count as dense ones
            signal = replace(signal, terms=tuple(term for term in signal.terms if term.matrix.nnz))
        return signal

    def _neuron_shape(self, name: str) -> tuple[int, ...]:
        """The shape of a node that has not been built, from its parameters or from its forward input."""
        node = self.graph.nodes[name]
        shape = np.shape(node.r)
        if np.prod(shape, dtype=int) > 1:
            return tuple(shape)
        for before in self.graph.before(name):
            if before not in self.place or self.place[before] < self.place[name]:
                try:
                    return self._out_of(before, name).shape
                except RecursionError:
                    continue
        raise InputError(UNKNOWN_SHAPE.broken(name, "its size cannot be determined"))

    def _add(self, builder: Builder, name: str, signal: Signal) -> None:
        node, writer = self.graph.nodes[name], self.writer
        where = f"{self.where}, node {name!r}"
        with np.errstate(divide="ignore", invalid="ignore"):  # a time constant of 0 is refused by its decay
            alpha, beta, gain, drive = NEURONS[type(node).__name__](node, self.dt, writer)
        shape = np.shape(node.r)
        if np.prod(shape, dtype=int) == signal.n and len(shape) > 0:
            signal = signal.reshaped(shape)
        gain = np.asarray(gain, dtype=np.float64)
        if np.any(gain != 1.0):
            signal = signal.scaled(gain)
        self.shapes[name] = signal.shape
        builder.neurons(
            where,
            self.labels[name],
            signal,
            current_decay=_clean(alpha),
            voltage_decay=_clean(beta),
            threshold=_threshold(node, writer),
            voltage_bias=drive,
        )


def _threshold(node: Any, writer: Writer) -> NDArray[np.float64]:
    """The value that a voltage must exceed: the next smaller number if the neuron fires at v = threshold."""
    values = floats(getattr(node, "v_threshold", np.inf))
    if not writer.at_threshold or not np.all(np.isfinite(values)):
        return values
    return floats(np.nextafter(values.astype(np.float32), np.float32(0)))


_NOT_NUMBERS = ("input_type", "output_type", "metadata", "name", "input_shape")
_ALONE = ("groups", "start_dim", "end_dim")


def _is_numbers(value: Any) -> bool:
    """True for a finite number, an array of finite numbers, or None."""
    array = np.asarray(value)
    return value is None or (
        array.dtype.kind in "biuf" and array.size > 0 and bool(np.all(np.isfinite(array)))
    )


def _brief(value: Any) -> str:
    array = np.asarray(value)
    return f"{array.dtype} of shape {array.shape}" if array.size > 8 else f"{value!r}"


def _clean(decays: Any) -> NDArray[np.float64]:
    """Decays from float32 time constants, with values that differ only by rounding made equal."""
    values = np.atleast_1d(np.asarray(decays, dtype=np.float64))
    if values.size and np.ptp(values) <= 1e-6:
        values = values[:1]
    return np.where(np.abs(values - 1.0) < 1e-6, 1.0, values)


def _shape(shape: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in np.asarray(shape).reshape(-1))
