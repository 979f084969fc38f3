"""Run a ``.net`` file in unmodified Lava-DL (``lava.lib.dl.netx.hdf5.Network``): needs lava-dl, not this package.

    python run_netx.py network.net --spikes test.npz -o out.npz

All samples run one after the other, each padded by the number of layers. netx resets its neurons between
them (with ``reset_offset=1``: with 0 the last input of a sample leaks into the next); what is still in
flight in recurrent and delayed synapses it would keep, so Lava's own Reset empties those.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.reset import Reset
from lava.proc.io.sink import Read
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source

PIECES = 50
"""Runs into which Lava is divided where progress is to be seen: it can be asked between runs only."""


def run(path: Path, spikes: Any, sparse: bool = False, progress: Path | None = None) -> Any:
    """Output (n_samples, n_steps, n_out) of ``spikes`` (n_samples, n_steps, n_in).

    Spikes uint8; if the last layer's neurons never spike, their voltages int32. Neurons of more than one dimension
    are flattened in C order of (channel, height, width).
    progress: a file to which the numbers of samples done are appended, line by line
    """
    # Not at the top: Lava imports every file beside a process in search of models, and this takes seconds.
    from lava.lib.dl.netx.hdf5 import Network

    n_samples, n_steps, _ = spikes.shape
    depth = len(Network(net_config=str(path), sparse_fc_layer=sparse))
    period = n_steps + depth
    network = Network(net_config=str(path), reset_interval=period, reset_offset=1, sparse_fc_layer=sparse)
    network.net_config.f.close()  # netx leaves the file open
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
    """True if the last layer's threshold is netx's for a layer without neurons: no voltage exceeds it."""
    return int(network.layers[-1].neuron.vth.init) >= 1 << 17


def _in_flight(network: Any) -> list[tuple[Any, int]]:
    """Buffers in which a spike may outlive its sample, and the step (from 0) at whose end to empty them."""
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
