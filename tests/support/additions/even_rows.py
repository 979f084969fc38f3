"""A regularizer: elastic rows, which vanish together and are pulled together where they stay."""

from __future__ import annotations

from dataclasses import dataclass

from lbi.train.optim.regularizers import GroupL1


@dataclass(frozen=True)
class EvenRows(GroupL1):
    """``GroupL1`` over rows with a squared norm of weight 0.01 by default."""

    elastic: float = 0.01
