"""Reader of Lava-DL netx files (``.net``): the integer network that ``lava.lib.dl.netx.hdf5.Network`` runs.

Weights are those that Lava computes with (``lbi.files.netx.weights``). Neurons are numbered in C order of (channel,
height, width), as in the file and in torch; Lava's own order is (width, height, channel). ``layer_types`` has a function
per layer type.
Source: lava-dl 0.6.0 ``netx/hdf5.py``, ``netx/utils.py``, ``netx/blocks/process.py``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lbi.errors import InputError, Rule
from lbi.files.netx.group import Group
from lbi.files.netx.layer_types import TYPES, Chain
from lbi.files.untrusted_hdf5 import open_tree, subgroup, text
from lbi.network.csr import CsrMatrix, Weights
from lbi.network.fixed import FixedNetwork, FixedPopulation, FixedProjection
from lbi.network.graph import READOUTS, Readout
from lbi.network.pattern import ones

READOUT_KEY = "lbi_readout"
"""Attribute of the file that states how voltages become a class; netx ignores it."""

SUMMED = (
    "{read!r} has no neurons (SLAYER: dynamics=False): netx adds its input up over all steps, so the class is the largest"
    " voltage of the last step (readout membrane_last), which is SLAYER's sum of outputs"
)
UNDECIDED = (
    "{read!r} never spikes, and the file does not say how its voltages become a class: read by their mean over the steps"
    " (readout membrane_mean); if the model was trained on the maximum or the last step, set the network's Readout"
)
"""Notes on the readout, in ``provenance["notes"]``."""

RUNS = "input, dense, dense_rec, conv, flatten; pool is read as a convolution"

FILE = Rule("netx-file", "a .net file of Lava-DL", "export it again with lava-dl")
LAYER = Rule(
    "netx-layer",
    RUNS,
    "read only the layers before it, in Python: lbi.save(lbi.load(PATH, n_layers={n}), 'part.h5')",
)
FIRST_LAYER = Rule(
    "netx-layer",
    RUNS,
    "no layer with neurons stands before it, so nothing of the file can be read: build the network from these layers in"
    " lava-dl, and export it again",
)
EMPTY = Rule("netx-empty", RUNS, "export a network with layers of neurons")
LAST = Rule(
    "netx-neuron",
    "one of each in the layer that is read, whose neurons keep their order",
    "train the last layer with one decay and threshold for all",
)
SHIFTED = Rule("netx-weights", "neurons alike", "train the layer with one decay and threshold for all")


def load(
    path: str | Path,
    *,
    n_layers: int | None = None,
    input_bias: ArrayLike | None = None,
    aligned: bool = True,
) -> FixedNetwork:
    """The network of a ``.net`` file.

    Args:
        path: the file.
        n_layers: number of layers to read, as netx's ``num_layers``; None for all.
        input_bias: if the input layer has neurons, bias mantissas (channels, height, width) that drive them with
            one sample's image, as Lava-DL sets ``in_layer.neuron.bias_mant``; the network then takes no spikes.
            Without it, input spikes are an image of zeros and ones: a spike adds the layer's ``weight`` to its
            ``bias``.
        aligned: True if each layer starts its samples one step after the layer before, as with netx's
            ``reset_interval`` and ``reset_offset=1``, so that outputs are aligned to the input; False for raw chip
            time without reset.

    Returns:
        The network in chip integers; a layer whose neurons differ is several populations.

    Raises:
        InputError: naming all reasons why netx could not run the file, or would not run it as it was trained.
    """
    chain = Chain(str(path), None if input_bias is None else np.asarray(input_bias))
    with open_tree(Path(path), FILE.broken(str(path), "not a readable netx file")) as file:
        kind = text(file.attrs.get(READOUT_KEY, ""))
        layers = subgroup(file, "layer")
        for index in range(len(layers) if n_layers is None else min(n_layers, len(layers))):
            where = f"{path}, layer {index}"
            try:
                _read(chain, index, Group(subgroup(layers, str(index)), where))
            except InputError as error:
                chain.problems.take(error)
                break  # the following layers would be checked against a wrong shape
    return _network(chain, aligned, kind)


def _read(chain: Chain, index: int, layer: Group) -> None:
    """Add a layer to the chain, or note why not."""
    kind = layer.text("type")
    rule = LAYER if chain.layers else FIRST_LAYER
    if rule.check(chain.problems, kind in TYPES, layer.where, f"type {kind!r}", n=index):
        TYPES[kind](chain, index, layer)


def _network(chain: Chain, aligned: bool, kind: str) -> FixedNetwork:
    """The network of all layers read."""
    if not chain.problems:
        EMPTY.check(chain.problems, bool(chain.layers), chain.path, "no layer with neurons")
    chain.problems.raise_as(InputError)
    first = 0 if chain.driven else 1
    populations, parts = [], {}
    for k, (layer, shape, alike) in enumerate(chain.layers):
        names = [layer] if len(alike) == 1 else [f"{layer}_{number + 1}" for number in range(len(alike))]
        parts[layer] = {name: chosen for name, (chosen, _) in zip(names, alike, strict=True)}
        for name, (chosen, neuron) in zip(names, alike, strict=True):
            size = shape if len(alike) == 1 else (chosen.size,)
            populations.append(FixedPopulation(name, size, neuron, latency=first + k if aligned else 0))
    one = len(chain.layers[-1][2]) == 1
    found = "its neurons differ in decays, threshold or range of biases"
    LAST.check(chain.problems, one, f"{chain.path}, the last layer", found)
    split = [part for record in chain.projections for part in _split(chain, record, parts)]
    chain.problems.raise_as(InputError)
    readout, notes = _readout(chain, populations[-1], kind)
    return FixedNetwork(
        input_shape=chain.input_shape or (),
        populations=tuple(populations),
        projections=tuple(FixedProjection(**record) for record in split),
        readout=readout,
        chip="loihi2",
        provenance={"format": "netx", "file": Path(chain.path).name, **({"notes": notes} if notes else {})},
    )


def _readout(chain: Chain, read: FixedPopulation, kind: str) -> tuple[Readout, list[str]]:
    """The readout, and what the file leaves open.

    Args:
        chain: all layers read.
        read: the last population.
        kind: the readout that a file of this package states; any other text if there is none.
    """
    if read.neuron.spikes:
        return Readout.of(read), []
    if kind in READOUTS and Readout(read.name, kind).of_membrane:
        return Readout(read.name, kind), []
    if chain.adds_up:
        return Readout(read.name, "membrane_last"), [SUMMED.format(read=read.name)]
    return Readout.of(read), [UNDECIDED.format(read=read.name)]


def _split(
    chain: Chain, record: dict[str, Any], parts: dict[str, dict[str, NDArray[np.intp]]]
) -> list[dict[str, Any]]:
    """The projection between two layers as projections between their populations."""
    weights: Weights = record["weights"]
    sources = parts.get(record["source"], {record["source"]: np.arange(weights.shape[1])})
    targets = parts[record["target"]]
    if len(sources) == len(targets) == 1:
        return [record]
    lost = max(0, -record["weight_exp"])
    SHIFTED.check(
        chain.problems,
        len(sources) == 1 or not np.any(weights.data % (1 << lost)),
        f"{chain.path}, {record['source']}",
        "neurons that differ, and weights whose sum alone can be shifted",
    )
    weights = weights.to_csr()  # neurons that differ may be any of a feature map
    numbers = weights.to_scipy()
    numbers.data = np.arange(1, weights.nnz + 1)
    pattern = None if record["pattern"] is None else record["pattern"].to_scipy()
    found = []
    for target, rows in targets.items():
        for source, columns in sources.items():
            part = numbers[rows][:, columns]
            part.sort_indices()
            kept, delay = part.data - 1, record["delay"]
            own = {
                "name": f"{record['name']}_{source}_{target}",
                "source": source,
                "target": target,
                "weights": CsrMatrix(weights.data[kept], part.indices, part.indptr, part.shape),
                "delay": delay[kept] if isinstance(delay, np.ndarray) else delay,
                "pattern": None if pattern is None else ones(pattern[rows][:, columns]),
            }
            found.append({**record, **own})
    return found
