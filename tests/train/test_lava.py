"""The chip-exact accuracy of training is that of the trained network in Lava, spike for spike."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
pytest.importorskip("lava.magma")

from support.command import call  # noqa: E402

from lbi import datasets  # noqa: E402
from lbi.cli.export import main as lbi_export  # noqa: E402
from lbi.cli.run import main as lbi_run  # noqa: E402
from lbi.cli.train import main as lbi_train  # noqa: E402
from lbi.train.model_pt import load_module  # noqa: E402

pytestmark = pytest.mark.lava

NETWORKS = {
    "recurrent": ["--recurrent", "--set", "current_decay=[0.4, 0.7]", "--set", "bias=true"],
    "delays": [
        "--recurrent",
        "--set",
        "recurrent_delay=5",
        "--set",
        "recurrent_delay_from=2",
        "--set",
        "current_decay=[0.4, 0.7]",
    ],
    "adaptive": ["--recurrent", "--neuron", "atrlif", "--set", "threshold_step=0.4", "--set", "bias=true"],
    "membrane": ["--readout", "membrane_max", "--neuron", "atrlif"],
}
"""Name → options of the training run."""


@pytest.fixture(scope="module")
def digits(tmp_path_factory):
    """400 digits to train with and 16 to test with, 8 steps each, as a user's own file."""
    folder = tmp_path_factory.mktemp("digits")
    data = datasets.load("digits", n_steps=8)
    train, test = data.train.subset(slice(400)), data.test.subset(slice(16))
    np.savez(
        folder / "digits.npz",
        spikes=train.spikes,
        labels=train.labels,
        test_spikes=test.spikes,
        test_labels=test.labels,
    )
    np.savez(folder / "test.npz", spikes=test.spikes, labels=test.labels)
    return folder


@pytest.mark.parametrize("name", NETWORKS)
def test_lava_gives_the_spikes_and_the_accuracy_that_training_printed(name, digits, tmp_path):
    model, test = tmp_path / "model.pt", digits / "test.npz"
    trained = call(
        lbi_train,
        "--dataset",
        digits / "digits.npz",
        "--precision",
        "chip",
        "--optimizer",
        "adam",
        "--lr",
        "0.02",
        "--hidden",
        "30",
        "--epochs",
        "6",
        "--set",
        "chip_from=0.5",
        *NETWORKS[name],
        "--json",
        "-o",
        model,
    )
    exported = call(lbi_export, model, "--target", "lava", "-o", tmp_path / "export", "--json")
    ran = call(
        lbi_run,
        tmp_path / "export",
        "--backend",
        "lava",
        "--spikes",
        test,
        "-o",
        tmp_path / "out.npz",
        "--json",
    )
    assert (trained.code, exported.code, ran.code) == (0, 0, 0), (trained, exported, ran)
    with np.load(test) as given, np.load(tmp_path / "out.npz") as out, torch.no_grad():
        spikes, voltages = load_module(model)[0](torch.from_numpy(given["spikes"]))[-1]
        if name == "membrane":
            assert np.abs(out["membrane"] - voltages.double().numpy() * 64).sum() == 0
        else:
            assert np.abs(out["spikes"].astype(int) - spikes.numpy().astype(int)).sum() == 0
            assert spikes.sum() > 30
    # Far more than the tenth of guessing: the neurons compute something.
    assert ran.json["accuracy"] == trained.json["accuracy"]["test"] > 0.5
