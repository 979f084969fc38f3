"""Spike files and data sets for the fuzzer: valid ones, changes to them, and their use."""

from __future__ import annotations

import gzip
import io
import os
import struct
import zipfile
from pathlib import Path

import h5py
import numpy as np
from numpy.lib import format as npy

from lbi import datasets
from support.fuzz.hdf5 import damage_hdf5
from support.fuzz.values import Rng, damage, damage_file, pick
from support.networks import random_spikes


def spikes_file(folder: Path, **more: np.ndarray) -> Path:
    """A spikes.npz of twelve samples, with additional arrays."""
    rng = np.random.default_rng(0)
    path = folder / "spikes.npz"
    np.savez(path, spikes=random_spikes(rng, 12, 6, 8), labels=np.arange(12) % 3, **more)
    return path


TYPES = ("i1", "u1", ">i8", "u8", "f2", "f4", "f8", "c16", "?", "S3", "U3", "M8[s]", "m8[s]", "V4")
NAMES = ("x", "labels", "spikes", "test_spikes", "test_labels", "Spikes", "", "a/b")


def damage_npz(path: Path, rng: Rng) -> None:
    """Change an array of the archive, its header, or its name."""
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    key = pick(rng, list(arrays))
    old = arrays[key]
    change = pick(rng, ("type", "type", "shape", "values", "name", "order", "header", "header", "objects"))
    with np.errstate(all="ignore"):
        if change == "type":
            if rng.random() < 0.8:
                arrays[key] = old.astype(pick(rng, TYPES))
            else:
                arrays[key] = np.zeros(old.shape, [("a", "i4"), ("b", "f4")])
        elif change == "shape":
            arrays[key] = pick(
                rng,
                (
                    old.reshape(-1),
                    old[None],
                    old[..., None],
                    old.T,
                    old[:0],
                    old[:1],
                    old[..., :0],
                    old[:-1],
                    np.zeros(()),
                    old.sum(),
                ),
            )
        elif change == "values":
            new = old.astype(pick(rng, ("f8", "i8", "u8", "i1")))
            new.flat[int(rng.integers(new.size))] = pick(rng, (2, -1, 100, 1, 0))
            if new.dtype.kind == "f":
                new.flat[0] = pick(rng, (float("nan"), float("inf"), 0.5, 1.0))
            arrays[key] = new
        elif change == "name":
            arrays[pick(rng, NAMES)] = arrays.pop(key)
        elif change == "order":
            arrays[key] = np.asfortranarray(old)
    with zipfile.ZipFile(path, "w", pick(rng, (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED))) as archive:
        for name, array in arrays.items():
            content = npy_bytes(array)
            if name == key and change == "header":
                content = bad_header(array, rng)
            elif name == key and change == "objects":
                content = npy_bytes(np.array([None, 1, "x"], dtype=object))
            archive.writestr(f"{name}.npy", content)


def npy_bytes(array: np.ndarray) -> bytes:
    """An array as a ``.npy`` file."""
    buffer = io.BytesIO()
    npy.write_array(buffer, np.asarray(array), allow_pickle=True)
    return buffer.getvalue()


HEADER_SHAPES = (
    "(1000000000, 10, 10)",
    "(4294967296, 4294967296)",
    "(-1,)",
    "(2,",
    "()",
    "(0, 9999999999999)",
    "(3.5,)",
    "(True,)",
    "('a',)",
    "[12, 6, 8]",
)
HEADER_TYPES = (
    "'|u1'",
    "'<f8'",
    "'|O'",
    "'<U9999999'",
    "'|V0'",
    "[('a', '<i4')]",
    "'nonsense'",
    "7",
    "'<c16'",
    "'|S0'",
)


def bad_header(array: np.ndarray, rng: Rng) -> bytes:
    """An array behind a header that says something else."""
    shape = pick(rng, (*HEADER_SHAPES, str((*array.shape, 1)), str((1 << 33, 6, 8))))
    kind = pick(rng, HEADER_TYPES)
    order = pick(rng, ("True", "False", "2"))
    text = f"{{'descr': {kind}, 'fortran_order': {order}, 'shape': {shape}, }}"
    text = pick(rng, (text, text, text, "(" * 3000, text * 40, "{}", "\x00", text.replace("'", '"')))
    header = text.encode() + b" " * (-len(text) % 64) + b"\n"
    version = pick(rng, (b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x00"))
    length = pick(rng, (len(header), len(header), len(header), 65535)) % 65536
    packed = struct.pack("<H" if version == b"\x01\x00" else "<I", length)
    return b"\x93NUMPY" + version + packed + header + array.tobytes()


def spikes_seeds(folder: Path) -> list[Path]:
    return [spikes_file(folder)]


def dataset_seeds(folder: Path) -> list[Path]:
    own = folder / "own"
    own.mkdir(exist_ok=True)
    spikes = random_spikes(np.random.default_rng(1), 4, 6, 8)
    return [spikes_file(folder), spikes_file(own, test_spikes=spikes, test_labels=np.arange(4) % 3)]


def use_spikes(path: Path, _rng: Rng) -> None:
    from lbi.files.spikes_npz import load_spikes

    load_spikes(path, 8)


def use_dataset(path: Path, _rng: Rng) -> None:
    data = datasets.load(str(path))
    data.train, data.test  # noqa: B018 - read on first use


def heidelberg_seeds(folder: Path) -> list[Path]:
    path = folder / "whole"
    path.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for name in ("shd_train.h5", "shd_test.h5"):
        with h5py.File(path / name, "w") as file:
            times = file.create_dataset("spikes/times", (4,), h5py.vlen_dtype(np.float16))
            units = file.create_dataset("spikes/units", (4,), h5py.vlen_dtype(np.uint16))
            for i in range(4):
                times[i], units[i] = np.sort(rng.uniform(0, 1.5, 5 * i)), rng.integers(0, 700, 5 * i)
            file["labels"] = np.arange(4, dtype=np.uint16) * 5
            file["extra/keys"] = np.array([b"zero", b"one"])
    return [path]


def damage_heidelberg(path: Path, rng: Rng) -> None:
    damage_hdf5(path / pick(rng, sorted(os.listdir(path))), rng)


def damage_bytes_within(path: Path, rng: Rng) -> None:
    """``damage_file`` one of a folder's files."""
    damage_file(path / pick(rng, sorted(os.listdir(path))), rng)


def use_heidelberg(path: Path, _rng: Rng) -> None:
    data = datasets.load("shd", path, n_steps=20, n_channels=70)
    data.test, data.train  # noqa: B018


def idx(array: np.ndarray) -> bytes:
    """An IDX file of bytes."""
    return (
        bytes([0, 0, 8, array.ndim])
        + b"".join(size.to_bytes(4, "big") for size in array.shape)
        + array.tobytes()
    )


def mnist_seeds(folder: Path) -> list[Path]:
    from lbi.datasets.mnist import FILES

    path = folder / "whole"
    path.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    for split, (images, labels) in FILES.items():
        pack, end = (gzip.compress, ".gz") if split == "test" else (bytes, "")
        (path / (images + end)).write_bytes(pack(idx(rng.integers(0, 256, (3, 28, 28)).astype(np.uint8))))
        (path / (labels + end)).write_bytes(pack(idx(np.arange(3, dtype=np.uint8) * 4)))
    return [path]


def damage_mnist(path: Path, rng: Rng) -> None:
    """Change magic, rank, sizes or values of one of the four files, or what packs it."""
    file = path / pick(rng, sorted(os.listdir(path)))
    packed = file.suffix == ".gz"
    content = gzip.decompress(file.read_bytes()) if packed else file.read_bytes()
    rare = "bomb" if rng.random() < 0.02 else "bytes"
    change = pick(rng, ("magic", "sizes", "sizes", "values", "head", "rank", rare, "pack"))
    sizes = (0, 1, 2**16, 2**31, 2**32 - 1, 28, 3)
    if change == "magic":
        kind, rank = pick(rng, (0, 8, 9, 11, 13, 255)), pick(rng, (0, 1, 2, 3, 4, 64, 255))
        content = bytes([0, 0, kind, rank]) + content[4:]
    elif change == "sizes":
        at = 4 + 4 * int(rng.integers(max(1, content[3])))
        content = content[:at] + int(pick(rng, sizes)).to_bytes(4, "big") + content[at + 4 :]
    elif change == "rank":
        rank = pick(rng, (0, 1, 2, 3, 4, 5, 32, 33, 64, 255))
        content = bytes([0, 0, 8, rank]) + b"\x00\x00\x00\x01" * rank + content[16:]
    elif change in ("values", "bytes"):
        content = content[:16] + damage(content[16:], rng) if change == "values" else damage(content, rng)
    elif change == "head":
        content = content[: int(rng.integers(20))]
    if change == "bomb":
        content = content + bytes(300 << 20)
    if packed:
        content = gzip.compress(content, 1)
        if change == "pack":
            packs = (
                content + content,
                content + b"x",
                content[:-4] + b"1234",
                content[:10],
                damage(content, rng),
            )
            content = pick(rng, packs)
    if change == "bomb" and not packed:
        return
    file.write_bytes(content)


def use_mnist(path: Path, _rng: Rng) -> None:
    data = datasets.load("psmnist", path, n_levels=2)
    data.test, data.train  # noqa: B018
