"""Netx files written by hand, and those that the lava-dl wheel brings."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest

from lbi.files.netx.reader import load
from lbi.simulation.run import SaturationWarning, simulate

HAS_LAVA = (
    importlib.util.find_spec("lava") is not None and importlib.util.find_spec("lava.lib.dl") is not None
)
needs_lava = pytest.mark.skipif(not HAS_LAVA, reason="lava-dl is not installed")

CUBA = {"type": b"CUBA", "iDecay": 1024, "vDecay": 128, "vThMant": 80, "refDelay": 1, "gradedSpike": False}


def wheel_file(name: str) -> Path:
    """A file of the nets that the lava-dl wheel brings; skips where it is absent."""
    if HAS_LAVA:
        import lava.lib.dl.netx as netx

        path = Path(netx.__file__).parents[4] / "tests/lava/lib/dl/netx" / name
        if path.exists():
            return path
    pytest.skip("the lava-dl wheel's nets are not installed")


def write(path: Path, *layers: dict) -> Path:
    with h5py.File(path, "w") as file:
        for index, layer in enumerate(layers):
            for key, value in {"shape": [1], **layer}.items():
                if key == "type":
                    file.create_dataset(f"layer/{index}/type", (1,), "S10", [value.encode()])
                elif key == "neuron":
                    for name, entry in value.items():
                        file[f"layer/{index}/neuron/{name}"] = entry
                else:
                    file[f"layer/{index}/{key}"] = value
    return path


def dense(weight, neuron=CUBA, **more) -> dict:
    weight = np.asarray(weight)
    more |= {"neuron": neuron} if neuron else {}
    return {"type": "dense", "shape": [len(weight), 1, 1], "weight": weight.astype(np.float32), **more}


def run_quietly(network, spikes):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SaturationWarning)
        return simulate(network, spikes, record=("spikes", "u", "v"))


def assert_equals_lava(path: Path, spikes: np.ndarray, n_layers: int | None = None) -> int:
    """Compare every layer in raw chip time; ``spikes`` (n_steps, …); returns the spikes seen."""
    from support import netx_direct

    network = load(path, aligned=False, n_layers=n_layers)
    activity = run_quietly(network, spikes.reshape(1, len(spikes), -1))
    theirs = netx_direct.run(path, spikes, n_layers)
    assert len(theirs) == len(network.populations)
    for population, record in zip(network.populations, theirs, strict=True):
        for variable, expected in record.items():
            np.testing.assert_array_equal(
                activity.recorded[population.name, variable][0],
                expected,
                err_msg=f"{population.name} {variable}",
            )
    return activity.n_spikes
