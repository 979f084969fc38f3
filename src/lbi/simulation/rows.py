"""Compiled delivery of spikes: the weights of all synapses of the sources that spiked are added to the targets' sums.

One function per format (``lbi.simulation.columns``). Dense rows, and masked ones with AVX-512, are added 64 targets at a time in
narrow lanes (``lbi.simulation.vectors``); LLVM's own code does the rest.
Arguments are those that ``lbi.simulation.kernels`` lists, and ``room`` is (3, 130) int64 of working memory.
"""

# numba types this code; mypy reports its casts and intrinsics as errors:
# mypy: disable-error-code="assignment, call-arg, import-untyped, return-value, unreachable, var-annotated"

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from lbi.simulation.bits import lowest_bit
from lbi.simulation.vectors import I64, PlainTile, Tile, has_vectors, with_vectors
from lbi.system.numba_cache import inlined

GROUP = 128
"""Rows that are summed in narrow lanes before the sums are added to the targets: 128 · 127 < 2^15."""


def _pairs_of_rows(builder: Any, tile: Tile | PlainTile, pairs: Any, row: Callable[[Any], list[Any]]) -> None:
    """Add rows 0 to 2 · ``pairs`` − 1 to a tile; ``row`` makes the code that loads one."""
    with cgutils.for_range(builder, pairs) as loop:
        e = builder.shl(loop.index, I64(1))
        tile.add_pair(row(e), row(builder.add(e, I64(1))))


def _masked_adder(n_words: int) -> Any:
    @intrinsic
    def add_words_of_rows(
        context: Any,
        goal: Any,
        words: Any,
        weights: Any,
        first: Any,
        cursor: Any,
        pairs: Any,
        at: Any,
        factor: Any,
    ) -> Any:
        """Add words from ``at`` of pairs of masked rows to ``goal``; ``cursor`` moves on to the next words' weights.

        ``first`` and ``cursor`` are int64 of each row: its first word, and where the weights of these words begin.
        """

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            if not has_vectors():
                return context.get_dummy_value()
            goal, words, weights, first, cursor = _data(context, builder, signature, arguments, 5)
            pairs, at, factor = arguments[5:]
            tile = Tile(builder, weights.type.pointee, n_words)

            def row(e: Any) -> list[Any]:
                begin = builder.load(builder.gep(cursor, [e]))
                index = builder.add(builder.load(builder.gep(first, [e])), at)
                masks = [
                    builder.load(builder.gep(words, [builder.add(index, I64(k))])) for k in range(n_words)
                ]
                vectors, end = tile.expanded(weights, begin, masks)
                builder.store(end, builder.gep(cursor, [e]))
                return vectors

            _pairs_of_rows(builder, tile, pairs, row)
            tile.add_to(goal, factor)
            return context.get_dummy_value()

        return types.void(goal, words, weights, first, cursor, types.int64, types.int64, types.int32), build

    return add_words_of_rows


def _dense_adder(n_words: int) -> Any:
    @intrinsic
    def add_span_of_rows(
        context: Any, goal: Any, weights: Any, first: Any, pairs: Any, at: Any, factor: Any
    ) -> Any:
        """Add weights from ``at`` of pairs of dense rows to ``goal``; ``first`` is where each row begins."""

        def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            goal, weights, first = _data(context, builder, signature, arguments, 3)
            pairs, at, factor = arguments[3:]
            tile = (Tile if has_vectors() else PlainTile)(builder, weights.type.pointee, n_words)

            def row(e: Any) -> list[Any]:
                return tile.loaded(weights, builder.add(builder.load(builder.gep(first, [e])), at))

            _pairs_of_rows(builder, tile, pairs, row)
            tile.add_to(goal, factor)
            return context.get_dummy_value()

        return types.void(goal, weights, first, types.int64, types.int64, types.int32), build

    return add_span_of_rows


add_word, add_two_words = _masked_adder(1), _masked_adder(2)
add_span, add_two_spans = _dense_adder(1), _dense_adder(2)


def _data(context: Any, builder: Any, signature: Any, arguments: Any, n: int) -> list[Any]:
    """Pointers to the data of the first ``n`` arguments, which are arrays."""
    arrays = zip(signature.args[:n], arguments[:n], strict=True)
    return [context.make_array(kind)(context, builder, value).data for kind, value in arrays]


@inlined
def add_masked(
    goal: Any,
    words: Any,
    weights: Any,
    factor: Any,
    pointers: Any,
    sources: Any,
    count: int,
    empty: int,
    room: Any,
) -> None:
    """Add the masked rows of spiking sources; ``room`` is (3, 130) int64 of working memory, ``empty`` the row without bits."""
    n_words = (goal.size + 63) // 64
    if with_vectors():
        first, cursor, rest = room[0], room[1], room[2].view(np.int32)[:64]
        for begin in range(0, count, GROUP):
            n_rows = min(GROUP, count - begin)
            for e in range(n_rows):
                source = np.uint64(sources[np.uint64(begin + e)])
                first[e] = source * np.uint64(n_words)
                cursor[e] = pointers[source]
            if n_rows % 2:
                first[n_rows] = empty * n_words
                cursor[n_rows] = 0
            pairs = (n_rows + 1) // 2
            column = 0
            while (column + 2) * 64 <= goal.size:
                add_two_words(goal[column * 64 :], words, weights, first, cursor, pairs, column, factor)
                column += 2
            while column < n_words:
                at = column * 64
                rest[:] = 0
                add_word(rest, words, weights, first, cursor, pairs, column, factor)
                for i in range(at, min(at + 64, goal.size)):
                    goal[i] += rest[i - at]
                column += 1
    else:
        add_bits(goal, words, weights, factor, pointers, sources, count)


@inlined
def add_bits(
    goal: Any, words: Any, weights: Any, factor: Any, pointers: Any, sources: Any, count: int
) -> None:
    """``add_masked`` without vector instructions, one target at a time."""
    n_words = (goal.size + 63) // 64
    for e in range(count):
        source = np.int64(sources[e])
        k = np.int64(pointers[source])
        for column in range(n_words):
            word = words[source * n_words + column]
            while word != 0:
                i = np.uint64(column * 64) + lowest_bit(word)
                goal[i] += np.int32(np.int32(weights[k]) * factor)
                k += 1
                word &= word - np.uint64(1)


@inlined
def add_dense(goal: Any, weights: Any, factor: Any, sources: Any, count: int, empty: int, room: Any) -> None:
    """Add the dense rows of spiking sources; ``room`` is (3, 130) int64 of working memory, ``empty`` the row of zeros."""
    first, rest = room[0], room[2].view(np.int32)[:64]
    for begin in range(0, count, GROUP):
        n_rows = min(GROUP, count - begin)
        for e in range(n_rows):
            first[e] = np.uint64(sources[np.uint64(begin + e)]) * np.uint64(goal.size)
        if n_rows % 2:
            first[n_rows] = empty * goal.size
        pairs = (n_rows + 1) // 2
        at = 0
        while at + 128 <= goal.size:
            add_two_spans(goal[at:], weights, first, pairs, at, factor)
            at += 128
        while at < goal.size:
            rest[:] = 0
            add_span(rest, weights, first, pairs, at, factor)
            for i in range(at, min(at + 64, goal.size)):
                goal[i] += rest[i - at]
            at += 64


@inlined
def scatter(
    goal: Any, indices: Any, weights: Any, factor: Any, pointers: Any, sources: Any, count: int
) -> None:
    """Add the stored synapses of spiking sources."""
    for e in range(count):
        source = np.uint64(sources[e])
        for k in range(pointers[source], pointers[source + np.uint64(1)]):
            goal[indices[k]] += np.int32(np.int32(weights[k]) * factor)


@inlined
def scatter_around(
    goal: Any, base: int, indices: Any, weights: Any, factor: Any, pointers: Any, sources: Any, count: int
) -> None:
    """``scatter`` into a ring whose index 0 is at ``base``."""
    size = np.uint64(goal.size)
    for e in range(count):
        source = np.uint64(sources[e])
        for k in range(pointers[source], pointers[source + np.uint64(1)]):
            i = np.uint64(base) + np.uint64(indices[k])
            if i >= size:
                i -= size
            goal[i] += np.int32(np.int32(weights[k]) * factor)
