"""The compiled loops of the simulator. All in one file, because numba's disk cache looks no further.

Integers are Lava's: int32 with wrap-around where Lava's are. Decays go through float64, which is exact:
``state · d`` has at most 44 bits, the division by 4096 moves the exponent only, and the conversion to int
truncates toward zero — as ``lbi.fixedpoint.decay``. One sample at a time runs from rest, so the state of a
network stays in the first-level cache.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lbi.simulation.layout import DENSE, Layout

_WRAP = np.int32(1 << 23)
_TURN = np.int32(1 << 24)
_CLIP = np.int32((1 << 23) - 1)
_BLOCK = 32


class Inputs(NamedTuple):
    """Input spikes: dense (``is_dense``) or as events sorted by (sample, step).

    spikes: (n_samples, n_steps, n_in) uint8 · pointers: (n_samples · n_steps + 1,) · channels: (n_events,)
    """

    is_dense: bool
    n_steps: int
    spikes: NDArray[np.uint8]
    pointers: NDArray[np.int64]
    channels: NDArray[np.int32]


class Outputs(NamedTuple):
    """What the kernel fills; S samples, T steps, P populations in evaluation order, Q sorted projections."""

    n_events: NDArray[np.int64]  # (P + 1, S, T) spikes of each source
    n_active: NDArray[np.int64]  # (P, S, T)
    n_synops: NDArray[np.int64]  # (Q, S, T)
    saturated: NDArray[np.int64]  # (P, S, 4) wraps, step of the first, clips, step of the first
    n_invalid: NDArray[np.int64]  # (S,) input values other than 0 and 1
    spikes: NDArray[np.uint8]  # recorded arrays end to end, each (S, T, n)
    active: NDArray[np.uint8]
    u: NDArray[np.int32]
    v: NDArray[np.int32]
    where: NDArray[np.int64]  # (P, 4) where a population's spikes, active, u, v begin; −1: not recorded


@njit(cache=True, nogil=True)
def transpose(
    indptr: Any, columns: Any, values: Any, offset: Any, pointers: Any, weights: Any, indices: Any
) -> None:
    """CSR to columns: the target index (row + its offset: one for all, or per synapse) and the weight."""
    place = pointers[:-1].copy()
    step = 1 if offset.size > 1 else 0
    for row in range(indptr.size - 1):
        for k in range(indptr[row], indptr[row + 1]):
            at = place[columns[k]]
            place[columns[k]] = at + 1
            weights[at] = values[k]
            indices[at] = row + offset[k * step]


@njit(cache=True, nogil=True)
def nonzeros(flags: Any, found: Any) -> int:
    """Where ``flags`` (uint8) are nonzero, in order, into ``found``; returns how many."""
    count = 0
    size = flags.size
    whole = size - size % _BLOCK
    for begin in range(0, whole, _BLOCK):
        any_set = np.uint8(0)
        for i in range(begin, begin + _BLOCK):
            any_set |= flags[i]
        if any_set:
            for i in range(begin, begin + _BLOCK):
                found[count] = i
                count += np.int64(flags[i] != 0)
    for i in range(whole, size):
        found[count] = i
        count += np.int64(flags[i] != 0)
    return count


@njit(cache=True, nogil=True)
def add_rows(goal: Any, rows: Any, factor: Any, sources: Any, count: int) -> None:
    """Add the dense weight rows of the spiking sources, four at a time."""
    n = goal.size
    whole = count - count % 4
    for e in range(0, whole, 4):
        row0 = rows[sources[e] * n : sources[e] * n + n]
        row1 = rows[sources[e + 1] * n : sources[e + 1] * n + n]
        row2 = rows[sources[e + 2] * n : sources[e + 2] * n + n]
        row3 = rows[sources[e + 3] * n : sources[e + 3] * n + n]
        for i in range(n):
            total = np.int32(row0[i]) + np.int32(row1[i]) + np.int32(row2[i]) + np.int32(row3[i])
            goal[i] += np.int32(np.int32(total) * factor)
    for e in range(whole, count):
        row = rows[sources[e] * n : sources[e] * n + n]
        for i in range(n):
            goal[i] += np.int32(np.int32(row[i]) * factor)


@njit(cache=True, nogil=True)
def scatter(
    goal: Any, base: int, indices: Any, weights: Any, factor: Any, pointers: Any, sources: Any, count: int
) -> None:
    """Add the stored synapses of the spiking sources; ``goal`` is a ring, index 0 stands at ``base``."""
    size = goal.size
    for e in range(count):
        source = sources[e]
        for k in range(pointers[source], pointers[source + 1]):
            i = base + np.int64(indices[k])
            if i >= size:
                i -= size
            goal[i] += np.int32(np.int32(weights[k]) * factor)


@njit(cache=True, nogil=True)
def scatter_flat(
    goal: Any, indices: Any, weights: Any, factor: Any, pointers: Any, sources: Any, count: int
) -> None:
    """``scatter`` into one slot: no index runs over its end."""
    for e in range(count):
        source = sources[e]
        for k in range(pointers[source], pointers[source + 1]):
            goal[indices[k]] += np.int32(np.int32(weights[k]) * factor)


@njit(cache=True, nogil=True)
def deliver(
    layout: Layout, q: int, goal: Any, base: int, flat: bool, factor: Any, sources: Any, count: int
) -> None:
    """Add one projection's synapses: picks the loop for the format and the widths."""
    w, x, c = layout.weights[q], layout.indices[q], layout.columns[q]
    pointers = layout.pointers[c:]
    if layout.format[q] == DENSE:
        if layout.weight_bytes[q] == 1:
            add_rows(goal, layout.weights1[w:], factor, sources, count)
        else:
            add_rows(goal, layout.weights2[w:], factor, sources, count)
    elif layout.weight_bytes[q] == 1:
        if layout.index_bytes[q] == 4:
            scatter(goal, base, layout.indices4[x:], layout.weights1[w:], factor, pointers, sources, count)
        elif flat:
            scatter_flat(goal, layout.indices2[x:], layout.weights1[w:], factor, pointers, sources, count)
        else:
            scatter(goal, base, layout.indices2[x:], layout.weights1[w:], factor, pointers, sources, count)
    elif layout.index_bytes[q] == 4:
        scatter(goal, base, layout.indices4[x:], layout.weights2[w:], factor, pointers, sources, count)
    elif flat:
        scatter_flat(goal, layout.indices2[x:], layout.weights2[w:], factor, pointers, sources, count)
    else:
        scatter(goal, base, layout.indices2[x:], layout.weights2[w:], factor, pointers, sources, count)


@njit(cache=True, nogil=True)
def send(layout: Layout, q: int, step: int, rings: Any, scratch: Any, sources: Any, count: int) -> int:
    """Deliver ``count`` spikes of step ``step`` through projection ``q``; returns the synapses reached."""
    p = layout.target[q]
    n, n_slots, n_lags = layout.n[p], layout.n_slots[p], layout.n_lags[q]
    ring = rings[layout.ring[p] : layout.ring[p] + n * n_slots]
    slot = (step + layout.lag[q]) % n_slots
    if layout.shift[q] >= 0:
        factor = np.int32(1 << layout.shift[q])
        if n_lags == 1:
            deliver(layout, q, ring[slot * n : slot * n + n], 0, True, factor, sources, count)
        else:
            deliver(layout, q, ring, slot * n, False, factor, sources, count)
    else:  # the sum of each lag is shifted right (floor) before it joins the others
        goal = scratch[: n * n_lags]
        goal[:] = 0
        deliver(layout, q, goal, 0, True, np.int32(1), sources, count)
        for lag in range(n_lags):
            part = ring[slot * n : slot * n + n]
            for i in range(n):
                part[i] += np.int32(goal[lag * n + i] >> -layout.shift[q])
            slot = slot + 1 if slot + 1 < n_slots else 0
    c = layout.columns[q]
    synops = 0
    for e in range(count):
        synops += layout.pointers[c + sources[e] + 1] - layout.pointers[c + sources[e]]
    return synops


@njit(cache=True, nogil=True)
def cuba_lif(
    a: Any, u: Any, v: Any, bias: Any, parameters: Any, spikes: Any, active: Any, counts: Any
) -> None:
    """One timestep of Lava's ``PyLifModelBitAcc``; clears ``a``; counts: active, wraps, clips."""
    keep_u = parameters[0] / 4096.0
    keep_v = parameters[1] / 4096.0
    threshold = np.int32(min(parameters[2], 0x7FFFFFFF))
    n_active = np.int32(0)
    n_wraps = np.int32(0)
    n_clips = np.int32(0)
    for i in range(a.size):
        busy = (a[i] | u[i] | v[i] | bias[i]) != 0
        x = np.int32(np.int32(u[i] * keep_u) + np.int32(a[i] << 6))
        a[i] = 0
        over = x > _WRAP
        under = x <= -_WRAP
        x = np.int32(x - _TURN) if over else (np.int32(x + _TURN) if under else x)
        u[i] = x
        y = np.int32(np.int32(v[i] * keep_v) + x + bias[i])
        clipped = min(max(y, -_CLIP), _CLIP)
        spike = clipped > threshold
        v[i] = np.int32(0) if spike else np.int32(clipped)
        spikes[i] = spike
        active[i] = busy
        n_active += np.int32(busy)
        n_wraps += np.int32(over | under)
        n_clips += np.int32(clipped != y)
    counts[0] = n_active
    counts[1] = n_wraps
    counts[2] = n_clips


@njit(cache=True, nogil=True)
def input_events(inputs: Inputs, sample: int, step: int, found: Any) -> int:
    """The channels that spike in one step, into ``found``; returns how many."""
    if inputs.is_dense:
        return nonzeros(inputs.spikes[sample, step], found)
    at = sample * inputs.n_steps + step
    begin, end = inputs.pointers[at], inputs.pointers[at + 1]
    for k in range(begin, end):
        found[k - begin] = inputs.channels[k]
    return end - begin


@njit(cache=True, nogil=True)
def keep(outputs: Outputs, p: int, row: int, spikes: Any, active: Any, u: Any, v: Any) -> None:
    """Copy what is recorded of one population in one step; ``row`` is sample · n_steps + step."""
    n = spikes.size
    at = outputs.where[p]
    if at[0] >= 0:
        outputs.spikes[at[0] + row * n : at[0] + row * n + n] = spikes
    if at[1] >= 0:
        outputs.active[at[1] + row * n : at[1] + row * n + n] = active
    if at[2] >= 0:
        outputs.u[at[2] + row * n : at[2] + row * n + n] = u
    if at[3] >= 0:
        outputs.v[at[3] + row * n : at[3] + row * n + n] = v


@njit(cache=True, nogil=True)
def run(layout: Layout, inputs: Inputs, outputs: Outputs, begin: int, end: int) -> None:
    """Simulate samples ``begin`` to ``end`` − 1, each from rest."""
    n_populations = layout.n.size
    n_neurons = layout.start[n_populations]
    n_widest = max(layout.n_in, layout.n.max())
    u = np.zeros(n_neurons, dtype=np.int32)
    v = np.zeros(n_neurons, dtype=np.int32)
    spikes = np.zeros(n_neurons, dtype=np.uint8)
    active = np.zeros(n_neurons, dtype=np.uint8)
    rings = np.zeros(layout.ring[n_populations], dtype=np.int32)
    scratch = np.zeros(scratch_size(layout), dtype=np.int32)
    sources = np.zeros(n_widest + 1, dtype=np.int32)  # one more: ``nonzeros`` writes ahead of its count
    counts = np.zeros(3, dtype=np.int64)
    for sample in range(begin, end):
        u[:] = 0
        v[:] = 0
        rings[:] = 0
        for step in range(inputs.n_steps):
            count = input_events(inputs, sample, step, sources)
            if inputs.is_dense:
                for e in range(count):
                    outputs.n_invalid[sample] += inputs.spikes[sample, step, sources[e]] != 1
            for source in range(n_populations + 1):
                if source > 0:
                    p = source - 1
                    s, t = layout.start[p], layout.start[p + 1]
                    n = layout.n[p]
                    slot = layout.ring[p] + step % layout.n_slots[p] * n
                    a = rings[slot : slot + n]
                    cuba_lif(
                        a, u[s:t], v[s:t], layout.bias[s:t], layout.parameters[p], spikes[s:t], active[s:t], counts
                    )  # fmt: skip
                    outputs.n_active[p, sample, step] = counts[0]
                    for kind in range(2):
                        if counts[1 + kind] and not outputs.saturated[p, sample, 2 * kind]:
                            outputs.saturated[p, sample, 2 * kind + 1] = step
                        outputs.saturated[p, sample, 2 * kind] += counts[1 + kind]
                    keep(outputs, p, sample * inputs.n_steps + step, spikes[s:t], active[s:t], u[s:t], v[s:t])
                    count = nonzeros(spikes[s:t], sources)
                outputs.n_events[source, sample, step] = count
                if count:
                    for q in range(layout.first[source], layout.first[source + 1]):
                        outputs.n_synops[q, sample, step] = send(
                            layout, q, step, rings, scratch, sources, count
                        )


@njit(cache=True, nogil=True)
def scratch_size(layout: Layout) -> int:
    """Entries of the buffer in which a right-shifted projection sums its lags."""
    size = 0
    for q in range(layout.target.size):
        if layout.shift[q] < 0:
            size = max(size, layout.n[layout.target[q]] * layout.n_lags[q])
    return size
