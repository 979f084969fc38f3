"""Conversion of ``model.pt`` to the float ``Network``.

Exact zeros become absent synapses. Parametrizations by pruning and weight normalization are folded first:
``weight_orig · weight_mask`` (torch.nn.utils.prune), and g·v/‖v‖ of ``weight_norm``, old style and parametrized.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lbi.errors import InputError, Problems, Rule
from lbi.files.versions import MODEL
from lbi.network.csr import CsrMatrix
from lbi.network.graph import INPUT, Network, Population, Projection, Readout
from lbi.train import untrusted_torch
from lbi.train.extraction import blocks
from lbi.train.layers.model import GRID, ModelConfig, PopulationConfig, SpikingNetwork, on_grid_units
from lbi.train.layers.wiring import Shape
from lbi.train.neurons import NEURONS

NOT_A_DICTIONARY = Rule("model-incomplete", "a dictionary")
NOT_META = Rule("model-incomplete", "a dictionary of plain JSON values")
FOLDED_SHAPE = Rule(
    "weights-shape",
    "a tensor and its mask, or directions and a norm per row (weight norm)",
    "give each weight as one tensor: torch.nn.utils.parametrize.remove_parametrizations(module, 'weight') before the state is"
    " saved; or let the function behind --arch register the same parametrization",
)
UNKNOWN_TENSOR = Rule("tensor-unknown", fix="remove it")
MISSING_TENSOR = Rule("tensor-missing", "a tensor of shape {allowed}")
WEIGHTS_SHAPE = Rule("weights-shape", "{allowed}")
WEIGHTS_DTYPE = Rule("weights-dtype", "floats, torch.strided")
NOT_FINITE = Rule(
    "not-finite", "finite numbers", "training diverged: lower the learning rate, or clip gradients"
)
READOUT_PARTS = Rule("readout-parts", "one output population")

_FOLDS = (
    ("_orig", "_mask", lambda value, mask: value * mask),
    ("_v", "_g", lambda v, g: _weight_norm(v, g)),
)


def save_model(model: SpikingNetwork, path: str | Path, meta: Mapping[str, Any] | None = None) -> None:
    """Write ``model.pt``; ``meta`` holds plain JSON values (``dataset``: name and encoding, ``training``: summary).

    Args:
        model: the trained network.
        path: the file to write.
        meta: plain JSON values: ``dataset`` (name and encoding), ``training`` (summary).
    """
    # Fresh objects: whether equal strings are one object would otherwise change the bytes.
    plain = json.loads(
        json.dumps({"config": model.config.to_dict(), "meta": dict(meta or {})}, allow_nan=False)
    )
    content = {
        "format": MODEL[0],
        "version": MODEL[1],
        **plain,
        "state_dict": {name: tensor.detach().cpu().clone() for name, tensor in model.state_dict().items()},
    }
    untrusted_torch.write(content, path)


def load_model(path: str | Path) -> Network:
    """The float network in a ``model.pt``.

    Args:
        path: the file.

    Returns:
        The network in float units.

    Raises:
        InputError: naming everything that is wrong: a missing, truncated or foreign file, NaN, wrong shapes.
    """
    content = untrusted_torch.read(path, MODEL)
    return to_network(*_parts(content, str(path)))


def load_module(path: str | Path) -> tuple[SpikingNetwork, dict[str, Any]]:
    """The trainable network in a ``model.pt`` and its meta, for further training; raises as ``load_model``.

    Args:
        path: the file.

    Returns:
        The network and its meta.

    Raises:
        InputError: as ``load_model``.
    """
    content = untrusted_torch.read(path, MODEL)
    config, state, meta = _parts(content, str(path))
    to_network(config, state, meta)
    model = SpikingNetwork(config)
    model.load_state_dict(state)
    return model, meta


def network_of(model: SpikingNetwork, meta: Mapping[str, Any] | None = None) -> Network:
    """The float network of a model in memory.

    Args:
        model: the trained network.
        meta: plain JSON values: ``dataset`` (name and encoding), ``training`` (summary).

    Returns:
        The network in float units.
    """
    return to_network(model.config, model.state_dict(), dict(meta or {}))


def _parts(content: dict[str, Any], where: str) -> tuple[ModelConfig, dict[str, Tensor], dict[str, Any]]:
    problems = Problems()
    for key in ("config", "state_dict"):
        NOT_A_DICTIONARY.check(
            problems,
            isinstance(content.get(key), Mapping),
            where,
            f"{key!r} is {type(content.get(key)).__name__}",
        )
    meta = content.get("meta", {})
    NOT_META.check(problems, _is_meta(meta), where, f"'meta' is {type(meta).__name__}")
    problems.raise_as(InputError)
    try:
        config = ModelConfig.from_dict(content["config"])
    except InputError as error:
        problems.take(error)
    problems.raise_as(InputError)
    state = fold(content["state_dict"])
    check_state(config, state, where)
    return config, state, meta


def _is_meta(meta: Any) -> bool:
    """True for plain JSON values in which data set and training are dictionaries."""
    try:
        plain = isinstance(meta, dict) and json.loads(json.dumps(meta, allow_nan=False)) == meta
    except (TypeError, ValueError, RecursionError):
        return False
    training = meta.get("training", {}) if plain else None
    return isinstance(training, dict) and all(
        isinstance(part, dict) for part in (meta.get("dataset", {}), training.get("config", {}))
    )


def fold(state: Mapping[str, Any]) -> dict[str, Any]:
    """The state with pruning masks multiplied in, weight normalization folded and sparse tensors made dense.

    Args:
        state: a ``state_dict``, of any torch model.

    Returns:
        A new mapping; tensors that need no change are shared with ``state``.
    """
    folded = {
        str(key): value.to_dense()
        if isinstance(value, Tensor) and value.layout is not torch.strided
        else value
        for key, value in state.items()
    }
    for main, other, combine in _FOLDS:
        for key in [key for key in folded if key.endswith(main) and key[: -len(main)] + other in folded]:
            stem = key[: -len(main)]
            folded[stem] = _combined(
                combine, folded.pop(key), folded.pop(stem + other), key, other == "_mask"
            )
    for key in [key for key in folded if "parametrizations." in key and key.endswith(".original1")]:
        stem = key[: -len(".original1")]
        if stem + ".original0" in folded:
            name = f".{stem}".replace(".parametrizations.", ".")[1:]
            folded[name] = _combined(
                _weight_norm, folded.pop(key), folded.pop(stem + ".original0"), key, False
            )
    return folded


def _combined(
    combine: Callable[[Tensor, Tensor], Tensor], main: Any, other: Any, key: str, is_mask: bool
) -> Tensor:
    """Two tensors as one: a weight and its mask, of one shape, or directions and their norms, one number per row."""
    shapes = [tuple(part.shape) if isinstance(part, Tensor) else None for part in (main, other)]
    wanted = shapes[0] if is_mask else (shapes[0] or (0,))[:1] + (1,) * (len(shapes[0] or (0,)) - 1)
    if not shapes[0] or shapes[1] != wanted:
        raise InputError(FOLDED_SHAPE.broken(f"state_dict[{key!r}]", f"{shapes[0]} with {shapes[1]}"))
    return combine(main, other)


def _weight_norm(v: Tensor, g: Tensor) -> Tensor:
    exact = v.dtype if v.dtype in (torch.float32, torch.float64) else torch.float64
    return torch._weight_norm(v.to(exact), g.to(exact), 0)


def check_state(config: ModelConfig, state: Mapping[str, Any], where: str) -> None:
    """Raise InputError naming all tensors that are missing, unexpected, of a wrong shape or not finite.

    Args:
        config: the configuration.
        state: name → tensor.
        where: the file, for messages.

    Raises:
        InputError: naming the tensors.
    """
    problems = Problems()
    expected = SpikingNetwork.state_shapes(config)
    for name in sorted(set(expected) | set(state), key=str):
        value = state.get(name)
        place = f"{where}, state_dict[{name!r}]"
        if name not in expected:
            problems.note(UNKNOWN_TENSOR.broken(place, "not part of the configured network"))
        elif not isinstance(value, Tensor):
            problems.note(MISSING_TENSOR.broken(place, type(value).__name__, allowed=expected[name]))
        elif tuple(value.shape) != expected[name]:
            problems.note(WEIGHTS_SHAPE.broken(place, tuple(value.shape), allowed=expected[name]))
        elif not value.is_floating_point() or value.layout is not torch.strided:
            problems.note(WEIGHTS_DTYPE.broken(place, f"{value.dtype}, {value.layout}"))
        else:
            n_bad = int((~torch.isfinite(value)).sum())
            NOT_FINITE.check(
                problems, n_bad == 0, place, f"{n_bad} of {value.numel()} values are NaN or infinite"
            )
    problems.raise_as(InputError)


def to_network(config: ModelConfig, state: Mapping[str, Tensor], meta: dict[str, Any]) -> Network:
    """The float network of a configuration and its state, after checks of both.

    Args:
        config: the configuration.
        state: name → tensor.
        meta: plain JSON values for ``Network.meta``.

    Returns:
        The network in float units.
    """
    populations: list[Population] = []
    projections: list[Projection] = []
    sources = {INPUT: slice(0, config.n_in)}
    for layer, before, shape in zip(config.populations, config.shapes, config.shapes[1:], strict=False):
        prefix = f"layers.{layer.name}."
        state_of = {key[len(prefix) :]: value for key, value in state.items() if key.startswith(prefix)}
        populations += _populations(layer, state_of, shape)
        projections += _forward_projections(sources, layer, state_of["weight"], before)
        if layer.recurrent:
            projections += _recurrent_projections(layer, state_of["recurrent"])
        sources = layer.parts
    if len(sources) > 1:
        problems = Problems()
        problems.note(READOUT_PARTS.broken("config", f"{len(sources)} output parts"))
        problems.raise_as(InputError)
    scales = _scales(config, state)
    meta = {key: value for key, value in meta.items() if key != "scales"}
    if scales:
        meta["scales"] = scales
    readout = Readout(next(iter(sources)), config.readout)
    return Network(config.input_shape, tuple(populations), tuple(projections), readout, meta)


def _scales(config: ModelConfig, state: Mapping[str, Tensor]) -> dict[str, float]:
    """Population → scale for a network trained in a chip's integers; otherwise empty."""
    found: dict[str, float] = {}
    for layer in config.populations:
        found |= dict(zip(layer.parts, state[f"layers.{layer.name}.scale"].tolist(), strict=True))
    return {name: scale for name, scale in found.items() if scale > 0}


def _populations(layer: PopulationConfig, state: Mapping[str, Tensor], shape: Shape) -> list[Population]:
    model = NEURONS[layer.neuron]
    values: dict[str, Sequence[float]] = {
        name: (on_grid_units(state[name], name) / GRID).tolist() for name in model.decays
    }
    values |= {name: layer.parameter(name) for name in model.fixed}
    bias = None if "bias" not in state else _array(state["bias"])
    if bias is not None:
        bias = np.repeat(bias, layer.n // bias.size)
    per_row = prod(shape[1:])
    return [
        Population(
            name,
            ((part.stop - part.start) // per_row, *shape[1:]),
            model.record(
                **{key: entries[i] for key, entries in values.items()},
                bias=None if bias is None else bias[part],
            ),
        )
        for i, (name, part) in enumerate(layer.parts.items())
    ]


def _forward_projections(
    sources: Mapping[str, slice], layer: PopulationConfig, weight: Tensor, before: Shape
) -> list[Projection]:
    """The weights between the parts of two layers."""
    found = blocks(layer.wiring, _array(weight), before, list(layer.parts.values()), list(sources.values()))
    return [
        Projection(f"{source}_to_{target}", source, target, weights, pattern=pattern)
        for target, row in zip(layer.parts, found, strict=True)
        for source, (weights, pattern) in zip(sources, row, strict=True)
    ]


def _recurrent_projections(layer: PopulationConfig, weight: Tensor) -> list[Projection]:
    """The blocks of recurrent weights; they receive the previous step even if their source is evaluated first."""
    order, array, delays = list(layer.parts), _array(weight), np.array(layer.delays, np.uint8)
    found = []
    for target, rows in layer.parts.items():
        for source, columns in layer.parts.items():
            weights = CsrMatrix.from_dense(array[rows, columns])
            delay: Any = int(order.index(source) < order.index(target))
            if layer.recurrent_delay:
                delay = delay + delays[columns][weights.indices]
            found.append(Projection(f"{source}_to_{target}", source, target, weights, delay=delay))
    return found


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().to(torch.float64).cpu().numpy()
