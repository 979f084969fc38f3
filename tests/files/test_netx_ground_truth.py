"""The nets of the lava-dl wheel give the outputs that lie beside them, or Lava's own."""

from __future__ import annotations

import numpy as np
import pytest
from support.netx_files import CUBA, dense, needs_lava, wheel_file, write

from lbi.files.netx.reader import load
from lbi.simulation.run import simulate


def test_spoken_digits_equal_the_ground_truth():
    folder = wheel_file("gts/ntidigits")
    spikes = np.load(folder / "input.npy").T.astype(np.uint8)
    expected = np.load(folder / "output.npy").T
    network = load(folder / "ntidigits.net", n_layers=5, aligned=False)  # the sixth, an average, netx has not
    output = simulate(network, spikes[None]).output_spikes[0]
    # SLAYER delays every layer's output by a step, the chip every layer's input.
    np.testing.assert_array_equal(output[:-1], expected[1:])
    assert expected[1:].sum() == 22572


@needs_lava
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_mnist_equals_lava(rng):
    path = wheel_file("mnist.net")
    network = load(path)
    assert [population.n for population in network.populations] == [784, 512, 512, 10]
    picture = rng.integers(0, 140, 784)
    ours = simulate(
        load(path, input_bias=picture), np.zeros((1, 40, 784), np.uint8), record=("spikes", "u", "v")
    )
    from lava.lib.dl.netx.hdf5 import Network
    from support import netx_direct

    create = Network.create_input

    def with_picture(layer_config, *arguments, **options):
        layer, table = create(layer_config, *arguments, **options)
        layer.neuron.bias_mant.init = picture
        return layer, table

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Network, "create_input", staticmethod(with_picture))
        theirs = netx_direct.run(path, np.zeros((43, 784), np.uint8))
    for latency, (population, record) in enumerate(zip(network.populations, theirs, strict=True)):
        assert record["u" if latency == 3 else "spikes"].any()
        for variable, expected in record.items():
            np.testing.assert_array_equal(
                ours.recorded[population.name, variable][0],
                expected[latency : latency + 40],
                err_msg=population.name,
            )


def test_spikes_drive_an_input_layer_as_a_binary_picture(rng):
    path = wheel_file("mnist.net")
    picture = rng.integers(0, 2, 784)
    spikes = np.broadcast_to(picture, (1, 16, 784)).astype(np.uint8)
    driven = load(path, input_bias=64 + 76 * picture)  # bias + weight · x, the file's transform
    by_bias = simulate(driven, np.zeros_like(spikes), record="u").recorded
    by_spikes = simulate(load(path), spikes, record="u").recorded
    np.testing.assert_array_equal(by_bias["layer3", "u"], by_spikes["layer3", "u"])
    assert by_bias["layer3", "u"].any()


def test_tiny_conv_net_equals_the_ground_truth():
    path = wheel_file("tiny.net")
    bias = np.load(path.parent / "gts/tinynet/input_bias.npy").transpose(
        2, 1, 0
    )  # Lava's order: width, height, channel
    network = load(path, input_bias=bias)
    recorded = simulate(network, np.zeros((1, 15, network.n_in), np.uint8), record="spikes").recorded
    for layer, name in (("layer0", "input"), ("layer1", "layer1"), ("layer2", "output")):
        expected = np.load(path.parent / f"gts/tinynet/{name}.npy")[0].reshape(-1, 16).T[1:]
        np.testing.assert_array_equal(recorded[layer, "spikes"][0], expected, err_msg=layer)
        assert expected.any()


def test_driving_net_equals_the_ground_truth():
    folder = wheel_file("gts/pilotnet_lif")
    picture = np.load(folder / "image.npy").transpose(2, 1, 0)
    network = load(folder / "network.net", input_bias=picture)
    assert sum(projection.weights.nnz for projection in network.projections) > 10**7
    variables = ("spikes", "u", "v")
    recorded = simulate(network, np.zeros((1, 16, network.n_in), np.uint8), record=variables).recorded
    names = ["input", *(f"conv-{k}" for k in range(5)), "fc-0", "fc-1", "fc-2"]
    for latency, (population, name) in enumerate(zip(network.populations, names, strict=False)):
        for variable, suffix in zip(variables, ("", "-u", "-v"), strict=True):
            if name == "input" and suffix:
                continue
            expected = np.load(folder / f"{name}{suffix}.npy")
            expected = np.moveaxis(expected, -1, 0)
            expected = expected.transpose(0, *range(1, expected.ndim)[::-1]).reshape(len(expected), -1)
            ours = recorded[population.name, variable][0]
            if variable == "v":  # Loihi's register holds the refractory counter after a spike
                ours = np.where(recorded[population.name, "spikes"][0], 128, ours)
            # A sample of 16 steps, then comes another picture; layer k is k steps later.
            assert expected.any()
            np.testing.assert_array_equal(
                ours, expected[latency : latency + 16], err_msg=f"{name} {variable}"
            )


def test_dense_block_equals_the_ground_truth(tmp_path):
    folder = wheel_file("gts/dense")
    neuron = {**CUBA, "iDecay": 4096, "vDecay": 415, "vThMant": 6}
    path = write(tmp_path / "dense.net", dense(np.load(folder / "weight.npy"), neuron))
    spikes = np.load(folder / "in.npy").T.astype(np.uint8)
    output = simulate(load(path, aligned=False), spikes[None]).output_spikes[0]
    np.testing.assert_array_equal(output, np.load(folder / "out.npy").T)
