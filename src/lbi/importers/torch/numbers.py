"""Numbers that a model's Python code takes of spikes: ``.item()``, ``float()``, ``if``.

They leave the trace, and most of them are only counted, as lava-dl's tutorials do. To see that nothing else depends on them, the model is
traced again and again with other numbers in their place: all layers must take in the same, and the output must be the same.
A number with which the model only raises an exception of its own is none of its output.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import numpy as np

from lbi.errors import InputError, Problems
from lbi.importers.torch.group import NotThisWay
from lbi.importers.torch.leaving import Substitutes
from lbi.importers.torch.output import read_at, same_output
from lbi.importers.torch.reading import same_signal
from lbi.importers.torch.tracing import Tracing

CONSTANTS = (*map(float, range(9)), -1e6, 1e6, math.nan)
"""Numbers in place of all that are taken: small counts, and what counts and rates do not reach in either direction."""

SEQUENCES, EXPONENTS = 8, (-2.0, 6.0)
"""How often each gets a number of its own instead, so that comparisons of them turn out either way; powers of ten of their size."""

Trace = tuple[Tracing, list[Any]]


def note_used(trace: Trace, again: Callable[[Substitutes], Trace], problems: Problems) -> None:
    """Note every place that takes numbers of spikes, if the model computes something else when they are others.

    Args:
        trace: the trace and the model's outputs.
        again: traces the model with the next of these numbers in place of each that is taken.
        problems: receives the problems.
    """
    taken = trace[0].taken.problems
    if not taken:
        return
    guards: set[str] = set()
    sequences = [*map(repeat, CONSTANTS), *map(_drawn, range(SEQUENCES))]
    while sequences:
        substitutes = Substitutes(sequences[0], guards)
        try:
            same = _alike(trace, again(substitutes))
        except (NotThisWay, InputError):
            same = False
            if substitutes.stopped:
                guards.add(substitutes.stopped)
                continue  # the same numbers for all other places
        if not same:
            for problem in taken:
                problems.note(problem)
            return
        sequences.pop(0)


def _drawn(seed: int) -> Iterator[float]:
    """Numbers of either sign and many sizes, without end."""
    rng = np.random.default_rng(seed)
    while True:
        yield float(rng.choice([-1.0, 1.0]) * 10 ** rng.uniform(*EXPONENTS))


def _alike(one: Trace, other: Trace) -> bool:
    """Whether layers, their inputs at every step, refusals and the outputs of two traces are equal."""
    (first, results), (second, others) = one, other
    groups = [(group.site, group.name, group.shape) for group in first.groups]
    if groups != [(group.site, group.name, group.shape) for group in second.groups]:
        return False
    for mine, theirs in zip(first.groups, second.groups, strict=True):
        if len(mine.inputs) != len(theirs.inputs):
            return False
        if not all(map(same_signal, mine.inputs, theirs.inputs)):
            return False
    pools = [[(pool.name, pool.signal) for pool in trace.shadow.pools] for trace in (first, second)]
    if [name for name, _ in pools[0]] != [name for name, _ in pools[1]]:
        return False
    if not all(same_signal(mine, theirs) for (_, mine), (_, theirs) in zip(*pools, strict=True)):
        return False
    reads, reads_again = read_at(first, results, Problems()), read_at(second, others, Problems())
    if reads is None or reads_again is None:
        return reads is reads_again
    return same_output(reads, reads_again) and list(map(str, first.problems)) == list(
        map(str, second.problems)
    )
