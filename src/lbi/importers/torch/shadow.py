"""Shadow memory of a traced run: the origin of every tensor element.

The storage of a tensor has a shadow of integers: 0 for a constant of the model, otherwise the number of an element of
a ``Node``, that is, of a ``Signal`` at a step. Views share the shadow like the storage, and operations that rearrange
elements (cat, stack, indexing) are applied to the shadows, so only arithmetic needs rules.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.utils._pytree import tree_leaves

from lbi.importers.signal import Signal
from lbi.importers.terms import merged

STATIC = -1
"""Step number of an input that is constant over time."""

STATE_OF = "|"
"""Separator of layer and state in the name of a source that is not spikes."""

LOST = 1
"""Number of elements produced by an operation without a rule, which has been reported."""


def any_lost(*numbers: Tensor) -> bool:
    """Test for lost elements.

    Args:
        *numbers: numbers of elements.

    Returns:
        True if any of them is LOST.
    """
    return any(bool((found == LOST).any()) for found in numbers)


class Node(NamedTuple):
    """A signal at a step; the delays of its terms count back from that step."""

    signal: Signal
    step: int

    def late(self, step: int) -> int:
        """How many steps before a step it is; 0 if it is constant over time.

        Args:
            step: a step.

        Returns:
            The number of steps, below 0 for a step before it.
        """
        return 0 if self.step == STATIC else step - self.step

    def at(self, step: int, steady: str = "") -> Signal:
        """The same values as a signal at a later step, from which delays then count back.

        Args:
            step: the step.
            steady: name of a source that is constant over time, whose delays stay; empty for none.

        Returns:
            The signal.
        """
        late = self.late(step)
        if not late:
            return self.signal
        terms = (t if t.source == steady else t._replace(delay=t.delay + late) for t in self.signal.terms)
        return Signal(self.signal.shape, tuple(terms), self.signal.constant)


class Pool(NamedTuple):
    """A population that an operation adds: each neuron fires where any of its inputs spikes in the same step.

    Attributes:
        where: its place in the model, for messages.
        signal: the spikes that each neuron takes in, all with weight 1.
    """

    name: str
    where: str
    signal: Signal


class Maximum(NamedTuple):
    """A maximum over all steps, whose values are a source of its own.

    Attributes:
        signals: what the maximum is taken of, at every step.
        n_before: zeros before the first step among them.
    """

    name: str
    signals: tuple[Signal, ...]
    n_before: int


class Shadow:
    """Shadow memory with the nodes that its numbers represent.

    Args:
        paths: id of a module → its path in the model, after which the populations that operations add are named.

    Attributes:
        pools: populations that operations add, in the order in which they are found.
        maxima: maxima over the steps, in the same order.
        integrators: names of the populations whose output is their voltage.
    """

    def __init__(self, paths: Mapping[int, str] | None = None) -> None:
        self.paths = paths or {}
        self.pools: list[Pool] = []
        self.maxima: list[Maximum] = []
        self.integrators: set[str] = set()
        self._memory: dict[int, tuple[Any, Tensor, int]] = {}
        self._nodes: list[Node] = [Node(Signal.nothing((1,)), STATIC)] * 2  # for constants and lost elements
        self._table = np.zeros((2, 1024), dtype=np.int64)  # of every node: its first number, its step
        self._table[:, :2] = [[0, LOST], [STATIC, STATIC]]
        self._end = LOST + 1
        self._kept: dict[Hashable, Any] = {}
        self._made_of: dict[int, tuple[int, NDArray[Any], NDArray[Any]]] = {}
        self._parts: dict[bytes, int] = {}

    @property
    def last_step(self) -> int:
        """The latest step so far."""
        return int(self._table[1, : len(self._nodes)].max())

    def new(self, signal: Signal, step: int) -> Tensor:
        """Numbers for the elements of a signal at a step, (n,).

        Args:
            signal: the signal.
            step: its step.

        Returns:
            The numbers.
        """
        start = self._end
        if len(self._nodes) == self._table.shape[1]:
            self._table = np.concatenate([self._table, np.zeros_like(self._table)], axis=1)
        self._table[:, len(self._nodes)] = start, step
        self._nodes.append(Node(signal, step))
        self._end += signal.n
        return torch.arange(start, self._end)

    def of(self, tensor: Tensor) -> Tensor | None:
        """The shadow of a tensor, of its shape, or None if all of it is constant.

        Args:
            tensor: a tensor of the run.

        Returns:
            The numbers.
        """
        found = self._memory.get(storage_of(tensor))
        if found is None:
            return None
        _, numbers, size = found
        if tensor.element_size() != size:  # the same memory seen as another type
            return torch.full(tensor.shape, LOST)
        view = numbers.as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())
        return view if bool(view.any()) else None

    def all_of(self, values: Any) -> list[Tensor]:
        """The shadows of tensors.

        Args:
            values: tensors and others, also within lists, tuples and dicts.

        Returns:
            The numbers of each tensor with any that is not constant.
        """
        tensors = (value for value in tree_leaves(values) if isinstance(value, Tensor))
        return [numbers for tensor in tensors if (numbers := self.of(tensor)) is not None]

    def mark(self, tensor: Tensor, numbers: Tensor | None) -> None:
        """Set the numbers of a tensor's elements; None for constants.

        Args:
            tensor: a tensor of the run.
            numbers: numbers of elements.
        """
        place = storage_of(tensor)
        if place not in self._memory:
            if numbers is None or not place:
                return
            storage = tensor.untyped_storage()
            size = tensor.element_size()
            self._memory[place] = (storage, torch.zeros(storage.nbytes() // size, dtype=torch.int64), size)
        view = self._memory[place][1].as_strided(tensor.size(), tensor.stride(), tensor.storage_offset())
        view.copy_(torch.zeros_like(view) if numbers is None else numbers.expand(view.shape))

    def node(self, number: int) -> tuple[Node, int]:
        """The node of a number, and the index of its element.

        Args:
            number: the number of an element.

        Returns:
            The node and the index.
        """
        index = int(self.nodes(np.asarray(number)))
        return self._nodes[index], number - int(self._table[0, index])

    def nodes(self, numbers: NDArray[np.int64]) -> NDArray[np.intp]:
        """The node of each number.

        Args:
            numbers: numbers of elements.

        Returns:
            Indices of nodes.
        """
        found: NDArray[np.intp] = (
            np.searchsorted(self._table[0, : len(self._nodes)], numbers, side="right") - 1
        )
        return found

    def node_at(self, index: int) -> tuple[Signal, int]:
        """The signal of a node, and its first number.

        Args:
            index: index of a node.

        Returns:
            The signal and the number.
        """
        return self._nodes[index].signal, int(self._table[0, index])

    def only_of(self, source: str, numbers: list[Tensor]) -> bool:
        """Whether all numbers are elements of a source, each times a factor at most.

        Args:
            source: name of a population, or of the input.
            numbers: numbers of elements, zeros among them.

        Returns:
            True if so; False also if all of them are constant or lost.
        """
        used = np.unique(np.concatenate([self.nodes(found.unique().numpy()) for found in numbers]))
        terms = [term for node in used if node for term in self.node_at(int(node))[0].terms]
        alone = all(term.source == source and term.matrix.nnz <= term.matrix.shape[0] for term in terms)
        return bool(terms) and alone

    def steps(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """The step of every number; STATIC for constants.

        Args:
            numbers: numbers of elements.

        Returns:
            The steps.
        """
        found: NDArray[np.int64] = self._table[1, self.nodes(numbers)]
        return found

    def read(self, numbers: NDArray[np.int64], values: NDArray[np.float64]) -> Node:
        """One node for these elements; ``values`` holds the constants among them.

        Args:
            numbers: numbers of elements.
            values: the elements' values in this run.

        Returns:
            The node.
        """
        node, first = self.node(int(numbers[0]))
        if (
            first == 0
            and numbers[0] > LOST
            and node.signal.n == numbers.size
            and np.array_equal(numbers, np.arange(numbers[0], numbers[0] + numbers.size))
        ):
            return node
        which = self.nodes(numbers)
        used = [int(index) for index in np.unique(which)]
        step = max(self._nodes[index].step for index in used)
        constants = np.where(numbers == 0, values, 0.0)
        parts = []
        for index in used:
            if index:
                part, at = self._nodes[index], np.flatnonzero(which == index)
                parts.append((part.signal, at, numbers[at] - self._table[0, index], part.late(step)))
        key: tuple[Any, ...] = ("read", numbers.size, digest(constants))
        key += tuple((id(signal), digest(at, rows), late) for signal, at, rows, late in parts)
        return Node(self.keep(key, lambda: _gathered(numbers.size, constants, parts)), step)

    def whole(self, numbers: NDArray[np.int64]) -> int | None:
        """The node of which these are all elements in their order, or which stands for these parts of others; None if there is none.

        Args:
            numbers: numbers of elements.

        Returns:
            Its index.
        """
        if not numbers.size or int(numbers[0]) <= LOST:
            return None
        index = int(self.nodes(numbers[:1])[0])
        first, n = int(self._table[0, index]), self._nodes[index].signal.n
        if numbers.size == n and np.array_equal(numbers, np.arange(first, first + n)):
            return index
        return self._parts.get(digest(numbers)) if self._parts else None

    def note_made(
        self,
        numbers: NDArray[np.int64],
        of: NDArray[np.int64],
        factors: NDArray[Any],
        constants: NDArray[Any],
    ) -> None:
        """Note that elements, all of a node, are others of one step times factors, plus constants.

        Others that are parts of nodes get one that stands for them.

        Args:
            numbers: numbers of the new elements.
            of: numbers of the others.
            factors: one per element.
            constants: one per element.
        """
        index, base = self.whole(numbers), self.whole(of)
        if index is not None and base is None and of.min() > LOST and np.ptp(self.steps(of)) == 0:
            node = self.read(of, np.zeros(of.size))
            self.new(node.signal, node.step)
            base = self._parts[digest(of)] = len(self._nodes) - 1
        if index is not None and base is not None and index != base:
            self._made_of[index] = base, factors, constants

    def origin(self, index: int) -> tuple[int, NDArray[np.float64], NDArray[np.float64]]:
        """The node of which a node is a multiple plus a constant, and which is none of any other.

        Args:
            index: index of a node.

        Returns:
            The index of the first one, with the factors and constants that lead from it to the given one, (n,) each.
        """
        n = self._nodes[index].signal.n
        factor, constant = np.ones(n), np.zeros(n)
        while index in self._made_of:
            index, by, added = self._made_of[index]
            factor, constant = factor * by, factor * added + constant
        return index, factor, constant

    def made_of(self, index: int) -> int | None:
        """The node of which a node is directly a multiple plus a constant.

        Args:
            index: index of a node.

        Returns:
            The index; None if there is none.
        """
        return self._made_of[index][0] if index in self._made_of else None

    def rename(self, index: int, signal: Signal, step: int) -> None:
        """Express a node, and what is made of it from now on, by another signal.

        Args:
            index: index of the node.
            signal: as many values.
            step: their step.
        """
        self._nodes[index] = Node(signal, step)
        self._table[1, index] = step

    def keep(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value cached for a key, or a new one, so that equal steps share their signals.

        Args:
            key: hashable.
            make: makes the value.

        Returns:
            The value.
        """
        if key not in self._kept:
            self._kept[key] = make()  # kept forever, so that ids in keys are not reused
        return self._kept[key]

    def matrix(self, weights: Tensor) -> tuple[Hashable, csr_matrix]:
        """A dense matrix as CSR with its key, cached by content.

        Args:
            weights: (n_out, n).

        Returns:
            The key and the matrix.
        """
        values = weights.to_dense() if weights.layout is not torch.strided else weights
        dense = values.detach().double().numpy()
        key = ("matrix", dense.shape, digest(np.ascontiguousarray(dense)))
        if key not in self._kept:
            self._kept[key] = csr_matrix(dense)
        return key, self._kept[key]


def digest(*arrays: NDArray[Any]) -> bytes:
    """A key for the contents of arrays, equal for equal bytes; their shapes and types are not part of it.

    Args:
        *arrays: arrays of numbers.

    Returns:
        16 bytes: the BLAKE2b digest of all arrays' elements in C order.
    """
    total = hashlib.blake2b(digest_size=16)
    for array in arrays:
        total.update(np.ascontiguousarray(array).data)
    return total.digest()


def storage_of(tensor: Tensor) -> int:
    """The address of a tensor's storage.

    Args:
        tensor: a tensor.

    Returns:
        The address; 0 for sparse tensors, which have none and are constants here.
    """
    return int(tensor.untyped_storage()._cdata) if tensor.layout is torch.strided else 0


def _gathered(
    n: int,
    constants: NDArray[np.float64],
    parts: list[tuple[Signal, NDArray[np.intp], NDArray[np.int64], int]],
) -> Signal:
    """A signal of n elements, of which parts (signal, where to, which of its elements, steps late) are given."""
    constant, terms = constants.copy(), []
    for signal, at, rows, late in parts:
        constant[at] = signal.constant[rows]
        place = csr_matrix((np.ones(at.size), (at, rows)), shape=(n, signal.n))
        terms += [term.through(place, place)._replace(delay=term.delay + late) for term in signal.terms]
    return Signal((n,), merged(tuple(terms)), constant)
