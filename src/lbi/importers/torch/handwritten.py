"""Neurons written in plain torch operations: the trace's rules for comparisons with a threshold and for resets.

A comparison of something traced with a constant is a population's spikes: what is compared (up to a factor and a constant) is its
voltage. From then on the trace calls this voltage a state of the population, so that the next step's voltage is an expression in it,
in what its resets take from it, in spikes and in currents; ``equations`` reads the neuron from these expressions.

Spikes are found by their place in the code, the calls that lead to it and the state that is compared. A trace is run a second time with
what the first one found: the comparisons of a state that is still constant (such as zeros before the first input) belong to it, too.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lbi.errors import Rule
from lbi.importers.signal import Signal
from lbi.importers.torch import registry, spikes
from lbi.importers.torch.gates import Gates, affinely, decided
from lbi.importers.torch.group import Group, NotThisWay
from lbi.importers.torch.layer import Neurons, feature_shape, layer_name
from lbi.importers.torch.operations import Tracked, is_tracked, tracked
from lbi.importers.torch.running import Written, calls, place
from lbi.importers.torch.shadow import STATE_OF, STATIC, Node, Shadow, any_lost
from lbi.importers.torch.written import VOLTAGE, Population, Units, is_diagonal, own, state_of
from lbi.network.graph import INPUT

COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "aten::gt": operator.gt,
    "aten::ge": operator.ge,
    "aten::lt": operator.lt,
    "aten::le": operator.le,
    "aten::eq": operator.eq,
    "aten::ne": operator.ne,
}
"""ATen's name → the comparison; ``heaviside`` and ``sign`` are one of the first two."""

FLIPPED = {"aten::gt": "aten::lt", "aten::lt": "aten::gt", "aten::ge": "aten::le", "aten::le": "aten::ge"}
SEVERAL_STEPS = Rule(
    "call",
    "a comparison with the threshold in each step of a sample",
    "loop over the steps, and compare the voltage of each of them",
)
TOO_MANY = 4
"""Steps of a population for each of the sample's after which a trace ends, as of a loop of its own in a call per step."""

HEAVISIDE, SIGN = "aten::heaviside", "aten::sign"
THRESHOLDS = {*COMPARISONS, HEAVISIDE, SIGN}
"""Operations that tell which side of a threshold a number is on."""


class Comparison(NamedTuple):
    """A comparison of a trace: a population's next spikes, or once more those of ``back`` steps before its latest ones.

    Attributes:
        number: of the population.
        back: None for its next spikes.
        argument: which one of the comparison's is the voltage.
        inverted: whether it is true without a spike.
    """

    number: int
    back: int | None
    argument: int
    inverted: bool


Key = tuple[Any, ...]
"""A place in the code: the lines of the user's code that lead to it, and the innermost module's path."""


NEURONS = Neurons(
    read=lambda module, signal, layer: None,
    split=lambda module, result: result,
    time_axis=lambda module: None,
    reset=lambda module: None,
)


class Handwritten:
    """The hand-written populations of a trace.

    Args:
        shadow: the numbers of the trace.
        groups: its populations, to which new ones are added.
        known: those of a trace before this one; None for the first.

    Attributes:
        populations: in order of their first step.
        gates: the rules for what their spikes do to voltages.
        static: whether the model takes in one input for all steps.
        pattern: place in the code → what the comparisons there are, in order.
        n_steps: steps of the sample; None if populations may take any number.
    """

    def __init__(self, shadow: Shadow, groups: list[Group], known: Handwritten | None = None) -> None:
        self.shadow = shadow
        self.populations: list[Population] = []
        self.pattern: dict[Key, list[Comparison]] = {}
        self.static = False
        self.n_steps: int | None = None
        self._groups = groups
        self._by_place: dict[Key, list[Population]] = {}
        self._known = {} if known is None else known._by_place
        self._statistics: set[Key] = set() if known is None else known._statistics
        self._passed_over: set[Key] = set()
        self.gates = Gates(shadow)

    def compared(self, func: Any, out: Tensor, args: tuple[Any, ...]) -> Any:
        """The rule for a comparison.

        Args:
            func: the operation.
            out: what it returned.
            args: its arguments.

        Returns:
            Numbers of the output; None unless it is spikes, or a function of spikes.
        """
        gate = self.gates.of(args[0], out.shape) if func._schema.name == SIGN else None
        if gate is not None:
            return decided(self.shadow, gate, lambda values, _: np.sign(values), 0.0, out)
        if func._schema.name == SIGN and spikes.are_spikes(
            self.shadow, tracked(self.shadow, args[0], out.shape)
        ):
            return self.shadow.of(args[0])
        if func._schema.name == SIGN:  # 1 above 0, and -1 elsewhere: at 0 itself, spikes are not told apart
            found = self._compared("aten::gt", out, args[0], 0.0)
            numbers = None if found is None else found.reshape(-1).numpy()
            twos = np.full(out.numel(), 2.0)
            return None if numbers is None else affinely(self.shadow, numbers, twos, 1.0 - twos, out)
        return self._compared(func._schema.name, out, *args[:2])

    def _compared(self, name: str, out: Tensor, a: Any, b: Any) -> Any:
        argument = 0
        if is_tracked(self.shadow, b):
            if is_tracked(self.shadow, a) or name == HEAVISIDE:
                return None
            name, a, b, argument = FLIPPED.get(name, name), b, a, 1
        if not isinstance(a, Tensor) or a.numel() != out.numel():
            return None
        limit = tracked(self.shadow, b, out.shape).values
        if name == HEAVISIDE:
            if np.any(limit != limit[:1]) or limit[0] not in (0.0, 1.0):
                return None
            name, limit = "aten::ge" if limit[0] else "aten::gt", np.zeros(a.numel())
        value = tracked(self.shadow, a, a.shape)
        key = self.key(out)
        if key in self._statistics:
            return None
        gate = None if key in self._known else self.gates.of_numbers(value.numbers)
        if gate is not None:
            self._passed_over.add(key)
            return decided(self.shadow, gate, COMPARISONS[name], limit, out)
        if not self.shadow.only_of(INPUT, [torch.from_numpy(value.numbers)]):
            same = spikes.compared(self.shadow, value, COMPARISONS[name], limit)
            if same is not None:
                return torch.from_numpy(same).reshape(out.shape)
        if name in ("aten::eq", "aten::ne"):
            return None
        again = self._again(value, name, limit)
        if again is not None:
            population, step, inverted = again
            back = len(population.voltages) - 1 - step
            found = Comparison(population.group.number, back, argument, inverted)
            self.pattern.setdefault(key, []).append(found)
            return self._outcome(population, step, out, inverted=inverted)
        here = place()
        if here.of_library or registry.derived_from(here.module):
            return None
        return self._spiking((key, argument), name, value, limit, out)

    def constant(self, func: Any, out: Tensor, args: tuple[Any, ...]) -> None:
        """Note a comparison of constants: a population's, where an earlier trace found one at this place.

        Args:
            func: the operation.
            out: what it returned.
            args: its arguments.
        """
        key = self.key(out)
        known = self._known.get(key)
        self._passed_over.add(key)
        if known is None or not isinstance(args[0], Tensor) or args[0].numel() != out.numel():
            return
        found = self.compared(func, out, args)
        if found is not None:
            self.shadow.mark(out, found)

    @property
    def needs_another_trace(self) -> bool:
        """Whether a trace that knows of these populations finds more of their steps, or has them in other units."""
        return bool(self._statistics) or any(
            key in self._passed_over
            or not all(p.voltages and p.voltages[0].terms and _equal(p.units, p.latest) for p in found)
            for key, found in self._by_place.items()
        )

    def note_statistics(self, results: list[Tensor]) -> None:
        """Note the comparisons whose spikes nothing takes in, which the next trace does not take for neurons.

        Args:
            results: numbers of what the model returned.
        """
        if any_lost(*results):
            return
        nodes = {int(node) for numbers in results for node in np.unique(self.shadow.nodes(numbers.numpy()))}
        signals = [self.shadow.node_at(node)[0] for node in nodes]
        signals += [signal for group in self._groups for signal in group.inputs]
        signals += [pool.signal for pool in self.shadow.pools]
        signals += [signal for maximum in self.shadow.maxima for signal in maximum.signals]
        taken = {term.source for signal in signals for term in signal.terms}
        names = {
            source.partition(STATE_OF)[0] for source in taken if not source.endswith(f"{STATE_OF}{VOLTAGE}")
        }
        unread = {
            key
            for key, found in self._by_place.items()
            if not any(population.group.name in names for population in found)
        }
        others = unread < self._by_place.keys() or any(group.called for group in self._groups)
        self._statistics = unread if others else set()

    def key(self, out: Tensor) -> Key:
        """The place of the comparison that runs.

        Args:
            out: what it returned.

        Returns:
            The place, with the shape of a sample's output.
        """
        here = place()
        return (*calls(), self.shadow.paths.get(id(here.module), ""), feature_shape(out.shape))

    def _again(self, value: Tracked, name: str, limit: NDArray[Any]) -> tuple[Population, int, bool] | None:
        """The population whose voltage of some step is compared once more with its threshold, the step, and whether that is true without a spike."""
        index = self.shadow.whole(value.numbers)
        if index is None:
            return None
        root, factor, constant = self.shadow.origin(index)
        for population in self.populations:
            for step, (other, scale, shift) in population.roots.items():
                if other != root:
                    continue
                with np.errstate(all="ignore"):
                    threshold = ((limit - constant) / factor - shift) / scale
                alike = np.allclose(threshold, population.thresholds[step], rtol=1e-12, atol=0.0)
                side = _side(name, Units(factor * scale, shift))
                if alike and side is not None and side[0] == population.strict:
                    return population, step, side[1]
        return None

    def _spiking(
        self, at: tuple[Key, int], name: str, value: Tracked, limit: NDArray[Any], out: Tensor
    ) -> Tensor | None:
        """A population's spikes of its next step, with the place of the comparison and which argument is the voltage."""
        steps = np.unique(self.shadow.steps(value.numbers[value.numbers != 0]))
        if np.unique(steps[steps != STATIC]).size > 1 or not value.numbers.size:
            if self.shadow.only_of(INPUT, [torch.from_numpy(value.numbers)]):
                return None  # an encoding
            raise NotThisWay(
                SEVERAL_STEPS.broken(f"the neurons at {place().source}", "compare several steps at once")
            )
        index = self.shadow.whole(value.numbers)
        node = self.shadow.read(value.numbers, value.values)
        root, factor, constant = None, np.ones(node.signal.n), np.zeros(node.signal.n)
        if index is not None and self.shadow.origin(index)[0] not in self.gates.spikes:
            root, factor, constant = self.shadow.origin(index)
        population = self._population(at[0], node, Units(factor, constant), name, out)
        group, step = population.group, len(population.voltages)
        if self.n_steps is not None and step >= TOO_MANY * self.n_steps:
            taken = f"take {step} steps and more where the input has {self.n_steps}"
            reached = sum(len(other.inputs) for other in self._groups)
            raise NotThisWay(SEVERAL_STEPS.broken(group.where, taken), reached)
        side = _side(name, population.units)
        if node.step > step or side is None or side != (population.strict, population.inverted):
            return None
        signal = self.seen(node, step).reshaped((node.signal.n,))
        units, population.latest = population.units, Units(factor, constant)
        voltage = signal.plus(-units.constant).scaled(1.0 / units.factor).reshaped(group.shape)
        population.voltages.append(voltage)
        population.thresholds.append((limit - units.constant) / units.factor)
        group.inputs.append(voltage)
        population.before += not value.numbers.any() and population.before == step
        scale, shift = units.factor / factor, (units.constant - constant) / factor  # of the root
        if root is not None:
            population.roots[step] = root, scale, shift
            if any(own(term.source, group.name) for term in voltage.terms):
                self._rename(population, index, step)
                population.moves |= not (np.allclose(scale, 1.0) and np.allclose(shift, 0.0))
        comparison = Comparison(group.number, None, at[1], population.inverted)
        self.pattern.setdefault(at[0], []).append(comparison)
        return self._outcome(population, step, out, inverted=population.inverted)

    def seen(self, node: Node, step: int) -> Signal:
        """A node's signal as it is at a later step; an input for all steps is the same.

        Args:
            node: the node.
            step: the step.

        Returns:
            The signal.
        """
        return node.at(step, steady=INPUT if self.static else "")

    def _outcome(self, population: Population, step: int, out: Tensor, *, inverted: bool) -> Tensor:
        """Numbers of a comparison: the spikes of a step, or where there are none."""
        found = self._new_spikes(population, step)
        if inverted:
            ones = np.ones(found.numel())
            found = affinely(self.shadow, found.numpy(), -ones, ones, out)
        return found.reshape(out.shape)

    def _new_spikes(self, population: Population, step: int) -> Tensor:
        group = population.group
        signal = self.shadow.keep(
            ("spikes", group.number, ""), lambda: Signal.spikes(group.name, group.shape)
        )
        found = self.shadow.new(signal, step)
        self.gates.spikes[int(self.shadow.nodes(found[:1].numpy())[0])] = population, step
        return found

    def _rename(self, population: Population, index: int | None, step: int) -> None:
        """Call the voltage a state, in every node on the way from it to what is compared."""
        group = population.group
        state = self.shadow.keep(
            ("state", group.number), lambda: Signal.spikes(state_of(group.name, VOLTAGE), group.shape)
        )
        _, scale, shift = population.roots[step]
        while index is not None:
            _, factor, constant = self.shadow.origin(index)
            signal = state.reshaped((state.n,)).scaled(factor * scale).plus(factor * shift + constant)
            following = self.shadow.made_of(index)
            self.shadow.rename(index, signal, step)
            index = following

    def _population(self, key: Key, node: Node, units: Units, name: str, out: Tensor) -> Population:
        """The population of a comparison: that of its state, or the one at this place whose next step this is."""
        here, known = self._by_place.setdefault(key, []), self._known.get(key, [])
        shape = feature_shape(out.shape)
        sources = {term.source for term in node.signal.terms}
        for population in here:
            if any(source.startswith(f"{population.group.name}{STATE_OF}") for source in sources):
                return population
        if not sources and len(here) < len(known):
            return self._new(key, units, name, shape)
        if not sources and known:
            return min(here, key=lambda population: len(population.voltages))
        for population in here:
            if self.static and _takes_from_itself(node.signal, population.group.name):
                return population
        for population in here:
            taken, alike = len(population.voltages), population.group.shape == shape
            if alike and taken and (node.step == STATIC or taken == node.step + population.before):
                return population
        return self._new(key, units, name, shape)

    def _new(self, key: Key, units: Units, name: str, shape: tuple[int, ...]) -> Population:
        """A new population, in the units in which an earlier trace had it."""
        here, known = self._by_place[key], self._known.get(key, [])
        source, module = place().source, place().module
        path = self.shadow.paths.get(id(module), "")
        if len(here) < len(known):
            units = known[len(here)].latest or units
        strict, inverted = _side(name, units) or (True, False)
        own_name = self._name(path)
        site = Written(own_name, None, NEURONS, _no_call, source)
        group = Group(site, own_name, len(self._groups), shape, shape)
        population = Population(group, source, units, strict, inverted)
        self._groups.append(group)
        self.populations.append(population)
        here.append(population)
        return population

    def _name(self, path: str) -> str:
        """A name that no other population has: after the module, where it is not the whole model."""
        first = layer_name(path) if path else "neurons"
        taken = {group.name for group in self._groups}
        taken |= {layer_name(other) for other in self.shadow.paths.values() if other and other != path}
        name, number = first, 1
        while name in taken:
            number += 1
            name = f"{first}-{number}"  # parts of a population have a "_"
        return name


def _takes_from_itself(signal: Signal, name: str) -> bool:
    """Whether each neuron takes in its own spike, as with a reset by subtraction."""
    return any(
        term.source == name and term.matrix.shape[0] == term.matrix.shape[1] and is_diagonal(term.matrix)
        for term in signal.terms
    )


def _equal(one: Units, other: Units | None) -> bool:
    return other is not None and all(map(np.array_equal, one, other))


def _side(name: str, units: Units) -> tuple[bool, bool] | None:
    """Whether a spike is above the threshold only, and whether the comparison is true without one; None for neurons of both kinds."""
    rising = bool(np.all(units.factor > 0))
    if not rising and not np.all(units.factor < 0):
        return None
    inverted = (name in ("aten::lt", "aten::le")) == rising
    return (name in ("aten::gt", "aten::lt")) != inverted, inverted


def _no_call(*args: Any, **kwargs: Any) -> Any:
    raise AssertionError("a hand-written population is no module")
