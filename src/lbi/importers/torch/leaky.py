"""Voltages that plain torch computes behind the last spikes as a model's output: ``v = beta * v + fc(spikes)``.

They become neurons that never spike, as those of the frameworks. What is returned may be the voltages of every step, their sum or
mean over the steps, their maximum, or the last ones. One trace shows what the last value holds of every step; a second one,
of one more step, whether that is the same for any number of steps, and tells a mean from a sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lbi.errors import Problems, Rule
from lbi.importers.builder import READ_DECAYS
from lbi.importers.torch import maxima, weighted
from lbi.importers.torch.shadow import LOST
from lbi.importers.torch.tracing import Tracing
from lbi.importers.torch.voltages import Leak, alike, entries, in_order, leak_of, leaks_of_one
from lbi.importers.torch.weighted import EVERY, MEAN, OWN, SUM, TOTAL, Sums

LAST, MAXIMUM = "last voltage", "maximum"
"""What is returned of voltages, beside what is returned of sums."""

KEPT = Rule(
    "decay-range",
    "0 to 1",
    "train with such a factor, as by torch.sigmoid of a parameter, or by its clamp(0, 1)",
)
STEPS = Rule(
    "readout",
    "voltages with the same leak and the same weights in each step; of every step, or their sum, mean or maximum over all steps, or the"
    " last ones",
    "return the voltages of all steps, and do what follows outside of the model",
)

FIRST = Rule(
    "readout",
    "the maximum of the voltages behind each step's spikes",
    "take the maximum without the state before the first step: append to the list of voltages behind the update, and begin with an empty one",
)

FROM_ZERO = "holds the maximum of voltages and of the zeros before the first step"

HELD = (
    "the model returns {what} voltages that it computes itself of weighted sums of spikes ({n} in each step): population {name!r} holds"
    " them, keeps {kept} from step to step, and the class is the largest {read}"
)
WHAT = {
    EVERY: "every step's",
    SUM: "the sum over the steps of",
    MEAN: "the mean over the steps of",
    OWN: "the sum or mean over its own number of steps of",
    LAST: "the last step's",
    MAXIMUM: "the maximum over the steps of",
}
READ = {LAST: "of its voltages at the last step", MAXIMUM: "of their maxima over the steps"}
KINDS = {LAST: "membrane_last", MAXIMUM: "membrane_max"}
OTHER_CLASS = "; for the maximum over the steps, set the network's readout to membrane_max, and for the last step to membrane_last"


@dataclass(frozen=True)
class Voltages(Sums):
    """What the model's output holds: voltages of weighted sums of spikes.

    Attributes:
        leak: the voltages' equations; ``signal`` is what arrives in each step.
        n_before: zeros before the first step.
    """

    leak: Leak | None = None
    n_before: int = 0

    what = "voltages"

    @property
    def last(self) -> bool:  # type: ignore[override]
        """True if the last step alone is returned."""
        return self.form == LAST

    @property
    def maximum(self) -> bool:  # type: ignore[override]
        """True if the maximum over the steps is returned."""
        return self.form == MAXIMUM

    @property
    def kind(self) -> str:  # type: ignore[override]
        """The readout that gives the model's class."""
        return KINDS.get(self.form, "membrane_mean")

    @property
    def n_leaks(self) -> int:
        """How many leaks the spikes pass through."""
        return 1 + int(self._leak.current.any())

    @property
    def _leak(self) -> Leak:
        assert self.leak is not None
        return self.leak

    @property
    def neurons(self) -> dict[str, Any]:
        """Parameters of the population."""
        leak = self._leak
        return {
            "current_decay": 1.0 - leak.current,
            "voltage_decay": 1.0 - leak.voltage,
            "voltage_bias": leak.bias,
        }

    def voltages(self, added: NDArray[Any]) -> NDArray[Any]:
        """The voltages of the population.

        Args:
            added: (samples, steps, n), what arrives in each step.

        Returns:
            (samples, steps, n).
        """
        return self._leak.run(added)

    values = voltages

    @property
    def note(self) -> str:
        """What the user has to know of it."""
        factors = [factor for factor in (self._leak.voltage[0], self._leak.current[0]) if factor]
        kept = " of its voltage and ".join(f"{factor:.6g}" for factor in factors)
        kept += " of its current" if len(factors) > 1 else " of its voltage"
        read = READ.get(self.form, "sum of its voltages over the steps")
        said = HELD.format(what=WHAT[self.form], n=self.signal.n, kept=kept, name=self.name, read=read)
        return said + (OTHER_CLASS if self.form == EVERY else "")


def found(
    tracing: Tracing,
    path: tuple[Any, ...],
    tensors: Sequence[Tensor],
    tensors_of: Callable[[Sequence[Any], tuple[Any, ...]], list[Tensor]],
) -> Voltages | None:
    """The voltages that tensors hold, of every step, or of the last one alone.

    Args:
        tracing: the trace.
        path: their place in the result of a call.
        tensors: those of all calls, not all of them constant.
        tensors_of: function of (results, path) that returns them.

    Returns:
        The voltages, of which a trace of one step more has to confirm those of the last step alone; None for anything else.
    """
    n_steps = max((len(group.inputs) for group in tracing.groups), default=0)
    numbers = [_numbers(tracing, tensor) for tensor in tensors]
    values = [tensor.detach().double().numpy() for tensor in tensors]
    for listed in entries(numbers, values, n_steps):
        steps = in_order(tracing.shadow, listed, n_steps)
        if steps is not None and weighted.of_spikes(tracing, steps.signals[-1]):
            leak = leak_of(steps.signals)
            if leak is not None:
                own = _of(leak, path, tensors_of, EVERY, n_steps)
                return weighted.shaped(replace(own, n_before=steps.n_before), tensors, len(listed))
    if len(tensors) != 1 or not numbers[0].size or bool((numbers[0] == LOST).any()):
        return None
    node = tracing.shadow.read(numbers[0].reshape(-1), values[0].reshape(-1))
    held = maxima.of(tracing.shadow, node.signal)
    if held is not None:
        maximum, factor = held
        leak = leak_of(maximum.signals) if weighted.of_spikes(tracing, maximum.signals[-1]) else None
        if leak is None:
            return None
        own = replace(_of(leak, path, tensors_of, MAXIMUM, n_steps), factor=factor, n_before=maximum.n_before)
        return weighted.shaped(own, tensors)
    if not weighted.of_spikes(tracing, node.signal) or not 0 <= node.step < n_steps:
        return None
    one = node.at(n_steps - 1).reshaped((node.signal.n,))
    for leak, total in leaks_of_one(one, n_steps):
        return weighted.shaped(_of(leak, path, tensors_of, TOTAL if total else LAST, n_steps), tensors)
    return None


def _numbers(tracing: Tracing, tensor: Tensor) -> NDArray[np.int64]:
    numbers = tracing.shadow.of(tensor)
    return np.zeros(tensor.shape, dtype=np.int64) if numbers is None else numbers.numpy()


def _of(leak: Leak, path: tuple[Any, ...], tensors_of: Any, form: str, n_steps: int) -> Voltages:
    return Voltages(leak.signal, path, tensors_of, form, n_steps, leak=leak)


def settled(read: Voltages, other: Sums | None, problems: Problems) -> Voltages | None:
    """The voltages with the form and the weights of one step, for any number of steps.

    Args:
        read: those of a trace.
        other: those of a trace of one step more; None if the model has its own number of steps.
        problems: receives what no population holds.

    Returns:
        The voltages; None if a problem was noted.
    """
    leak = read.leak
    assert leak is not None
    low, high = (float(of([of(leak.voltage), of(leak.current)])) for of in (np.min, np.max))
    kept = f"keeps {low if low < 0 else high:g} times itself from step to step"
    n_kinds = len(np.unique(np.stack([leak.voltage, leak.current]), axis=1).T)
    differ = f"keeps {n_kinds} different parts of itself, by neuron"
    if not KEPT.check(problems, low >= 0 and high <= 1, read.where, kept) or not READ_DECAYS.check(
        problems, n_kinds == 1, read.where, differ
    ):
        return None
    at_start = (
        np.any(leak.signal.constant) or np.any(leak.bias) or any(not term.delay for term in leak.signal.terms)
    )
    if not FIRST.check(problems, not (read.maximum and read.n_before and at_start), read.where, FROM_ZERO):
        return None
    if read.form in (EVERY, MAXIMUM) or other is None:
        return replace(read, form=OWN) if read.form == TOTAL else read
    if isinstance(other, Voltages) and other.form == read.form and _same_leak(leak, other.leak):
        if alike(other.signal, read.signal):
            return replace(read, form=SUM) if read.form == TOTAL else read
        for n_before in (
            (0, 1) if read.form == TOTAL else ()
        ):  # a mean, which may be over the state before the first step, too
            n = read.n_steps + n_before
            if alike(other.signal, read.signal, (n + 1) / n):
                signal, bias = read.signal.scaled(n), leak.bias * n
                scaled = replace(leak, signal=signal, bias=bias)
                return replace(read, signal=signal, leak=scaled, form=MEAN, factor=1 / n, n_before=n_before)
    STEPS.check(problems, False, read.where, "holds something else of voltages in a run of one step more")
    return None


def _same_leak(one: Leak, other: Leak | None) -> bool:
    return other is not None and all(
        np.allclose(a, b, rtol=0, atol=1e-9)
        for a, b in ((one.current, other.current), (one.voltage, other.voltage))
    )
