"""Run a ``.net`` file in unmodified Lava-DL (``lava.lib.dl.netx.hdf5.Network``): needs lava-dl, not this package.

    python run_netx.py network.net --spikes test.npz -o out.npz

Samples run one after the other, each padded by the number of layers. netx resets its neurons between
them (with ``reset_offset=1``: with 0 the last input of a sample leaks into the next). It does not clear spikes in
flight in recurrent and delayed synapses, so Lava's own Reset does.
"""

from __future__ import annotations

import argparse
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

if __name__ == "__main__" and find_spec("lava") is None:
    raise SystemExit(
        "Lava is missing: pip install --no-deps --ignore-requires-python lava-nc==0.10.0 lava-dl==0.6.0"
    )

from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.reset import Reset
from lava.proc.io.sink import Read
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source

PIECES = 50
"""Number of runs into which samples are divided to report progress, which is possible only between runs."""


def run(path: Path, spikes: Any, sparse: bool = False, progress: Path | None = None) -> Any:
    """The output (n_samples, n_steps, n_out) for input ``spikes`` (n_samples, n_steps, n_in).

    These are spikes (uint8) or, if the last layer's neurons never spike, voltages (int32). Neurons of more than one dimension
    are flattened in C order of (channel, height, width).
    Numbers of completed samples are appended to the file ``progress``, one per line.

    Args:
        path: a ``.net`` file.
        spikes: (n_samples, n_steps, n_in) zeros and ones.
        sparse: use Lava's sparse synapses for dense layers.
        progress: file to which numbers of completed samples are appended; None for no report.

    Returns:
        (n_samples, n_steps, n_out), spikes as uint8 or voltages as int32.
    """
    # Not at the top: Lava imports all files beside a process to search for models, and this takes seconds.
    from lava.lib.dl.netx.hdf5 import Network

    n_samples, n_steps, _ = spikes.shape
    depth = len(Network(net_config=str(path), sparse_fc_layer=sparse))
    period = n_steps + depth
    network = Network(net_config=str(path), reset_interval=period, reset_offset=1, sparse_fc_layer=sparse)
    network.net_config.f.close()  # netx does not close the file
    shape = network.inp.shape  # (width, height, channel) or (n,)
    padded = np.zeros((n_samples, period, *shape[::-1]), dtype=np.int32)
    padded[:, :n_steps] = spikes.reshape(n_samples, n_steps, *shape[::-1])
    n_total = n_samples * period
    source = Source(data=np.ascontiguousarray(padded.reshape(n_total, *shape[::-1]).T))
    sink = Sink(shape=network.out.shape, buffer=n_total)
    source.s_out.connect(network.inp)
    network.out.connect(sink.a_in)
    recorder: Any = sink
    kind: Any = np.uint8
    if integrates(network):
        recorder, kind = Read(buffer=n_total), np.int32
        recorder.connect_var(network.layers[-1].neuron.v)
    resets = [_clearing(variable, offset, period) for variable, offset in _in_flight(network)]
    try:
        n_pieces = 1 if progress is None else min(n_samples, PIECES)
        for piece in np.array_split(np.arange(n_samples), n_pieces):
            sink.run(condition=RunSteps(len(piece) * period), run_cfg=Loihi2SimCfg(select_tag="fixed_pt"))
            if progress is not None:
                with progress.open("a") as file:
                    file.write(f"{len(piece)}\n")
        output = recorder.data.get()
    finally:
        sink.stop()
    del resets
    output = output.T.reshape(n_samples, period, -1)
    return output[:, depth:].astype(kind)


def integrates(network: Any) -> bool:
    """Test for a network whose output is read by voltage.

    Args:
        network: netx's network.

    Returns:
        True if the last layer has netx's threshold for layers without neurons, which no voltage exceeds.
    """
    return int(network.layers[-1].neuron.vth.init) >= 1 << 17


def _in_flight(network: Any) -> list[tuple[Any, int]]:
    """Buffers in which a spike can outlive its sample, each with the step (from 0) after which to clear it."""
    found = []
    for index, layer in enumerate(network.layers):
        if hasattr(layer, "synapse_rec"):
            found.append((layer.synapse_rec.a_buff, index))
        synapse: Any = getattr(layer, "synapse", None)
        if hasattr(synapse, "delays"):
            found.append((synapse.a_buff, index - 1))
    return found


def _clearing(variable: Any, offset: int, period: int) -> Reset:
    reset = Reset(reset_value=0, interval=period, offset=offset % period)
    reset.connect_var(variable)
    return reset


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Run a netx file in Lava-DL.")
    parser.add_argument("network", type=Path, help=".net file")
    parser.add_argument("--spikes", required=True, type=Path, help="input spikes (.npz)")
    parser.add_argument("-o", "--output", required=True, type=Path, help="output spikes (.npz)")
    parser.add_argument("--sparse", action="store_true", help="let netx use Sparse instead of Dense")
    parser.add_argument(
        "--progress", type=Path, default=None, help="file to append numbers of samples done to"
    )
    options = parser.parse_args()
    with np.load(options.spikes, allow_pickle=False) as file:
        spikes = file["spikes"]
    output = run(options.network, spikes, options.sparse, options.progress)
    np.savez_compressed(options.output, **{"spikes" if output.dtype == np.uint8 else "membrane": output})


if __name__ == "__main__":
    main()
