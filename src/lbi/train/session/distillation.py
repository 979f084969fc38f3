"""Distillation: a trained network teaches a sparse one (Hinton, Vinyals, Dean, arXiv:1503.02531).

With scores z of the network and z' of the teacher, both times the gain of their runs, and temperature T, the loss is

    (1 − share)·CE(z, label) + share·T²·KL(softmax(z'/T) ‖ softmax(z/T))
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import kl_div, log_softmax

from lbi.datasets import Dataset
from lbi.errors import InputError, Rule
from lbi.train.layers.model import SpikingNetwork
from lbi.train.session.config import TrainConfig
from lbi.train.session.readout import scores
from lbi.train.session.start import Start

OTHER_TEACHER = Rule(
    "checkpoint", "the teacher that the run began with", "give the file with SHA-256 {sha256}"
)


@dataclass(frozen=True)
class Teacher:
    """A trained network whose scores a run imitates.

    Attributes:
        model: the network.
        gain: the factor on its scores in its own training.
        sha256: of its file.
    """

    model: SpikingNetwork
    gain: float
    sha256: str

    @classmethod
    def read(cls, path: Path, dataset: Dataset, config: TrainConfig, device: torch.device) -> Teacher:
        """The teacher in a ``model.pt``.

        Args:
            path: the file.
            dataset: the data set that the network is to be trained with.
            config: options of the run, whose ``gain`` is used if the file states none.
            device: where the teacher is to run.

        Returns:
            The teacher, without gradients.

        Raises:
            InputError: for any other file, or a network with other inputs or classes than the data set.
        """
        start = Start.read(path)
        start.check(dataset)
        gain = start.meta.get("training", {}).get("config", {}).get("gain", config.gain)
        model = start.model.to(device).requires_grad_(False)
        return cls(model, float(gain), hashlib.sha256(path.read_bytes()).hexdigest())

    @torch.no_grad()
    def scores(self, spikes: Tensor) -> Tensor:
        """The teacher's scores times its gain.

        Args:
            spikes: (n_samples, n_steps, n_in) input on the teacher's device.

        Returns:
            (n_samples, n_classes).
        """
        return self.gain * scores(self.model, self.model(spikes))

    def check_same(self, saved: Any) -> None:
        """Check that a run continues with the teacher it had.

        Args:
            saved: SHA-256 of the teacher's file, as saved.

        Raises:
            InputError: if this teacher's file has another.
        """
        if saved != self.sha256:
            raise InputError(OTHER_TEACHER.broken("--resume, teacher", "another file", sha256=saved))


def divergence(own: Tensor, taught: Tensor, temperature: float) -> Tensor:
    """The distillation loss T²·Σ over samples of KL(softmax(taught/T) ‖ softmax(own/T)).

    Args:
        own: (n_samples, n_classes) scores of the network in training.
        taught: (n_samples, n_classes) scores of the teacher.
        temperature: T, above 0.

    Returns:
        A scalar, differentiable in ``own``.
    """
    logs = log_softmax(own / temperature, 1), log_softmax(taught / temperature, 1)
    return temperature**2 * kl_div(*logs, reduction="sum", log_target=True)
