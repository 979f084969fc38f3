"""Recordings of event cameras: their binary formats, and their events as frames of two polarities.

- ATIS ``.bin`` (N-MNIST): 5 bytes an event: x, y, then polarity in the top bit and 23 bits of microseconds, big-endian.
- AEDAT 2.0 (CIFAR10-DVS): lines of ``#``, then 32-bit address and microseconds, big-endian; of a DVS128's address bit 0 is the
  polarity (0: brighter), bits 1 to 7 and 8 to 14 the place, counted from the opposite corner and turned.
- AEDAT 3.1 (DVS128 Gesture): a header, then packets of 28 bytes and events; polarity events are of type 1, with address and
  microseconds as little-endian 32-bit numbers: bit 1 polarity, bits 2 to 16 y, bits 17 to 31 x.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, Rule

READABLE = Rule("data-broken", "a recording", "get it again")
FORMAT = Rule("data-broken", "{allowed}", "it may be truncated: get it again")
PLACE = Rule(
    "data-broken", "places of {side} × {side} pixels", "it may be a recording of another camera: get it again"
)

_PACKET = struct.Struct(
    "<HHIIIIII"
)  # type, source, size of an event, offset of its time, overflows, capacity, number, valid
_OVERFLOW_ROW, _OVERFLOW = (
    240,
    1 << 13,
)  # ATIS: a row that marks an overflow of the time, and its microseconds


@dataclass(frozen=True, eq=False)
class Events:
    """The events of a recording.

    Attributes:
        t: (n,) microseconds.
        x: (n,) columns.
        y: (n,) rows.
        p: (n,) polarity, 0 or 1.
    """

    t: NDArray[np.int64]
    x: NDArray[np.int64]
    y: NDArray[np.int64]
    p: NDArray[np.int64]

    def between(self, start: int, stop: int) -> Events:
        """The events from ``start`` to before ``stop``, both in microseconds.

        Args:
            start: first microsecond.
            stop: microsecond after the last.

        Returns:
            The events.
        """
        inside = (self.t >= start) & (self.t < stop)
        return Events(self.t[inside], self.x[inside], self.y[inside], self.p[inside])


def read_atis(path: Path) -> Events:
    """The events of an ATIS ``.bin`` file.

    Args:
        path: the file.

    Returns:
        The events.

    Raises:
        InputError: for a file that is none.
    """
    content = _bytes(path)
    if len(content) % 5:
        raise InputError(FORMAT.broken(str(path), f"{len(content)} bytes", allowed="5 bytes for each event"))
    raw = np.frombuffer(content, np.uint8).reshape(-1, 5).astype(np.int64)
    t = (raw[:, 2] & 127) << 16 | raw[:, 3] << 8 | raw[:, 4]
    overflows = raw[:, 1] == _OVERFLOW_ROW
    t = t + np.cumsum(overflows) * _OVERFLOW
    kept = ~overflows
    return Events(t[kept], raw[kept, 0], raw[kept, 1], raw[kept, 2] >> 7)


def read_aedat2(path: Path) -> Events:
    """The events of a DVS128's AEDAT 2.0 file.

    Args:
        path: the file.

    Returns:
        The events, in rows and columns as spikingjelly and the authors' own scripts turn them.

    Raises:
        InputError: for a file that is none.
    """
    content, start = _bytes(path), 0
    holds = content[:1] == b"#"
    while content[start : start + 1] == b"#" and (end := content.find(b"\n", start)) >= 0:
        start = end + 1
    if not holds or (len(content) - start) % 8:
        raise InputError(
            FORMAT.broken(
                str(path), f"{len(content)} bytes", allowed="lines of '#', then 8 bytes for each event"
            )
        )
    raw = np.frombuffer(content, ">u4", offset=start).reshape(-1, 2).astype(np.int64)
    address = raw[:, 0]
    return Events(raw[:, 1], 127 - (address >> 8 & 127), 127 - (address >> 1 & 127), 1 - (address & 1))


def read_aedat3(path: Path) -> Events:
    """The polarity events of an AEDAT 3.1 file.

    Args:
        path: the file.

    Returns:
        The events.

    Raises:
        InputError: for a file that is none.
    """
    content = _bytes(path)
    end = content.find(b"#!END-HEADER\r\n")
    at = end + len(b"#!END-HEADER\r\n")
    whole = content[:1] == b"#" and end >= 0
    found: list[NDArray[np.int64]] = [np.zeros((0, 2), np.int64)]
    while whole and at < len(content):
        if not (whole := at + _PACKET.size <= len(content)):
            break
        kind, _, size, _, overflows, capacity, _, _ = _PACKET.unpack_from(content, at)
        at += _PACKET.size
        if not (whole := at + size * capacity <= len(content) and (kind != 1 or size == 8)):
            break
        if kind == 1:
            raw = np.frombuffer(content, "<u4", 2 * capacity, at).reshape(-1, 2).astype(np.int64)
            raw[:, 1] |= overflows << 31
            found.append(raw)
        at += size * capacity
    if not whole:
        raise InputError(
            FORMAT.broken(
                str(path), f"{len(content)} bytes", allowed="a header and whole packets of AEDAT 3.1"
            )
        )
    address, t = np.concatenate(found).T
    return Events(t, address >> 17 & 0x7FFF, address >> 2 & 0x7FFF, address >> 1 & 1)


def frames(events: Events, binning: Binning, where: str) -> NDArray[np.uint8]:
    """The spikes of a recording, from its first event on; later events are cut.

    Args:
        events: the recording.
        binning: steps and places.
        where: the file, for errors.

    Returns:
        (n_steps, 2 · height · width), 0 or 1: off, then on, each row by row.

    Raises:
        InputError: for events outside the camera.
    """
    for values in (events.x, events.y):
        if values.size and not 0 <= int(values.min()) <= int(values.max()) < binning.side:
            found = f"an event at {int(values.max())}"
            raise InputError(PLACE.broken(where, found, side=binning.side))
    channels, height, width = binning.shape
    step = (events.t - (int(events.t.min()) if events.t.size else 0)) // max(1, round(binning.step_ms * 1000))
    y, x = events.y // binning.pool, events.x // binning.pool
    kept = (step < binning.n_steps) & (y < height) & (x < width)
    cells = np.ravel_multi_index(
        (step[kept], events.p[kept], y[kept], x[kept]), (binning.n_steps, channels, height, width)
    )
    counts = np.bincount(cells, minlength=binning.n_steps * channels * height * width)
    return (counts >= binning.least).astype(np.uint8).reshape(binning.n_steps, -1)


@dataclass(frozen=True)
class Binning:
    """How events become spikes.

    Attributes:
        side: pixels of a row and of a column of the camera.
        n_steps: timesteps.
        step_ms: milliseconds per timestep.
        pool: pixels of a row and of a column that become one place; what is left over at the border is cut.
        least: events in a place and step from which it spikes.
    """

    side: int
    n_steps: int
    step_ms: float
    pool: int = 1
    least: int = 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """(polarities, height, width) of a frame."""
        return 2, self.side // self.pool, self.side // self.pool

    def checks(self) -> dict[str, tuple[Any, bool, str]]:
        """The checks of these options, for ``check_options``."""
        whole = {
            name: (
                value,
                isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most,
                f"1 to {most}",
            )
            for name, value, most in (
                ("n_steps", self.n_steps, 65536),
                ("pool", self.pool, self.side),
                ("least", self.least, 65536),
            )
        }
        timed = isinstance(self.step_ms, int | float) and 0.001 <= self.step_ms < 1e6
        return {**whole, "step_ms": (self.step_ms, timed, "0.001 or more")}


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(READABLE.broken(str(path), f"is not readable ({error.strerror})")) from error
