"""NIR files (``.nir``) as float networks, with the time step spelled out.

NIR gives differential equations, with time constants in no agreed unit; a network of steps follows only with
a step ``dt``. For every neuron node, one step of Euler's method::

    CubaLIF   I[t] = (1 − dt/τ_syn) I[t−1] + (dt/τ_syn) w_in S[t]
              v[t] = (1 − dt/τ_mem) v[t−1] + (dt/τ_mem) (v_leak + R I[t])
    LIF       v[t] = (1 − dt/τ) v[t−1] + (dt/τ) (v_leak + R I[t])
    IF        v[t] = v[t−1] + dt R I[t]

and CubaLI, LI, I the same without spikes, to end a network: their voltage is read. That is ``CubaLif`` with current_decay dt/τ_syn, voltage_decay dt/τ_mem and the gains multiplied into the
weights. Source: Pedersen et al., Nature Communications 15, 8122 (2024), doi:10.1038/s41467-024-52259-9.
Not every writer means that: see ``WRITERS``.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbi.errors import InputError, Problem, Problems, UsageError, require
from lbi.files.untrusted_hdf5 import open_tree
from lbi.importers.builder import Builder
from lbi.importers.nir_graph import Graph, flatten
from lbi.importers.signal import Signal
from lbi.limits import MOST_NEURONS
from lbi.network.graph import INPUT, READOUTS, Network

METADATA = "lbi"
"""Key of our own entry in a graph's metadata: JSON with ``dt``, ``order``, ``readout`` and ``meta``."""


class Writer(NamedTuple):
    """How a framework's NIR files are meant.

    dt: seconds, None if it stands in the file · decay: fraction lost per step, from (dt, τ)
    full_current, full_voltage: input enters the current, and the current the voltage, without the factor
        dt/τ
    """

    dt: float | None
    decay: Callable[[float, Any], Any]
    full_current: bool = False
    full_voltage: bool = False


def _euler(dt: float, tau: Any) -> Any:
    return dt / tau


WRITERS = {
    # The specification, and snnTorch, which hard-codes dt = 1e-4 and writes R and w_in to match.
    "nir": Writer(None, _euler),
    "snntorch": Writer(1e-4, _euler),
    # norse 1.1.0 writes τ = dt / tau_inv where tau_inv = 1/τ, that is dt·τ; input enters its current at
    # full weight, before the current decays.
    "norse": Writer(1e-3, lambda dt, tau: dt * dt / tau, full_current=True),
    # sinabs counts τ in steps and decays by exp(−1/τ); its input enters at full weight.
    "sinabs": Writer(1.0, lambda dt, tau: -np.expm1(-dt / tau), full_current=True, full_voltage=True),
}
"""``writer`` → how to read its files."""


def load(path: str | Path, dt: float | None = None, writer: str | None = None) -> Network:
    """Read a ``.nir`` file.

    dt: seconds per step; default: the file's own (ours write it), or the one by which R = τ/dt for every
        neuron, as snnTorch writes it · writer: one of ``WRITERS``, for files that mean something else

    Raises InputError naming every node that cannot be taken over, UsageError for an unknown writer.
    """
    require("nir", "nir")
    import nir

    path = Path(path)
    if writer is not None and writer not in WRITERS:
        raise UsageError(Problem("unknown-writer", "writer", repr(writer), ", ".join(WRITERS)))
    if not path.is_file():
        raise InputError(Problem("file-missing", str(path), "no such file", remedy="check the path"))
    broken = Problem("nir-file", str(path), "not a readable NIR file", "a .nir file of a NIR writer")
    with open_tree(path, broken):
        try:
            graph = nir.read(path)
        except (ValueError, AttributeError, AssertionError, TypeError):
            graph = nir.read(path, type_check=False)  # files older than NIR's types
    return from_graph(graph, str(path), dt, writer)


def from_graph(
    graph: Any, where: str = "graph", dt: float | None = None, writer: str | None = None
) -> Network:
    """The network of a live ``nir.NIRGraph``; arguments and errors as for ``load``."""
    flat = flatten(graph, where)
    ours = _own_metadata(graph)
    _check_nodes(flat, where).raise_as(InputError)
    step, source = _time_step(flat, where, dt, ours.get("dt"), writer)
    reader = _Reader(flat, where, step, WRITERS[writer or "nir"])
    network = reader.network(tuple(ours.get("order", ())))
    meta = {**ours.get("meta", {}), **network.meta}
    meta["nir"] = {"dt": step, "dt_from": source, "writer": writer or "nir"}
    readout = network.readout
    if readout.of_membrane:
        readout = replace(readout, kind=ours.get("readout", readout.kind))
    return replace(network, readout=readout, meta=meta)


def _check_nodes(graph: Graph, where: str) -> Problems:
    """What cannot be taken over, whatever flows through it."""
    problems = Problems()
    for name, node in graph.nodes.items():
        kind = type(node).__name__
        place = f"{where}, node {name!r}"
        if kind in (*_NEURONS, *_LINEAR):
            for key, value in vars(node).items():
                named = kind.startswith("Conv") and key == "padding" and _text(value) in ("same", "valid")
                if key not in _NOT_NUMBERS and not named:
                    problems.check(
                        _is_numbers(value) and (key not in _ALONE or np.size(value) == 1),
                        "nir-parameter",
                        f"{place}, {key}",
                        _brief(value),
                        "one number" if key in _ALONE else "finite numbers",
                    )
        reset = np.asarray(0.0 if getattr(node, "v_reset", None) is None else node.v_reset)
        if _is_numbers(reset):
            problems.check(
                not np.any(reset),
                "reset-value",
                place,
                f"v_reset {reset.min():g} to {reset.max():g}",
                "0",
                "train with a reset to 0: the chip's neuron has no other",
            )
        if kind not in _NEURONS and kind not in _LINEAR and kind not in ("Input", "Output"):
            problems.add(
                "nir-node",
                place,
                f"{kind} cannot be taken over",
                ", ".join([*_NEURONS, *_LINEAR]),
                "replace it before writing the file",
            )
    return problems


def _own_metadata(graph: Any) -> dict[str, Any]:
    entry = (graph.metadata or {}).get(METADATA)
    if entry is None:
        return {}
    try:
        found = json.loads(_text(entry))
        json.dumps(found, allow_nan=False)
    except (ValueError, RecursionError):
        return {}
    if not isinstance(found, dict):
        return {}
    dt, order = found.get("dt"), found.get("order", [])
    fits = {
        "dt": isinstance(dt, float | int) and 0 < dt < np.inf,
        "order": isinstance(order, list) and all(isinstance(name, str) for name in order),
        "meta": isinstance(found.get("meta"), dict),
        "readout": found.get("readout") in READOUTS,
    }
    return {key: found[key] for key, holds in fits.items() if holds and key in found}


def _time_step(
    graph: Graph, where: str, given: float | None, own: float | None, writer: str | None
) -> tuple[float, str]:
    """The step in seconds, and where it comes from."""
    if given is not None:
        if not (np.isfinite(given) and given > 0):
            raise UsageError(Problem("time-step", "dt", f"{given}", "seconds above 0"))
        return float(given), "given"
    if own is not None:
        return float(own), "file"
    if writer is not None and (usual := WRITERS[writer].dt) is not None:
        return usual, f"{writer}'s default"
    steps = [
        np.asarray(getattr(node, "tau_mem", getattr(node, "tau", 1.0)) / node.r, dtype=np.float64).reshape(-1)
        for _, node in graph.neurons()
        if hasattr(node, "r") and type(node).__name__ not in ("IF", "I")
    ]
    steps += [
        np.asarray(node.tau_syn / node.w_in, dtype=np.float64).reshape(-1)
        for _, node in graph.neurons()
        if hasattr(node, "w_in")
    ]
    every = np.concatenate(steps) if steps else np.ones(1)
    if (
        np.all(np.isfinite(every))
        and np.all(every > 0)
        and np.ptp(every) <= 1e-4 * every.max()
        and every[0] < 1
    ):
        return float(np.median(every)), "R = τ/dt"
    raise InputError(
        Problem(
            "no-time-step",
            where,
            "no time step in the file, and its time constants have no agreed unit",
            "dt in seconds, or the framework that wrote it",
            f"give dt (--dt) or writer (--writer): {', '.join(WRITERS)}",
        )
    )


class _Reader:
    """Walks the flat graph: linear nodes become signals, neuron nodes populations."""

    def __init__(self, graph: Graph, where: str, dt: float, writer: Writer) -> None:
        self.graph, self.where, self.dt, self.writer = graph, where, dt, writer
        self.problems = Problems()
        self.shapes: dict[str, tuple[int, ...]] = {}

    def network(self, order: tuple[str, ...]) -> Network:
        graph = self.graph
        names = graph.order(order)
        self.place = {name: index for index, name in enumerate(names)}
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
        self.problems.check(
            whole, "input-shape", f"{self.where}, input", _brief(sizes), "whole numbers above 0"
        )
        self.problems.raise_as(InputError)
        return _shape(sizes)

    def _readout(self) -> str | None:
        before = self.graph.before(self.graph.output)
        if len(before) == 1 and before[0] in self.place:
            return self._name(before[0])
        self.problems.add(
            "readout",
            f"{self.where}, output",
            f"comes from {', '.join(map(repr, before)) or 'nothing'}",
            "one node of neurons",
            "end the network with the neurons that are read",
        )
        return None

    def _name(self, node: str) -> str:
        """A node's name as a population's: 'input' is taken."""
        clean = "".join(letter if letter.isalnum() or letter in "_-." else "_" for letter in node)
        return f"{clean}_" if clean in (INPUT, "") else clean

    def _into(self, node: str, target: str) -> Signal:
        """The sum of everything that flows into a node, seen from ``target``'s step."""
        parts = [self._out_of(name, target) for name in self.graph.before(node)]
        if not parts:
            raise InputError(Problem("unconnected", node, "nothing flows in", "at least one edge"))
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
            spikes = Signal.spikes(self._name(name), shape)
            return spikes.delayed(1) if back else spikes
        return _LINEAR[type(node).__name__](node, self._into(name, target), self.dt)

    def _neuron_shape(self, name: str) -> tuple[int, ...]:
        """The shape of a node that is not built yet: from its parameters, else from its forward input."""
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
        raise InputError(
            Problem("shape-unknown", name, "its size cannot be told", "parameters of the layer's shape")
        )

    def _add(self, builder: Builder, name: str, signal: Signal) -> None:
        node, dt, writer = self.graph.nodes[name], self.dt, self.writer
        kind, where = type(node).__name__, f"{self.where}, node {name!r}"
        alpha, beta, gain, drive = _NEURONS[kind](node, dt, writer)
        shape = np.shape(node.r)
        if np.prod(shape, dtype=int) == signal.n and len(shape) > 0:
            signal = signal.reshaped(shape)
        gain = np.asarray(gain, dtype=np.float64)
        if np.any(gain != 1.0):
            signal = signal.scaled(gain)
        self.shapes[name] = signal.shape
        builder.neurons(
            where,
            self._name(name),
            signal,
            current_decay=_clean(alpha),
            voltage_decay=_clean(beta),
            threshold=getattr(node, "v_threshold", np.inf),
            voltage_bias=drive,
        )


Parameters = tuple[Any, Any, Any, Any]
"""current decay, voltage decay, gain from input to voltage, constant drive of the voltage; all per step"""


def _cuba_lif(node: Any, dt: float, writer: Writer) -> Parameters:
    alpha, beta = writer.decay(dt, _float(node.tau_syn)), writer.decay(dt, _float(node.tau_mem))
    gain = (
        (1.0 if writer.full_current else alpha) * node.w_in * (1.0 if writer.full_voltage else beta) * node.r
    )
    return alpha, beta, gain, beta * node.v_leak


def _lif(node: Any, dt: float, writer: Writer) -> Parameters:
    beta = writer.decay(dt, _float(node.tau))
    return 1.0, beta, (1.0 if writer.full_voltage else beta) * node.r, beta * node.v_leak


def _if(node: Any, dt: float, writer: Writer) -> Parameters:
    return 1.0, 0.0, (1.0 if writer.full_voltage else dt) * _float(node.r), 0.0


_NEURONS: dict[str, Callable[[Any, float, Writer], Parameters]] = {
    "CubaLIF": _cuba_lif,
    "LIF": _lif,
    "IF": _if,
    "CubaLI": _cuba_lif,
    "LI": _lif,
    "I": _if,
}


def _delay(node: Any, signal: Signal, dt: float) -> Signal:
    steps = _float(node.delay) / dt
    whole = np.rint(steps)
    if np.any(np.abs(steps - whole) > 1e-3) or np.any(whole < 0):
        raise InputError(
            Problem(
                "delay-value",
                "delay",
                f"{steps.min():g} to {steps.max():g} steps of {dt:g} s",
                "whole steps",
                "round the delays, or choose another dt",
            )
        )
    return signal.delayed(whole.astype(np.int64))


def _conv(node: Any, signal: Signal, _dt: float) -> Signal:
    kernel = _float(node.weight)
    flat = kernel.ndim == 3  # one-dimensional: as an image of one row
    shape = signal.shape
    if kernel.ndim not in (3, 4) or len(shape) != kernel.ndim - 1:
        raise InputError(
            Problem(
                "shape-mismatch",
                "a convolution",
                f"a kernel {kernel.shape} for {shape}",
                "(n_out, n_in, size) for (n_in, size), or the same with two sizes",
            )
        )
    if flat:
        kernel, signal = kernel[:, :, None, :], signal.reshaped((*shape[:-1], 1, shape[-1]))
    stride, dilation = _pair(node.stride, flat, 1), _pair(node.dilation, flat, 1)
    padding = _text(node.padding) or node.padding
    if isinstance(padding, str):
        if padding == "same" and any(stride[k] != 1 or kernel.shape[2 + k] % 2 == 0 for k in range(2)):
            raise InputError(
                Problem("padding", "convolution", "'same' with a stride or an even kernel", "numbers")
            )
        padding = (
            tuple(d * (kernel.shape[2 + k] - 1) // 2 for k, d in enumerate(dilation))
            if padding == "same"
            else 0
        )
        flat_padding = padding
    else:
        flat_padding = _pair(padding, flat, 0)
    out = signal.conv2d(
        kernel, node.bias, stride=stride, padding=flat_padding, dilation=dilation, groups=int(node.groups)
    )
    return out.reshaped((out.shape[0], out.shape[2])) if flat else out


def _pair(value: Any, flat: bool, other: int) -> tuple[int, int]:
    values = np.asarray(value).reshape(-1)
    return (other, int(values[0])) if flat else (int(values[0]), int(values[-1]))


def _flatten(node: Any, signal: Signal, _dt: float) -> Signal:
    return signal.flattened(int(node.start_dim), int(node.end_dim))


_LINEAR: dict[str, Callable[[Any, Signal, float], Signal]] = {
    "Linear": lambda node, signal, _dt: signal.linear(node.weight),
    "Affine": lambda node, signal, _dt: signal.linear(node.weight, node.bias),
    "Scale": lambda node, signal, _dt: signal.scaled(node.scale),
    "Conv1d": _conv,
    "Conv2d": _conv,
    "SumPool2d": lambda node, signal, _dt: signal.pool2d(node.kernel_size, node.stride, node.padding),
    "AvgPool2d": lambda node, signal, _dt: signal.pool2d(
        node.kernel_size, node.stride, node.padding, mean=True
    ),
    "Flatten": _flatten,
    "Delay": _delay,
}
"""Node type → function of (node, what flows in, dt)."""


_NOT_NUMBERS = ("input_type", "output_type", "metadata", "name", "input_shape")
_ALONE = ("groups", "start_dim", "end_dim")


def _is_numbers(value: Any) -> bool:
    """True for finite numbers, alone or in an array, and for a parameter that is left out."""
    array = np.asarray(value)
    return value is None or (
        array.dtype.kind in "biuf" and array.size > 0 and bool(np.all(np.isfinite(array)))
    )


def _text(value: Any) -> str:
    """A text as h5py gives it; empty for anything else."""
    return (
        value.decode("utf-8", "replace")
        if isinstance(value, bytes)
        else value
        if isinstance(value, str)
        else ""
    )


def _brief(value: Any) -> str:
    array = np.asarray(value)
    return f"{array.dtype} of shape {array.shape}" if array.size > 8 else f"{value!r}"


def _float(values: ArrayLike) -> NDArray[np.float64]:
    return np.asarray(values, dtype=np.float64)


def _clean(decays: Any) -> NDArray[np.float64]:
    """Decays from float32 time constants: what differs in the last digits is one value, and 1 is 1."""
    values = np.atleast_1d(np.asarray(decays, dtype=np.float64))
    if values.size and np.ptp(values) <= 1e-6:
        values = values[:1]
    return np.where(np.abs(values - 1.0) < 1e-6, 1.0, values)


def _shape(shape: Any) -> tuple[int, ...]:
    return tuple(int(size) for size in np.asarray(shape).reshape(-1))
