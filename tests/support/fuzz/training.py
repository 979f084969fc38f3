"""Models, checkpoints and configurations of training for the fuzzer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from support.fuzz.data import spikes_file
from support.fuzz.values import Rng, pick

IMAGES = {"hidden": ("4c3", "p2", 6), "bias": True}
"""Options of a network with a convolution and pooling."""


def model_seeds(folder: Path) -> list[Path]:
    """Models of dense populations, of populations in parts, and of a convolution."""
    from lbi.train.layers.model import SpikingNetwork
    from lbi.train.model_pt import save_model
    from lbi.train.session.config import TrainConfig

    parts = {"recurrent": True, "current_decay": (0.3, 0.5), "voltage_decay": (0.1, 0.2)}
    paths = []
    for name, shape, options in (
        ("plain", (8,), {"hidden": (6,), "bias": True}),
        ("parts", (8,), {"hidden": (7, 5), **parts}),
        ("convolution", (2, 6, 5), IMAGES),
    ):
        paths.append(folder / f"{name}.pt")
        model = SpikingNetwork(TrainConfig(**options).model(shape, 3))
        save_model(model, paths[-1], {"dataset": {"name": "digits", "n_steps": 16}})
    return paths


FEW = {"hidden": [6], "epochs": 2, "batch_size": 8, "validation": 0.3}
LATER: tuple[tuple[str, dict[str, Any]], ...] = (
    ("budget", {"optimizer": "adabreg", "budget": ["synops=20", "energy=1nJ"], "chip": "loihi1"}),
    ("prune", {"optimizer": "prune", "density": 0.5, "update_every": 1, "settle": 0.0}),
    ("rigl", {"optimizer": "rigl", "density": 0.5, "update_every": 1, "settle": 0.0}),
    ("deepr", {"optimizer": "deepr", "density": 0.5, "settle": 0.0}),
    ("average", {"optimizer": "adabreg", "average": 0.1, "settle": 0.9, "patience": 2}),
    ("teacher", {"optimizer": "adam"}),
    ("convolution", {"optimizer": "adabreg", "hidden": IMAGES["hidden"], "dataset": "digits"}),
)
"""Name and options of the runs whose checkpoint is that of their first epoch."""


def checkpoint_seeds(folder: Path) -> list[Path]:
    """Checkpoints of complete runs, then those of runs that have an epoch to go."""
    from lbi.train.session.config import make_config
    from lbi.train.session.run import Outputs, complete, prepare, save_checkpoint

    data, paths = spikes_file(folder), []
    for optimizer in ("adabreg", "linbreg", "adam"):
        config = make_config(str(data), None, {**FEW, "optimizer": optimizer})
        trainer = prepare(config, Outputs(folder / "model.pt"))
        complete(trainer, Outputs(folder / "model.pt"))
        paths.append(folder / f"{optimizer}.ckpt")
        save_checkpoint(trainer, paths[-1])
    for name, options in LATER:
        options = {**FEW, **options, **({"teacher": str(folder / "model.pt")} if name == "teacher" else {})}
        dataset = options.pop("dataset", str(data))
        if dataset == "digits":
            options |= {"encoding": {"n_steps": 2}, "batch_size": 600}
        trainer = prepare(make_config(dataset, None, options), Outputs(folder / f"{name}.pt"))
        paths.append(folder / f"{name}.ckpt")
        trainer.on_epoch = lambda trainer, path=paths[-1]: (
            save_checkpoint(trainer, path) if trainer.progress.epoch == 1 else None
        )
        trainer.run()
    return paths


def use_checkpoint(path: Path, rng: Rng) -> None:
    """Resume, as lbi-train does, train for one batch more, and steer by the budget."""
    from lbi.train.session.run import Outputs, prepare, read_checkpoint, resume_config

    checkpoint = read_checkpoint(path)
    trainer = prepare(resume_config(checkpoint, {}), Outputs(path.with_suffix(".pt")), checkpoint)
    trainer._steer()
    trainer._batch(np.arange(min(4, len(trainer.train))), np.random.default_rng(0))
    trainer._budget()
    trainer._state()
    if trainer.budget is not None and rng.random() < 0.25:
        trainer.budget.finish(trainer.model, trainer.controller)


CONFIG = """
dataset = "digits"
epochs = 3
hidden = [16, 8]
recurrent = true
current_decay = [0.3, 0.5]
voltage_decay = [0.1, 0.2]
density = 0.1
lr = 1e-2
readout = "spike_count"
optimizer = "adabreg"
precision = "chip"
schedule = "cosine"
seed = 4
bias = false
batch_size = 32
validation = 0.1
slope = 5
[encoding]
n_steps = 12
code = "rate"
"""

BUDGET_CONFIG = """
dataset = "digits"
hidden = ["4c3", "p2", "8c5s2", 16]
budget = ["cores=1", "memory=64KiB", "synops=1200", "energy=40nJ", "time=5us"]
chip = "loihi1"
schedule = "settled"
settle = 0.3
average = 0.1
teacher = "model.pt"
teacher_share = 0.4
teacher_temperature = 2
regularizer = "SparseGroupL1"
regularizer_options = { over = "columns" }
dead_every = 4
initial_density = 0.3
"""

MASKS_CONFIG = """
dataset = "psdigits"
optimizer = "prune"
layer_densities = "erdos_renyi"
density = 0.05
prune_from = 0.2
shrink = 0.7
update_every = 10
drop = 0.3
neuron = "atrlif"
threshold_step = 0.1
"""


def config_seeds(folder: Path) -> list[Path]:
    """Files of options: a dense network, convolutions under a budget, and masks."""
    texts = {"train": CONFIG, "budget": BUDGET_CONFIG, "masks": MASKS_CONFIG}
    for name, text in texts.items():
        (folder / f"{name}.toml").write_text(text, encoding="utf-8")
    return [folder / f"{name}.toml" for name in texts]


def use_config(path: Path, rng: Rng) -> None:
    """The configuration, its network on images, and its plain values."""
    from lbi.train.session.config import make_config

    config = make_config(pick(rng, (None, "digits", "shd", "psdigits")), path, {})
    config.model((8, 8), 10)
    config.to_dict()
