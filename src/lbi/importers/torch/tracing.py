"""Tracing of a model: one run with one sample, in which the origin of every number is known.

The run executes the model's own code: loops over time, hooks, masks, functional calls. The input of a neuron module at each step is
a ``Signal``; equal signals at all steps form a projection. Operations without a rule are reported with their place, and not followed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from lbi.errors import Problem, Problems, Rule
from lbi.importers.signal import Signal
from lbi.importers.torch import (
    gates,
    handwritten,
    layers,
    maxima,
    operations,
    over_time,
    pooling,
    registry,
    spikes,
)
from lbi.importers.torch.composed import PARTS, by_parts
from lbi.importers.torch.estimators import Estimators
from lbi.importers.torch.group import Group, NotThisWay
from lbi.importers.torch.initial import (
    CHANGED_IN_PLACE,
    FORGETS,
    LEFT_OVER,
    NOT_A_STATE,
    OF_A_BATCH,
    STATE_CHANGED,
    InitialState,
    Writes,
    not_finite,
)
from lbi.importers.torch.layer import Outputs, by_step, feature_shape, layer_name
from lbi.importers.torch.leaving import Substitutes, Taken
from lbi.importers.torch.operations import VALUE_FREE, tracked
from lbi.importers.torch.remedies import ENCODER_FIX, LOOSE, elsewhere, remedy
from lbi.importers.torch.running import Place, Site, Widened, place, run_model
from lbi.importers.torch.shadow import LOST, STATE_OF, STATIC, Node, Shadow, any_lost, storage_of
from lbi.network.graph import INPUT

SAME_NEURONS = Rule(
    "call",
    "the same neurons in every step",
    "go through the steps in order, each once, and keep all samples apart",
)
TENSOR = Rule("call", "a tensor")

RULES = operations.RULES | pooling.RULES | maxima.RULES | spikes.RULES

UNKNOWN_MODULE = Rule("unknown-module", "{allowed}", "{fix}")
UNTRACEABLE = Rule(
    "untraceable",
    "sums, products with constants, convolutions, average pooling, maximum pooling of spikes, BatchNorm in evaluation,"
    " reshaping and indexing",
    "{fix}",
)
KEEP_VALUES = {"detach", "requires_grad", "set", "squeeze", "unsqueeze", "t", "transpose", "as_strided"}
"""Operations in place, without their underscore, that leave every number where it is in memory."""


class Tracing(Widened):
    """Session that traces; also the mode in which the model's operations run."""

    def __init__(
        self,
        model: nn.Module,
        initial: InitialState | None = None,
        *,
        widen: bool = True,
        substitutes: Substitutes | None = None,
        known: handwritten.Handwritten | None = None,
    ) -> None:
        super().__init__(widen=widen)
        self.taken = Taken(substitutes)
        self._paths = {id(module): path for path, module in model.named_modules()}
        self.shadow = Shadow(self._paths)
        self.problems = Problems()
        self.groups: list[Group] = []
        self.estimators = Estimators(self.shadow)
        self.written = handwritten.Handwritten(self.shadow, self.groups, known)
        self.calls: dict[str, list[int]] = {}
        self._model = model
        self._initial = initial
        self._paused = False
        self._reported: set[tuple[str, str]] = set()
        self._states: dict[int, Group] = {}
        self._lost_state = False
        self._lost_in_python = False  # a number or a shape that depends on what is lost
        self._writes = Writes()
        self.drawn = ""
        self.over_time: Problem | None = None

    # ---- operations ----

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation and follow its effect on numbers that are not constant."""
        args, kwargs = self.widened(func, args, kwargs or {})
        if self._paused:
            return func(*args, **kwargs)
        tensors = [value for value in tree_flatten((args, kwargs))[0] if isinstance(value, Tensor)]
        numbers = [found for tensor in tensors if (found := self.shadow.of(tensor)) is not None]
        if not self.drawn and torch.Tag.nondeterministic_seeded in func.tags:
            self.drawn = f"{func._schema.name.split('::')[1]} at {place().source or 'no line of the model'}"
        if numbers and "out" not in kwargs and func._schema.name.rstrip("_") in PARTS:
            with self:
                return by_parts(func, args, kwargs)
        if func._schema.is_mutable:
            return self._mutate(func, args, kwargs, numbers)
        out = func(*args, **kwargs)
        if numbers and func._schema.name == "aten::_local_scalar_dense":
            return self.taken.number(self._problem(func._schema.name), out, place().source)
        if numbers:
            self._follow(func, out, args, kwargs, tensors, numbers)
        elif func._schema.name in handwritten.THRESHOLDS:
            self.written.constant(func, out, args)
        return out

    def watched(self) -> AbstractContextManager[None]:
        """Note numbers that leave torch as arrays and lists."""
        return self.taken.watched(
            lambda tensor: not self._paused and self.shadow.of(tensor) is not None,
            self._problem,
            lambda: place().source,
        )

    def _follow(
        self, func: Any, out: Any, args: Any, kwargs: Any, tensors: list[Tensor], numbers: list[Tensor]
    ) -> None:
        outputs = [value for value in tree_flatten(out)[0] if isinstance(value, Tensor)]
        name = func._schema.name
        if name.split("::")[1] in VALUE_FREE:
            return
        places = {storage_of(tensor) for tensor in tensors}
        if outputs and all(storage_of(output) in places for output in outputs):
            return  # a view
        found = self._numbers(func, outputs[0], args, kwargs, numbers) if outputs else None
        if not outputs or torch.Tag.dynamic_output_shape in func.tags:
            self._lost_in_python |= found is None or any_lost(*numbers)
        if found is None:
            problem = self._problem(name, of_input=self.shadow.only_of(INPUT, numbers))
            for output in outputs:
                self.shadow.mark(output, torch.tensor(LOST))
            self.estimators.lost(func, outputs[0] if len(outputs) == 1 else None, args, kwargs, problem)
        else:
            for output, own in zip(outputs, found if isinstance(found, tuple) else (found,), strict=False):
                self.shadow.mark(output, own)

    def _numbers(self, func: Any, out: Tensor, args: Any, kwargs: Any, numbers: list[Tensor]) -> Any:
        """The numbers of the output, or a tuple of those of all, by the operation's rule; None without a rule."""
        if any_lost(*numbers):
            return self.estimators.followed(func, out, args, kwargs)
        name = func._schema.name
        if self.over_time is None and name in over_time.WINDOWS:
            where = self._where(place().module)
            self.over_time = over_time.problem_of(self.shadow, name, args, where)
        if name in handwritten.THRESHOLDS:
            return self.written.compared(func, out, args)
        rule = RULES.get(name) or (RULES.get(name[:-1]) if name.endswith("_") else None)
        rule = None if gates.wraps(func, out) else rule
        found = None if rule is None else rule(self.shadow, func, out, args, kwargs)
        return self.written.gates.rule(func, out, args, kwargs) if found is None else found

    def _mutate(self, func: Any, args: Any, kwargs: Any, numbers: list[Tensor]) -> Any:
        """Follow an operation that changes its first argument, or the one that is named ``out``."""
        target, name = kwargs.get("out", args[0] if args else None), func._schema.name
        if not isinstance(target, Tensor):
            out = func(*args, **kwargs)
            if numbers and (problem := self._problem(name)) is not None:
                self.problems.note(problem)
            return out
        self._writes.note(target, name.split("::")[1], place().source)
        if not numbers:
            return func(*args, **kwargs)
        self.estimators.changed(target)
        if name in ("aten::native_batch_norm", "aten::_native_batch_norm_legit"):
            out = func(*args, **kwargs)
            self._follow(func, out, args, kwargs, [target], numbers)
            return out
        if name == "aten::copy_":
            source = self.shadow.of(args[1]) if isinstance(args[1], Tensor) else None
            found: Tensor | None = torch.zeros_like(target, dtype=torch.int64) if source is None else source
            if source is not None and not target.is_floating_point():
                found = self.written.gates.rule(func, target, args, kwargs)
        elif name in ("aten::zero_", "aten::fill_") and not any(
            isinstance(value, Tensor) and self.shadow.of(value) is not None for value in args[1:]
        ):
            found = torch.zeros_like(target, dtype=torch.int64)
        elif name.removeprefix("aten::")[:-1] in KEEP_VALUES:
            return func(*args, **kwargs)
        else:
            found = self._numbers(func, target, args, kwargs, numbers)
            found = None if found is None else found.clone()
        out = func(*args, **kwargs)
        if found is None:
            problem = self._problem(name, self._held(target))
            self.estimators.lost(func, None, args, kwargs, problem)
            found = torch.tensor(LOST)
        self.shadow.mark(target, found)
        return out

    def _held(self, value: Tensor) -> str:
        """The model's attribute that holds a tensor; empty if none does."""
        return "" if self._initial is None else self._initial.where(value)

    def settle(self, outputs: Any) -> None:
        """Note what is wrong with operations that were not followed, after the run.

        Args:
            outputs: what the model returned.
        """
        reached = any_lost(*self.shadow.all_of(outputs)) or self._lost_state or self._lost_in_python
        reached = reached or any(group.lost for group in self.groups)
        for problem in self.estimators.problems(reached=reached):
            self.problems.note(problem)

    def _problem(self, name: str, held: str = "", *, of_input: bool = False) -> Problem | None:
        """What is wrong with an operation without a rule; None where it was found before."""
        here = place()
        operation = name.rpartition("::")[2].replace("_local_scalar_dense", "item")
        operation = operation.replace("_with_indices", "")
        library = here.of_library or registry.derived_from(here.module)
        key = ("", self._path(here.module)) if library else (here.source, operation)
        if key in self._reported:
            return None
        self._reported.add(key)
        return self._refusal(here, operation, held, of_input=of_input)

    def _refusal(self, here: Place, operation: str, held: str, *, of_input: bool) -> Problem:
        module = self._seen_by_users(here.module)
        fix = remedy(operation)
        kind = (
            "" if module is None else f"{type(module).__module__.split('.')[0]}.{type(module).__qualname__}"
        )
        base = "" if module is None else registry.derived_from(module)
        at = f" at {here.source}" if here.source else ""
        if base and registry.neurons_of(module) is not None and "forward" not in vars(module):
            found = f"{kind}, which is called{at}, is no module of the model"
            return LOOSE.broken(self._where(module), found)
        if base:
            found = f"{kind} {registry.changes(module)}: its {operation}{at} cannot be followed"
            return UNKNOWN_MODULE.broken(
                self._where(module), found, allowed=registry.known(), fix=f"use {base}"
            )
        if here.of_library and module is not None:
            fix = fix if fix and layers.is_layer(module) else "replace it, and train again"
            found = f"{kind} cannot be taken over ({operation}{at})"
            allowed = f"torch.nn's {', '.join(layers.KNOWN)}" if layers.is_layer(module) else registry.known()
            if type(module).__name__.endswith("Encoder"):
                allowed, fix = "spikes as input", ENCODER_FIX
            return UNKNOWN_MODULE.broken(self._where(module), found, allowed=allowed, fix=fix)
        where = here.source or self._where(module)
        inside = f", in {self._where(module)}" if module is not None and here.source else ""
        what = held or ("the input" if of_input else "spikes or currents")
        found = f"{operation} of {what} cannot be followed{inside}"
        return UNTRACEABLE.broken(where, found, fix=fix or elsewhere(operation, of_input=of_input))

    def _seen_by_users(self, module: Any) -> Any:
        """The module, or the neuron of which it is a part: its surrogate gradient, or the RNN in snnTorch's neurons."""
        path = self._path(module).rpartition(".")[0]
        parent = next((owner for owner in self._model.modules() if path and self._path(owner) == path), None)
        inner = "surrogate" in type(module).__module__ or type(parent).__module__.startswith("snntorch.")
        return parent if parent is not None and inner else module

    def _path(self, module: Any) -> str:
        return self._paths.get(id(module), "")

    def _where(self, module: Any) -> str:
        return f"module {self._path(module) or type(module).__name__!r}"

    # ---- neurons ----

    def call(self, site: Site, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a neuron module's own forward, note its input, and mark its output as its spikes.

        Args:
            site: the neuron module.
            args: positional arguments: one sample's input at its next steps (for any other, NotThisWay is raised), then states.
            kwargs: keyword arguments.

        Returns:
            What the module returns.
        """
        with self._pause():
            return self._call(site, args, kwargs)

    def _call(self, site: Site, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        current, states = _current(site, args, kwargs)
        numbers = self.shadow.of(current)
        group = self._group(site, states)
        result = site.forward(*args, **kwargs)
        outputs = site.neurons.split(site.module, result)
        axis = site.neurons.time_axis(site.module)
        steps_in, steps_out = list(by_step(current, axis)), list(by_step(outputs.main, axis))
        if (
            any(step.dim() > 1 and step.shape[0] != 1 for step in steps_in)
            or len(steps_in) != len(steps_out)
            or (axis in (0, 1) and current.shape[1 - axis] != 1)
        ):
            self._not_this_way(site, f"a call with input of shape {tuple(current.shape)}, for one sample")
        shape = feature_shape(steps_out[0].shape)
        in_shape = feature_shape(steps_in[0].shape)
        if group.inputs and (shape, in_shape) != (group.shape, group.in_shape):
            self._not_this_way(site, f"shape {in_shape} after {group.in_shape}")
        group.shape, group.in_shape = shape, in_shape
        first = len(group.inputs)
        for step, step_in in enumerate(steps_in, start=first):
            self._take_in(group, step_in, None if numbers is None else self.shadow.of(step_in), step)
        self._mark_states(group, outputs, axis)
        for step, step_out in enumerate(steps_out, start=first):  # an integrator's output is a state, too
            self.shadow.mark(step_out, self.shadow.new(self._spikes(group), step).reshape(step_out.shape))
        self.calls.setdefault(site.path, []).append(group.number)
        return result

    def _take_in(self, group: Group, current: Tensor, numbers: Tensor | None, step: int) -> None:
        values = tracked(self.shadow, current, current.shape)
        node = (
            self.shadow.read(values.numbers, values.values)
            if values.numbers.size
            else Node(Signal.nothing((0,)), STATIC)
        )
        if numbers is not None and any_lost(numbers):
            group.lost = True
        if node.step > step:
            self._check_state(group, node.step)
            if self.over_time is not None:
                raise NotThisWay(self.over_time, self._progress())
            self._not_this_way(group.site, f"takes in at step {step} what comes at step {node.step}")
        key = ("late", id(node.signal), node.late(step))
        group.inputs.append(self.shadow.keep(key, lambda: node.at(step)))

    def _check_state(self, group: Group, step: int) -> None:
        """Raise NotThisWay if a module begins from rest at a later step, as it did at the step before."""
        before = [
            len(other.inputs) for other in self.groups if other.site is group.site and other is not group
        ]
        if step and not group.inputs and before == [1] * step and not group.site.neurons.keeps_state:
            problem = FORGETS.broken(
                group.where, "starts from rest in every step", name=group.site.path or "model"
            )
            raise NotThisWay(problem, sys.maxsize)  # the cause, under any other convention too

    def _spikes(self, group: Group, state: str = "") -> Signal:
        """The output of a group, or one of its states."""

        def make() -> Signal:
            if state:
                return Signal.spikes(f"{group.name}{STATE_OF}{state}", group.shape)
            gain = group.site.neurons.gain(group.site.module)
            spikes = Signal.spikes(group.name, group.shape)
            return spikes if np.all(gain == 1) else spikes.scaled(gain)

        signal = self.shadow.keep(("spikes", group.number, state), make)
        self._states[id(signal)] = group
        return signal

    def _mark_states(self, group: Group, outputs: Outputs, axis: int | None) -> None:
        last = len(group.inputs) - 1
        for name, state in outputs.others.items():
            if not isinstance(state, Tensor) or state.numel() == 0:
                continue
            steps = list(by_step(state, axis)) if state.shape == outputs.main.shape else [state]
            if steps[-1].numel() != self._spikes(group).n:
                self.shadow.mark(state, torch.tensor(LOST))
                continue
            for back, value in enumerate(reversed(steps)):
                signal = self._spikes(group, name)
                self.shadow.mark(value, self.shadow.new(signal, last - back).reshape(value.shape))

    def _group(self, site: Site, states: list[Tensor]) -> Group:
        """The population of the state that is passed in or is in the module; otherwise a new one."""
        own = [group for group in self.groups if group.site is site]
        given, states = bool(states), [state for state in states if state.numel()]
        owners = [self._owner(state, site) for state in states if self.shadow.of(state) is not None]
        zeros = [state for state in states if self.shadow.of(state) is None]
        changed = [state for state in zeros if state.is_floating_point() and bool(state.any())]
        if changed:
            self._state_changed(site, "starts from another state than zeros", changed[0])
        elif len(states) == 1 and own and self._is_spikes(states[0], own[-1]):
            self._state_changed(site, "is handed its spikes as its state", states[0])
        if (
            owners
        ):  # a state that has been reported: as if it were the last one, so that no other problem follows
            return owners[0] or (own[-1] if own else self._new_group(site, 0))
        if own and site.neurons.keeps_state and not given:
            return own[0]
        return self._new_group(site, len(own))

    def _is_spikes(self, state: Tensor, group: Group) -> bool:
        """Whether the one state of a neuron is its spikes; recurrent ones have them among others."""
        numbers = self.shadow.of(state)
        if numbers is None or group.integrates or hasattr(group.site.module, "recurrent"):
            return False
        return self.shadow.node(int(numbers.reshape(-1)[0]))[0].signal is self._spikes(group)

    def _owner(self, state: Tensor, site: Site) -> Group | None:
        numbers = self.shadow.of(state)
        assert numbers is not None
        if any_lost(numbers):
            self._lost_state = True
            return None
        node, first = self.shadow.node(int(numbers.reshape(-1)[0]))
        group = self._states.get(id(node.signal))
        whole = torch.arange(numbers.numel()) + int(numbers.reshape(-1)[0])
        if (
            group is None
            or group.site is not site
            or first
            or node.step != len(group.inputs) - 1
            or not torch.equal(numbers.reshape(-1), whole)
        ):
            self._state_changed(site, "is handed another state than its last call returned", state)
            return group if group is not None and group.site is site else None
        return group

    def _state_changed(self, site: Site, found: str, state: Tensor) -> None:
        key = ("state", site.path)
        if key in self._reported:
            return
        self._reported.add(key)
        held, written, source = self._held(state), self._writes.to(state), place().source
        parts = [
            found,
            held,
            f"changed in place by {written}" if written else "",
            f"at {source}" if source else "",
        ]
        left = LEFT_OVER if held and self.shadow.of(state) is None else STATE_CHANGED
        if left is LEFT_OVER and (bad := not_finite(state)):
            parts[0], left = bad, NOT_A_STATE
        rule = CHANGED_IN_PLACE if written else left
        if state.dim() > 1 and len(state) > 1:
            parts[0], rule = f"is handed the state of {len(state)} samples", OF_A_BATCH
        self.problems.note(rule.broken(site.where, ", ".join(filter(None, parts))))

    def _new_group(self, site: Site, number: int) -> Group:
        name = layer_name(site.path) + (f"_{number + 1}" if number else "")
        group = Group(site, name, len(self.groups))
        self.groups.append(group)
        if group.integrates:
            self.shadow.integrators.add(name)
        return group

    def _not_this_way(self, site: Site, found: str) -> None:
        raise NotThisWay(SAME_NEURONS.broken(site.where, found), self._progress())

    def _progress(self) -> int:
        return sum(len(group.inputs) for group in self.groups)

    @contextmanager
    def _pause(self) -> Iterator[None]:
        self._paused, before = True, self._paused
        try:
            yield
        finally:
            self._paused = before

    # ---- parts of a model ----

    def through(self, module: Any, signal: Signal) -> Signal:
        """The signal after a module, which is run on it, including hooks.

        Args:
            module: a module inside a neuron, such as a recurrent ``Linear``.
            signal: its input.

        Returns:
            The signal, in the shape of the module's output for one sample.
        """
        value = torch.zeros((1, *signal.shape), dtype=torch.float64)
        self.shadow.mark(value, self.shadow.new(signal, 0).reshape(value.shape))
        out = run_model(module, value)
        found = tracked(self.shadow, out, out.shape)
        node = self.shadow.read(found.numbers, found.values)
        if pooling.sources([node.signal], self.shadow.pools) != {term.source for term in node.signal.terms}:
            text = "the maximum of a layer's own spikes cannot be followed"
            self.problems.note(UNTRACEABLE.broken(self._where(module), text, fix=remedy("max_pool")))
        return node.signal.reshaped(feature_shape(out.shape))


def _current(site: Site, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Tensor, list[Tensor]]:
    """The input of a call, and the tensors of the state passed with it; snnTorch's empty ones mean zeros."""
    values = [*args, *kwargs.values()]
    tensors = [value for value in tree_flatten(values[1:])[0] if isinstance(value, Tensor)]
    if not values or not isinstance(values[0], Tensor):
        found = f"is called with {type(values[0]).__name__ if values else 'nothing'}"
        raise NotThisWay(TENSOR.broken(site.where, found))
    return values[0], tensors
