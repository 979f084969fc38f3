"""Names and versions of the file formats; docs/formats.md describes their layout."""

from __future__ import annotations

MODEL = ("lbi.model", 2)
"""``model.pt``: torch.save of plain types and tensors; version 1, without convolutions, is read too."""

FIXED_NETWORK = ("lbi.fixed_network", 2)
"""``network.h5``: an integer network in HDF5. Version 2 holds convolutions as kernels; a network without any is written
as version 1, which earlier releases read, and both are read."""

SPIKES_KEYS = ("spikes", "labels")
"""Arrays of a spike file (``.npz``): (n_samples, n_steps, n_in) uint8, and optional (n_samples,)."""
