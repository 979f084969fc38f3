"""What a network's provenance tells of its training and of the file it was read from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lbi.network.fixed import FixedNetwork


def trained_encoding(fixed: FixedNetwork) -> dict[str, Any]:
    """Name and encoding options of the data set that a network was trained on; empty if unknown.

    Args:
        fixed: the network.

    Returns:
        ``name``, and the options.
    """
    described = fixed.provenance.get("dataset")
    return dict(described) if isinstance(described, Mapping) else {}


def trained_dataset(fixed: FixedNetwork) -> str | None:
    """Name of the data set that the network was trained on, or None if unknown.

    Args:
        fixed: the network.

    Returns:
        The name.
    """
    name = trained_encoding(fixed).get("name")
    return name if isinstance(name, str) else None


def reading_notes(fixed: FixedNetwork) -> list[str]:
    """What the file that the network was read from leaves open.

    Args:
        fixed: the network; its ``provenance`` holds the notes.

    Returns:
        The notes, a line each.
    """
    notes = fixed.provenance.get("notes")
    return [note for note in notes if isinstance(note, str)] if isinstance(notes, list | tuple) else []


def length_notes(fixed: FixedNetwork, n_steps: int) -> list[str]:
    """What to know about samples of another length than in training.

    Args:
        fixed: the network.
        n_steps: timesteps of each sample.

    Returns:
        A line; none for samples of that length, or if it is not known.
    """
    training = fixed.provenance.get("training")
    known = training.get("n_steps") if isinstance(training, Mapping) else None
    trained = known or trained_encoding(fixed).get("n_steps")
    if not isinstance(trained, int) or trained == n_steps:
        return []
    return [f"samples of {n_steps} steps; it was trained on samples of {trained}"]
