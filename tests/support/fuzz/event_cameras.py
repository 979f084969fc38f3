"""Recordings of event cameras and the cache of their frames for the fuzzer: valid ones, changes to them, and their use."""

from __future__ import annotations

import os
import shutil
import struct
from functools import cache
from pathlib import Path
from unittest.mock import patch

import numpy as np

from lbi import datasets
from support.fuzz.values import INTEGERS, Rng, damage_file, pick
from support.recordings import AEDAT3_HEADER, aedat2, aedat3, atis, random_events

OPTIONS = {"n_steps": 4, "step_ms": 1.0}


def recording_seeds(folder: Path) -> list[Path]:
    """A folder of each data set, with a few recordings."""
    from lbi.datasets.dvs import CIFAR_CLASSES

    rng = np.random.default_rng(0)
    nmnist, gesture, cifar = (folder / name for name in ("nmnist", "dvsgesture", "cifar10dvs"))
    for split in ("Train", "Test"):
        for label in (0, 7):
            (nmnist / split / str(label)).mkdir(parents=True)
            (nmnist / split / str(label) / "00001.bin").write_bytes(atis(random_events(rng, 30, 34, 5000)))
    gesture.mkdir()
    for user, split in (("user01", "train"), ("user02", "test")):
        (gesture / f"trials_to_{split}.txt").write_text(f"{user}_led.aedat\n\n", encoding="utf-8")
        (gesture / f"{user}_led.aedat").write_bytes(aedat3(random_events(rng, 40, 128, 5000)))
        lines = [
            "class,startTime_usec,endTime_usec",
            *(f"{k + 1},{k * 400},{k * 400 + 400}" for k in range(11)),
        ]
        (gesture / f"{user}_led_labels.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name in CIFAR_CLASSES:
        (cifar / name).mkdir(parents=True)
        for i in range(2 if name in ("cat", "dog") else 0):
            (cifar / name / f"cifar10_{name}_{i}.aedat").write_bytes(
                aedat2(random_events(rng, 30, 128, 5000))
            )
    return [nmnist, gesture, cifar]


def damage_recordings(path: Path, rng: Rng) -> None:
    """Change one of the files of a data set: its bytes, its events or packets, its lines, or the file itself."""
    file = pick(rng, sorted(each for each in path.rglob("*") if each.is_file()))
    change = pick(rng, ("bytes", "content", "content", "content", "file"))
    if change == "file":
        damage_place(file, rng)
    elif change == "bytes":
        damage_file(file, rng)
    elif file.suffix in (".csv", ".txt"):
        file.write_bytes(_lines(file.read_bytes(), rng))
    elif b"AER-DAT3" in file.read_bytes()[:20]:
        file.write_bytes(_packets(file.read_bytes(), rng))
    else:
        file.write_bytes(_numbers(file.read_bytes(), rng))


def damage_place(file: Path, rng: Rng) -> None:
    """Remove, empty or rename a file, or put a folder, a broken link or a link to itself in its place."""
    change = pick(rng, ("remove", "empty", "folder", "link", "loop", "rename", "twin"))
    if change == "empty":
        file.write_bytes(b"")
    elif change == "twin":
        shutil.copyfile(file, file.with_name(f"{file.stem}2{file.suffix}"))
    elif change == "rename":
        os.replace(file, file.with_name(pick(rng, ("x", file.name + "x", "ü" + file.name, "x" * 200))))
    else:
        file.unlink()
        if change == "folder":
            file.mkdir()
        elif change != "remove":
            file.symlink_to("/nowhere" if change == "link" else file.name)


def _lines(content: bytes, rng: Rng) -> bytes:
    """Other fields, lines or separators of a table, or other names in a list."""
    lines = content.split(b"\n")
    at = int(rng.integers(len(lines)))
    fields = lines[at].split(b",")
    change = pick(rng, ("field", "field", "field", "drop", "repeat", "junk", "short", "long", "encoding"))
    if change == "field":
        texts = (
            *map(str, INTEGERS),
            "",
            "1.5",
            "nan",
            "x",
            "-",
            "1e3",
            "0x10",
            '"1"',
            "١",
            "../x.aedat",
            "a.aedat",
        )
        fields[int(rng.integers(len(fields)))] = pick(rng, texts).encode()
        lines[at] = b",".join(fields)
    elif change == "drop":
        del lines[at]
    elif change == "repeat":
        lines[at:at] = [lines[at]] * pick(rng, (1, 3, 300))
    elif change == "junk":
        junk = (
            b"#",
            b"1,2,3 # x",
            b"\x00",
            b"\xff\xfe",
            b"1;2;3",
            b"," * 5000,
            b"/etc/passwd",
            b"9" * 6000,
            b"\r",
        )
        lines.insert(at, pick(rng, junk))
    elif change in ("short", "long"):
        lines[at] = b",".join(fields[:-1] if change == "short" else [*fields, b"4"])
    else:
        return content.decode("utf-8", "replace").encode(pick(rng, ("utf-16", "utf-32", "utf-8-sig")))
    return b"\n".join(lines)


def _packets(content: bytes, rng: Rng) -> bytes:
    """Another number in a packet's header or in an event, or packets repeated, exchanged or without number."""
    start = len(AEDAT3_HEADER)
    body = bytearray(content[start:])
    change = pick(rng, ("head", "head", "head", "word", "word", "repeat", "empty", "header"))
    number = int(pick(rng, (0, 1, 2, 8, 127, 128, 0x7FFF, 2**31 - 1, 2**31, 2**32 - 1)))
    if change == "head":
        at = pick(rng, (0, 2, 4, 8, 12, 16, 20, 24)) + pick(rng, (0, 36))
        width = 2 if at % 36 < 4 else 4
        body[at : at + width] = (number % (1 << 8 * width)).to_bytes(width, "little")
    elif change == "word":
        at = 4 * int(rng.integers(len(body) // 4))
        body[at : at + 4] = number.to_bytes(4, "little")
    elif change == "repeat":
        body = body * pick(rng, (2, 3, 50))
    elif change == "empty":
        body += (
            struct.pack("<HHIIIIII", pick(rng, (0, 1, 7)), 1, pick(rng, (0, 8)), 4, number, 0, 0, 0) * 1000
        )
    else:
        return pick(
            rng, (content[start:], content[:start], AEDAT3_HEADER * 40 + body, b"#\n" * 3000 + content)
        )
    return content[:start] + bytes(body)


def _numbers(content: bytes, rng: Rng) -> bytes:
    """Other bytes in the events of ATIS and AEDAT 2.0, more or fewer of them, or another heading."""
    start = content.rfind(b"\n", 0, 60) + 1 if content[:1] == b"#" else 0
    width, body = (8, content[start:]) if start else (5, content)
    change = pick(rng, ("event", "event", "event", "repeat", "cut", "overflow", "header"))
    at = width * int(rng.integers(len(body) // width))
    if change == "event":
        body = body[:at] + pick(rng, (bytes(width), b"\xff" * width, rng.bytes(width))) + body[at + width :]
    elif change == "repeat":
        body = body * pick(rng, (2, 100))
    elif change == "cut":
        body = body[: at + pick(rng, (0, 0, 1, width - 1))]
    elif change == "overflow":
        body = bytes([0, 240, 0, 0, 0]) * pick(rng, (1, 500)) + body
    else:
        return pick(
            rng, (b"#" + body, b"#\n" + body, b"\n" + content, b"#" * 3000 + content, body[1:], b"#\n" * 9)
        )
    return content[:start] + body


def use_recordings(path: Path, _rng: Rng) -> None:
    """Both splits, without a cache."""
    shutil.rmtree(path.parent / "cache", ignore_errors=True)
    _read(path, path.parent / "cache")


def _read(data: Path, caches: Path) -> None:
    encoding = {**OPTIONS, **({"test_share": 0.5} if data.name == "cifar10dvs" else {})}
    with patch.dict(os.environ, XDG_CACHE_HOME=str(caches)):
        found = datasets.load(data.name, data, **encoding)
        for split in (found.train, found.test):
            assert split.spikes.shape[1:] == (OPTIONS["n_steps"], found.n_in)


def cache_seeds(folder: Path) -> list[Path]:
    """The frames of N-MNIST's training split as they are kept."""
    shutil.copyfile(_cached(folder), folder / "frames.npz")
    return [folder / "frames.npz"]


@cache
def _cached(folder: Path) -> Path:
    """The cache of a training split whose recordings are made in ``folder``."""
    (folder / "recordings").mkdir()
    data, *_ = recording_seeds(folder / "recordings")
    with patch.dict(os.environ, XDG_CACHE_HOME=str(folder / "cache")):
        datasets.load(data.name, data, **OPTIONS).train  # noqa: B018 - written on first use
    return next((folder / "cache" / "lbi" / "datasets").iterdir())


def use_cache(path: Path, _rng: Rng) -> None:
    """A damaged cache is read again from the recordings; one of other frames is taken as it is."""
    folder = path.parent
    shutil.copyfile(path, _cached(folder))
    _read(folder / "recordings" / "nmnist", folder / "cache")
