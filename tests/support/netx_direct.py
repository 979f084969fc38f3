"""A netx file loaded by lava-dl, with its process models stepped in this process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from lava.lib.dl.netx.hdf5 import Network
from lava.proc.conv.models import PyConvModelFixed
from lava.proc.conv.process import Conv
from lava.proc.dense.models import PyDelayDenseModelBitAcc, PyDenseModelBitAcc
from lava.proc.dense.process import DelayDense, Dense
from lava.proc.lif.models import PyLifModelBitAcc

from support.lava_direct import build

SYNAPSES = {Dense: PyDenseModelBitAcc, DelayDense: PyDelayDenseModelBitAcc, Conv: PyConvModelFixed}


def run(path: Path, spikes: np.ndarray, n_layers: int | None = None) -> list[dict[str, np.ndarray]]:
    """Each layer's spikes, u, v (n_steps, n) in file order; ``spikes`` (n_steps, channels[, height, width])."""
    network = Network(net_config=str(path), num_layers=n_layers)
    network.net_config.f.close()
    neurons = [
        build(layer.neuron, PyLifModelBitAcc, {"a_in": layer.shape, "s_out": layer.shape})
        for layer in network.layers
    ]
    synapses = [
        {name: _synapse(getattr(layer, name)) for name in ("synapse", "synapse_rec") if hasattr(layer, name)}
        for layer in network.layers
    ]
    records: list[dict[str, list[np.ndarray]]] = [{"spikes": [], "u": [], "v": []} for _ in neurons]
    for now in spikes:
        for neuron, models in zip(neurons, synapses, strict=True):
            arriving = np.zeros(neuron.u.shape, dtype=np.int32)
            for model in models.values():
                arriving += _waiting(model).astype(np.int32)
            neuron.a_in.send(arriving)
            neuron.run_spk()
        before = now.transpose(*range(now.ndim)[::-1])  # as a source in Lava's order
        for neuron, models, record in zip(neurons, synapses, records, strict=True):
            if "synapse" in models:
                wanted = models["synapse"].s_in.data.shape
                if before.ndim == 3 and len(wanted) == 1:
                    before = before.transpose(2, 1, 0).flatten()
                models["synapse"].s_in.send(before)
                models["synapse"].run_spk()
            if "synapse_rec" in models:
                models["synapse_rec"].s_in.send(neuron.s_out.data)
                models["synapse_rec"].run_spk()
            before = neuron.s_out.data
            for name, values in (("spikes", before), ("u", neuron.u), ("v", neuron.v)):
                record[name].append(values.transpose(*range(values.ndim)[::-1]).ravel().copy())
    return [{name: np.array(values) for name, values in record.items()} for record in records]


def _synapse(process):
    return build(process, SYNAPSES[type(process)], {"s_in": process.s_in.shape, "a_out": process.a_out.shape})


def _waiting(model) -> np.ndarray:
    if isinstance(model, PyConvModelFixed):
        return model.a_buf
    return model.a_buff[:, 0] if model.a_buff.ndim == 2 else model.a_buff
