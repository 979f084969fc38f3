"""Feature maps in NIR: nodes of their own kinds, read again as kernels, and run by other frameworks' readers."""

from __future__ import annotations

import numpy as np
import pytest
from lbi.exporters import nir as exporter
from support import peers
from support.networks import random_spikes

from lbi import CsrMatrix, Network, Population, Projection, Readout
from lbi.network.convolution import Convolution
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.neurons import CubaLif
from lbi.simulation import oracle

nir = pytest.importorskip("nir")


def vision(rng, pool: float = 1.0) -> Network:
    """Input (2, 8, 9) → convolution with groups, stride, dilation → pooling → recurrent dense; weights in 1/64."""
    kernel = rng.integers(-20, 40, (4, 1, 3, 2)) / 64
    first = ConvolutionWeights(Convolution(kernel, (1, 2), (2, 1), (2, 1), 2), (2, 8, 9))
    channels = first.output_shape[0]
    window = Convolution(np.full((channels, 1, 2, 2), pool), (2, 2), (0, 0), groups=channels)
    second = ConvolutionWeights(window, first.output_shape)
    dense = CsrMatrix.from_dense(rng.integers(-20, 40, (5, second.shape[0])) / 64)

    def neuron(n: int, bias: float = 0.0) -> CubaLif:
        return CubaLif(1.0, 0.125, 1.003, np.full(n, bias) if bias else None)

    populations = (
        Population("maps", first.output_shape, neuron(first.shape[0], 1 / 32)),
        Population("pooled", second.output_shape, neuron(second.shape[0])),
        Population("out", (5,), neuron(5)),
    )
    projections = (
        Projection("conv", "input", "maps", first),
        Projection("pool", "maps", "pooled", second),
        Projection("dense", "pooled", "out", dense),
    )
    return Network((2, 8, 9), populations, projections, Readout("out"))


@pytest.mark.parametrize(("pool", "kind"), [(1.0, "SumPool2d"), (0.25, "AvgPool2d"), (0.5, "Conv2d")])
def test_what_is_written_is_read_again(pool, kind, rng):
    from lbi.importers.nir import from_graph

    network = vision(rng, pool)
    graph = exporter.graph(network)
    kinds = {name: type(node).__name__ for name, node in graph.nodes.items()}
    assert (kinds["conv"], kinds["pool"], kinds["dense"]) == ("Conv2d", kind, "Linear")
    again = from_graph(graph)
    read = {(p.source, p.target): p.weights for p in again.projections}
    for projection in network.projections:
        found = read[projection.source, projection.target]
        assert found.to_csr() == projection.weights.to_csr()
        assert isinstance(found, type(projection.weights))
    spikes = random_spikes(rng, 2, 20, network.n_in)
    ours = oracle.simulate(network, spikes).output_spikes
    assert 0.02 < ours.mean() < 0.98
    assert np.array_equal(oracle.simulate(again, spikes).output_spikes, ours)


def test_maps_behind_a_dense_layer_or_with_uneven_biases_are_matrices(rng):
    network = vision(rng)
    uneven = np.arange(network.populations[0].n) / 1024
    changed = Population("maps", network.populations[0].shape, CubaLif(1.0, 0.125, 1.0, uneven))
    flat = Network(
        network.input_shape, (changed, *network.populations[1:]), network.projections, network.readout
    )
    graph = exporter.graph(flat)
    kinds = {name: type(node).__name__ for name, node in graph.nodes.items()}
    assert (kinds["conv"], kinds["pool"]) == ("Affine", "Linear")


@pytest.mark.filterwarnings("ignore:nirtorch.load is being deprecated")
@pytest.mark.parametrize("framework", ["snntorch", "norse", "spikingjelly"])
def test_other_readers_run_it_with_our_spikes(framework, rng):
    import torch

    network = vision(rng)
    readers = {
        "snntorch": lambda: peers.package("snntorch.import_nir").import_from_nir(exporter.graph(network)),
        "norse": lambda: peers.package("norse.torch.utils.import_nir").from_nir(
            exporter.graph(network, dt=1e-3), ignore_warnings=True, dt=1e-3
        ),
        "spikingjelly": lambda: peers.package("spikingjelly.activation_based.nir_exchange").import_from_nir(
            exporter.graph(network)
        ),
    }
    model = readers[framework]()
    spikes = random_spikes(rng, 2, 30, network.n_in)
    state, outputs = None, []
    with torch.no_grad():
        for t in range(30):
            x = torch.from_numpy(spikes[:, t]).float().reshape(2, *network.input_shape)
            out, state = model(x, state)
            outputs.append(out[0] if isinstance(out, tuple) else out)
    ours = oracle.simulate(network, spikes).output_spikes
    assert 0.02 < ours.mean() < 0.98
    assert np.array_equal(torch.stack(outputs, dim=1).numpy(), ours)
