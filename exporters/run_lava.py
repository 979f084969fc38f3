"""Run an exported network in Lava: needs lava-nc, numpy, scipy and h5py, not the package that wrote it.

On Python 3.11 to 3.14, patches are applied to Lava while it is imported. The exporter fills in them and ``PROCESSES``.

    python run_lava.py --spikes test.npz -o out.npz

This reads ``network.h5`` beside the script, builds one Lava process per population and projection, and runs
all samples in Lava's fixed-point models. To use the network inside a larger Lava application:

    from run_lava import Network
    network = Network(path="network.h5")
    source.s_out.connect(network.inp); network.out.connect(sink.a_in)

Spikes: ``.npz`` with ``spikes`` (n_samples, n_steps, n_in) of 0 and 1, and optional ``labels`` (n_samples,); the
channels may have the shape of the network's input.
Output: ``spikes`` (n_samples, n_steps, n_out) uint8 (or ``membrane`` int32 for a membrane readout),
``predictions``, and ``labels`` if they were given.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
from importlib import import_module
from importlib.util import find_spec
from multiprocessing import active_children
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

# Checksum, begin: in an export, this part is the function itself.
from lbi.files.checksum import checksum

# Checksum, end.
# Files, begin: in an export, this part is the functions themselves.
from lbi.files.script_files import at_least_one, open_network, output_path, read_spikes, write_npz

# Files, end.
# Lava on newer Pythons, begin: in an export, this part is the patches themselves.
from lbi.system.lava_compat import install

# Lava on newer Pythons, end.

install()

HERE = Path(__file__).resolve().parent
if __name__ == "__main__" and (HERE / "lava.py").exists():  # first on the path, it would hide Lava
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != HERE]

if __name__ == "__main__" and find_spec("lava") is None:
    raise SystemExit("Lava is missing: pip install --no-deps --ignore-requires-python lava-nc==0.10.0")

from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.model.sub.model import AbstractSubProcessModel
from lava.magma.core.process.ports.ports import InPort, OutPort, RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.conv.process import Conv
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.io.sink import Read
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source
from lava.proc.sparse.process import DelaySparse, Sparse
from lava.utils.weightutils import SignMode

FORMAT, VERSIONS = "lbi.fixed_network", (1, 2)

PROCESSES: dict[str, Any] = {}
"""Neuron model in the file → its Lava process, filled in by the exporter.

Each entry has ``process``, a class; ``resetting``, a class that also starts from rest every ``reset_interval`` steps, or
""; ``arguments`` of the class; and ``at_rest``, variables that it does not reset itself, with their values at rest. A
value is a constant, or (parameter in the file, factor).
"""

SOURCE_ELEMENTS = 1 << 25
"""Maximum number of input values (4 bytes each, copied several times by Lava) of one Lava run."""

PIECES = 50
"""Number of runs into which samples are divided, since progress can be reported only between runs."""

STOP_SECONDS = 30
"""Seconds after which processes are killed, since Lava's stop() never returns after some errors."""


def read(path: str | Path) -> SimpleNamespace:
    """The populations and projections of a ``network.h5``, as plain namespaces of numpy arrays."""
    with open_network(path) as file:
        if file.attrs.get("format") != FORMAT or file.attrs.get("version") not in VERSIONS:
            raise SystemExit(f"{path}: not a {FORMAT} file of version {VERSIONS[0]} to {VERSIONS[-1]}")
        if file.attrs.get("sha256", "") not in ("", checksum(file)):
            raise SystemExit(f"{path}: damaged, or edited without deleting its attribute sha256")
        populations = {}
        for name, group in file["populations"].items():
            values = {key: group[key][()] for key in group}
            populations[name] = SimpleNamespace(
                name=name,
                n=int(np.prod(group.attrs["shape"])),
                latency=int(group.attrs["latency"]),
                model=group.attrs["model"],
                **values,
            )
        projections = [_read_projection(name, group) for name, group in file["projections"].items()]
        readout = populations[file.attrs["readout_population"]]
        wired, projections = _that_reach(readout.name, projections)
        return SimpleNamespace(
            input_shape=tuple(map(int, file.attrs["input_shape"])),
            n_in=int(np.prod(file.attrs["input_shape"])),
            has_input="input" in wired,
            readout=readout,
            readout_kind=file.attrs["readout_kind"],
            populations={name: populations[name] for name in populations if name in wired},
            projections=projections,
            depth=max(population.latency for population in populations.values()),
        )


def _that_reach(readout: str, projections: list[Any]) -> tuple[set[str], list[Any]]:
    """Names from which a spike can reach the readout, and the projections between them.

    Lava supports neither all-zero matrices nor unconnected graphs; the omitted parts do not affect the output.
    """
    reaching, found = {readout}, -1
    while found < len(reaching):
        found = len(reaching)
        reaching |= {p.source for p in projections if p.n_synapses and p.target in reaching}
    return reaching, [p for p in projections if p.n_synapses and p.target in reaching]


def _read_projection(name: str, group: Any) -> SimpleNamespace:
    stored = group["weights"]
    delay, exponent = group["delay"][()], int(group.attrs["weight_exp"])
    convolution: Any = _read_convolution(stored) if "kernel" in stored else None
    if convolution is None:
        weights = csr_matrix(
            (stored["data"][()].astype(np.int32), stored["indices"][()], stored["indptr"][()]),
            shape=tuple(stored.attrs["shape"]),
        )
    elif delay.any() or not exact_in_conv(convolution, exponent):
        weights, convolution = unrolled(convolution), None
    else:
        weights = None
    n_synapses = int(np.count_nonzero(convolution.kernel)) if weights is None else weights.nnz
    if weights is not None:
        delay = np.broadcast_to(delay, (weights.nnz,))
    return SimpleNamespace(
        name=name,
        source=group.attrs["source"],
        target=group.attrs["target"],
        weights=weights,
        convolution=convolution,
        n_synapses=n_synapses,
        delay=delay.astype(int),
        parameters={
            "weight_exp": exponent,
            "num_weight_bits": int(group.attrs["num_weight_bits"]),
            "sign_mode": SignMode[group.attrs["sign_mode"]],
        },
        dense=group.attrs.get("memory_format", "indexed") == "dense",
    )


def _read_convolution(stored: Any) -> SimpleNamespace:
    """Kernels (n_out, n_in / groups, height, width) and their geometry; pairs are (height, width)."""
    return SimpleNamespace(
        kernel=stored["kernel"][()].astype(np.int32),
        groups=int(stored.attrs["groups"]),
        input_shape=tuple(int(size) for size in stored.attrs["input_shape"]),
        **{name: tuple(map(int, stored.attrs[name])) for name in ("stride", "padding", "dilation")},
    )


def exact_in_conv(convolution: Any, exponent: int) -> bool:
    """True if Lava's ``Conv`` computes the same sums as ``Sparse``: it knows no exponent, wraps at 24 bits, steps in int8."""
    kernel = convolution.kernel
    reach = [step * (size - 1) + 1 for step, size in zip(convolution.dilation, kernel.shape[2:], strict=True)]
    steps = [*convolution.stride, *reach, *(2 * width for width in convolution.padding)]
    largest = int(np.abs(kernel.astype(np.int64)).sum(axis=(1, 2, 3)).max(initial=0))
    return exponent >= 0 and max(steps) < 128 and convolution.groups < 128 and largest << exponent < 1 << 23


def unrolled(convolution: Any) -> csr_matrix:
    """The matrix (n_out, n_in) of a convolution, positions in C order of (channel, height, width)."""
    kernel = convolution.kernel
    channels, *sizes = convolution.input_shape
    n_out, per_group = kernel.shape[:2]
    axes, out = [], []
    for k in range(2):
        reach = convolution.dilation[k] * (kernel.shape[2 + k] - 1)
        out.append((sizes[k] + 2 * convolution.padding[k] - reach - 1) // convolution.stride[k] + 1)
        source = np.arange(out[k])[:, None] * convolution.stride[k] - convolution.padding[k]
        source = source + np.arange(kernel.shape[2 + k]) * convolution.dilation[k]
        axes.append(np.where((source >= 0) & (source < sizes[k]), source, -1))
    rows, columns, values = [], [], []
    for k, c, i, j in zip(*np.nonzero(kernel), strict=True):
        y, x = np.flatnonzero(axes[0][:, i] >= 0), np.flatnonzero(axes[1][:, j] >= 0)
        channel = k // (n_out // convolution.groups) * per_group + c
        rows.append(((k * out[0] + y[:, None]) * out[1] + x).ravel())
        columns.append(((channel * sizes[0] + axes[0][y, i][:, None]) * sizes[1] + axes[1][x, j]).ravel())
        values.append(np.full(rows[-1].size, kernel[k, c, i, j]))
    shape = (n_out * out[0] * out[1], channels * sizes[0] * sizes[1])
    entries = [np.concatenate([np.zeros(0, dtype=int), *parts]) for parts in (values, rows, columns)]
    return csr_matrix((entries[0], (entries[1], entries[2])), shape=shape)


class PeriodicReset(AbstractProcess):
    """Process that sets a variable of another process at the end of given chip steps of every interval.

    Lava's own ``Reset`` does this at only one step per interval.

    Args:
        variable: the variable to set.
        interval: length of an interval in chip steps.
        steps: range of chip steps, counted from 0 in each interval; negative ones are the last of the interval before.
        value: the value to set.
    """

    def __init__(self, variable: Var, interval: int, steps: range, value: int = 0) -> None:
        super().__init__(interval=interval, steps={step % interval for step in steps}, value=value)
        self.state = RefPort(variable.shape)
        self.state.connect_var(variable)


@implements(proc=PeriodicReset, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class PyPeriodicReset(PyLoihiProcessModel):
    """Model that writes in the management phase, after all processes have received the spikes of the step."""

    state: PyRefPort = LavaPyType(PyRefPort.VEC_DENSE, int)

    def post_guard(self) -> bool:
        """True in the steps that end with a reset. Lava's time_step counts from 1."""
        return (self.time_step - 1) % self.proc_params["interval"] in self.proc_params["steps"]

    def run_post_mgmt(self) -> None:
        """Write the value and wait for completion."""
        self.state.write(np.full(self.state._shape, self.proc_params["value"], self.state._d_type))
        self.state.wait()


class Network(AbstractProcess):
    """The exported network as one Lava process with ports ``inp`` (n_in,) and ``out`` (n_out,), the output spikes.

    ``membrane`` (n_out,) is the output's voltage, which Lava's ``Read`` or ``Monitor`` can read. Run it with
    ``Loihi2SimCfg(select_tag="fixed_pt")``.

    Args:
        path: a ``network.h5``.
        reset_interval: chip steps after which every population starts from rest again (steps per sample plus
            ``depth``); None for never.
    """

    def __init__(self, *, path: str | Path, reset_interval: int | None = None) -> None:
        super().__init__(path=str(path), reset_interval=reset_interval)
        self.network = read(path)
        self.depth = self.network.depth
        self.latency = self.network.readout.latency
        self.inp = InPort(shape=(self.network.n_in,))
        self.out = OutPort(shape=(self.network.readout.n,))
        self.membrane = Var(shape=(self.network.readout.n,), init=0)


@implements(proc=Network, protocol=LoihiProtocol)
@requires(CPU)
@tag("fixed_pt")
class NetworkModel(AbstractSubProcessModel):
    """Model that builds the processes inside a Network; Lava finds them as attributes."""

    def __init__(self, proc: Network) -> None:
        network, interval = proc.network, proc.proc_params["reset_interval"]
        neurons = {}
        for index, population in enumerate(network.populations.values()):
            neurons[population.name], resets = neuron(population, interval)
            setattr(self, f"population_{index}", neurons[population.name])
            for number, reset in enumerate(resets):
                setattr(self, f"population_{index}_reset_{number}", reset)
        for index, projection in enumerate(network.projections):
            process = synapse(projection)
            setattr(self, f"projection_{index}", process)
            source = projection.source
            sender = proc.in_ports.inp if source == "input" else neurons[source].s_out
            arriving = process.a_out
            if projection.convolution is not None:  # Lava orders (height, width, channel)
                sender = sender.reshape(projection.convolution.input_shape).transpose([1, 2, 0])
                arriving = arriving.transpose([2, 0, 1]).flatten()
            sender.connect(process.s_in)
            arriving.connect(neurons[projection.target].a_in)
            steps = clearing_steps(network, projection)
            if interval is not None and steps:
                buffer = process.a_buff if projection.convolution is None else process.a_buf
                setattr(self, f"reset_{index}", PeriodicReset(buffer, interval, steps))
        neurons[network.readout.name].s_out.connect(proc.out_ports.out)
        proc.vars.membrane.alias(neurons[network.readout.name].vars.v)


def named(path: str) -> Any:
    """The class of a dotted name."""
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def term(value: Any, population: Any) -> Any:
    """A constant, or a parameter of the population times a factor."""
    if not isinstance(value, tuple):
        return value
    name, factor = value
    parameter = getattr(population, name)
    return parameter * factor if np.ndim(parameter) else parameter.item() * factor


def neuron(population: Any, interval: int | None) -> tuple[AbstractProcess, list[AbstractProcess]]:
    """The Lava process of a population, and processes that reset it just before its own time begins."""
    if population.model not in PROCESSES:
        raise SystemExit(f"population {population.name!r}: no Lava process for {population.model!r} here")
    entry = PROCESSES[population.model]
    arguments = {name: term(value, population) for name, value in entry["arguments"].items()}
    if interval is not None and entry["resetting"]:
        # Lava's time_step counts from 1.
        own_time = {"reset_interval": interval, "reset_offset": population.latency + 1}
        return named(entry["resetting"])(shape=(population.n,), **arguments, **own_time), []
    process = named(entry["process"])(shape=(population.n,), **arguments)
    at_rest = {name: term(value, population) for name, value in entry["at_rest"].items()}
    if interval is None:
        return process, []
    before = range(population.latency - 1, population.latency)
    return process, [
        PeriodicReset(getattr(process, name), interval, before, value) for name, value in at_rest.items()
    ]


def synapse(projection: Any) -> AbstractProcess:
    """The Lava process of a projection, with explicit sign mode, exponent and bits.

    Without a given sign mode Lava would treat every projection without positive weights as inhibitory.
    """
    weights, delay, parameters = projection.weights, projection.delay, projection.parameters
    if projection.convolution is not None:
        own = projection.convolution
        channels, height, width = own.input_shape
        return Conv(  # which turns its kernels around, and knows no exponent
            weight=own.kernel[:, :, ::-1, ::-1].transpose(0, 2, 3, 1) << parameters["weight_exp"],
            input_shape=(height, width, channels),
            padding=own.padding,
            stride=own.stride,
            dilation=own.dilation,
            groups=own.groups,
        )
    if not delay.any():
        if projection.dense:
            return Dense(weights=weights.toarray(), **parameters)
        return Sparse(weights=weights, **parameters)
    # DelaySparse misreads an int as common delay: it needs a matrix.
    delays = csr_matrix((delay, weights.indices, weights.indptr), shape=weights.shape)
    if projection.dense:
        return DelayDense(weights=weights.toarray(), delays=delays.toarray(), **parameters)
    return DelaySparse(weights=weights, delays=delays, **parameters)


def clearing_steps(network: Any, projection: Any) -> range:
    """Chip steps of an interval (from 0) after which a projection's spikes in flight are discarded.

    A new sample begins at chip step 0 for the input, at X for the source, at Y for the target: their latencies. A
    spike sent in chip step e with delay d arrives in e + 1 + d, and as ``lag = d + 1 + X − Y ≥ 0``, never in a sample
    before its own. The spikes to discard are those of the sample before that would arrive in the target's new one: e
    ≤ X − 1 and e + 1 + d ≥ Y. Discarding at the end of step c removes what was sent in e ≤ c and arrives in e + 1 + d
    ≥ c + 1: exactly the spikes with e ≤ c ≤ e + d.

    X ≤ Y: c = X − 1 is in [e, e + d], or the spike has arrived before, in the target's old sample. It also removes
    spikes due in steps X … Y − 1, the old sample's last Y − X ≤ depth steps of the target: they are the padding, of
    which no output is kept. The new sample has sent nothing yet.
    X > Y (feedback): the target is in its new sample while the source still sends its old one, so each of c = Y − 1,
    …, X − 1 is needed. A spike with e ≥ Y − 1 is removed at c = e, an earlier one at c = Y − 1, since it arrives in Y
    or later. Nothing else is: spikes that arrive before Y have been delivered, and those sent from X on come after
    the last c. A self-connection (X = Y) is covered by both cases.

    Neurons need only one reset, at the end of step Y − 1 (``LIFReset`` does it at the start of Y): they only have
    state, and from then on only spikes of the new sample reach them.
    """
    target = network.populations[projection.target].latency
    source, last_sent = 0, -1 - network.depth  # the input is silent in the padding
    if projection.source != "input":
        source = network.populations[projection.source].latency
        last_sent = source - 1
    if last_sent + 1 + int(projection.delay.max()) < target:
        return range(0)  # the last spike of a sample arrives before the target's next one
    return range(min(source, target) - 1, source)


def run(path: str | Path, spikes: Any, progress: Path | None = None) -> Any:
    """The output (n_samples, n_steps, n_out) for ``spikes`` (n_samples, n_steps, n_in): uint8 spikes or int32 voltages.

    Numbers of completed samples are appended to the file ``progress``, one per line.
    """
    n_samples, n_steps, n_in = spikes.shape
    per_run = max(1, SOURCE_ELEMENTS // ((n_steps + read(path).depth) * n_in))
    parts = (spikes[at : at + per_run] for at in range(0, n_samples, per_run))
    return np.concatenate([run_once(path, part, progress) for part in parts])


def run_once(path: str | Path, spikes: Any, progress: Path | None = None) -> Any:
    """The output of samples run one after the other in a new Lava network, each padded by the network's depth."""
    n_samples, n_steps, n_in = spikes.shape
    depth = read(path).depth
    period = n_steps + depth
    padded = np.zeros((n_samples, period, n_in), dtype=np.int32)
    padded[:, :n_steps] = spikes
    n_total = n_samples * period
    network = Network(path=path, reset_interval=period)
    source = Source(data=np.ascontiguousarray(padded.reshape(n_total, n_in).T))
    sink = Sink(shape=network.out.shape, buffer=n_total)
    if network.network.has_input:
        source.s_out.connect(network.inp)
    network.out.connect(sink.a_in)
    recorder: Any = sink
    kind: Any = np.uint8
    if network.network.readout_kind != "spike_count":
        recorder, kind = Read(buffer=n_total), np.int32
        recorder.connect_var(network.membrane)
    try:
        run_samples(sink, n_samples, period, progress)
        output = recorder.data.get()
    finally:
        stop(sink)
    output = output.T.reshape(n_samples, period, -1)
    return output[:, network.latency : network.latency + n_steps].astype(kind)


def run_samples(process: AbstractProcess, n_samples: int, period: int, progress: Path | None) -> None:
    """Run ``n_samples · period`` steps, at once or in pieces that are reported to ``progress``."""
    n_pieces = 1 if progress is None else min(n_samples, PIECES)
    for piece in np.array_split(np.arange(n_samples), n_pieces):
        # Without the tag Lava would use its floating-point neuron.
        process.run(condition=RunSteps(len(piece) * period), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
        if progress is not None:
            with progress.open("a") as file:
                file.write(f"{len(piece)}\n")


def classify(output: Any, kind: str) -> Any:
    """Classes (n_samples,) of an output by the network's readout, with the lowest index on ties."""
    if kind == "membrane_max":
        return output.max(axis=1).argmax(axis=1)
    scored = output[:, -1:] if kind == "membrane_last" else output
    return scored.sum(axis=1, dtype=np.int64).argmax(axis=1)


def stop(process: AbstractProcess) -> None:
    """Call ``process.stop()``, and end this program if Lava does not return from it."""

    def give_up() -> None:
        sys.stderr.write("Lava did not stop; ending its processes\n")
        sys.stderr.flush()
        for child in active_children():
            child.kill()
        os._exit(1)

    timer = threading.Timer(STOP_SECONDS, give_up)
    timer.daemon = True
    timer.start()
    process.stop()
    timer.cancel()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Run an exported network in Lava.")
    beside = HERE / "network.h5"
    parser.add_argument("network", nargs="?", default=beside, type=Path, help="network.h5 (default: beside)")
    parser.add_argument("--spikes", required=True, type=Path, help="input spikes (.npz)")
    parser.add_argument("-o", "--output", required=True, type=Path, help="output spikes (.npz)")
    parser.add_argument("--samples", type=at_least_one, default=None, help="run the first N samples only")
    parser.add_argument("--progress", type=Path, default=None, help="file for numbers of samples done")
    options = parser.parse_args()
    network, goal = read(options.network), output_path(options.output, options.network, options.spikes)
    spikes, labels = read_spikes(options.spikes, network.input_shape, options.samples)
    output = run(options.network, spikes, options.progress)
    predictions = classify(output, network.readout_kind)
    kind = "spikes" if network.readout_kind == "spike_count" else "membrane"
    arrays = {kind: output, "predictions": predictions}
    if labels is not None:
        arrays["labels"] = labels
        sys.stdout.write(f"accuracy {np.mean(predictions == labels):.4f} on {len(labels)} samples\n")
    write_npz(goal, arrays)


if __name__ == "__main__":
    main()
