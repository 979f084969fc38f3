"""Handwritten digits from scikit-learn (UCI Optical Recognition of Handwritten Digits).

1,797 images of 8 × 8 pixels, grey values 0 to 16 (Alpaydin, Kaynak 1998, DOI 10.24432/C50P49). A fixed
stratified quarter is the test set. ``digits`` shows a static image; ``psdigits`` shows its 64 pixels one by
one in a fixed random order, a small version of permuted sequential MNIST (Le, Jaitly, Hinton, arXiv:1504.00941).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lbi.datasets.base import Dataset, SpikeData, check_options, pixel_options, stratified_split
from lbi.datasets.encodings import IMAGE_CODES, VALUE_CODES
from lbi.errors import require

_SPLIT_SEED = 0
_TEST_FRACTION = 0.25


def load_digits(_data_dir: Path | None = None, *, code: str = "rate", n_steps: int = 16) -> Dataset:
    """Static images with 64 channels.

    Args:
        code: "latency" (one spike per pixel, bright early) or "rate" (evenly spaced, up to one per step).
        n_steps: timesteps per image.

    Returns:
        The data set.
    """
    check_options(
        code=(code, code in IMAGE_CODES, ", ".join(IMAGE_CODES)),
        n_steps=(n_steps, isinstance(n_steps, int) and 2 <= n_steps <= 1024, "2 to 1024"),
    )
    images, labels = _images()
    spikes = IMAGE_CODES[code](images, n_steps)
    return _split("digits", spikes, labels, {"code": code, "n_steps": n_steps}, (8, 8))


def load_psdigits(
    _data_dir: Path | None = None, *, code: str = "thermometer", n_levels: int = 16, order_seed: int = 0
) -> Dataset:
    """Images shown in 64 steps of one pixel.

    Args:
        code: how a grey value becomes spikes: "thermometer", "population" or "on_off"
            (``lbi.datasets.encodings``).
        n_levels: channels.
        order_seed: seed of the order of pixels.

    Returns:
        The data set.
    """
    check_options(**pixel_options(code, n_levels, order_seed))
    images, labels = _images()
    order = np.random.default_rng(order_seed).permutation(images.shape[1])
    spikes = VALUE_CODES[code](images[:, order], n_levels)
    encoding = {"code": code, "n_levels": n_levels, "order_seed": order_seed}
    return _split("psdigits", spikes, labels, encoding, (n_levels,))


def _images() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    require("sklearn", "train")
    from sklearn.datasets import load_digits as sklearn_digits

    bunch = sklearn_digits()
    return bunch.data / 16.0, bunch.target.astype(np.int64)


def _split(
    name: str,
    spikes: NDArray[np.uint8],
    labels: NDArray[np.int64],
    encoding: dict[str, object],
    input_shape: tuple[int, ...],
) -> Dataset:
    train, test = stratified_split(labels, _TEST_FRACTION, np.random.default_rng(_SPLIT_SEED))
    return Dataset(
        name,
        {"train": SpikeData(spikes[train], labels[train]), "test": SpikeData(spikes[test], labels[test])},
        n_classes=10,
        n_steps=spikes.shape[1],
        input_shape=input_shape,
        encoding=encoding,
    )
