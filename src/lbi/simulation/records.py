"""The arrays that the simulator's compiled loops work on, and the codes in them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

DENSE, SPARSE, MASKED, KERNELS = 0, 1, 2, 3
"""Formats of a projection's stored weights."""

WORD = 64
"""Targets per word of a mask."""

PADDING = 64
"""Weights behind the last row, which are loaded but not used."""

CUBA_LIF, LIF_REFRACTORY, ATRLIF = 0, 1, 2
"""Neuron models."""

N_PARAMETERS = 6
"""Columns of ``Layout.parameters``, enough for every neuron model."""


class Layout(NamedTuple):
    """A network in flat arrays, with P populations in evaluation order and Q projections sorted by source.

    A target's *ring* holds the summed inputs of the next ``n_slots`` steps, slot ``step mod n_slots``.
    Source 0 is the input, source p + 1 population p.
    """

    n_in: int
    n: NDArray[np.int64]  # (P,) neurons
    model: NDArray[np.int64]  # (P,) model code
    start: NDArray[np.int64]  # (P + 1,) first neuron in bias and state
    ring: NDArray[np.int64]  # (P + 1,) first entry in the rings
    n_slots: NDArray[np.int64]  # (P,)
    parameters: NDArray[np.int64]  # (P, N_PARAMETERS) by model
    bias: NDArray[np.int32]  # (N,) effective, in state units
    first: NDArray[np.int64]  # (P + 2,) first projection of each source
    n_source: NDArray[
        np.int64
    ]  # (Q,) neurons or channels of the source; the number of the empty row behind all rows
    target: NDArray[np.int64]  # (Q,) population
    lag: NDArray[np.int64]  # (Q,) shortest lag
    n_lags: NDArray[np.int64]  # (Q,) longest lag − shortest + 1
    shift: NDArray[np.int64]  # (Q,) left shift of a stored weight; negative: shift the sum right
    factor: NDArray[np.int32]  # (Q,) 2^shift, or 1 where shift is negative
    format: NDArray[np.int64]  # (Q,) DENSE, SPARSE, MASKED or KERNELS
    weight_bytes: NDArray[np.int64]  # (Q,) 1 or 2
    index_bytes: NDArray[np.int64]  # (Q,) 2 or 4
    columns: NDArray[np.int64]  # (Q,) where the projection's n_source + 1 column pointers begin
    weights: NDArray[np.int64]  # (Q,) where its weights begin in weights1 or weights2
    indices: NDArray[
        np.int64
    ]  # (Q,) where its indices begin in indices2 or indices4, its masks or kernels in words
    pointers: NDArray[np.uint64]  # column pointers, counting stored synapses from 0 in each projection
    weights1: NDArray[np.int8]
    weights2: NDArray[np.int16]
    indices2: NDArray[np.uint16]
    indices4: NDArray[np.uint32]
    words: NDArray[np.uint64]  # masks of 64 targets; geometry of kernels


class Inputs(NamedTuple):
    """Input spikes: dense (``is_dense``) or as events sorted by (sample, step).

    Attributes:
        spikes: (n_samples, n_steps, n_in) uint8.
        pointers: (n_samples · n_steps + 1,).
        channels: (n_events,).
    """

    is_dense: bool
    n_steps: int
    spikes: NDArray[np.uint8]
    pointers: NDArray[np.int64]
    channels: NDArray[np.int32]


class Outputs(NamedTuple):
    """Arrays filled by the kernel, for S samples, T steps, P populations in evaluation order and Q sorted projections."""

    n_events: NDArray[np.int64]  # (P + 1, S, T) spikes of each source
    n_active: NDArray[np.int64]  # (P, S, T)
    n_synops: NDArray[np.int64]  # (Q, S, T)
    saturated: NDArray[np.int64]  # (P, S, 4) wraps, step of the first, clips, step of the first
    flags: NDArray[np.uint8]  # recorded spikes and active, end to end, each (S, T, n)
    states: NDArray[np.int32]  # recorded state variables, end to end, each (S, T, n)
    where: NDArray[np.int64]  # (P, 6) where spikes, active and the four states begin; −1: not recorded
