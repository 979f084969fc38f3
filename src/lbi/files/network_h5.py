"""``network.h5``: a FixedNetwork in HDF5, byte for byte the same for the same network.

docs/formats.md describes the layout. Weights follow the AnnData CSR convention, so ``anndata.io.read_elem`` and
one line of scipy can read them. Nothing is pickled; files of unknown formats and versions are refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from lbi.errors import InputError, LbiError, Problems, Rule
from lbi.files.checksum import ATTRIBUTE, checksum
from lbi.files.untrusted_hdf5 import numbers, open_tree, subgroup, text
from lbi.files.versions import FIXED_NETWORK
from lbi.network.convolution import Convolution
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.csr import CsrMatrix, Weights
from lbi.network.fixed import FixedNetwork, FixedPopulation, FixedProjection, SignMode, check_fixed
from lbi.network.graph import INPUT, Readout
from lbi.network.kept import Kept
from lbi.network.neurons import MODELS
from lbi.network.pattern import GEOMETRY, as_attributes, from_geometry, most_places
from lbi.system.atomic import atomic_write, new_hdf5
from lbi.system.paths import not_a_file

MISSING = Rule("file-missing", fix="check the path")
DAMAGED = Rule("file-damaged", "a network.h5 of lbi-export", "export the model again")
CHANGED = Rule(
    "file-changed",
    "the values of its sha256",
    "take an undamaged copy or export the model again; delete the attribute sha256 of a file that was edited on purpose",
)
FORMAT = Rule(
    "file-format",
    f"{FIXED_NETWORK[0]!r} version 1 to {FIXED_NETWORK[1]}",
    "export the model again with this version",
)
ENTRY = Rule("entry-damaged", "see docs/formats.md")
MODEL = Rule("neuron-model", ", ".join(map(repr, MODELS)))
SIGN_MODE = Rule("sign-mode", ", ".join(SignMode.__members__))
SHAPE = Rule("csr-shape", "two sizes")
PLAIN = Rule(
    "provenance",
    "what JSON holds: texts, finite numbers, lists, and dictionaries by text",
    "convert it, such as numpy's numbers by .item()",
)
KERNEL_SHAPE = Rule("convolution-shape", "{shape}, as the kernels give", "export the model again")

CSR, KERNELS = "csr_matrix", "convolution"
"""Values of ``encoding-type``: the two forms of weights."""
STEPS = ("stride", "padding", "dilation")
"""Pairs (height, width) that belong to kernels."""


def save(network: FixedNetwork, path: str | Path) -> None:
    """Write a network to a file, atomically.

    Args:
        network: the network.
        path: file to write or replace.

    Raises:
        InputError: if it cannot be written.
    """
    check_fixed(network)
    _text(network.provenance)
    with atomic_write(path) as new:
        write(network, new)


def write(network: FixedNetwork, path: Path, formats: Mapping[str, str] | None = None) -> None:
    """Write a network to a new file.

    Args:
        network: the network.
        path: file to write; must not exist.
        formats: projection → memory format ("dense", "indexed", "shared") to store with it.
    """
    with new_hdf5(path) as file:
        _write(network, file)
        for name, memory_format in (formats or {}).items():
            file["projections"][name].attrs["memory_format"] = memory_format
        file.attrs[ATTRIBUTE] = checksum(file)


def _text(provenance: Any) -> str:
    """The provenance as JSON text; raises InputError for anything that JSON does not hold."""
    try:
        return json.dumps(provenance, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(PLAIN.broken("provenance", str(error))) from None


def _write(network: FixedNetwork, file: Any) -> None:
    has_kernels = any(isinstance(p.weights, ConvolutionWeights) for p in network.projections)
    file.attrs["format"], file.attrs["version"] = FIXED_NETWORK[0], FIXED_NETWORK[1] if has_kernels else 1
    file.attrs["chip"] = network.chip
    file.attrs["input_shape"] = np.array(network.input_shape, dtype=np.int64)
    file.attrs["readout_population"] = network.readout.population
    file.attrs["readout_kind"] = network.readout.kind
    file.attrs["provenance"] = _text(network.provenance)
    populations = file.create_group("populations", track_order=True)
    for population in network.populations:
        group = populations.create_group(population.name, track_order=True)
        group.attrs["shape"] = np.array(population.shape, dtype=np.int64)
        group.attrs["scale"] = population.scale
        group.attrs["latency"] = population.latency
        group.attrs["model"] = population.neuron.model
        if population.kept is not None:
            group.attrs["trained_shape"] = np.array(population.kept.shape, dtype=np.int64)
            group.create_dataset("kept", data=population.kept.indices, track_times=False)
        for field in fields(population.neuron):
            group.create_dataset(field.name, data=getattr(population.neuron, field.name), track_times=False)
    projections = file.create_group("projections", track_order=True)
    for projection in network.projections:
        group = projections.create_group(projection.name, track_order=True)
        for name in ("source", "target", "weight_exp", "num_weight_bits", "n_rounded_to_zero", "rms_error"):
            group.attrs[name] = getattr(projection, name)
        group.attrs["sign_mode"] = projection.sign_mode.name
        group.create_dataset("delay", data=np.asarray(projection.delay, dtype=np.uint8), track_times=False)
        _write_weights(projection.weights, group.create_group("weights", track_order=True))
        if projection.pattern is not None and projection.pattern != projection.weights.pattern():
            _write_pattern(network, projection, group.create_group("pattern", track_order=True))


def _write_weights(weights: Weights, group: Any) -> None:
    """CSR by the AnnData convention, or kernels with their geometry."""
    kernels = isinstance(weights, ConvolutionWeights)
    group.attrs["encoding-type"] = KERNELS if kernels else CSR
    group.attrs["encoding-version"] = "0.1.0"
    group.attrs["shape"] = np.array(weights.shape, dtype=np.int64)
    if isinstance(weights, ConvolutionWeights):
        for name in STEPS:
            group.attrs[name] = np.array(getattr(weights.convolution, name), dtype=np.int64)
        group.attrs["groups"] = weights.convolution.groups
        group.attrs["input_shape"] = np.array(weights.input_shape, dtype=np.int64)
        group.create_dataset("kernel", data=weights.kernel.astype(np.int16), track_times=False)
        return
    matrix = weights.to_csr()
    for name, dtype in (("data", np.int16), ("indices", np.int32), ("indptr", np.int64)):
        group.create_dataset(name, data=getattr(matrix, name).astype(dtype), track_times=False)


def _write_pattern(network: FixedNetwork, projection: FixedProjection, group: Any) -> None:
    """A convolution's geometry where the pattern is one's, else the places themselves."""
    assert projection.pattern is not None
    pattern = projection.pattern
    shapes = {INPUT: network.input_shape} | {p.name: p.shape for p in network.populations}
    geometry = None
    if isinstance(pattern, ConvolutionWeights) or pattern.nnz <= most_places(projection.weights.nnz):
        geometry = as_attributes(pattern, shapes[projection.source], shapes[projection.target])
    if geometry is None:
        matrix = pattern.to_csr()
        geometry = {"indices": matrix.indices, "indptr": matrix.indptr}
    for name, values in geometry.items():
        group.create_dataset(name, data=values, track_times=False)


def load(path: str | Path) -> FixedNetwork:
    """The network of a ``network.h5``.

    Args:
        path: the file.

    Returns:
        The network.

    Raises:
        InputError: naming everything that is missing or inconsistent.
    """
    path = Path(path)
    if why := not_a_file(path):
        raise InputError(MISSING.broken(str(path), why))
    with open_tree(path, DAMAGED.broken(str(path), "not a readable HDF5 file")) as file:
        try:
            return _read(file, str(path))
        except InputError as error:  # the network checks itself, and does not know its file
            where = str(path)
            named = (p if p.where.startswith(where) else p.inside(where) for p in error.problems)
            raise InputError(*named) from error


def _read(file: Any, where: str) -> FixedNetwork:
    found = (text(file.attrs.get("format", "none")), file.attrs.get("version", 0))
    if found[0] != FIXED_NETWORK[0] or not 1 <= int(found[1]) <= FIXED_NETWORK[1]:
        raise InputError(FORMAT.broken(where, f"format {found[0]!r} version {found[1]}"))
    problems = Problems()
    populations = _each(subgroup(file, "populations"), _read_population, f"{where}, populations", problems)
    projections = _each(subgroup(file, "projections"), _read_projection, f"{where}, projections", problems)
    problems.raise_as(InputError)
    network = FixedNetwork(
        input_shape=tuple(int(size) for size in file.attrs["input_shape"]),
        populations=tuple(populations),
        projections=tuple(projections),
        readout=Readout(text(file.attrs["readout_population"]), text(file.attrs["readout_kind"])),
        chip=text(file.attrs["chip"]),
        provenance=_provenance(text(file.attrs["provenance"])),
    )
    if ATTRIBUTE in file.attrs and text(file.attrs[ATTRIBUTE]) != checksum(file):
        raise InputError(CHANGED.broken(where, "other values than those that were written"))
    return network


def _provenance(entry: str) -> dict[str, Any]:
    """Provenance as plain JSON values, which can be written again."""
    found = json.loads(entry)
    if not isinstance(found, dict):
        raise ValueError("provenance: not a JSON object")
    json.dumps(found, allow_nan=False)
    return found


def _each(parent: Any, read: Callable[[str, Any], Any], where: str, problems: Problems) -> list[Any]:
    """All members of a group; problems are noted under each member's name."""
    items = []
    for name in parent:
        try:
            items.append(read(name, subgroup(parent, name)))
        except LbiError as error:
            problems.take(error, inside=f"{where}/{name}")
        except (KeyError, ValueError, TypeError, OSError, OverflowError) as error:
            problems.note(ENTRY.broken(f"{where}/{name}", " ".join(str(error).split())))
    return items


def _read_population(name: str, group: Any) -> FixedPopulation:
    model = text(group.attrs["model"])
    if model not in MODELS:
        raise InputError(MODEL.broken("model", repr(model)))
    record = MODELS[model].integers
    parameters: dict[str, Any] = {field.name: numbers(group, field.name) for field in fields(record)}
    return FixedPopulation(
        name=name,
        shape=tuple(int(size) for size in group.attrs["shape"]),
        neuron=record(**parameters),
        scale=float(group.attrs["scale"]),
        latency=int(group.attrs["latency"]),
        kept=_read_kept(group) if "kept" in group else None,
    )


def _read_kept(group: Any) -> Kept:
    """The numbers as trained of a compacted population's neurons."""
    indices = numbers(group, "kept")
    if indices.dtype.kind not in "iu":
        raise ValueError("kept: not integers")
    return Kept(tuple(int(size) for size in group.attrs["trained_shape"]), indices)


def _read_projection(name: str, group: Any) -> FixedProjection:
    weights = subgroup(group, "weights")
    delay = numbers(group, "delay")
    mode = text(group.attrs["sign_mode"])
    if mode not in SignMode.__members__:
        raise InputError(SIGN_MODE.broken("sign_mode", repr(mode)))
    shape = tuple(int(size) for size in weights.attrs["shape"])
    if len(shape) != 2:
        raise InputError(SHAPE.broken("weights", shape))
    matrix = _read_weights(weights, (shape[0], shape[1]))
    return FixedProjection(
        name=name,
        source=text(group.attrs["source"]),
        target=text(group.attrs["target"]),
        weights=matrix,
        sign_mode=SignMode[mode],
        weight_exp=int(group.attrs["weight_exp"]),
        num_weight_bits=int(group.attrs["num_weight_bits"]),
        delay=delay if delay.ndim else int(delay),
        n_rounded_to_zero=int(group.attrs["n_rounded_to_zero"]),
        rms_error=float(group.attrs["rms_error"]),
        pattern=_read_pattern(subgroup(group, "pattern"), matrix) if "pattern" in group else None,
    )


def _read_weights(group: Any, shape: tuple[int, int]) -> Weights:
    """CSR, or kernels of the stated shape."""
    if text(group.attrs.get("encoding-type", CSR)) != KERNELS:
        return CsrMatrix(numbers(group, "data"), numbers(group, "indices"), numbers(group, "indptr"), shape)
    stride, padding, dilation = ([int(step) for step in group.attrs[name]] for name in STEPS)
    pairs = [(steps[0], steps[1]) for steps in (stride, padding, dilation) if len(steps) == 2]
    sizes = [int(size) for size in group.attrs["input_shape"]]
    if len(pairs) != len(STEPS) or len(sizes) != 3:
        raise ValueError("stride, padding, dilation: not two numbers each, or input_shape: not three")
    convolution = Convolution(
        numbers(group, "kernel"), pairs[0], pairs[1], pairs[2], int(group.attrs["groups"])
    )
    weights = ConvolutionWeights(convolution, (sizes[0], sizes[1], sizes[2]))
    if weights.shape != shape:
        raise InputError(KERNEL_SHAPE.broken("weights", shape, shape=weights.shape))
    return weights


def _read_pattern(group: Any, weights: Weights) -> Weights:
    """The places at which the layer has weights; files without them have weights everywhere."""
    if "kernel" in group:
        return from_geometry({name: numbers(group, name) for name in GEOMETRY}, weights)
    indices, indptr = numbers(group, "indices"), numbers(group, "indptr")
    return CsrMatrix(np.ones(indices.size, dtype=np.int8), indices, indptr, weights.shape)
