"""Changes to the content of an HDF5 file that leave it a valid HDF5 file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np

from support.fuzz.values import FLOATS, INTEGERS, TEXTS, Rng, pick

HUGE = ((2**20,), (2**30,), (2**36,), (2**62,), (2**16, 2**16), (2**20, 2**20), (0, 2**40), (3, 2**30))
DTYPES = (
    "i1",
    "u1",
    ">i2",
    "i4",
    "u4",
    "i8",
    "u8",
    "f2",
    "f4",
    "f8",
    ">f8",
    "c8",
    "c16",
    "?",
    "S1",
    "S8",
    "V8",
)
NAMES = (
    "x",
    "0",
    "1",
    "7",
    "-1",
    "01",
    "1e3",
    "type",
    "weight",
    "neuron",
    "bias",
    "data",
    "shape",
    "ü",
    "a b",
    "x" * 300,
    "input",
)


def damage_hdf5(path: Path, rng: Rng) -> None:
    """One to three changes to objects, values, links or attributes; mostly without a sum that gives them away."""
    with h5py.File(path, "r+") as file:
        if rng.random() < 0.9:
            file.attrs.pop("sha256", None)
        for _ in range(int(rng.integers(1, 4))):
            names: list[str] = []
            file.visit(names.append)
            if not names:
                return
            change = pick(rng, (_dataset, _dataset, _dataset, _object, _link, _attribute))
            change(file, pick(rng, names), names, rng)


def _dataset(file: h5py.File, name: str, names: list[str], rng: Rng) -> None:
    """Other values, another type or another shape for a dataset."""
    sets = [each for each in names if isinstance(file[each], h5py.Dataset)]
    if not sets:
        return
    name = name if name in sets else pick(rng, sets)
    old = file[name]
    is_text = old.dtype.kind in "OSV" or old.shape is None or old.size > 1 << 20
    array = np.zeros(2) if is_text else np.asarray(old[()])
    change = pick(rng, ("values", "values", "values", "type", "shape", "text", "odd", "other", "huge"))
    del file[name]
    if change == "values" and not is_text:
        file[name] = _values(array, rng)
    elif change == "type":
        with np.errstate(all="ignore"):
            file[name] = array.astype(pick(rng, DTYPES))
    elif change == "shape":
        file[name] = _reshaped(array, rng)
    elif change == "text":
        text = pick(
            rng, (*TEXTS, "CUBA", "LOIHI", "dense", "conv", "flatten", "LIF", "CubaLIF", "Conv2d", "Linear")
        )
        text = text.replace("\x00", "0")
        file.create_dataset(name, data=pick(rng, (text, [text], text.encode() or b"0", b"\xff\xfe")))
    elif change == "odd":
        _odd(file, name, rng)
    elif change == "other":
        others = [each for each in sets if each != name]
        if others:
            file.copy(file[pick(rng, others)], name)
    elif change == "huge":
        dtype, shape = pick(rng, ("u1", "f4", "i8")), pick(rng, HUGE)
        chunks = tuple(max(1, min(size, 64)) for size in shape)
        fill = pick(rng, (0, 1))
        file.create_dataset(
            name, shape, dtype, chunks=chunks, fillvalue=fill, compression=pick(rng, (None, "gzip"))
        )


def _values(array: np.ndarray, rng: Rng) -> np.ndarray:
    array = array.copy()
    change = pick(rng, ("one", "one", "one", "all", "shuffle", "reverse", "repeat", "negate", "scale"))
    number = pick(rng, FLOATS if array.dtype.kind == "f" and rng.random() < 0.6 else INTEGERS)
    with np.errstate(all="ignore"):
        if array.dtype.kind in "iu":
            info = np.iinfo(array.dtype)
            number = int(min(max(number, info.min), info.max))
        if change == "one" and array.size:
            array.flat[int(rng.integers(array.size))] = number
        elif change == "all":
            array[...] = number
        elif change == "shuffle" and array.ndim:
            rng.shuffle(array)
        elif change == "reverse" and array.ndim:
            array = array[::-1]
        elif change == "repeat" and array.size:
            array.flat[int(rng.integers(array.size))] = array.flat[int(rng.integers(array.size))]
        elif change == "negate" and array.dtype.kind != "b":
            array = -array
        elif change == "scale" and array.dtype.kind != "b":
            array = array * array.dtype.type(3)
    return array


def _reshaped(array: np.ndarray, rng: Rng) -> np.ndarray:
    options: list[Any] = [
        array.reshape(-1),
        array[None],
        array[..., None],
        array.T,
        array.reshape(-1)[:0],
        array.reshape(-1)[:1],
        np.zeros((0, 3)),
        np.resize(array, (array.size + 1,)),
        array.reshape(-1)[:-1],
        np.zeros(()),
        array.sum(),
        np.resize(array, (1,) * 31),
        np.resize(array, (array.size, 2)),
        np.resize(array, (2, 3, 4)),
    ]
    return pick(rng, options)


def _odd(file: h5py.File, name: str, rng: Rng) -> None:
    """Types that numbers do not have."""
    kind = pick(
        rng,
        (
            "empty",
            "vlen",
            "reference",
            "enum",
            "compound",
            "group",
            "datatype",
            "array",
            "external",
            "virtual",
            "strings",
        ),
    )
    if kind == "empty":
        file[name] = h5py.Empty(pick(rng, ("f4", "S8")))
    elif kind == "vlen":
        data = file.create_dataset(name, (3,), h5py.vlen_dtype(pick(rng, ("f4", "i8", "u2"))))
        for i in range(3):
            data[i] = pick(rng, ([1, 2], [], [5] * 9))
    elif kind == "reference":
        file.create_dataset(name, (2,), h5py.ref_dtype)
    elif kind == "enum":
        file.create_dataset(
            name, data=np.ones(4, "i1"), dtype=h5py.enum_dtype({"A": 0, "B": 1}, basetype="i1")
        )
    elif kind == "compound":
        file[name] = np.zeros(3, dtype=[("a", "i4"), ("b", "f8")])
    elif kind == "group":
        file.create_group(name)
    elif kind == "datatype":
        file[name] = np.dtype("f8")
    elif kind == "array":
        file.create_dataset(name, (2,), np.dtype(("f4", (3,))))
    elif kind == "external":
        file.create_dataset(name, (4,), "u1", external=[("/etc/hostname", 0, 4)])
    elif kind == "virtual":
        layout = h5py.VirtualLayout((4,), "f4")
        layout[:] = h5py.VirtualSource("nowhere.h5", "x", shape=(4,))
        file.create_virtual_dataset(name, layout)
    else:
        file.create_dataset(
            name, data=[pick(rng, TEXTS).replace("\x00", "0") for _ in range(3)], dtype=h5py.string_dtype()
        )


def _object(file: h5py.File, name: str, names: list[str], rng: Rng) -> None:
    """Delete, rename, or copy a group or dataset."""
    change = pick(rng, ("delete", "delete", "rename", "copy", "exchange"))
    beside = f"{name.rpartition('/')[0]}/{pick(rng, NAMES)}"
    if change == "delete":
        del file[name]
    elif change == "rename" and beside not in file:
        file.move(name, beside)
    elif change == "copy" and beside not in file:
        file.copy(file[name], beside)
    elif change == "exchange":
        other = pick(rng, names)
        if other.startswith(name) or name.startswith(other):
            return
        del file[name]
        file.copy(file[other], name)


def _link(file: h5py.File, name: str, names: list[str], rng: Rng) -> None:
    """Put a link in the place of an object, or beside it."""
    target: Any = pick(
        rng,
        (
            h5py.SoftLink("/nowhere"),
            h5py.SoftLink("/"),
            h5py.SoftLink("/" + name),
            h5py.ExternalLink("/etc/passwd", "/"),
            h5py.ExternalLink("nowhere.h5", "/x"),
            h5py.SoftLink("/" + pick(rng, names)),
            "hard",
            "hard",
        ),
    )
    if target == "hard":  # several names for one object, cycles among them
        target = pick(rng, (file, file[pick(rng, names)]))
    beside = f"{name.rpartition('/')[0]}/{pick(rng, NAMES)}"
    if rng.random() < 0.5:
        del file[name]
        beside = name
    if beside not in file:
        file[beside] = target


JSON_TEXTS = ('{"dataset": 3}', '{"dataset": {"name": 5}}', "[1]", '{"a": NaN}', "[" * 4000, "9" * 5000)
ARRAYS = (
    [1, 2, 3],
    [2**62, 2**62],
    [-1],
    [0],
    [1.5],
    np.zeros((2, 2)),
    np.zeros(0),
    [2**40],
    ["a", "b"],
    [float("nan")],
)


def _attribute(file: h5py.File, name: str, names: list[str], rng: Rng) -> None:
    """Delete, replace, rename or add an attribute."""
    holders = [each for each in ("/", *names) if len(file[each].attrs)]
    attributes = file[pick(rng, holders) if holders else name].attrs
    key = pick(rng, list(attributes)) if len(attributes) else "x"
    change = pick(rng, ("delete", "set", "set", "set", "array", "odd", "rename"))
    if change in ("delete", "rename") and key in attributes:
        old = attributes[key]
        del attributes[key]
        if change == "rename":
            attributes[key + "x"] = old
    elif change == "set":
        number, text = pick(rng, INTEGERS), pick(rng, (*TEXTS, *JSON_TEXTS))
        values = (
            number if abs(number) < 2**63 else 0.5,
            pick(rng, FLOATS),
            text.replace("\x00", "0"),
            text.encode().replace(b"\x00", b"") or b"0",
            b"\xff\xfe",
            True,
        )
        attributes[key] = pick(rng, values)
    elif change == "array":
        attributes[key] = pick(rng, ARRAYS)
    else:
        compound, strings = np.zeros(2, dtype=[("a", "i4")]), np.array([1, 2], object).astype("S3")
        odd = (h5py.Empty("f4"), 1j, compound, np.void(b"abc"), file[name].ref, strings)
        attributes[key] = pick(rng, odd)
