"""Trained convolutions from model.pt to every target: kernels stay kernels, and Lava, netx and NIR give the same spikes."""

from __future__ import annotations

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from support.command import call  # noqa: E402

import lbi  # noqa: E402
from lbi.cli.export import main as lbi_export  # noqa: E402
from lbi.cli.run import main as lbi_run  # noqa: E402
from lbi.network.convolution_weights import ConvolutionWeights  # noqa: E402
from lbi.simulation import oracle  # noqa: E402
from lbi.train import SpikingNetwork, save_model  # noqa: E402
from lbi.train.session.config import make_config  # noqa: E402

HIDDEN = ("6c3", "p2", "8c3", "p2", 24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model with sparse kernels and biases, spikes of images of 1 × 8 × 8, and the model's kernels."""
    made = tmp_path_factory.mktemp("convolutions")
    options = {"hidden": HIDDEN, "threshold": 0.5, "current_decay": (1.0,), "bias": True}
    model = SpikingNetwork(make_config("digits", None, options).model((8, 8), 10), 3)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for layer in model.populations():
            layer.weight.mul_(torch.rand(layer.weight.shape, generator=generator) < 0.6)
            layer.weight.mul_(2)
            layer.bias.copy_(torch.rand(layer.bias.shape, generator=generator) * 0.1)
    save_model(model, made / "m.pt")
    unbiased = SpikingNetwork(make_config("digits", None, {**options, "bias": False}).model((8, 8), 10), 3)
    kept = unbiased.state_dict().keys()
    unbiased.load_state_dict({name: value for name, value in model.state_dict().items() if name in kept})
    save_model(unbiased, made / "unbiased.pt")
    spikes = (np.random.default_rng(0).random((3, 8, 64)) < 0.3).astype(np.uint8)
    np.savez(made / "test.npz", spikes=spikes)
    done = call(lbi_export, made / "m.pt", "--target", "loihi", "--json")
    assert done.code == 0, done
    return made, model, spikes, done.json


def test_kernels_stay_kernels_and_are_counted_as_in_training(folder):
    made, model, _, record = folder
    network, fixed = lbi.load(made / "m.pt"), lbi.load(made / "m.loihi")
    whole = lbi.quantize(network, "loihi2")
    pairs = zip(
        network.projections[:2], whole.projections, fixed.projections, record["projections"], strict=False
    )
    for (projection, rounded, stored, entry), square in zip(pairs, (1, 2), strict=True):
        trained = model.layers[projection.target].weight.detach().numpy().astype(np.float64)
        # Pooling repeats each weight over a square.
        assert np.array_equal(projection.weights.kernel, np.kron(trained, np.ones((square, square))))
        assert isinstance(stored.weights, ConvolutionWeights)
        n_rounded = np.count_nonzero(trained) * square**2 - rounded.n_rounded_to_zero
        assert np.count_nonzero(rounded.weights.kernel) == n_rounded
        n_active = np.count_nonzero(stored.weights.kernel)  # without channels that cannot change the output
        assert n_active <= n_rounded
        assert (entry["n_active"], entry["n_weights"]) == (n_active, trained.size * square**2)
        assert entry["density"] == n_active / (trained.size * square**2)
        assert entry["nnz"] == stored.weights.to_csr().nnz


@pytest.mark.lava
@pytest.mark.parametrize("backend", ["lava", "netx"])
def test_the_backends_give_the_spikes_of_the_simulator(backend, folder):
    made, *_ = folder
    export, spikes = made / "m.loihi", ("--spikes", made / "test.npz")
    if backend == "netx":  # which takes no bias between its steps
        pytest.importorskip("lava.lib.dl.netx")
        export = made / "unbiased.net"
        assert call(lbi_export, made / "unbiased.pt", "--target", "netx").code == 0
    done = call(lbi_run, export, "--backend", backend, *spikes, "--verify", "--json")
    assert done.code == 0, done
    assert done.json["verified"] is True
    assert done.json["n_output_spikes"] > 20


def test_nir_gives_the_kernels_back(folder):
    pytest.importorskip("nir")
    made, _, spikes, _ = folder
    assert call(lbi_export, made / "m.pt", "--target", "nir").code == 0
    network, again = lbi.load(made / "m.pt"), lbi.load(made / "m.nir")
    for before, after in zip(network.projections, again.projections, strict=True):
        assert type(after.weights) is type(before.weights)
        # A weight is divided and multiplied by a time constant: two roundings of 2^-53 each, and of the constant itself.
        np.testing.assert_allclose(after.weights.data, before.weights.data, rtol=2.0**-50, atol=0)
        assert np.array_equal(after.weights.columns(0, 10), before.weights.columns(0, 10))
    assert again.n_active == network.n_active
    expected = oracle.simulate(network, spikes).output
    assert expected.sum() > 20
    assert np.array_equal(oracle.simulate(again, spikes).output, expected)


def test_csr_is_the_matrix_of_the_kernels(folder):
    from scipy.sparse import load_npz

    made, *_ = folder
    assert call(lbi_export, made / "m.pt", "--target", "csr").code == 0
    manifest = json.loads((made / "m.csr" / "manifest.json").read_text())
    fixed = lbi.load(made / "m.loihi")
    for entry, projection in zip(manifest["projections"], fixed.projections, strict=True):
        matrix = load_npz(made / "m.csr" / entry["weights"])
        assert np.array_equal(matrix.toarray(), projection.weights.to_dense())
