"""Recordings of event cameras in the authors' formats, as bytes."""

from __future__ import annotations

import struct

import numpy as np

from lbi.datasets.events import Events

AEDAT3_HEADER = b"#!AER-DAT3.1\r\n#Format: RAW\r\n#!END-HEADER\r\n"


def random_events(rng: np.random.Generator, n: int, side: int, most: int = 200_000) -> Events:
    """Events in the order of their time, below ``most`` microseconds."""
    t = np.sort(rng.integers(0, most, n))
    return Events(t, *(rng.integers(0, side, n) for _ in range(2)), rng.integers(0, 2, n))


def atis(events: Events) -> bytes:
    """40 bits an event, as the authors' Matlab scripts describe them."""
    rows = zip(events.x, events.y, events.p, events.t, strict=True)
    return b"".join(bytes([x, y, p << 7 | t >> 16, t >> 8 & 255, t & 255]) for x, y, p, t in rows)


def aedat2(events: Events) -> bytes:
    """Events of a DVS128 in AEDAT 2.0."""
    rows = zip(events.x, events.y, events.p, events.t, strict=True)
    body = b"".join(struct.pack(">II", (127 - x) << 8 | (127 - y) << 1 | 1 - p, t) for x, y, p, t in rows)
    return b"#!AER-DAT2.0\r\n# DVS128\r\n" + body


def aedat3(events: Events, overflows: int = 0) -> bytes:
    """Events in AEDAT 3.1: a packet of another type, then two of polarity events."""
    rows = list(zip(events.x, events.y, events.p, events.t, strict=True))
    packets = [struct.pack("<HHIIIIIIII", 0, 1, 8, 4, 0, 1, 1, 1, 7, 9)]  # a special event
    for part in (rows[: len(rows) // 2], rows[len(rows) // 2 :]):
        packets.append(struct.pack("<HHIIIIII", 1, 1, 8, 4, overflows, len(part), len(part), len(part)))
        packets += [struct.pack("<II", x << 17 | y << 2 | p << 1 | 1, t) for x, y, p, t in part]
    return AEDAT3_HEADER + b"".join(packets)
