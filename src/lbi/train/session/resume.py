"""Validate a checkpoint before resuming; torch does not."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lbi import records
from lbi.datasets import Dataset
from lbi.errors import InputError, Problems, Rule
from lbi.records import Place, Rules
from lbi.train.layers.model import ModelConfig
from lbi.train.model_pt import check_state
from lbi.train.session.progress import LARGEST, Progress

ADAM_STATE = {"step", "exp_avg", "exp_avg_sq"}
"""Entries that Adam and AdaBreg keep per parameter, all or none."""

KNOWN = ADAM_STATE | {"dual", "momentum_buffer"}

OTHER_NETWORK = Rule("checkpoint", "{n_in} and {n_out}, the data set's")
OTHER_DATA = Rule(
    "checkpoint",
    "the training samples that the run began with",
    "restore them, name their place with --data, or go on with others from a trained model: --from MODEL",
)
OTHER_GROUPS = Rule("checkpoint", "{n} groups and their state")
OTHER_OPTIONS = Rule("checkpoint", "{names}")
OTHER_STATE = Rule("checkpoint", "finite numbers of shape {shape}")
_AS_SAVED = Rule("checkpoint", "{allowed}, as it was saved")
PROGRESS = Place(
    "--resume, progress", Rules(missing=_AS_SAVED, unknown=_AS_SAVED, kind=_AS_SAVED, value=_AS_SAVED)
)


def checked_network(checkpoint: Mapping[str, Any], dataset: Dataset) -> ModelConfig:
    """The network that a checkpoint describes, checked before memory is allocated for it.

    Args:
        checkpoint: content of a checkpoint.
        dataset: the data set.

    Returns:
        The network's configuration.

    Raises:
        InputError: unless its tensors match that network, and its input and classes match ``dataset``.
    """
    config = ModelConfig.from_dict(checkpoint["network"])
    found, wanted = (config.n_in, config.populations[-1].n), (dataset.n_in, dataset.n_classes)
    problems = Problems()
    OTHER_NETWORK.check(
        problems,
        found == wanted,
        "--resume, network",
        f"{found[0]} inputs and {found[1]} outputs",
        n_in=wanted[0],
        n_out=wanted[1],
    )
    problems.raise_as(InputError)
    check_state(config, checkpoint["model"], "--resume, model")
    return config


def check_data(saved: Any, dataset: Dataset) -> None:
    """Raise InputError unless the data set holds the samples that a run began with.

    Args:
        saved: their SHA-256; None in checkpoints of earlier versions, which are not compared.
        dataset: the data set.
    """
    problems = Problems()
    same = saved is None or (isinstance(saved, str) and saved == dataset.sha256)
    OTHER_DATA.check(problems, same, f"--resume, data set {dataset.name}", "others")
    problems.raise_as(InputError)


def check_optimizer(packed: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Raise InputError unless a saved state has the groups, options and tensor shapes of ``optimizer``.

    Args:
        packed: the saved state.
        optimizer: the new optimizer.

    Raises:
        InputError: naming everything that differs.
    """
    problems = Problems()
    own = optimizer.state_dict()["param_groups"]
    groups, states = packed.get("param_groups"), packed.get("state")
    fits = isinstance(groups, list) and len(groups) == len(own) and isinstance(states, Mapping)
    if OTHER_GROUPS.check(problems, fits, "--resume, optimizer", "other groups", n=len(own)):
        assert isinstance(groups, list)
        assert isinstance(states, Mapping)
        shapes = {
            i: tuple(p.shape)
            for group, kept in zip(own, optimizer.param_groups, strict=True)
            for i, p in zip(group["params"], kept["params"], strict=True)
        }
        for i, (group, expected) in enumerate(zip(groups, own, strict=True)):
            fits = isinstance(group, Mapping) and all(
                key in group and _alike(group[key], value) for key, value in expected.items()
            )
            fits = fits and set(group) == set(expected) and group["params"] == expected["params"]
            where = f"--resume, optimizer, group {i}"
            OTHER_OPTIONS.check(problems, fits, where, "other options", names=", ".join(expected))
        for key, state in states.items():
            where = f"--resume, optimizer, parameter {key!r}"
            fits = key in shapes and isinstance(state, Mapping) and set(state) <= KNOWN
            fits = fits and set(state) & ADAM_STATE in (set(), ADAM_STATE)
            fits = fits and all(_is_state(name, value, shapes[key]) for name, value in state.items())
            OTHER_STATE.check(problems, fits, where, "another state", shape=shapes.get(key))
    problems.raise_as(InputError)


def _alike(value: Any, expected: Any) -> bool:
    """True for two values of the same kind; numbers must be finite, and booleans are not numbers."""
    if isinstance(expected, bool):
        return value is expected
    if not isinstance(expected, int | float):
        same = type(value) is type(expected)
        if same and isinstance(expected, tuple | list):
            return len(value) == len(expected) and all(map(_alike, value, expected))
        if same and isinstance(expected, dict):
            return set(value) == set(expected) and all(_alike(value[key], expected[key]) for key in expected)
        return same
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < LARGEST


def _is_state(name: str, value: Any, shape: tuple[int, ...]) -> bool:
    if name == "momentum_buffer" and value is None:
        return True
    if name == "step" and not isinstance(value, Tensor):
        return _alike(value, 0) and value >= 0
    wanted = () if name == "step" else shape
    return (
        isinstance(value, Tensor)
        and tuple(value.shape) == wanted
        and value.layout is torch.strided
        and value.is_contiguous()  # an expanded tensor cannot be written to
        and value.is_floating_point()
        and bool(torch.isfinite(value).all())
    )


def checked_progress(saved: Any, config: ModelConfig) -> Progress:
    """The progress in a checkpoint.

    Args:
        saved: plain values, as ``dataclasses.asdict`` of a ``Progress``.
        config: the network trained.

    Returns:
        The progress to continue from.

    Raises:
        InputError: naming every field that is wrong, and every tensor of the best state.
    """
    progress = records.parse(Progress, saved, PROGRESS, InputError)
    if progress.best_state is not None:
        check_state(config, progress.best_state, "--resume, best_state")
    return progress
