"""All readers of the package, with valid files to start from, changes to them, and their use."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import h5py
import numpy as np

import lbi
from support import cases
from support.fuzz.data import (
    damage_bytes_within,
    damage_heidelberg,
    damage_mnist,
    damage_npz,
    dataset_seeds,
    heidelberg_seeds,
    mnist_seeds,
    spikes_seeds,
    use_dataset,
    use_heidelberg,
    use_mnist,
    use_spikes,
)
from support.fuzz.event_cameras import (
    cache_seeds,
    damage_recordings,
    recording_seeds,
    use_cache,
    use_recordings,
)
from support.fuzz.hdf5 import damage_hdf5
from support.fuzz.sweeps import damage_sweep, sweep_seeds, use_sweep
from support.fuzz.training import (
    checkpoint_seeds,
    config_seeds,
    model_seeds,
    use_checkpoint,
    use_config,
)
from support.fuzz.values import Rng, damage_file, damage_toml, damage_zip, pick, plant
from support.networks import random_network

Seeds = Callable[[Path], list[Path]]
Change = Callable[[Path, Rng], None]


class Reader(NamedTuple):
    """seeds(folder): whole files or folders it takes · changes: ways to change a copy · read(path, rng): read it and use it.

    needs: packages without which it is left out
    """

    seeds: Seeds
    changes: tuple[Change, ...]
    read: Callable[[Path, Rng], Any]
    needs: tuple[str, ...] = ()

    @property
    def available(self) -> bool:
        """True if what it needs is installed."""
        return all(find_spec(name) for name in self.needs)


def use(network: Any, rng: Rng, chip: Any = "loihi2") -> None:
    """``run_through`` one in four of the networks read, unless it is large."""
    if rng.random() <= 0.25:
        run_through(network, chip)


def run_through(network: Any, chip: Any = "loihi2") -> None:
    """Quantize, simulate two steps and estimate."""
    if not isinstance(network, lbi.FixedNetwork):
        network = lbi.quantize(network, chip)
    n = network.n_in + network.n_neurons
    if n > 1 << 16:
        return
    spikes = np.ones((1, 2, network.n_in), dtype=np.uint8)
    lbi.simulate(network, spikes, n_threads=1)
    lbi.estimate(network, chip=chip)


def use_file(path: Path, rng: Rng) -> None:
    """``lbi.load``, then ``use``."""
    use(lbi.load(path), rng)


# Networks in integers: network.h5, the export folder, netx.


def network_seeds(folder: Path) -> list[Path]:
    paths = []
    dense = ("recurrent_bias", "delays", "adaptive", "integrator", "single_neuron")
    for name in (*dense, "pruned_convolution", "convolutions"):
        paths.append(folder / f"{name}.h5")
        lbi.save(cases.make(name)[0], paths[-1])
    return paths


USE = {"limit": 40.0, "used": 38.25, "unit": "nJ", "met": True, "costs": "davies2018"}
PROVENANCE = {
    "dataset": {"name": "digits", "n_steps": 16},
    "training": {
        "accuracy": {"test": 0.9, "train": 0.95},
        "budget": {"energy": USE, "cores": {"limit": 1, "used": None, "unit": "", "met": False}},
        "config": {"budget": ["energy=40nJ@davies2018", "cores=1"], "chip": "loihi1", "gain": 0.5},
    },
}


def estimate_seeds(folder: Path) -> list[Path]:
    """A network.h5 that says to which budget it was trained."""
    path = folder / "budget.h5"
    lbi.save(replace(cases.make("recurrent_bias")[0], provenance=PROVENANCE), path)
    return [path]


def damage_provenance(path: Path, rng: Rng) -> None:
    """Change one to three places of the provenance."""
    with h5py.File(path, "r+") as file:
        del file.attrs["sha256"]
        tree = json.loads(file.attrs["provenance"])
        for _ in range(int(rng.integers(1, 4))):
            plant(tree, rng)
        text = json.dumps(tree)
        file.attrs["provenance"] = text[: int(rng.integers(len(text)))] if rng.random() < 0.05 else text


def use_estimate(path: Path, rng: Rng) -> None:
    """Estimate and show it as lbi-estimate does: JSON, tables, and for one in fifty the page."""
    from rich.console import Console

    from lbi.cli.estimate_table import show
    from lbi.costing.report.html import render

    fixed = lbi.load(path)
    estimate = lbi.estimate(fixed, chip="loihi2")
    json.dumps(estimate.to_dict(), allow_nan=False)
    show(Console(file=io.StringIO()), [estimate], [path.stem])
    if rng.random() < 0.02:
        render([estimate], [path.stem])


def export_seeds(folder: Path) -> list[Path]:
    from lbi.deploy import targets
    from lbi.deploy.job import ExportJob

    paths = []
    for case in ("recurrent", "pruned_convolution"):
        paths.append(folder / f"{case}.loihi")
        job = ExportJob(cases.make(case)[0], lbi.load_profile("loihi2"))
        targets.write(job, targets.exporter("loihi"), paths[-1], force=True)
    return paths


FOLDER_CHANGES = (
    "bytes",
    "bytes",
    "content",
    "content",
    "content",
    "remove",
    "folder",
    "link",
    "loop",
    "empty",
    "exchange",
)


def damage_folder(path: Path, rng: Rng) -> None:
    """Change one of a folder's files, or exchange, remove or replace it."""
    names = sorted(os.listdir(path))
    file = path / pick(rng, [*names, "network.h5", "network.h5"])
    change = pick(rng, FOLDER_CHANGES)
    if change == "bytes":
        damage_file(file, rng)
    elif change == "content" and file.suffix in (".h5", ".net"):
        damage_hdf5(file, rng)
    elif change in ("remove", "folder", "link", "loop"):
        file.unlink()
        if change == "folder":
            file.mkdir()
        elif change != "remove":
            file.symlink_to("/nowhere" if change == "link" else file.name)
    elif change == "exchange":
        shutil.copyfile(path / pick(rng, names), path / "other")
        os.replace(path / "other", file)
    else:
        file.write_bytes(b"")


def use_export(path: Path, rng: Rng) -> None:
    from lbi.deploy import backends

    use(backends.open_export(path).fixed, rng)


CUBA = {"type": b"CUBA", "iDecay": 1024, "vDecay": 128, "vThMant": 80, "refDelay": 1, "gradedSpike": False}


def netx_seeds(folder: Path) -> list[Path]:
    from lbi.exporters import netx

    paths = []
    for name in ("feed_forward", "recurrent", "delay", "bias_on_netx_grid", "pruned_convolution"):
        paths.append(folder / f"{name}.net")
        netx.write(cases.make(name)[0], paths[-1])
    rng = np.random.default_rng(0)

    def weights(*shape: int) -> np.ndarray:
        return (2 * rng.integers(-60, 60, shape)).astype(np.float32)

    pair = {"stride": 1, "padding": 1, "dilation": 1}
    layers: list[dict[str, Any]] = [
        {"type": "input", "shape": [2, 5, 4], "weight": 64, "bias": 0, "neuron": {**CUBA, "iDecay": 4096}},
        {
            "type": "conv",
            "shape": [4, 5, 4],
            "weight": weights(4, 1, 3, 3),
            "groups": 2,
            **pair,
            "neuron": CUBA,
            "bias": weights(4),
        },
        {
            "type": "pool",
            "shape": [4, 2, 2],
            "weight": weights(1, 1, 2, 2, 1),
            "stride": [2, 2],
            "padding": [0, 0],
            "dilation": [1, 1],
            "neuron": CUBA,
        },
        {"type": "flatten", "shape": [16]},
        {
            "type": "dense",
            "shape": [5],
            "weight": weights(5, 16),
            "delay": weights(5, 16) % 9,
            "neuron": CUBA,
        },
        {
            "type": "dense_rec",
            "shape": [5],
            "weight": weights(5, 5),
            "weight_rec": weights(5, 5),
            "neuron": CUBA,
        },
    ]
    paths.append(folder / "conv.net")
    with h5py.File(paths[-1], "w") as file:
        for index, layer in enumerate(layers):
            for key, entry in layer.items():
                inner = entry if isinstance(entry, dict) else {"": entry}
                for name, number in inner.items():
                    text = isinstance(number, (str, bytes))
                    file[f"layer/{index}/{key}/{name}".rstrip("/")] = (
                        np.array([number], "S10") if text else number
                    )
    return paths


# NIR.


def nir_seeds(folder: Path) -> list[Path]:
    import nir
    from lbi.exporters import nir as exporter

    rng = np.random.default_rng(0)
    paths = []
    for name, options in (("plain", {}), ("recurrent", {"recurrent": True, "skip": True, "bias": True})):
        paths.append(folder / f"{name}.nir")
        nir.write(paths[-1], exporter.graph(random_network(rng, (6, 5, 4), **options)))

    def lif(*shape: int) -> Any:
        return nir.LIF(
            tau=np.full(shape, 1e-2),
            r=np.full(shape, 1e2),
            v_leak=np.zeros(shape),
            v_threshold=np.ones(shape),
        )

    inner = nir.NIRGraph.from_list(nir.Linear(rng.normal(size=(3, 3))), lif(3))
    nodes = {
        "input": nir.Input(np.array([2, 6, 5])),
        "conv": nir.Conv2d((6, 5), rng.normal(size=(3, 2, 3, 3)), 1, 1, 1, 1, rng.normal(size=3)),
        "a": nir.IF(r=np.full((3, 6, 5), 1e4), v_threshold=np.ones((3, 6, 5))),
        "pool": nir.SumPool2d(np.array([2, 2]), np.array([2, 2]), np.array([0, 0])),
        "average": nir.AvgPool2d(np.array([1, 1]), np.array([1, 1]), np.array([0, 0])),
        "flatten": nir.Flatten({"input": np.array([3, 3, 2])}, 0, -1),
        "affine": nir.Affine(rng.normal(size=(3, 18)), rng.normal(size=3)),
        "scale": nir.Scale(np.full(3, 0.5)),
        "cuba": nir.CubaLIF(
            tau_mem=np.full(3, 1e-2),
            tau_syn=np.full(3, 1e-3),
            r=np.full(3, 1e2),
            v_leak=np.zeros(3),
            v_threshold=np.ones(3),
            w_in=np.full(3, 10.0),
        ),
        "delay": nir.Delay(np.full(3, 2e-4)),
        "inner": inner,
        "output": nir.Output(np.array([3])),
    }
    names = list(nodes)
    paths.append(folder / "images.nir")
    nir.write(paths[-1], nir.NIRGraph(nodes, list(pairwise(names)), type_check=False))
    return paths


def use_nir(path: Path, rng: Rng) -> None:
    options = pick(
        rng, ({}, {}, {"dt": 1e-4}, {"writer": "snntorch"}, {"writer": "norse"}, {"writer": "sinabs"})
    )
    use(lbi.load(path, **options), rng)


# torch.save files: ours, checkpoints, and those of other frameworks.


def damage_tree(path: Path, rng: Rng) -> None:
    from support.fuzz.torch import damage_torch

    damage_torch(path, rng)


ARCH = """
import snntorch as snn
import torch
from torch import nn
from torch.nn import functional

def neuron():
    return snn.Leaky(beta=0.9, reset_mechanism="zero", init_hidden=True)

def dense():
    return nn.Sequential(nn.Linear(8, 6), neuron(), nn.Linear(6, 3), neuron())

def conv():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), neuron(), nn.Flatten(), nn.Linear(32, 3), neuron())

class Traced(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.depth = nn.Conv2d(1, 2, 3, stride=2, padding=1), nn.Conv2d(2, 2, 3, padding=1, groups=2)
        self.out = nn.Linear(2, 3)
        self.first, self.second, self.last = (snn.Leaky(beta=0.9, reset_mechanism="zero") for _ in range(3))

    def forward(self, x):
        one, two, last = self.first.init_leaky(), self.second.init_leaky(), self.last.init_leaky()
        spikes = []
        for step in x:
            a, one = self.first(self.conv(step), one)
            b, two = self.second(functional.avg_pool2d(self.depth(a) + a, 3), two)
            c, last = self.last(self.out(b.flatten(1)), last)
            spikes.append(c)
        return torch.stack(spikes), last

def traced():
    return Traced()
"""
ARCHITECTURES = {"dense": (8,), "conv": (1, 6, 6), "traced": (1, 6, 6)}
"""Function of ``ARCH`` → shape of its input."""


def foreign_seeds(folder: Path) -> list[Path]:
    import torch

    (folder / "arch.py").write_text(ARCH, encoding="utf-8")
    space: dict[str, Any] = {}
    exec(ARCH, space)  # the same text as in the file
    paths = []
    for name in ("dense", "conv"):
        torch.manual_seed(0)
        state = space[name]().state_dict()
        paths.append(folder / f"{name}.pt")
        torch.save(state if name == "dense" else {"epoch": 3, "model_state_dict": state}, paths[-1])
    pruned = dict(torch.load(paths[0], weights_only=True))
    pruned["0.weight_orig"], pruned["0.weight_mask"] = pruned["0.weight"], torch.ones(6, 8)
    pruned["2.weight_v"], pruned["2.weight_g"] = pruned["2.weight"], torch.ones(3, 1)
    del pruned["0.weight"], pruned["2.weight"]
    paths.append(folder / "dense-pruned.pt")
    torch.save(pruned, paths[-1])
    paths.append(folder / "traced.pt")
    torch.save(space["traced"]().state_dict(), paths[-1])
    return paths


def use_foreign(path: Path, rng: Rng) -> None:
    function = path.stem.partition("-")[0]
    arch = f"{path.parent / 'arch.py'}:{function}"
    use(lbi.load(path, arch=arch, input_shape=ARCHITECTURES[function]), rng)


# TOML.


def chip_seeds(folder: Path) -> list[Path]:
    from importlib.resources import files

    paths = []
    for name in ("loihi1", "loihi2"):
        paths.append(folder / f"{name}.toml")
        paths[-1].write_text(
            (files("lbi.hardware") / f"{name}.toml").read_text(encoding="utf-8"), encoding="utf-8"
        )
    return paths


NETWORK = random_network(np.random.default_rng(0), (6, 5, 4), recurrent=True, bias=True)


def use_chip(path: Path, rng: Rng) -> None:
    use(NETWORK, rng, lbi.load_profile(path))


TORCH = ("torch",)
READERS = {
    "network": Reader(network_seeds, (damage_file, damage_hdf5, damage_hdf5, damage_hdf5), use_file),
    "export": Reader(export_seeds, (damage_folder,), use_export),
    "netx": Reader(netx_seeds, (damage_file, damage_hdf5, damage_hdf5, damage_hdf5), use_file),
    "nir": Reader(nir_seeds, (damage_file, damage_hdf5, damage_hdf5, damage_hdf5), use_nir, ("nir",)),
    "model": Reader(
        model_seeds, (damage_file, damage_zip, damage_tree, damage_tree, damage_tree), use_file, TORCH
    ),
    "checkpoint": Reader(
        checkpoint_seeds,
        (damage_file, damage_zip, damage_tree, damage_tree, damage_tree),
        use_checkpoint,
        TORCH,
    ),
    "foreign": Reader(
        foreign_seeds, (damage_file, damage_zip, damage_tree, damage_tree), use_foreign, ("torch", "snntorch")
    ),
    "spikes": Reader(spikes_seeds, (damage_file, damage_zip, damage_npz, damage_npz, damage_npz), use_spikes),
    "dataset": Reader(
        dataset_seeds, (damage_file, damage_zip, damage_npz, damage_npz, damage_npz), use_dataset
    ),
    "heidelberg": Reader(
        heidelberg_seeds, (damage_bytes_within, damage_heidelberg, damage_heidelberg), use_heidelberg
    ),
    "mnist": Reader(mnist_seeds, (damage_bytes_within, damage_mnist, damage_mnist, damage_mnist), use_mnist),
    "chip": Reader(chip_seeds, (damage_file, damage_toml, damage_toml, damage_toml), use_chip),
    "estimate": Reader(estimate_seeds, (damage_provenance,), use_estimate, ("jinja2", "matplotlib")),
    "recordings": Reader(recording_seeds, (damage_recordings,), use_recordings),
    "cache": Reader(cache_seeds, (damage_file, damage_zip, damage_npz, damage_npz), use_cache),
    "sweep": Reader(sweep_seeds, (damage_sweep,), use_sweep, ("torch", "matplotlib", "ray")),
    "config": Reader(config_seeds, (damage_file, damage_toml, damage_toml, damage_toml), use_config, TORCH),
}
"""Name → reader."""
