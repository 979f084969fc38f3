"""Compiled delivery of spikes: the weights of all synapses of the sources that spiked are added to the targets' sums.

One function per format (``lbi.simulation.columns``). With AVX-512, dense and masked rows are added 64 targets at a time, two rows
per instruction; LLVM's own code does the rest.
"""

# numba types this code; mypy reports its casts and intrinsics as errors:
# mypy: disable-error-code="assignment, call-arg, import-untyped, return-value, unreachable, var-annotated"

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from lbi.simulation.bits import lowest_bit
from lbi.simulation.vectors import I64, Tile, has_vectors, with_vectors

GROUP = 64
"""Rows that are summed in narrow lanes before the sums are added to the targets: 64 · 127 < 2^15."""

_inlined = njit(nogil=True, inline="always")


@intrinsic
def add_word(
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
    """Add word ``at`` of pairs of masked rows to ``goal[:64]``; ``cursor`` moves on to the next word's weights.

    ``first`` and ``cursor`` are int64 of each row: its first word, and where the weights of this word begin.
    """

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if not has_vectors():
            return context.get_dummy_value()
        goal, words, weights, first, cursor = _data(context, builder, signature, arguments, 5)
        pairs, at, factor = arguments[5:]
        tile = Tile(builder, weights.type.pointee)

        def row(e: Any) -> list[Any]:
            begin = builder.load(builder.gep(cursor, [e]))
            word = builder.gep(words, [builder.add(builder.load(builder.gep(first, [e])), at)])
            vectors, end = tile.expanded(weights, begin, builder.load(word))
            builder.store(end, builder.gep(cursor, [e]))
            return vectors

        with cgutils.for_range(builder, pairs) as loop:
            e = builder.shl(loop.index, I64(1))
            tile.add_pair(row(e), row(builder.add(e, I64(1))))
        tile.add_to(goal, factor)
        return context.get_dummy_value()

    return types.void(goal, words, weights, first, cursor, types.int64, types.int64, types.int32), build


@intrinsic
def add_span(context: Any, goal: Any, weights: Any, first: Any, pairs: Any, at: Any, factor: Any) -> Any:
    """Add 64 weights from ``at`` of pairs of dense rows to ``goal[:64]``; ``first`` is where each row begins."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        if not has_vectors():
            return context.get_dummy_value()
        goal, weights, first = _data(context, builder, signature, arguments, 3)
        pairs, at, factor = arguments[3:]
        tile = Tile(builder, weights.type.pointee)

        def row(e: Any) -> list[Any]:
            return tile.loaded(weights, builder.add(builder.load(builder.gep(first, [e])), at))

        with cgutils.for_range(builder, pairs) as loop:
            e = builder.shl(loop.index, I64(1))
            tile.add_pair(row(e), row(builder.add(e, I64(1))))
        tile.add_to(goal, factor)
        return context.get_dummy_value()

    return types.void(goal, weights, first, types.int64, types.int64, types.int32), build


def _data(context: Any, builder: Any, signature: Any, arguments: Any, n: int) -> list[Any]:
    """Pointers to the data of the first ``n`` arguments, which are arrays."""
    arrays = zip(signature.args[:n], arguments[:n], strict=True)
    return [context.make_array(kind)(context, builder, value).data for kind, value in arrays]


@_inlined
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
    """Add the masked rows of spiking sources; ``room`` is (3, 64) int64 of working memory, ``empty`` the row without bits."""
    n_words = (goal.size + 63) // 64
    if with_vectors():
        first, cursor, rest = room[0], room[1], room[2].view(np.int32)[:64]
        for begin in range(0, count, GROUP):
            n_rows = min(GROUP, count - begin)
            for e in range(n_rows):
                source = np.uint64(sources[begin + e])
                first[e] = source * np.uint64(n_words)
                cursor[e] = pointers[source]
            if n_rows % 2:
                first[n_rows] = empty * n_words
                cursor[n_rows] = 0
            pairs = (n_rows + 1) // 2
            for column in range(n_words):
                at = column * 64
                if at + 64 <= goal.size:
                    add_word(goal[at:], words, weights, first, cursor, pairs, column, factor)
                else:
                    rest[:] = 0
                    add_word(rest, words, weights, first, cursor, pairs, column, factor)
                    for i in range(at, goal.size):
                        goal[i] += rest[i - at]
    else:
        add_bits(goal, words, weights, factor, pointers, sources, count)


@_inlined
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


@_inlined
def add_dense(goal: Any, weights: Any, factor: Any, sources: Any, count: int, empty: int, room: Any) -> None:
    """Add the dense rows of spiking sources; ``room`` is (3, 64) int64 of working memory, ``empty`` the row of zeros."""
    if with_vectors():
        first, rest = room[0], room[2].view(np.int32)[:64]
        for begin in range(0, count, GROUP):
            n_rows = min(GROUP, count - begin)
            for e in range(n_rows):
                first[e] = np.uint64(sources[begin + e]) * np.uint64(goal.size)
            if n_rows % 2:
                first[n_rows] = empty * goal.size
            pairs = (n_rows + 1) // 2
            for at in range(0, goal.size, 64):
                if at + 64 <= goal.size:
                    add_span(goal[at:], weights, first, pairs, at, factor)
                else:
                    rest[:] = 0
                    add_span(rest, weights, first, pairs, at, factor)
                    for i in range(at, goal.size):
                        goal[i] += rest[i - at]
    else:
        add_rows(goal, weights, factor, sources, count)


@_inlined
def add_rows(goal: Any, rows: Any, factor: Any, sources: Any, count: int) -> None:
    """``add_dense`` without vector instructions of our own, four rows at a time."""
    n = goal.size
    whole = count - count % 4
    for e in range(0, whole, 4):
        row0 = rows[np.int64(sources[e]) * n :][:n]
        row1 = rows[np.int64(sources[e + 1]) * n :][:n]
        row2 = rows[np.int64(sources[e + 2]) * n :][:n]
        row3 = rows[np.int64(sources[e + 3]) * n :][:n]
        for i in range(n):
            total = np.int32(row0[i]) + np.int32(row1[i]) + np.int32(row2[i]) + np.int32(row3[i])
            goal[i] += np.int32(np.int32(total) * factor)
    for e in range(whole, count):
        row = rows[np.int64(sources[e]) * n :][:n]
        for i in range(n):
            goal[i] += np.int32(np.int32(row[i]) * factor)


@_inlined
def scatter(
    goal: Any, indices: Any, weights: Any, factor: Any, pointers: Any, sources: Any, count: int
) -> None:
    """Add the stored synapses of spiking sources."""
    for e in range(count):
        source = np.uint64(sources[e])
        for k in range(pointers[source], pointers[source + np.uint64(1)]):
            goal[indices[k]] += np.int32(np.int32(weights[k]) * factor)


@_inlined
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
