"""Runs of a traced model in which its hand-written neurons are heard, or forced to spike at random.

A model that is silent on random spikes shows nothing of what its spikes do. So in one run the outcome of each comparison with a
threshold is replaced by random spikes: what reaches the layers and the voltages must be what these spikes make it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from lbi.importers.torch.handwritten import SIGN, THRESHOLDS, Comparison, Handwritten, Key
from lbi.importers.torch.running import Widened

FORCED_RATE = 0.3
"""Spikes per step and neuron of a forced run."""


class Listening(Widened):
    """Mode that passes on the spikes of hand-written populations of a trace.

    Args:
        written: the populations.
        receive: function of (number of a population, what is compared with its threshold, its spikes).
        n_steps: steps of this run.
        widen: as in ``Widened``.
        forced: seed of random spikes in place of the neurons' own; None for these.
    """

    def __init__(
        self,
        written: Handwritten,
        receive: Callable[[int, Tensor, Tensor], None],
        n_steps: int,
        *,
        widen: bool = True,
        forced: int | None = None,
    ) -> None:
        super().__init__(widen=widen)
        self._written, self._receive, self._n_steps = written, receive, n_steps
        self._counts: dict[Key, int] = {}
        self._random = None if forced is None else np.random.default_rng(forced)
        self._past: dict[int, list[Tensor]] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation of the model."""
        out = super().__torch_dispatch__(func, types, args, kwargs)
        name = func._schema.name
        if not self._written.pattern or name not in THRESHOLDS:
            return out
        key = self._written.key(out)
        count = self._counts[key] = self._counts.get(key, -1) + 1
        comparison = self._comparison(key, count)
        return out if comparison is None else self._heard(name, comparison, args, out)

    def _comparison(self, key: Key, count: int) -> Comparison | None:
        """What the comparison of this number at a place is, as in the trace; layer by layer where that is so there."""
        pattern = self._written.pattern.get(key)
        if not pattern:
            return None
        numbers = [comparison.number for comparison in pattern]
        runs = list(dict.fromkeys(numbers))
        steps = len(numbers) // len(runs)
        if len(runs) > 1 and numbers == [number for number in runs for _ in range(steps)]:
            return pattern[count // self._n_steps % len(runs) * steps]
        return pattern[count % len(pattern)]

    def _heard(self, name: str, comparison: Comparison, args: Any, out: Tensor) -> Tensor:
        """What the comparison returns, after its spikes are passed on."""
        number, back, argument, inverted = comparison
        past = self._past.setdefault(number, [])
        spikes = (out <= 0 if inverted else out > 0).double()
        if self._random is not None and back is None:
            drawn = self._random.random(tuple(out.shape)) < FORCED_RATE
            spikes = torch.from_numpy(np.asarray(drawn, dtype=np.float64))
        elif self._random is not None and back is not None and back < len(past):
            spikes = past[-1 - back]
        if back is None:
            past.append(spikes)
            self._receive(number, args[argument], spikes)
        if self._random is None:
            return out
        true = 1.0 - spikes if inverted else spikes
        return (2.0 * true - 1.0 if name == SIGN else true).to(out.dtype)
