"""Training of convolutions and pooling: the notation, the matrices they stand for, chip-exactness, sparse kernels, files."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")

from support.command import call  # noqa: E402
from torch.nn.functional import avg_pool2d, conv2d  # noqa: E402

import lbi  # noqa: E402
from lbi import datasets  # noqa: E402
from lbi.cli import train as command  # noqa: E402
from lbi.errors import InputError, UsageError  # noqa: E402
from lbi.files.versions import MODEL  # noqa: E402
from lbi.network.convolution_weights import ConvolutionWeights  # noqa: E402
from lbi.simulation import oracle  # noqa: E402
from lbi.train import ModelConfig, PopulationConfig, SpikingNetwork, network_of, save_model, untrusted_torch  # noqa: E402
from lbi.train.extraction import blocks, matrix_of, pattern_of  # noqa: E402
from lbi.train.layers.chip_exact import set_scales, snap  # noqa: E402
from lbi.train.layers.wiring import Wiring  # noqa: E402
from lbi.train.model_pt import load_module  # noqa: E402
from lbi.train.session.config import TrainConfig, make_config  # noqa: E402
from lbi.train.session.hidden import parse, wirings  # noqa: E402
from lbi.train.session.loop import Trainer  # noqa: E402

WIRINGS = [
    (Wiring(4, 3), (2, 5, 6)),
    (Wiring(3, 5, 2), (1, 7, 8)),
    (Wiring(4, 3, 1, 2), (2, 8, 6)),
    (Wiring(4, 3, 2, 2), (2, 7, 9)),  # a row and a column are left over by pooling
    (Wiring(2, 1, 3, 3), (3, 10, 10)),  # a row and a column are left over, without a border over them
    (Wiring(3, 3, 2, 2), (2, 9, 8)),
    (Wiring(2, 3, 2, 3), (1, 11, 12)),
    (Wiring(0, 1, 1, 2), (3, 5, 4)),
]


def test_the_notation_of_the_papers():
    hidden = parse("16c3, p2,32c5s2,p2,128")
    assert hidden == ["16c3", "p2", "32c5s2", "p2", 128]
    found, pool = wirings(hidden, (1, 28, 28))
    assert found == [
        (16 * 28 * 28, Wiring(16, 3, 1, 1)),
        (32 * 7 * 7, Wiring(32, 5, 2, 2)),
        (128, Wiring(pool=2)),
    ]
    assert pool == 1
    assert wirings(["8c3", "p2", "p2"], (8, 8)) == ([(8 * 64, Wiring(8, 3))], 4)
    for wrong in ("16c4", "c3", "16c3s0", "0", "p0", "16c", "p", "x", "-3", 65537, 1.5, True):
        with pytest.raises(
            UsageError,
            match=r"option: hidden: .*allowed: neurons \(128, up to 65536\), convolutions with an odd kernel",
        ):
            TrainConfig(hidden=(wrong,))


@pytest.mark.parametrize(("wiring", "source"), WIRINGS)
def test_the_matrix_is_torchs_convolution_of_torchs_pooling(wiring, source, rng):
    n = 5
    shape = wiring.weight_shape(source, n)
    weight = rng.integers(-3, 4, shape).astype(np.float64)  # whole numbers: every sum is exact
    spikes = rng.integers(0, 2, (4, *source)).astype(np.float64)
    frames = avg_pool2d(torch.from_numpy(spikes), wiring.pool) * wiring.pool**2
    kernel = torch.from_numpy(weight)
    if wiring.channels:
        expected = conv2d(frames, kernel, stride=wiring.stride, padding=wiring.kernel // 2)
        assert tuple(expected.shape[1:]) == wiring.shape(source, n)
    else:
        expected = frames.flatten(1) @ kernel.T
    flat = spikes.reshape(4, -1)
    matrix = matrix_of(wiring, weight, source)
    assert np.array_equal(matrix @ flat.T, expected.flatten(1).T.numpy())
    arriving = wiring.arriving(torch.from_numpy(flat)[None].to(torch.uint8), kernel, source)
    assert np.array_equal(arriving[0].numpy(), expected.flatten(1).numpy())
    upstream = torch.from_numpy(rng.integers(-3, 4, (1, *arriving.shape[1:])).astype(np.float64))
    trained = torch.from_numpy(flat)[None].requires_grad_()
    (gradient,) = torch.autograd.grad((wiring.arriving(trained, kernel, source) * upstream).sum(), trained)
    assert np.array_equal(gradient[0].numpy(), upstream[0].numpy() @ matrix.toarray())
    places = pattern_of(wiring, shape, source)
    if places is None:
        assert matrix_of(wiring, np.ones(shape), source).nnz == np.prod(matrix.shape)
    else:
        assert places.nnz == matrix_of(wiring, np.ones(shape), source).nnz
    check_blocks(wiring, weight, source, matrix)


def check_blocks(wiring, weight, source, matrix):
    """The weights of a projection are those of the matrix, in kernels that are as dense as those of the layer."""
    (((weights, pattern),),) = blocks(
        wiring, weight, source, [slice(0, matrix.shape[0])], [slice(0, matrix.shape[1])]
    )
    assert np.array_equal(weights.to_dense(), matrix.toarray())
    # A pixel that pooling leaves over has no synapse: kernels would reach it if their border of zeros lies over it.
    kernels = bool(wiring.channels) and source[1:] not in ((7, 9), (11, 12))
    assert isinstance(weights, ConvolutionWeights) == kernels
    whole = matrix_of(wiring, np.ones(weight.shape), source)
    if kernels:
        assert pattern is None
        assert weights.pattern().nnz == whole.nnz
        assert weights.n_parameters == np.count_nonzero(weight) * wiring.pool**2
        halves = [
            [slice(0, n // 2 * size), slice(n // 2 * size, n * size)]
            for n, size in (
                (weight.shape[0], matrix.shape[0] // weight.shape[0]),
                (source[0], source[1] * source[2]),
            )
        ]
        parts = blocks(wiring, weight, source, *(half if half[0].stop else half[1:] for half in halves))
        joined = np.vstack([np.hstack([block.to_dense() for block, _ in row]) for row in parts])
        assert np.array_equal(joined, matrix.toarray())
    elif pattern is not None:
        assert pattern.nnz == whole.nnz


NETWORKS = [
    {"hidden": ("4c3", "p2", "6c3s2", 16), "bias": True},
    {"hidden": ("5c3", "p3", 12), "current_decay": (0.5, 0.3), "voltage_decay": (0.2, 0.1), "bias": True},
    {"hidden": ("p2", "3c3", "p2"), "readout": "membrane_mean"},
    {"hidden": ("3c5s2", 9), "recurrent": True, "neuron": "atrlif"},
]


@pytest.mark.parametrize("options", NETWORKS)
@pytest.mark.parametrize("chip", [False, True])
def test_what_is_trained_is_what_runs(options, chip, tmp_path):
    """Floats as the oracle on the extracted network, the chip's integers as the simulator, spike for spike."""
    data = datasets.load("digits", n_steps=6)
    model = SpikingNetwork(make_config("digits", None, {**options, "threshold": 0.5}).model((8, 8), 10), 3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in model.populations():
            layer.weight.mul_(torch.rand(layer.weight.shape, generator=generator) < 0.6)
            if layer.bias is not None:
                layer.bias.copy_(torch.randn(layer.bias.shape, generator=generator) * 0.05)
    if chip:
        set_scales(model)
        snap(model)
    save_model(model, tmp_path / "m.pt")
    model, _ = load_module(tmp_path / "m.pt")
    network = lbi.load(tmp_path / "m.pt")
    spikes = data.test.spikes[:24]
    with torch.no_grad():
        run = model(torch.from_numpy(spikes))
    read = 1 if model.config.readout == "membrane_mean" else 0
    if chip:
        fixed = lbi.quantize(network)
        assert {projection.n_rounded_to_zero for projection in fixed.projections} == {0}
        expected = lbi.simulate(fixed, spikes).output
        assert np.array_equal(run[-1][read].numpy() * (64 if read else 1), expected)
    else:
        expected = oracle.simulate(network, spikes).output
        # Float sums in another order: a spike at the threshold would differ, and none does.
        np.testing.assert_allclose(run[-1][read].numpy(), expected, rtol=0, atol=1e-4 if read else 0)
    assert run[0][0].mean() > 0.01
    first = network.populations[0]
    assert len(first.shape) == 3
    assert network.populations[0].n + sum(p.n for p in network.populations[1:]) == sum(
        layer.config.n for layer in model.populations()
    )


@pytest.mark.parametrize(("over", "density"), [(None, 0.3), ("kernels", 0.3), ("channels", 0.5)])
def test_sparse_kernels_reach_the_density_and_stay_absent(over, density):
    data = datasets.load("digits", n_steps=4)
    options = {
        "hidden": ("8c3", "p2", "8c3", 24),
        "epochs": 4,
        "density": density,
        "initial_density": 1.0,
        "threshold": 0.4,
    }
    if over is not None:
        options |= {"regularizer": "GroupL1", "regularizer_options": {"over": over}}
    trainer = Trainer(make_config("digits", None, {**options, "settle": 0.3}), data)
    trainer.run()
    assert density / 2 < trainer.density() <= density
    layers = [trainer.model.layers[name].weight.detach() for name in ("hidden1", "hidden2")]
    if over is not None:
        dims = (2, 3) if over == "kernels" else (1, 2, 3)
        alive = torch.cat([(kernels != 0).float().mean(dims).reshape(-1) for kernels in layers])
        assert set(alive.tolist()) == {0.0, 1.0}  # whole groups, and some of each
    network = network_of(trainer.model)
    projection = next(p for p in network.projections if p.target == "hidden2")
    per_tap = torch.nn.functional.conv_transpose2d(torch.ones(1, 1, 4, 4), torch.ones(1, 1, 3, 3), padding=1)
    assert per_tap.shape == (1, 1, 4, 4)
    alive = (trainer.model.layers["hidden2"].weight.detach() != 0).sum((0, 1)).numpy()
    per_place = 4 * np.outer([3, 4, 3], [3, 4, 3])  # taps inside 4 × 4, each on 2 × 2 pixels
    assert projection.weights.nnz == int((alive * per_place).sum())
    assert projection.pattern.nnz == 4 * (3 * 4 - 2) ** 2 * 8 * 8  # taps inside 4 × 4, each on 2 × 2 pixels


def test_a_file_of_version_1_is_read(tmp_path):
    config = ModelConfig((6,), (PopulationConfig("output", 3, (0.5,), (0.25,)),))
    save_model(SpikingNetwork(config), tmp_path / "new.pt")
    content = untrusted_torch.read(tmp_path / "new.pt", MODEL)
    assert content["version"] == 2
    for population in content["config"]["populations"]:
        assert population.pop("wiring") == {"channels": 0, "kernel": 1, "stride": 1, "pool": 1}
    untrusted_torch.write({**content, "version": 1}, tmp_path / "old.pt")
    old, new = (load_module(tmp_path / name)[0] for name in ("old.pt", "new.pt"))
    assert old.config == new.config == config
    assert torch.equal(old.layers["output"].weight, new.layers["output"].weight)
    for version in (0, 3, True):
        untrusted_torch.write({**content, "version": version}, tmp_path / "other.pt")
        with pytest.raises(InputError, match=r"version: .*version 2"):
            load_module(tmp_path / "other.pt")


def test_wiring_that_fits_nothing_is_refused(tmp_path):
    def config(shape, n, wiring, **options):
        return ModelConfig(shape, (PopulationConfig("output", n, (0.5,), (0.25,), wiring=wiring, **options),))

    for shape, n, wiring, message in (
        (
            (64,),
            64,
            Wiring(1, 3),
            r"behind a layer of shape \(64,\); allowed: an input of shape \(channels, height, width\)",
        ),
        ((1, 8, 8), 63, Wiring(1, 3), "population-shape: .*63 neurons; allowed: 64"),
        ((1, 8, 8), 64, Wiring(1, 4), "an odd kernel"),
        ((1, 8, 8), 64, Wiring(1, 3, 0), "an odd kernel"),
        ((1, 8, 8), 64, Wiring(0, 3), "stride 1 without channels"),
        ((1, 8, 8), 64, Wiring(1, 3, 1, 9), "1 to 4194304 neurons"),
        ((4, 2048, 2048), 64, Wiring(1, 3), "1 to 4194304 neurons"),
    ):
        with pytest.raises(InputError, match=message):
            config(shape, n, wiring)
    with pytest.raises(InputError, match=r"recurrence: .*no convolution"):
        config((1, 8, 8), 64, Wiring(1, 3), recurrent=True)
    done = call(command.main, "--dataset", "psdigits", "--hidden", "4c3,p2", "-o", tmp_path / "m.pt")
    assert done.code == 3
    assert "fix: encode the data set as images" in done.errors[0]
    assert call(command.main, "--hidden", "4c3,,8").code == 2
