"""Names and versions of the files this package writes; their layout is in docs/formats.md."""

from __future__ import annotations

MODEL = ("lbi.model", 1)
"""``model.pt``: torch.save of plain types and tensors."""

FIXED_NETWORK = ("lbi.fixed_network", 1)
"""``network.h5``: an integer network in HDF5."""

FREE_ELEMENTS = 1 << 24
"""Numbers that a file of any size may claim: those that are all the same take no room in it."""

ELEMENTS_PER_BYTE = 64
"""Numbers that a file may claim for each of its bytes, beyond those."""


def most_elements(n_bytes: int) -> int:
    """The most numbers that a file of ``n_bytes`` may claim to hold, so that reading it needs no more memory."""
    return FREE_ELEMENTS + ELEMENTS_PER_BYTE * n_bytes


MOST_NEURONS = 1 << 22
"""Of an input or a layer whose size a file states beside its weights; four chips of Loihi 2 hold as many."""

SPIKES_KEYS = ("spikes", "labels")
"""Arrays of a spike file (``.npz``): (n_samples, n_steps, n_in) uint8, and optional (n_samples,)."""
