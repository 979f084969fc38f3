"""Neurons of a netx layer: decays, thresholds and biases, grouped by equal parameters."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Problems, Rule
from lbi.files.netx.group import Group
from lbi.files.netx.weights import BIAS_EXPONENT, NEVER
from lbi.network.neurons import FixedCubaLif, FixedIntegrator

DEFAULT_NEURON = {"iDecay": 0, "vDecay": 4096, "vThMant": NEVER}
"""netx's neuron for a dense layer without neurons: a current without leak, and a voltage equal to it."""

MOST_PARTS = 16
"""Maximum number of populations into which a layer is split if its neurons differ."""

BIAS_LIMIT = 4096
"""Bound of Loihi's mantissas, −4096 to 4095; larger even biases are halved and get the next exponent."""

Neuron = FixedCubaLif | FixedIntegrator
Part = tuple[NDArray[np.intp], Neuron]
"""Indices of equal neurons in a layer, and their parameters."""

BIAS_SHAPE = Rule("netx-bias", "one per neuron or channel", "write one bias for each")
BIAS_RANGE = Rule(
    "netx-bias",
    "−4096 to 4095, or even up to twice that",
    "scale weights, biases and threshold down together",
)
PARTS = Rule(
    "netx-neuron",
    f"one in a conv layer, up to {MOST_PARTS} in a dense one",
    "train the layer with fewer different decays and thresholds",
)
NO_NEURON = Rule("netx-neuron", "one: only dense layers have a default", "write the layer's neuron")
KIND = Rule(
    "netx-neuron", "LOIHI or CUBA: a CUBA-LIF neuron with binary spikes", "train with slayer's cuba neuron"
)
FIXED = Rule(
    "netx-neuron",
    "{usual}: netx runs CUBA neurons without graded spikes or refractoriness",
    "train without it",
)
RANGE = Rule(
    "netx-neuron", "0 to {high}, one or one per neuron", "scale the layer, or write one for each neuron"
)


def biases(layer: Group, shape: int | tuple[int, ...], problems: Problems) -> NDArray[np.int64]:
    """One bias mantissa per neuron: the file may hold one, one per channel, or one per neuron.

    Args:
        layer: the layer.
        shape: number of neurons of a dense layer; (channels, height, width) of another.
        problems: receives all problems.

    Returns:
        (n,) mantissas at netx's exponent; zeros if the file has none, or of a shape that is noted as a
        problem.
    """
    n = shape if isinstance(shape, int) else prod(shape)
    if "bias" not in layer:
        return np.zeros(n, dtype=np.int64)
    bias = layer.integers("bias")
    if isinstance(shape, int) and bias.size in (1, n):
        return np.broadcast_to(bias.reshape(-1), (n,))
    if not isinstance(shape, int) and bias.shape == shape[::-1]:  # Lava's order
        return bias.transpose(2, 1, 0).reshape(-1)
    if not isinstance(shape, int) and bias.shape == (shape[0],):
        return np.repeat(bias, shape[1] * shape[2])
    problems.note(BIAS_SHAPE.broken(f"{layer.where}, bias", f"shape {bias.shape}"))
    return np.zeros(n, dtype=np.int64)


def parts(layer: Group, mantissas: NDArray[np.int64], problems: Problems) -> list[Part] | None:
    """The neurons of a layer, grouped by equal parameters in order of occurrence.

    Args:
        layer: the layer.
        mantissas: (n,) biases at netx's exponent.
        problems: receives all problems.

    Returns:
        (indices (n_part,), neuron) of each kind; None if a problem was noted.
    """
    values = _values(layer, mantissas.size, problems)
    exponents = _exponents(mantissas)
    found = f"{mantissas.min()} to {mantissas.max()}"
    if values is None or not BIAS_RANGE.check(problems, exponents is not None, f"{layer.where}, bias", found):
        return None
    assert exponents is not None
    values = np.vstack([values, exponents])
    kinds, first, kind = np.unique(values, axis=1, return_index=True, return_inverse=True)
    alike = first.size <= MOST_PARTS and (first.size == 1 or layer.text("type").startswith("dense"))
    if not PARTS.check(problems, alike, layer.where, f"{first.size} different neurons"):
        return None
    found_parts: list[Part] = []
    for number in np.argsort(first):
        decay, dv, vth, exponent = kinds[:, number].tolist()
        chosen = np.flatnonzero(kind.reshape(-1) == number)
        common: dict[str, Any] = {
            "du": decay - 1,
            "dv": dv,
            "bias_mant": (mantissas[chosen] >> (exponent - BIAS_EXPONENT)).astype(np.int32),
            "bias_exp": exponent,
        }
        neuron = FixedIntegrator(**common) if vth >= NEVER else FixedCubaLif(**common, vth=vth)
        found_parts.append((chosen, neuron))
    return found_parts


def _exponents(mantissas: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Exponents at which the biases fit Loihi's mantissas: netx's or one more, equal for all neurons if possible."""
    large = (mantissas < -BIAS_LIMIT) | (mantissas >= BIAS_LIMIT)
    if not large.any():
        return np.full(mantissas.shape, BIAS_EXPONENT)
    halves = mantissas >> 1
    if np.any(mantissas[large] % 2) or halves.min() < -BIAS_LIMIT or halves.max() >= BIAS_LIMIT:
        return None
    if not np.any(mantissas % 2):
        large = np.ones_like(large)
    return BIAS_EXPONENT + large.astype(np.int64)


def _values(layer: Group, n: int, problems: Problems) -> NDArray[np.int64] | None:
    """iDecay, vDecay and vThMant of every neuron, (3, n)."""
    if "neuron" not in layer:
        has_default = layer.text("type") in ("dense", "dense_rec")
        NO_NEURON.check(problems, has_default, layer.where, "no neuron")
        default = np.array(list(DEFAULT_NEURON.values()))
        return np.repeat(default[:, None], n, axis=1) if has_default else None
    neuron = layer.inner("neuron")
    kind = neuron.text("type")
    if not KIND.check(problems, kind in ("LOIHI", "CUBA"), neuron.where, f"type {kind!r}"):
        return None
    good = True
    for key, usual in (("messageBits", 0), ("refDelay", 1)):
        value = neuron.integer(key, usual)
        good &= FIXED.check(problems, value == usual, f"{neuron.where}/{key}", value, usual=usual)
    rows = []
    for key, high in (("iDecay", 4096), ("vDecay", 4096), ("vThMant", 1 << 24)):
        try:
            values = neuron.integers(key).reshape(-1)
        except InputError as error:  # continue, so that all missing keys are named
            problems.take(error)
            good = False
            continue
        spread = f"from {values.min(initial=0)} to {values.max(initial=0)}"
        shown = str(values[0]) if values.size == 1 else f"{values.size} {spread}"
        holds = values.size in (1, n) and values.min(initial=0) >= 0 and values.max(initial=0) <= high
        good &= RANGE.check(problems, holds, f"{neuron.where}/{key}", shown, high=high)
        rows.append(values)
    return np.stack([np.broadcast_to(values, (n,)) for values in rows]) if good else None
