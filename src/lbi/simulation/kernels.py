"""Compiled loops of the simulator: delivery of spikes, update of neurons, counts of activity.

Indices in inner loops are unsigned, because numba tests every signed index for a negative value.

Integers are Lava's: int32 with wrap-around where Lava's are. Samples run one at a time, from rest, so a network's
states stay in the first-level cache.

Arguments that many functions share:
    layout, inputs, outputs, scratch: the network, the spikes, the results and this thread's working memory.
    p, q, sample, step: indices of a population, a projection, a sample and a timestep.
    a, u, v, bias: (n,) int32 synaptic input (cleared), current, voltage (both updated) and bias of a population.
    parameters: its row of ``Layout.parameters``.
    spikes, active: (n,) uint8, written: neurons that spiked, and neurons with input, bias or nonzero state.
    goal: int32 sums of synaptic input, in a ring or in working memory; base: where its index 0 lies in the ring.
    weights, indices, pointers: stored synapses of a projection by source; factor: what each weight is multiplied by.
    sources, count: the sources that spiked, and their number.
    keep: what is kept of a state per step, in 4096ths.

A model's function returns the numbers of active, wrapped and clipped neurons.
"""

# numba types this code; mypy reports its casts and intrinsics as errors:
# mypy: disable-error-code="assignment, call-arg, import-untyped, return-value, unreachable, var-annotated"

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from lbi.simulation.bits import nonzeros
from lbi.simulation.convolution_kernels import add_kernels
from lbi.simulation.records import (
    ATRLIF,
    CUBA_LIF,
    DENSE,
    KERNELS,
    LIF_REFRACTORY,
    MASKED,
    Inputs,
    Layout,
    Outputs,
)
from lbi.simulation.rows import add_dense, add_masked, scatter, scatter_around
from lbi.simulation.vectors import kept_apart
from lbi.system.choice import chosen
from lbi.system.numba_cache import compiled, inlined

_TOP = np.int32(1 << 23)
_BOTTOM = np.int32(-(1 << 23))
_TURN = np.int32(1 << 24)
_HIGHEST = np.int32((1 << 23) - 1)
_LOWEST = np.int32(1 - (1 << 23))

Counts = tuple[Any, Any, Any]
"""Numbers of active, wrapped and clipped neurons of one population in one step."""

_compiled = compiled("the simulator", nogil=True, _nrt=False)
"""Without reference counts, which numba takes of every slice: they took half of the time. The caller keeps all arrays alive."""

_part_of_run = njit(nogil=True, inline="always")
"""Inlined by numba, before types are known: for functions that take a Layout, whose many arrays would otherwise be taken apart
and compiled again in each. What they call is ``inlined`` by LLVM."""


class Scratch(NamedTuple):
    """Working memory of one thread."""

    u: NDArray[np.int32]  # (N,) each; x and y: a model's third and fourth state variable
    v: NDArray[np.int32]
    x: NDArray[np.int32]
    y: NDArray[np.int32]
    spikes: NDArray[np.uint8]  # 64 longer: ``nonzeros`` reads ahead
    active: NDArray[np.uint8]
    rings: NDArray[np.int32]
    sums: NDArray[np.int32]  # where a right-shifted projection sums each lag
    sources: NDArray[np.uint32]  # the spikes of one source in one step; 16 longer: vectors are written
    room: NDArray[np.int64]  # (3, 130) of ``lbi.simulation.rows``


def scratch_for(layout: Layout) -> Scratch:
    """New working memory for ``run``.

    Args:
        layout: the network in flat arrays.

    Returns:
        Arrays of zeros, for one thread.
    """
    n = int(layout.start[-1])
    sums = np.where(layout.shift < 0, layout.n[layout.target] * layout.n_lags, 0)
    return Scratch(
        u=np.zeros(n, dtype=np.int32),
        v=np.zeros(n, dtype=np.int32),
        x=np.zeros(n, dtype=np.int32),
        y=np.zeros(n, dtype=np.int32),
        spikes=np.zeros(n + 64, dtype=np.uint8),
        active=np.zeros(n, dtype=np.uint8),
        rings=np.zeros(int(layout.ring[-1]), dtype=np.int32),
        sums=np.zeros(int(sums.max(initial=0)), dtype=np.int32),
        sources=np.zeros(max(layout.n_in, int(layout.n.max())) + 16, dtype=np.uint32),
        room=np.zeros((3, 130), dtype=np.int64),
    )


@_part_of_run
def deliver(
    layout: Layout, q: int, goal: Any, base: int, factor: Any, sources: Any, count: int, room: Any
) -> None:
    """Add one projection's synapses, with the loop for its format and widths."""
    w, x = layout.weights[q], layout.indices[q]
    pointers = layout.pointers[layout.columns[q] :]
    empty = layout.n_source[q]
    if layout.format[q] == DENSE:
        if layout.weight_bytes[q] == 1:
            add_dense(goal, layout.weights1[w:], factor, sources, count, empty, room)
        else:
            add_dense(goal, layout.weights2[w:], factor, sources, count, empty, room)
    elif layout.format[q] == MASKED:
        words = layout.words[x:]
        if layout.weight_bytes[q] == 1:
            add_masked(goal, words, layout.weights1[w:], factor, pointers, sources, count, empty, room)
        else:
            add_masked(goal, words, layout.weights2[w:], factor, pointers, sources, count, empty, room)
    elif layout.format[q] == KERNELS:
        if layout.weight_bytes[q] == 1:
            add_kernels(goal, layout.words[x:], layout.weights1[w:], factor, sources, count)
        else:
            add_kernels(goal, layout.words[x:], layout.weights2[w:], factor, sources, count)
    elif layout.index_bytes[q] == 2:
        if layout.weight_bytes[q] == 1:
            scatter(goal, layout.indices2[x:], layout.weights1[w:], factor, pointers, sources, count)
        else:
            scatter(goal, layout.indices2[x:], layout.weights2[w:], factor, pointers, sources, count)
    elif layout.weight_bytes[q] == 1:
        scatter_around(goal, base, layout.indices4[x:], layout.weights1[w:], factor, pointers, sources, count)
    else:
        scatter_around(goal, base, layout.indices4[x:], layout.weights2[w:], factor, pointers, sources, count)


@_part_of_run
def send(layout: Layout, q: int, step: int, scratch: Scratch, count: int) -> int:
    """Deliver ``count`` spikes of step ``step`` through projection ``q``; returns the number of synapses reached."""
    p = layout.target[q]
    rings, sums, sources = scratch.rings, scratch.sums, scratch.sources
    n, n_slots, n_lags, shift = layout.n[p], layout.n_slots[p], layout.n_lags[q], layout.shift[q]
    ring = rings[layout.ring[p] : layout.ring[p] + n * n_slots]
    slot = (step + layout.lag[q]) % n_slots
    goal, base = ring, slot * n
    if shift < 0:  # the sum of each lag is shifted right (floor) before it is added to the others
        goal, base = sums[: n * n_lags], 0
        goal[:] = 0
    elif n_lags == 1:
        goal, base = ring[slot * n : slot * n + n], 0
    deliver(layout, q, goal, base, layout.factor[q], sources, count, scratch.room)
    if shift < 0:
        for lag in range(n_lags):
            part = ring[slot * n : slot * n + n]
            for i in range(n):
                part[i] += np.int32(goal[lag * n + i] >> -shift)
            slot = slot + 1 if slot + 1 < n_slots else 0
    c = layout.columns[q]
    synops = np.uint64(0)
    for e in range(count):
        at = np.uint64(c) + np.uint64(sources[e])
        synops = kept_apart(synops + layout.pointers[at + np.uint64(1)] - layout.pointers[at])
    return np.int64(synops)


@inlined
def decayed(x: Any, keep: Any) -> Any:
    """``lbi.network.fixedpoint.decay``: trunc0(x · keep / 4096), from the bits above 12 and those below, whose products fit 32."""
    size = np.uint32(np.int32(abs(x)))
    high, low = np.uint32(size >> np.uint32(12)), np.uint32(size & np.uint32(4095))
    kept = np.int32(np.uint32(high * keep) + np.uint32(np.uint32(low * keep) >> np.uint32(12)))
    return np.int32(-kept) if x < 0 else kept


@inlined
def next_current(u: Any, keep: Any, a: Any) -> tuple[Any, Any]:
    """wrap24(decayed(u) + (a << 6)), and whether it wrapped."""
    value = np.int32(decayed(u, keep) + np.int32(a << 6))
    over = value > _TOP
    under = value <= _BOTTOM
    wrapped = np.int32(value - _TURN) if over else np.int32(value + _TURN) if under else value
    return wrapped, over | under


@inlined
def next_voltage(v: Any, keep: Any, step: Any) -> tuple[Any, Any]:
    """clip24(decayed(v) + step), and whether it clipped."""
    value = np.int32(decayed(v, keep) + step)
    clipped = np.int32(min(max(value, _LOWEST), _HIGHEST))
    return clipped, clipped != value


@inlined
def cuba_lif(a: Any, u: Any, v: Any, bias: Any, parameters: Any, spikes: Any, active: Any) -> Counts:
    """One timestep of ``FixedCubaLif``; clears ``a``."""
    keep_u = np.uint32(parameters[0])
    keep_v = np.uint32(parameters[1])
    threshold = np.int32(parameters[2])
    n_active = np.int32(0)
    n_wraps = np.int32(0)
    n_clips = np.int32(0)
    for i in range(a.size):
        busy = (a[i] | u[i] | v[i] | bias[i]) != 0
        current, wraps = next_current(u[i], keep_u, a[i])
        a[i] = 0
        u[i] = current
        volt, clips = next_voltage(v[i], keep_v, current + bias[i])
        spike = volt > threshold
        v[i] = np.int32(0) if spike else volt
        spikes[i] = spike
        active[i] = busy
        n_active = np.int32(n_active + busy)
        n_wraps = np.int32(n_wraps + wraps)
        n_clips = np.int32(n_clips + clips)
    return n_active, n_wraps, n_clips


@inlined
def lif_refractory(
    a: Any, u: Any, v: Any, wait: Any, bias: Any, parameters: Any, spikes: Any, active: Any
) -> Counts:
    """One timestep of ``FixedLifRefractory``; clears ``a``."""
    keep_u = np.uint32(parameters[0])
    keep_v = np.uint32(parameters[1])
    threshold = np.int32(parameters[2])
    period = np.int32(parameters[3])
    n_active = np.int32(0)
    n_wraps = np.int32(0)
    n_clips = np.int32(0)
    for i in range(a.size):
        busy = (a[i] | u[i] | v[i] | bias[i] | wait[i]) != 0
        current, wraps = next_current(u[i], keep_u, a[i])
        a[i] = 0
        u[i] = current
        waiting = wait[i] > 0
        volt, clips = next_voltage(v[i], keep_v, current + bias[i])
        settled = chosen(waiting, v[i], volt)
        spike = settled > threshold
        v[i] = chosen(spike, np.int32(0), settled)
        wait[i] = period if spike else np.int32(max(wait[i] - 1, 0))
        spikes[i] = spike
        active[i] = busy
        n_active = np.int32(n_active + busy)
        n_wraps = np.int32(n_wraps + wraps)
        n_clips = np.int32(n_clips + (clips & (not waiting)))
    return n_active, n_wraps, n_clips


@inlined
def atrlif(
    a: Any, u: Any, v: Any, theta: Any, r: Any, bias: Any, parameters: Any, spikes: Any, active: Any
) -> Counts:
    """One timestep of ``FixedAtrLif``; clears ``a``."""
    keep_u = np.uint32(parameters[0])
    keep_v = np.uint32(parameters[1])
    baseline = np.int32(parameters[2])
    keep_theta = np.uint32(parameters[3])
    keep_r = np.uint32(parameters[4])
    theta_step = np.int32(parameters[5])
    n_active = np.int32(0)
    n_wraps = np.int32(0)
    n_clips = np.int32(0)
    for i in range(a.size):
        busy = (a[i] | u[i] | v[i] | bias[i] | theta[i] | r[i]) != 0
        current, wraps = next_current(u[i], keep_u, a[i])
        a[i] = 0
        u[i] = current
        volt, clips = next_voltage(v[i], keep_v, current + bias[i])
        v[i] = volt
        excess = decayed(theta[i], keep_theta)
        refractory = decayed(r[i], keep_r)
        threshold = np.int32(excess + baseline)
        spike = np.int32(volt - refractory) >= threshold
        r[i] = np.int32(refractory + 2 * threshold) if spike else refractory
        theta[i] = np.int32(excess + theta_step) if spike else excess
        spikes[i] = spike
        active[i] = busy
        n_active = np.int32(n_active + busy)
        n_wraps = np.int32(n_wraps + wraps)
        n_clips = np.int32(n_clips + clips)
    return n_active, n_wraps, n_clips


@_part_of_run
def input_events(inputs: Inputs, sample: int, step: int, found: Any) -> int:
    """Write the channels that spike in one step to ``found``; returns their number."""
    if inputs.is_dense:
        return nonzeros(inputs.spikes[sample, step], inputs.spikes.shape[2], found)
    at = sample * inputs.n_steps + step
    begin, end = inputs.pointers[at], inputs.pointers[at + 1]
    for k in range(begin, end):
        found[k - begin] = inputs.channels[k]
    return end - begin


@_compiled
def run(layout: Layout, inputs: Inputs, outputs: Outputs, scratch: Scratch, begin: int, end: int) -> None:
    """Simulate samples ``begin`` to ``end`` − 1, each from rest."""
    for sample in range(begin, end):
        scratch.u[:] = 0
        scratch.v[:] = 0
        scratch.x[:] = 0
        scratch.y[:] = 0
        scratch.rings[:] = 0
        for step in range(inputs.n_steps):
            advance(layout, inputs, outputs, scratch, sample, step)


@_part_of_run
def advance(
    layout: Layout, inputs: Inputs, outputs: Outputs, scratch: Scratch, sample: int, step: int
) -> None:
    """One timestep: input, then all populations in evaluation order, each of which sends its spikes."""
    sources = scratch.sources
    for source in range(layout.n.size + 1):
        if source == 0:
            count = input_events(inputs, sample, step, sources)
        else:
            p = source - 1
            update(layout, outputs, scratch, p, sample, step)
            count = nonzeros(scratch.spikes[layout.start[p] :], layout.n[p], sources)
        outputs.n_events[source, sample, step] = count
        if count:
            for q in range(layout.first[source], layout.first[source + 1]):
                outputs.n_synops[q, sample, step] = send(layout, q, step, scratch, count)


@_part_of_run
def update(layout: Layout, outputs: Outputs, scratch: Scratch, p: int, sample: int, step: int) -> None:
    """Advance the neurons of population ``p``, count and record."""
    s, t = layout.start[p], layout.start[p + 1]
    slot = layout.ring[p] + step % layout.n_slots[p] * (t - s)
    a = scratch.rings[slot : slot + t - s]
    u, v, x, y = scratch.u[s:t], scratch.v[s:t], scratch.x[s:t], scratch.y[s:t]
    bias, parameters = layout.bias[s:t], layout.parameters[p]
    spikes, active = scratch.spikes[s:t], scratch.active[s:t]
    counts = (np.int32(0), np.int32(0), np.int32(0))
    if layout.model[p] == CUBA_LIF:
        counts = cuba_lif(a, u, v, bias, parameters, spikes, active)
    elif layout.model[p] == LIF_REFRACTORY:
        counts = lif_refractory(a, u, v, x, bias, parameters, spikes, active)
    elif layout.model[p] == ATRLIF:
        counts = atrlif(a, u, v, x, y, bias, parameters, spikes, active)
    outputs.n_active[p, sample, step] = counts[0]
    saturated = outputs.saturated[p, sample]
    for kind in range(2):
        if counts[1 + kind]:
            if not saturated[2 * kind]:
                saturated[2 * kind + 1] = step
            saturated[2 * kind] += counts[1 + kind]
    at = outputs.where[p]
    done = (sample * outputs.n_active.shape[2] + step) * (t - s)
    keep(outputs.flags, at[0], done, spikes)
    keep(outputs.flags, at[1], done, active)
    keep(outputs.states, at[2], done, u)
    keep(outputs.states, at[3], done, v)
    keep(outputs.states, at[4], done, x)
    keep(outputs.states, at[5], done, y)


@inlined
def keep(records: Any, begin: int, done: int, values: Any) -> None:
    """Append one step's values to a record that begins at ``begin``; −1 means no record."""
    if begin >= 0:
        rows = records[begin + done : begin + done + values.size]
        for i in range(values.size):
            rows[i] = values[i]
