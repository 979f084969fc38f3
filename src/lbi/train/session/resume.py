"""What a checkpoint must hold before a run goes on from it: torch takes an optimizer's state without a look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from lbi.datasets import Dataset
from lbi.errors import InputError, Problems
from lbi.train.layers.model import ModelConfig
from lbi.train.model_pt import check_state

MOMENTS = {"step", "exp_avg", "exp_avg_sq"}
"""State that Adam and AdaBreg keep for a parameter, all of it or none."""

LARGEST = 1e38
"""What options and figures stay below: single precision ends there, and NaN is not below."""

KNOWN = MOMENTS | {"dual", "momentum_buffer"}


def checked_network(checkpoint: Mapping[str, Any], dataset: Dataset) -> ModelConfig:
    """The network that a checkpoint describes, before room is made for what it claims.

    Raises InputError unless its tensors are those of that network, and it takes and tells apart what ``dataset`` holds.
    """
    config = ModelConfig.from_dict(checkpoint["network"])
    found, wanted = (config.n_in, config.populations[-1].n), (dataset.n_in, dataset.n_classes)
    problems = Problems()
    problems.check(
        found == wanted,
        "checkpoint",
        "--resume, network",
        f"{found[0]} inputs and {found[1]} outputs",
        f"{wanted[0]} and {wanted[1]}, the data set's",
    )
    problems.raise_as(InputError)
    check_state(config, checkpoint["model"], "--resume, model")
    return config


def check_optimizer(packed: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Raise InputError unless a saved state has the groups, options and tensor shapes of ``optimizer``."""
    problems = Problems()
    own = optimizer.state_dict()["param_groups"]
    groups, states = packed.get("param_groups"), packed.get("state")
    fits = isinstance(groups, list) and len(groups) == len(own) and isinstance(states, Mapping)
    if problems.check(
        fits, "checkpoint", "--resume, optimizer", "other groups", f"{len(own)} groups and their state"
    ):
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
            problems.check(
                fits, "checkpoint", f"--resume, optimizer, group {i}", "other options", ", ".join(expected)
            )
        for key, state in states.items():
            where = f"--resume, optimizer, parameter {key!r}"
            fits = key in shapes and isinstance(state, Mapping) and set(state) <= KNOWN
            fits = fits and set(state) & MOMENTS in (set(), MOMENTS)
            fits = fits and all(_is_state(name, value, shapes[key]) for name, value in state.items())
            problems.check(
                fits, "checkpoint", where, "another state", f"finite numbers of shape {shapes.get(key)}"
            )
    problems.raise_as(InputError)


def _alike(value: Any, expected: Any) -> bool:
    """True for a value of the same kind: numbers are one, and finite; true and false are two."""
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
        and value.is_contiguous()  # an expanded one cannot be written to
        and value.is_floating_point()
        and bool(torch.isfinite(value).all())
    )


def check_progress(progress: Mapping[str, Any], config: ModelConfig) -> None:
    """Raise InputError unless ``Progress(**progress)`` can go on for a model of ``config``."""
    problems = Problems()
    for name, holds in (
        ("epoch", lambda n: isinstance(n, int) and n >= 0),
        ("best_epoch", lambda n: isinstance(n, int) and n >= 0),
        ("best", lambda x: _alike(x, 0.0)),
        ("history", lambda rows: isinstance(rows, list) and all(map(_is_record, rows))),
        ("best_state", lambda state: state is None or isinstance(state, dict)),
    ):
        value = progress.get(name)
        problems.check(
            holds(value), "checkpoint", f"--resume, progress, {name}", f"{value!r}", "as it was saved"
        )
    problems.raise_as(InputError)
    if progress["best_state"] is not None:
        check_state(config, progress["best_state"], "--resume, best_state")


def _is_record(row: Any) -> bool:
    """A row of figures by name."""
    return isinstance(row, dict) and all(isinstance(k, str) and _alike(v, 0.0) for k, v in row.items())
