"""Functions shared by the compiled scans of all neuron models: recurrence, surrogate derivative, integer steps.

A division by zero, as by the threshold of a damaged checkpoint, gives inf or NaN as in PyTorch (numba's error model
"numpy"); the loss then ends the training.
"""

# Compiled code is typed by numba, by what it is called with:
# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import numpy as np
from numba import njit

from lbi.train.layers.bits import BITS, mask_of, write_bits
from lbi.train.layers.tiles import VECTOR, sum_tile_4

LIMIT = np.int64(1 << 23)
"""States are 24-bit."""


@njit(inline="always")
def surrogate(v, threshold, slope, kind, zero, one):
    """``lbi.train.layers.surrogate.derivative``; ``kind`` is the position in ``SURROGATES``.

    Args:
        v: a voltage.
        threshold: the threshold.
        slope: slope of the surrogate.
        kind: its position in ``SURROGATES``.
        zero: 0 in the type of v.
        one: 1 in the type of v.

    Returns:
        ds/dv, of the type of v.
    """
    x = slope * (v - threshold) / threshold
    if kind == 0:
        h = one / ((one + abs(x)) * (one + abs(x)))
    elif kind == 1:
        h = one / (one + x * x)
    else:
        h = one if abs(x) < one else zero
    return h / threshold


@njit(error_model="numpy")
def through_spikes(v, threshold, slope, kind, given, out):
    """The gradient through the spikes of all neurons: given · surrogate(v, threshold).

    Args:
        v: (n,) what is compared with the threshold.
        threshold: (n,).
        slope: the surrogate's slope.
        kind: number of the surrogate, see ``surrogate``.
        given: (n,) gradient of the spikes.
        out: (n,), receives the gradient of v.
    """
    zero, one = out.dtype.type(0), out.dtype.type(1)
    if kind == 0:
        for i in range(v.size):
            out[i] = given[i] * surrogate(v[i], threshold[i], slope, 0, zero, one)
    elif kind == 1:
        for i in range(v.size):
            out[i] = given[i] * surrogate(v[i], threshold[i], slope, 1, zero, one)
    else:
        for i in range(v.size):
            out[i] = given[i] * surrogate(v[i], threshold[i], slope, 2, zero, one)


@njit(inline="always")
def decayed(state, keep):
    """trunc0(state · keep / 4096): the magnitude is shifted, the sign kept.

    Args:
        state: an integer.
        keep: 4096ths kept per step.

    Returns:
        The integer that is left of the state.
    """
    product = state * keep
    return product >> 12 if product >= 0 else -((-product) >> 12)


@njit(inline="always")
def current(u, keep, a):
    """wrap24(trunc0(u · keep / 4096) + (a << 6)).

    Args:
        u: the current before.
        keep: 4096ths kept per step.
        a: synaptic input, in mantissa units.

    Returns:
        The new current, a signed 24-bit integer.
    """
    value = decayed(u, keep) + (np.int64(a) << 6)
    if value > LIMIT:
        value -= 2 * LIMIT
    elif value <= -LIMIT:
        value += 2 * LIMIT
    return value


@njit(inline="always")
def voltage(v, keep, step):
    """clip24(trunc0(v · keep / 4096) + step).

    Args:
        v: the voltage before.
        keep: 4096ths kept per step.
        step: what is added, in state units.

    Returns:
        The new voltage, a signed 24-bit integer.
    """
    return min(max(decayed(v, keep) + step, 1 - LIMIT), LIMIT - 1)


@njit(inline="always")
def nonzeros(spikes, found):
    """Where ``spikes`` (n,) are not 0, in order, into ``found`` (n,); returns how many.

    Args:
        spikes: (n,).
        found: (n,), written.

    Returns:
        The number of spikes.
    """
    count = 0
    for at in range(0, spikes.size, BITS):
        count = write_bits(mask_of(spikes, at, spikes.size - at), at, found, count)
    return count


@njit
def under_way(delays):
    """Working memory of ``arrivals``: masks (n_slots, n_masks) uint64 of the spikes that arrive at a step, in a ring of steps.

    Args:
        delays: as in ``arrivals``.

    Returns:
        The masks, without any spike.
    """
    n_slots = 0
    for j in range(delays.size):
        n_slots = max(n_slots, delays[j] + 1)
    return np.zeros((n_slots, (delays.size + BITS - 1) // BITS), np.uint64)


@njit(inline="always")
def arrivals(spikes, t, delays, found, ring):
    """Neurons whose spikes arrive at step t, in order, into ``found`` (n,); returns how many.

    Args:
        spikes: (n_steps, n), those of a sample.
        t: a step; steps are asked for one after the other, from 0.
        delays: (n,) steps that a neuron's spikes take beyond one, or (0,) for none.
        found: (n,), written.
        ring: ``under_way(delays)``, of this sample.

    Returns:
        The number of spikes.
    """
    if t == 0:
        ring[:] = 0
        return 0
    count = nonzeros(spikes[t - 1], found)
    if delays.size == 0:
        return count
    n_slots = ring.shape[0]
    now = t % n_slots
    for k in range(count):
        j = found[k]
        slot = now + delays[j]
        slot -= n_slots if slot >= n_slots else 0
        ring[slot, j // BITS] |= np.uint64(1) << np.uint64(j % BITS)
    masks, count = ring[now], 0
    for m in range(masks.size):
        count = write_bits(masks[m], m * BITS, found, count)
        masks[m] = 0
    return count


@njit(inline="always")
def add_recurrent(total, w_rec_t, spikes, t, delays, fired, ring):
    """Add to ``total`` (n,) the rows of ``w_rec_t`` (n, n) of the neurons whose spikes arrive at step t.

    Args:
        total: (n,), updated.
        w_rec_t: (n, n) recurrent weights by source.
        spikes: (n_steps, n), those of a sample.
        t: the step.
        delays: as in ``arrivals``.
        fired: (n,) working memory.
        ring: as in ``arrivals``.
    """
    n, wide = total.size, 4 * VECTOR // total.itemsize
    count, first = arrivals(spikes, t, delays, fired, ring), 0
    while first + wide <= n:  # the sums of a tile stay in registers
        sum_tile_4(w_rec_t, first, n, fired, 0, count, total, first, 1)
        first += wide
    for k in range(count):
        weights = w_rec_t[fired[k]]
        for i in range(first, n):
            total[i] += weights[i]


@njit(inline="always")
def send_back(fed, grad_s, t, delays):
    """Add the gradient that arrived spikes get at step t to that of the spikes when they were sent; ``fed`` becomes 0.

    Args:
        fed: (n,) gradient of the spikes that arrive at step t.
        grad_s: (n_steps, n) gradient of a sample's spikes, updated.
        t: the step.
        delays: (n,) as in ``arrivals``.
    """
    for j in range(delays.size):
        at = t - 1 - delays[j]
        if at >= 0:
            grad_s[at, j] += fed[j]
        fed[j] = 0
