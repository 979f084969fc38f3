"""Fine-tuning of a trained ``model.pt``: its network, and its configuration as default."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lbi.datasets import Dataset
from lbi.errors import InputError, Rule, UsageError
from lbi.train.layers.model import SpikingNetwork
from lbi.train.model_pt import load_module
from lbi.train.session.config import TrainConfig, make_config

NETWORK = (
    "hidden",
    "recurrent",
    "recurrent_delay",
    "recurrent_delay_from",
    "neuron",
    "current_decay",
    "voltage_decay",
    "output_current_decay",
    "output_voltage_decay",
    "threshold",
    "neuron_options",
    "train_decays",
    "bias",
    "readout",
    "surrogate",
    "slope",
)
"""Options that are determined by the model's network."""

NO_DATASET = Rule("from-dataset", "one", "add --dataset")
OTHER_NETWORK = Rule(
    "from-network", "the network of {path}", "leave these options out, or start a new training without --from"
)
OTHER_DATASET = Rule(
    "from-dataset",
    "{n_in} and {n_out}, as {name} in this encoding",
    "give the data set and encoding that it was trained on",
)


@dataclass(frozen=True)
class Start:
    """A trained network to start from, with the description of its training."""

    path: Path
    model: SpikingNetwork
    meta: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path) -> Start:
        """The start from a ``model.pt``.

        Args:
            path: the file.

        Returns:
            The network with its description.

        Raises:
            InputError: for any other file.
        """
        return cls(path, *load_module(path))

    def config(self, dataset: str | None, file: Path | None, options: Mapping[str, Any]) -> TrainConfig:
        """The model's configuration, changed by a TOML file and options; chip precision starts in the first epoch.

        Args:
            dataset: name of the data set; None for the model's own.
            file: a TOML file, or None.
            options: field → value.

        Returns:
            The options.

        Raises:
            UsageError: for options that contradict the network, or if no data set is named.
        """
        own = dict(self.meta.get("dataset", {}))
        name = own.pop("name", None)
        saved = {"encoding": own, **self.meta.get("training", {}).get("config", {}), "chip_from": 0.0}
        if dataset not in (None, name):
            saved.pop("encoding")
        if dataset is None and name is None:
            raise UsageError(NO_DATASET.broken("--from", f"{self.path} names no data set"))
        config = make_config(dataset or name, file, options, saved)
        unchanged = make_config(dataset or name, None, {}, saved)
        other = [key for key in NETWORK if getattr(config, key) != getattr(unchanged, key)]
        if other:
            found = f"with another {', '.join(other)}"
            raise UsageError(OTHER_NETWORK.broken("--from", found, path=self.path))
        return config

    def check(self, dataset: Dataset) -> None:
        """Raise InputError if the network's input or classes differ from those of the data set.

        Args:
            dataset: the data set.

        Raises:
            InputError: naming everything that differs.
        """
        network = self.model.config
        found = network.n_in, network.populations[-1].n
        wanted = math.prod(dataset.input_shape), dataset.n_classes
        if found != wanted:
            raise InputError(
                OTHER_DATASET.broken(
                    str(self.path),
                    f"has {found[0]} inputs and {found[1]} classes",
                    n_in=wanted[0],
                    n_out=wanted[1],
                    name=dataset.name,
                )
            )
