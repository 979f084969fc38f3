"""Names and versions of the file formats; docs/formats.md describes their layout."""

from __future__ import annotations

MODEL = ("lbi.model", 1)
"""``model.pt``: torch.save of plain types and tensors."""

FIXED_NETWORK = ("lbi.fixed_network", 1)
"""``network.h5``: an integer network in HDF5."""

SPIKES_KEYS = ("spikes", "labels")
"""Arrays of a spike file (``.npz``): (n_samples, n_steps, n_in) uint8, and optional (n_samples,)."""
