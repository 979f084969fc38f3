"""The notation of hidden layers: ``16c3,p2,32c3,p2,128``.

``128`` are neurons with weights from every neuron before; ``16c3`` a convolution of 16 channels with kernels of 3 × 3 and
zeros around, so that height and width stay; ``16c5s2`` the same with stride 2; ``p2`` a sum over squares of 2 × 2.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod
from typing import Any

from lbi.errors import Problems, Rule
from lbi.train.layers.wiring import Wiring, as_image

Shape = tuple[int, ...]

MOST = 65536
"""Neurons of a population without convolution."""

LAYERS = Rule(
    "option",
    f"neurons (128, up to {MOST}), convolutions with an odd kernel (16c3, 16c5s2) and pooling (p2), separated by commas",
)
_TOKEN = re.compile(
    r"(?P<n>\d{1,5})|(?P<channels>\d{1,4})c(?P<kernel>\d{1,2})(s(?P<stride>\d{1,2}))?|p(?P<pool>\d{1,2})"
)


def parse(text: str) -> list[int | str]:
    """The layers of ``--hidden``: whole numbers as integers, anything else as it is written.

    Args:
        text: layers separated by commas.

    Returns:
        One entry per layer; not checked.
    """
    parts = [part.strip() for part in text.split(",")]
    return [int(part) if part.isdecimal() and len(part) < 10 else part for part in parts]


def check(hidden: Any, problems: Problems) -> None:
    """Check the layers of ``hidden``; a value that is not a sequence is noted elsewhere.

    Args:
        hidden: as in ``parse``.
        problems: receives a problem for each entry that does not describe a layer.
    """
    for layer in hidden if isinstance(hidden, tuple | list) else ():
        token = _TOKEN.fullmatch(str(layer)) if type(layer) in (int, str) else None
        numbers = (
            [] if token is None else [int(value) for value in token.groupdict().values() if value is not None]
        )
        holds = (
            token is not None
            and min(numbers) >= 1
            and max(numbers) <= MOST
            and int(token["kernel"] or 1) % 2 == 1
        )
        LAYERS.check(problems, holds, "hidden", repr(layer))


def wirings(hidden: Sequence[int | str], source: Shape) -> tuple[list[tuple[int, Wiring]], int]:
    """The hidden populations of checked layers.

    Args:
        hidden: as in ``parse``.
        source: shape of the input.

    Returns:
        Neurons and wiring of each, and the pooling in front of the output.
    """
    found: list[tuple[int, Wiring]] = []
    pool = 1
    for layer in hidden:
        token = _TOKEN.fullmatch(str(layer))
        assert token is not None
        if token["pool"]:
            pool *= int(token["pool"])
            continue
        if token["n"]:
            wiring, n = Wiring(pool=pool), int(token["n"])
        else:
            wiring = Wiring(int(token["channels"]), int(token["kernel"]), int(token["stride"] or 1), pool)
            n = max(1, prod(wiring.shape(as_image(source), 0))) if len(source) in (2, 3) else wiring.channels
        found.append((n, wiring))
        source, pool = wiring.shape(source, n) if len(source) in (2, 3) or not wiring.channels else (n,), 1
    return found, pool
