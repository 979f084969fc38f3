"""The neurons of a population that compaction kept, as indices into the population as trained."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from lbi.errors import Problems, Rule
from lbi.limits import MOST_NEURONS
from lbi.network.values import read_only

KEPT_SHAPE = Rule("kept-shape", f"sizes of at least 1, {MOST_NEURONS:,} neurons at most")
KEPT_INDEX = Rule("kept-index", "{n} rising indices from 0 to {most}, one per neuron")


@dataclass(frozen=True, eq=False)
class Kept:
    """Where the neurons of a compacted population stood in the population as trained.

    Attributes:
        shape: of the population as trained; its neurons are numbered in C order.
        indices: (n,) int32, rising: neuron i of the compacted population was ``indices[i]``.
    """

    shape: tuple[int, ...]
    indices: NDArray[np.int32]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(size) for size in self.shape))
        object.__setattr__(self, "indices", read_only(self.indices, np.int32, "indices"))

    @property
    def n(self) -> int:
        """Neurons of the population as trained."""
        return prod(self.shape)

    def check(self, n: int, where: str, problems: Problems) -> None:
        """Note a record that cannot be that of a population of ``n`` neurons.

        Args:
            n: neurons that the population has now.
            where: the population, for errors.
            problems: receives a problem for sizes that are impossible, and for indices that are not ``n``
                ascending ones of the neurons trained.
        """
        sizes = bool(self.shape) and min(self.shape) >= 1 and self.n <= MOST_NEURONS
        if KEPT_SHAPE.check(problems, sizes, where, self.shape):
            indices = self.indices
            fits = indices.shape == (n,) and bool(np.all(np.diff(indices) > 0))
            fits = fits and (n == 0 or (int(indices[0]) >= 0 and int(indices[-1]) < self.n))
            found = f"{indices.size} indices for {n} neurons of {self.n}"
            KEPT_INDEX.check(problems, fits, where, found, n=n, most=self.n - 1)
