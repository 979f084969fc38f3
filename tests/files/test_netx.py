"""Netx files, read and simulated, equal what lava-dl loads and Lava computes."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.netx_files import CUBA, assert_equals_lava, dense, needs_lava, run_quietly, wheel_file, write

from lbi.errors import InputError
from lbi.files.netx.reader import load
from lbi.network.convolution import Convolution
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.pattern import n_weights
from lbi.simulation.run import simulate


@st.composite
def matrices(draw, rng, shape):
    """Weights as SLAYER writes them, and as it does not: odd, one-signed, out of range, mostly zero."""
    low, high, step = draw(
        st.sampled_from(
            [
                (-128, 127, 2),
                (0, 127, 2),
                (-128, 0, 2),
                (-127, -1, 2),
                (-8, 9, 8),
                (-255, 256, 1),
                (0, 255, 1),
                (-255, -1, 1),
                (-3, 4, 1),
                (-1, 0, 1),
                (-300, 400, 1),
                (-128, 1, 2),
            ]
        )
    )
    values = rng.integers(low, high + 1, shape) * step
    values = np.where(
        rng.random(shape) < draw(st.sampled_from([0.0, 0.5])), min(0, high) if low < 0 else 0, values
    )
    if not np.any(values):
        values.flat[0] = 2
    if values.min() >= 0 or values.max() <= 0:
        values = np.clip(values, -255, 255)
    return values


@st.composite
def dense_layers(draw, rng, n, n_in):
    kind = draw(st.sampled_from(["dense", "dense", "dense_rec"]))
    neuron = draw(
        st.sampled_from(
            [None, CUBA, {**CUBA, "iDecay": 4096, "vDecay": 0}, {**CUBA, "iDecay": 0, "vThMant": 3}]
        )
    )
    layer = dense(draw(matrices(rng, (n, n_in))), neuron, type=kind)
    if kind == "dense_rec":
        layer["weight_rec"] = draw(matrices(rng, (n, n))).astype(np.float32)
    if draw(st.booleans()):
        layer["bias"] = rng.integers(-60, 60, n).astype(np.float32)
    delay = draw(st.sampled_from([None, None, (), (n,), (n_in,), (n, n_in)]))
    if delay is not None and (kind == "dense" or n == n_in):
        layer["delay"] = rng.integers(0, draw(st.sampled_from([2, 70])), delay).astype(np.float32)
    return layer


@needs_lava
@settings(max_examples=40)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")  # netx and numpy on purpose-made edge values
def test_random_dense_nets_equal_lava(data, tmp_path_factory):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    sizes = data.draw(st.lists(st.integers(1, 7), min_size=2, max_size=4))
    layers = [data.draw(dense_layers(rng, n, n_in)) for n_in, n in pairwise(sizes)]
    if data.draw(st.booleans()):
        layers.insert(0, {"type": "input", "shape": [sizes[0]]})
    path = write(tmp_path_factory.mktemp("net") / "random.net", *layers)
    assert_equals_lava(path, (rng.random((30, sizes[0])) < 0.4).astype(np.uint8))


@needs_lava
@settings(max_examples=25)
@given(data=st.data())
@pytest.mark.filterwarnings("ignore")
def test_random_conv_nets_equal_lava(data, tmp_path_factory):
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    groups = data.draw(st.sampled_from([1, 1, 2]))
    kernel = data.draw(matrices(rng, (2 * groups, 2, *data.draw(pair)))).clip(-255, 255)
    shape = (2 * groups, data.draw(st.integers(3, 8)), data.draw(st.integers(3, 8)))
    stride, dilation = data.draw(pair), data.draw(pair)
    padding = tuple(size - 1 for size in data.draw(pair))
    conv = Convolution(kernel, stride, padding, dilation, groups)
    out = conv.output_shape(shape)
    if min(out) < 1:
        return
    bias = rng.integers(-9, 9, out[0]) if data.draw(st.booleans()) else rng.integers(-9, 9, out[::-1])
    path = write(
        tmp_path_factory.mktemp("net") / "random.net",
        {"type": "input", "shape": shape},
        {
            "type": "conv",
            "shape": out,
            "weight": kernel[..., None].astype(np.float32),
            "stride": stride,
            "padding": padding,
            "dilation": dilation,
            "groups": groups,
            "neuron": CUBA,
            "bias": bias,
        },
        {"type": "flatten", "shape": [1, 1, int(np.prod(out))]},
        dense(data.draw(matrices(rng, (3, int(np.prod(out)))))),
    )
    parts = [p for p in load(path).projections if p.target == "layer1"]
    assert all(
        isinstance(part.weights, ConvolutionWeights) for part in parts
    )  # odd weights are parts of their own
    assert np.array_equal(sum(part.weights.kernel for part in parts), kernel)
    assert sum(n_weights(part)[1] for part in parts) == kernel.size
    assert_equals_lava(path, (rng.random((12, *shape)) < 0.4).astype(np.uint8))


def test_pooling_sums_each_channel_apart(tmp_path):
    path = write(
        tmp_path / "pool.net",
        {"type": "input", "shape": [2, 4, 4]},
        {
            "type": "pool",
            "shape": [2, 2, 2],
            "weight": np.full((1, 1, 2, 2), 20.0),
            "kernelSize": [2, 2],
            "stride": [2, 2],
            "padding": [0, 0],
            "dilation": [1, 1],
            "neuron": {**CUBA, "iDecay": 4096, "vDecay": 4096, "vThMant": 45},
        },
    )
    spikes = np.zeros((1, 1, 2, 4, 4), np.uint8)
    spikes[0, 0, 0, :2, :2] = [[1, 1], [1, 0]]  # 60 > 45
    spikes[0, 0, 1, 2:, 2:] = [[1, 1], [0, 0]]  # 40 < 45
    output = simulate(load(path), spikes.reshape(1, 1, -1)).output_spikes.reshape(2, 2, 2)
    assert np.argwhere(output).tolist() == [[0, 0, 0]]


@needs_lava
@pytest.mark.filterwarnings("ignore")
def test_a_net_of_slayer_with_pooling_equals_slayer(tmp_path):
    torch = pytest.importorskip("torch")
    import lava.lib.dl.slayer as slayer

    torch.manual_seed(0)
    neuron = {
        "threshold": 0.9,
        "current_decay": 0.5,
        "voltage_decay": 0.2,
        "scale_grad": 1,
        "tau_grad": 1,
        "requires_grad": False,
    }
    blocks = [
        slayer.block.cuba.Conv(neuron, 2, 3, 3, padding=1, weight_scale=3),
        slayer.block.cuba.Pool(neuron, kernel_size=2, stride=2),
        slayer.block.cuba.Flatten(),
        slayer.block.cuba.Dense(neuron, 3 * 3 * 4, 5, weight_scale=4),
    ]
    spikes = (torch.rand(2, 2, 6, 8, 40) < 0.3).float()
    outputs = [spikes]
    with torch.no_grad():
        for block in blocks:
            outputs.append(block(outputs[-1]))
    path = write(tmp_path / "slayer.net", {"type": "input", "shape": [2, 6, 8]})
    with h5py.File(path, "a") as file:
        for index, block in enumerate(blocks, start=1):
            block.export_hdf5(file.create_group(f"layer/{index}"))
    ours = simulate(load(path), as_samples(spikes), record="spikes").recorded
    for late, (layer, output) in enumerate((("layer1", 1), ("layer2", 2), ("layer4", 4)), start=1):
        expected = as_samples(outputs[output])  # SLAYER delays every layer's output by a step
        np.testing.assert_array_equal(ours[layer, "spikes"][:, :-late], expected[:, late:], err_msg=layer)
        assert expected.sum() > 40


def as_samples(tensor) -> np.ndarray:
    """SLAYER's (n_samples, …, n_steps) as (n_samples, n_steps, n) uint8."""
    array = np.moveaxis(tensor.numpy().astype(np.uint8), -1, 1)
    return array.reshape(*array.shape[:2], -1)


@needs_lava
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_neurons_of_a_layer_may_differ(tmp_path, rng):
    """Decays and thresholds per neuron: neurons that are alike are a population; each as in Lava."""
    from support import netx_direct

    in_turn = [0, 1, 2, 1, 0, 0]
    mixed = {
        **CUBA,
        "iDecay": np.array([900, 900, 2500])[in_turn],
        "vDecay": np.array([100, 400, 400])[in_turn],
        "vThMant": np.array([60, 80, 90])[in_turn],
    }
    layers = [
        dense(
            2 * rng.integers(-20, 60, (6, 5)),
            mixed,
            type="dense_rec",
            bias=rng.integers(-9, 20, 6),
            weight_rec=(2 * rng.integers(-20, 20, (6, 6))).astype(np.float32),
        ),
        dense(2 * rng.integers(-20, 60, (4, 6))),
    ]
    path = write(tmp_path / "mixed.net", *layers)
    network = load(path, aligned=False)
    spikes = (rng.random((40, 5)) < 0.4).astype(np.uint8)
    recorded = run_quietly(network, spikes[None]).recorded
    first, last = netx_direct.run(path, spikes)
    for number, name in enumerate(("layer0_1", "layer0_2", "layer0_3")):
        chosen = np.flatnonzero(np.array(in_turn) == number)
        for variable, expected in first.items():
            np.testing.assert_array_equal(recorded[name, variable][0], expected[:, chosen], err_msg=name)
    np.testing.assert_array_equal(recorded["layer1", "spikes"][0], last["spikes"])
    assert 0 < last["spikes"].mean() < 1
    with pytest.raises(InputError, match=r"netx-neuron: .*the last layer: its neurons differ"):
        load(path, n_layers=1)


def test_everything_that_netx_cannot_run_is_named_at_once(tmp_path):
    path = write(
        tmp_path / "bad.net",
        {"type": "input", "shape": [4]},
        dense(np.zeros((3, 4))),
        dense(np.full((3, 3), 300)),
        dense(np.ones((3, 3)), {**CUBA, "refDelay": 2, "messageBits": 24}),
        dense(np.ones((3, 2)), bias=[5001.0, 0, 0]),
        dense(np.ones((3, 3)), {"type": b"SDNN", "vThMant": 1}),
        {"type": "average", "shape": [1, 1, 1]},
    )
    with pytest.raises(InputError) as caught:
        load(path)
    places = [(p.code, p.where.removeprefix(f"{path}, ")) for p in caught.value.problems]
    assert places == [
        ("netx-weights", "layer 1, weight"),
        ("netx-weights", "layer 2, weight"),
        ("netx-neuron", "layer 3, neuron/messageBits"),
        ("netx-neuron", "layer 3, neuron/refDelay"),
        ("netx-shape", "layer 4, weight"),
        ("netx-bias", "layer 4, bias"),
        ("netx-neuron", "layer 5, neuron"),
        ("netx-layer", "layer 6"),
    ]


AVERAGE = {"type": "average", "shape": [1, 1, 1]}


@pytest.mark.parametrize("before", [[], [{"type": "input", "shape": [4]}]], ids=["first", "behind the input"])
def test_without_neurons_before_it_an_unknown_layer_has_another_fix(before, tmp_path):
    path = write(tmp_path / "bad.net", *before, AVERAGE)
    with pytest.raises(InputError, match=rf"layer {len(before)}: type 'average'.*fix: no layer with neurons"):
        load(path)
    if before:
        with pytest.raises(InputError, match="no layer with neurons"):  # the usual fix would not help
            load(path, n_layers=len(before))


def test_the_fix_for_an_unknown_layer_reads_the_layers_before_it(tmp_path):
    path = write(tmp_path / "bad.net", dense(np.ones((3, 4))), dense(np.ones((2, 3))), AVERAGE)
    with pytest.raises(InputError, match=r"layer 2: type 'average'.*lbi\.load\(PATH, n_layers=2\)"):
        load(path)
    assert [population.n for population in load(path, n_layers=2).populations] == [3, 2]


def test_sigma_delta_nets_are_refused():
    with pytest.raises(InputError, match="type 'SDNN'; allowed: LOIHI or CUBA"):
        load(wheel_file("gts/pilotnet_sdnn/network.net"))


def test_files_that_are_not_netx_are_refused(tmp_path):
    (tmp_path / "text.net").write_text("no")
    with pytest.raises(InputError, match="netx-file"):
        load(tmp_path / "text.net")
    with h5py.File(tmp_path / "other.net", "w") as file:
        file["x"] = 1
    with pytest.raises(InputError, match="netx-file"):
        load(tmp_path / "other.net")
    with pytest.raises(InputError, match="weight: NaN or infinite"):
        load(write(tmp_path / "nan.net", dense([[np.nan, 2.0]])))


def test_a_dense_layer_behind_a_convolution_needs_a_flatten(tmp_path):
    conv = {
        "type": "conv",
        "shape": [1, 2, 2],
        "weight": np.ones((1, 1, 2, 2)),
        "stride": [1, 1],
        "padding": [0, 0],
        "dilation": [1, 1],
        "groups": 1,
        "neuron": CUBA,
    }
    source = {"type": "input", "shape": [1, 3, 3]}
    with pytest.raises(InputError, match="a flatten between them"):
        load(write(tmp_path / "a.net", source, conv, dense(np.ones((2, 4)))))
    network = load(write(tmp_path / "b.net", source, conv, {"type": "flatten"}, dense(np.ones((2, 4)))))
    assert [population.latency for population in network.populations] == [1, 2]


@needs_lava
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("vth", [10_000, 131_071])
@pytest.mark.parametrize("bias", [[8000, -8190, 4096], [8000, 3, -5], [4095, -4096, 1]])
def test_biases_beyond_thirteen_bits_are_those_of_the_next_exponent(bias, vth, tmp_path, rng):
    """Even mantissas up to twice the range; with odd ones beside them, the layer is in two parts. As in Lava."""
    neuron = {**CUBA, "vThMant": vth}
    layers = [dense(2 * rng.integers(-20, 60, (3, 5)), neuron, bias=np.array(bias)), dense(2 * np.eye(3))]
    path = write(tmp_path / "bias.net", *layers)
    spikes = (rng.random((30, 5)) < 0.4).astype(np.uint8)
    network = load(path, aligned=False)
    recorded = run_quietly(network, spikes[None]).recorded
    from support import netx_direct

    first, _ = netx_direct.run(path, spikes)
    found = {p.name: p.neuron for p in network.populations[:-1]}
    if len(found) == 1:
        for variable, expected in first.items():
            np.testing.assert_array_equal(recorded["layer0", variable][0], expected, err_msg=variable)
    else:
        np.testing.assert_array_equal(recorded["layer0_1", "v"][0], first["v"][:, [0]])
        np.testing.assert_array_equal(recorded["layer0_2", "v"][0], first["v"][:, [1, 2]])
    assert all(np.abs(neuron.bias_mant).max() <= 4096 for neuron in found.values())


def test_what_we_write_we_read(tmp_path):
    """A bias of 4000 << 7 is 8000 at netx's fixed exponent."""
    from lbi.exporters import netx
    from support.networks import random_network

    from lbi.quantization.to_integers import quantize

    fixed = quantize(random_network(np.random.default_rng(3), (6, 5, 4)))
    populations = tuple(
        replace(p, neuron=replace(p.neuron, bias_mant=np.full(p.n, 4000, np.int32), bias_exp=7))
        for p in fixed.populations
    )
    fixed = replace(fixed, populations=populations)
    netx.write(fixed, tmp_path / "net.net")
    again = load(tmp_path / "net.net")
    for before, after in zip(fixed.populations, again.populations, strict=True):
        assert np.array_equal(before.neuron.bias, after.neuron.bias)
    spikes = (np.random.default_rng(0).random((2, 30, 6)) < 0.4).astype(np.uint8)
    assert np.array_equal(run_quietly(again, spikes).output, run_quietly(fixed, spikes).output)


@pytest.mark.parametrize(
    ("layer", "named"),
    [
        (
            {"neuron": {k: v for k, v in CUBA.items() if k != "vThMant"}},
            [r"layer 0, neuron, vThMant: missing"],
        ),
        (
            {"neuron": {"type": b"CUBA", "vDecay": 128}},
            [
                r"layer 0, neuron, iDecay: missing; there is type, vDecay",
                r"layer 0, neuron, vThMant: missing",
            ],
        ),
        ({"drop": "weight"}, [r"layer 0, weight: missing"]),
        ({"drop": "type"}, [r"layer 0, type: missing"]),
        ({"drop": "shape"}, [r"layer 0, shape: missing"]),
        ({"drop": "neuron/type"}, [r"layer 0, neuron, type: missing"]),
    ],
)
def test_a_missing_key_is_named(layer, named, tmp_path):
    drop = layer.pop("drop", None)
    path = write(tmp_path / "net.net", {**dense(2 * np.eye(3)), **layer})
    if drop:
        with h5py.File(path, "r+") as file:
            del file[f"layer/0/{drop}"]
    with pytest.raises(InputError, match="netx-key") as caught:
        load(path)
    assert len(caught.value.problems) == len(named)
    for problem, text in zip(caught.value.problems, named, strict=True):
        assert text in str(problem)


def test_a_group_of_another_name_is_told(tmp_path):
    with h5py.File(tmp_path / "net.net", "w") as file:
        file["layers/0/type"] = b"dense"
    with pytest.raises(InputError, match=r"netx-file: .*\(layer: missing; there is layers\)"):
        load(tmp_path / "net.net")


def test_a_first_layer_without_weights_before_images_is_a_reason_not_a_crash():
    import lbi
    from lbi.errors import Problems
    from lbi.files.netx.layers import chain
    from lbi.network.csr import CsrMatrix

    neuron = lbi.CubaLif(0.25, 0.125, 1.0, np.full(8, 0.1))
    populations = (
        lbi.Population("a", (2, 2, 2), neuron),
        lbi.Population("b", (1, 2, 2), lbi.CubaLif(0.25, 0.125, 1.0)),
    )
    projections = (
        lbi.Projection("in_a", "input", "a", CsrMatrix.from_dense(np.zeros((8, 5)))),
        lbi.Projection("a_b", "a", "b", CsrMatrix.from_dense(np.ones((4, 8)))),
    )
    network = lbi.Network((5,), populations, projections, lbi.Readout("b"))
    problems = Problems()
    chain(lbi.quantize(network), problems)
    assert [problem.code for problem in problems] == ["no-weights"]
