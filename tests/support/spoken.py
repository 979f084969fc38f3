"""Files of spoken digits as the authors of SHD and SSC write them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

N_UNITS = 700


def shd_file(path: Path, samples: Sequence[tuple[Any, Any, int]]) -> None:
    """Samples of (seconds, units, label), as vlen float16 and vlen uint16."""
    with h5py.File(path, "w") as file:
        for name, dtype, column in (("times", np.float16, 0), ("units", np.uint16, 1)):
            data = file.create_dataset(f"spikes/{name}", (len(samples),), dtype=h5py.vlen_dtype(dtype))
            for i, sample in enumerate(samples):
                data[i] = np.asarray(sample[column], dtype)
        file["labels"] = np.array([sample[2] for sample in samples], np.uint16)


def random_samples(
    rng: np.random.Generator, n_samples: int, *, last_s: float = 1.0, most: int = 30
) -> list[tuple[Any, Any, int]]:
    """Samples of 1 to ``most`` events up to ``last_s``, of classes 0 to 19 in turn."""
    sizes = rng.integers(1, most + 1, n_samples)
    return [
        (rng.uniform(0, last_s, size), rng.integers(0, N_UNITS, size), i % 20) for i, size in enumerate(sizes)
    ]
