"""Progress of a training run: the part of a checkpoint besides model and optimizer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

from annotated_types import Ge, Interval

from lbi.records import Takes

LARGEST = 1e38
"""Upper bound of options and figures: the largest single-precision number."""

Figure = Annotated[int | float, Interval(gt=-LARGEST, lt=LARGEST), Takes("a finite number")]
Count = Annotated[int, Ge(0)]


@dataclass
class Progress:
    """The progress of a run.

    Attributes:
        epoch: epochs done.
        history: a record of figures per epoch.
        best: best validation accuracy; -1 before the first.
        best_epoch: epoch it was reached in.
        best_state: the model's state then; None before the first.
    """

    epoch: Count = 0
    history: list[dict[str, Figure]] = field(default_factory=list)
    best: Figure = -1.0
    best_epoch: Count = 0
    best_state: dict[str, Any] | None = None
