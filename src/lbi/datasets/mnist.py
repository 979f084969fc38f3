"""MNIST from a folder of IDX files (LeCun, Cortes, Burges; plain or ``.gz``): static images, or pixel by pixel.

``mnist`` shows an image of 28 × 28 pixels in every step. ``psmnist`` has 784 steps, one pixel each, in a fixed random order
(Le, Jaitly, Hinton, arXiv:1504.00941), each pixel's grey value over ``n_levels`` thermometer or population channels.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lbi.datasets.base import Dataset, SpikeData, check_options, pixel_options
from lbi.datasets.encodings import IMAGE_CODES, VALUE_CODES
from lbi.datasets.packed import Spikes, collect, part_length
from lbi.errors import InputError, Problems, Rule
from lbi.system.paths import MISSING, not_a_file

FILES = {
    "train": ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"),
    "test": ("t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"),
}

SIDE = 28
SIDES = (SIDE, SIDE // 2)

IMAGE_SHAPES = Rule("data-broken", f"(n, {SIDE}, {SIDE}) and (n,)")
GET = "get the four IDX files (for instance torchvision.datasets.MNIST(DIR, download=True)), and give DIR with --data"
NO_FOLDER = Rule("data-missing", "a folder with IDX files", GET)
NO_FILE = Rule("data-missing", "{name} or {name}.gz", GET)
UNREADABLE = Rule("data-broken", "an IDX file", "get it again")
NOT_IDX = Rule("data-broken", "magic number 00 00 08, rank")
IDX_SIZE = Rule("data-broken", "{size} for {shape}", "it may be truncated: get it again")


def load_mnist(
    data_dir: Path | None = None, *, code: str = "rate", n_steps: int = 4, n_train: int = 0
) -> Dataset:
    """Static images, one channel of 28 × 28 pixels; the data set takes 784 · n_steps bytes per sample, or bits if it is large.

    Args:
        data_dir: folder with the files.
        code: "latency" (one spike per pixel, bright early) or "rate" (evenly spaced, up to one per step).
        n_steps: timesteps per image.
        n_train: number of training samples, from the first; 0 for all 60,000. The test set is always complete.

    Returns:
        The data set, read when it is used.
    """
    check_options(
        code=(code, code in IMAGE_CODES, ", ".join(IMAGE_CODES)),
        n_steps=(n_steps, isinstance(n_steps, int) and 2 <= n_steps <= 1024, "2 to 1024"),
        n_train=(n_train, isinstance(n_train, int) and n_train >= 0, "a whole number from 0"),
    )
    paths = _find("mnist", data_dir)
    # The 256 grey values are encoded once; pixels look them up.
    table = IMAGE_CODES[code](np.arange(256)[:, None] / 255.0, n_steps)[:, :, 0]

    def encode(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.stack([table[:, t][grey] for t in range(n_steps)], axis=1)

    def reader(split: str) -> Callable[[], SpikeData]:
        def read() -> SpikeData:
            images, labels = _read(paths[split], n_train if split == "train" else 0)
            grey = images.reshape(len(images), -1)
            return SpikeData(_encode(grey, (n_steps, SIDE * SIDE), encode), labels)

        return read

    return Dataset(
        "mnist",
        {split: reader(split) for split in FILES},
        n_classes=10,
        n_steps=n_steps,
        input_shape=(1, SIDE, SIDE),
        encoding={"code": code, "n_steps": n_steps, "n_train": n_train},
        files=[path for pair in paths.values() for path in pair],
    )


def load_psmnist(
    data_dir: Path | None = None,
    *,
    code: str = "thermometer",
    n_levels: int = 8,
    order_seed: int = 0,
    max_samples: int = 0,
    side: int = SIDE,
) -> Dataset:
    """Handwritten digits pixel by pixel; max_samples > 0 limits the samples of each split.

    The data set takes side² · n_levels bytes per sample, or bits if it is large: 0.1 GB with these defaults.

    Args:
        data_dir: folder with the four IDX files.
        code: how a grey value becomes spikes (``lbi.datasets.encodings``).
        n_levels: channels.
        order_seed: seed of the order of pixels.
        max_samples: limit of the samples of each split; 0 for all.
        side: 28, or 14 for the means of 2 × 2 pixels: 196 steps instead of 784.

    Returns:
        The data set.
    """
    check_options(
        side=(side, side in SIDES, " or ".join(map(str, SIDES))),
        **pixel_options(code, n_levels, order_seed),
        max_samples=(max_samples, isinstance(max_samples, int) and max_samples >= 0, "a whole number from 0"),
    )
    paths = _find("psmnist", data_dir)
    order = np.random.default_rng(order_seed).permutation(side * side)

    def reader(split: str) -> Callable[[], SpikeData]:
        def read() -> SpikeData:
            images, labels = _read(paths[split], max_samples)
            grey = _shrink(images, side).reshape(len(images), -1)
            # Encode the 256 grey values once; pixels look them up.
            table = VALUE_CODES[code](np.arange(256) / 255.0, n_levels)
            shape = (side * side, n_levels)
            return SpikeData(_encode(grey, shape, lambda part: table[part[:, order]]), labels)

        return read

    return Dataset(
        "psmnist",
        {split: reader(split) for split in FILES},
        n_classes=10,
        n_steps=side * side,
        input_shape=(n_levels,),
        encoding={
            "code": code,
            "n_levels": n_levels,
            "order_seed": order_seed,
            "max_samples": max_samples,
            **({} if side == SIDE else {"side": side}),
        },
        files=[path for pair in paths.values() for path in pair],
    )


def _encode(
    grey: NDArray[np.uint8],
    shape: tuple[int, int],
    encode: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
) -> Spikes:
    """Spikes of images (n, pixels), each of ``shape`` (n_steps, n_in), by ``encode`` part by part."""
    length = part_length(*shape)
    parts = (encode(grey[start : start + length]) for start in range(0, len(grey), length))
    return collect((len(grey), *shape), parts)


def _shrink(images: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Images (n, 28, 28) as (n, side, side): means of blocks of pixels, halves rounded up."""
    factor = SIDE // side
    blocks = images.reshape(len(images), side, factor, side, factor).sum((2, 4), dtype=np.uint32)
    return ((blocks + factor**2 // 2) // factor**2).astype(np.uint8)


def _read(paths: tuple[Path, Path], most: int) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Images (n, 28, 28) and labels (n,) of the first ``most`` samples of a split, or all if it is 0."""
    images, labels = (read_idx(path) for path in paths)
    problems = Problems()
    IMAGE_SHAPES.check(
        problems,
        images.shape[1:] == (SIDE, SIDE) and labels.shape == images.shape[:1],
        str(paths[0]),
        f"images {images.shape}, labels {labels.shape}",
    )
    problems.raise_as(InputError)
    n = most or len(images)
    return images[:n], labels[:n].astype(np.int64)


def _find(dataset: str, data_dir: Path | None) -> dict[str, tuple[Path, Path]]:
    """Split → (images, labels) under ``data_dir``, or its ``MNIST/raw`` as torchvision lays it out."""
    problems = Problems()
    if data_dir is None:
        problems.note(NO_FOLDER.broken(f"data set {dataset}", "no folder given"))
        problems.raise_as(InputError)
    assert data_dir is not None
    found: dict[str, tuple[Path, Path]] = {}
    for split, names in FILES.items():
        paths = []
        for name in names:
            places = [
                folder / (name + end)
                for folder in (data_dir, data_dir / "MNIST" / "raw")
                for end in ("", ".gz")
            ]
            path = next((place for place in places if os.path.isfile(place)), None)
            if path is None:
                why = not_a_file(data_dir / name) or MISSING
                problems.note(NO_FILE.broken(str(data_dir / name), why, name=name))
            else:
                paths.append(path)
        if len(paths) == len(names):
            found[split] = (paths[0], paths[1])
    problems.raise_as(InputError)
    return found


def read_idx(path: Path) -> NDArray[np.uint8]:
    """An IDX file of unsigned bytes: two zero bytes, 0x08, the rank, big-endian sizes, then the values.

    Args:
        path: the file, plain or ``.gz``.

    Returns:
        The array.

    Raises:
        InputError: if it is truncated or of another type.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(UNREADABLE.broken(str(path), f"is not readable ({error})")) from error
    problems = Problems()
    rank = content[3] if len(content) >= 4 else 0
    holds = content[:3] == b"\x00\x00\x08" and len(content) >= 4 + 4 * rank
    if NOT_IDX.check(problems, holds, str(path), "no IDX file of bytes"):
        shape = tuple(np.frombuffer(content, ">u4", rank, 4).astype(int))
        size = 4 + 4 * rank + int(np.prod(shape))
        IDX_SIZE.check(
            problems, len(content) == size, str(path), f"{len(content)} bytes", size=size, shape=shape
        )
    problems.raise_as(InputError)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)
