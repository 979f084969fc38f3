"""Unexpected values for readers, and changes to nested dictionaries and lists, bytes and zip archives."""

from __future__ import annotations

import datetime
import io
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

Rng = np.random.Generator

INTEGERS = (
    0,
    1,
    -1,
    2,
    7,
    255,
    256,
    65536,
    2**24,
    2**31 - 1,
    2**31,
    -(2**31),
    2**53,
    2**63 - 1,
    -(2**63),
    2**63,
    10**30,
)
FLOATS = (0.0, -0.0, 0.5, -1.5, 1.0, 5e-324, 1e-300, 1e300, 3.4e38, float("nan"), float("inf"), -float("inf"))
TEXTS = (
    "",
    "x",
    "input",
    "spike_count",
    "a/b",
    "..",
    "../../x",
    "ü",
    "名",
    "\x1b[31m",
    "\x00",
    "a\nb",
    "1",
    "nan",
    "x" * 5000,
    "[]",
    "{",
)
OTHERS = (
    None,
    True,
    False,
    [],
    {},
    [[]],
    [1, "a"],
    [0],
    [-1],
    [2**40],
    {"a": 1},
    {"": None},
    [None],
    [[1, 2], [3]],
)
BOMB_BYTES = 300 << 20
"""Size of what decompression bombs unfold to."""


def pick(rng: Rng, choices: Any) -> Any:
    """One of a sequence, as it is (``Generator.choice`` would make it an array)."""
    return choices[int(rng.integers(len(choices)))]


def value(rng: Rng) -> Any:
    """A plain value of any kind."""
    return pick(rng, pick(rng, (INTEGERS, FLOATS, TEXTS, OTHERS)))


def near(rng: Rng, old: Any) -> Any:
    """A value of the same kind, else any."""
    if rng.random() < 0.35 or old is None:
        return value(rng)
    if isinstance(old, bool):
        return not old
    if isinstance(old, int):
        return pick(rng, (old + 1, old - 1, -old, old * 1000, float(old), old + 0.5, *INTEGERS))
    if isinstance(old, float):
        return pick(rng, (old * 2, -old, old * 1e6, round(old) if abs(old) < 1e9 else 0, str(old), *FLOATS))
    if isinstance(old, str):
        return pick(rng, (old + "x", old[:-1], old.upper(), old * 200, *TEXTS))
    return value(rng)


def places(tree: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of everything in nested dictionaries and lists."""
    keys = list(tree) if isinstance(tree, dict) else range(len(tree)) if isinstance(tree, list) else ()
    for key in keys:
        yield tree, key
        yield from places(tree[key])


def plant(tree: Any, rng: Rng, replace: Any = near) -> None:
    """Change one place of a nested dictionary or list, in place; ``replace(rng, old)`` gives new values."""
    found = list(places(tree))
    if not found:
        return
    container, key = pick(rng, found)
    change = pick(rng, ("replace", "replace", "replace", "delete", "rename", "swap", "grow", "wrap"))
    if change == "delete":
        del container[key]
    elif change == "rename" and isinstance(container, dict):
        container[pick(rng, (f"{key}x", str(key)[:-1], "", "config", "format", "name"))] = container.pop(key)
    elif change == "swap":
        other, place = pick(rng, found)
        if not any(within is other for within, _ in places(container[key])) and other is not container[key]:
            other[place] = container[key]
    elif change == "grow" and isinstance(container, list):
        container.insert(int(rng.integers(len(container) + 1)), pick(rng, (container[key], value(rng))))
    elif change == "grow" and isinstance(container, dict):
        container[pick(rng, ("extra", "name", "weight", "0"))] = value(rng)
    elif change == "wrap":
        container[key] = pick(rng, ([container[key]], {"x": container[key]}, [container[key]] * 3))
    else:
        container[key] = replace(rng, container[key])


def damage(content: bytes, rng: Rng) -> bytes:
    """Flip, set, cut, insert, repeat or blank some bytes."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 5))):
        if not data:
            return bytes(data)
        at, length = int(rng.integers(len(data))), int(rng.integers(1, 1 + min(64, len(data))))
        change = pick(rng, ("flip", "flip", "set", "set", "cut", "insert", "repeat", "blank", "drop"))
        if change == "flip":
            data[at] ^= 1 << int(rng.integers(8))
        elif change == "set":
            data[at] = pick(rng, (0, 1, 127, 128, 255))
        elif change == "cut":
            del data[at:]
        elif change == "insert":
            data[at:at] = rng.bytes(length)
        elif change == "repeat":
            data[at:at] = data[at : at + length]
        elif change == "blank":
            data[at : at + length] = bytes(len(data[at : at + length]))
        else:
            del data[at : at + length]
    return bytes(data)


def damage_file(path: Path, rng: Rng) -> None:
    """``damage`` a file's bytes."""
    path.write_bytes(damage(path.read_bytes(), rng))


def damage_zip(path: Path, rng: Rng) -> None:
    """Change one member of a zip archive and write it again, so that sums and sizes are right."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = pick(rng, list(members))
    change = pick(
        rng, ("damage", "damage", "damage", "drop", "empty", "exchange", "rename", "add", "deflate")
    )
    if rng.random() < 0.004:
        change = "bomb"
    if change == "damage":
        members[name] = damage(members[name], rng)
    elif change == "drop":
        del members[name]
    elif change == "empty":
        members[name] = b""
    elif change == "exchange":
        members[name] = members[pick(rng, list(members))]
    elif change == "rename":
        members[pick(rng, (name + "x", "x", "../x", name.replace("/", "//")))] = members.pop(name)
    elif change == "add":
        members[pick(rng, ("x.npy", "spikes.npy", "archive/constants.pkl", "archive/code/x.py", "é"))] = (
            rng.bytes(99)
        )
    buffer = io.BytesIO()
    method = zipfile.ZIP_DEFLATED if change in ("deflate", "bomb") else zipfile.ZIP_STORED
    with zipfile.ZipFile(buffer, "w", method, compresslevel=1) as archive:
        for key, content in members.items():
            archive.writestr(
                key, content + bytes(BOMB_BYTES) if change == "bomb" and key == name else content
            )
    path.write_bytes(buffer.getvalue())


DATES = (datetime.date(2024, 2, 29), datetime.datetime(1, 1, 1), datetime.time(23, 59))


def toml_text(tree: dict[str, Any]) -> str:
    """A tree as TOML, tables inline below the first level."""
    lines = [
        f"{toml_key(key)} = {toml_value(entry)}" for key, entry in tree.items() if not isinstance(entry, dict)
    ]
    for key, entry in tree.items():
        if isinstance(entry, dict):
            lines.append(f"[{toml_key(key)}]")
            lines += [f"{toml_key(name)} = {toml_value(inner)}" for name, inner in entry.items()]
    return "\n".join(lines) + "\n"


def toml_key(key: Any) -> str:
    """A quoted key."""
    return _quoted(str(key))


def toml_value(entry: Any) -> str:
    """One value; None becomes a text."""
    if isinstance(entry, bool):
        return "true" if entry else "false"
    if isinstance(entry, dict):
        return "{" + ", ".join(f"{toml_key(key)} = {toml_value(value)}" for key, value in entry.items()) + "}"
    if isinstance(entry, list):
        return "[" + ", ".join(map(toml_value, entry)) + "]"
    if isinstance(entry, (int, float)):
        return repr(entry)
    if isinstance(entry, (datetime.date, datetime.time)):
        return entry.isoformat()
    return _quoted(str(entry))


def _quoted(text: str) -> str:
    escaped = "".join(
        letter if letter.isprintable() and letter not in '"\\' else f"\\u{ord(letter):04x}" for letter in text
    )
    return f'"{escaped}"'


def damage_toml(path: Path, rng: Rng) -> None:
    """Change values, tables or lines of a TOML file, which stays TOML for most changes."""
    text = path.read_text(encoding="utf-8")
    if rng.random() < 0.75:
        tree = tomllib.loads(text)
        for _ in range(int(rng.integers(1, 4))):
            plant(tree, rng, lambda rng, old: pick(rng, (pick(rng, DATES), near(rng, old), near(rng, old))))
        path.write_text(toml_text(tree), encoding="utf-8")
        return
    lines = text.splitlines()
    at = int(rng.integers(len(lines)))
    change = pick(rng, ("repeat", "delete", "move", "junk"))
    if change == "repeat":
        lines.insert(at, lines[at])
    elif change == "delete":
        del lines[at]
    elif change == "move":
        lines.insert(int(rng.integers(len(lines))), lines.pop(at))
    else:
        junk = (
            "a = " + "[" * 5000,
            "a = " + "9" * 6000,
            "a = 0x" + "f" * 6000,
            "a.b.c = 1\na = 2",
            "a = 2024-99-99",
            "[a",
            "[[limits]]",
            "a = 1e999",
            "a" * 70000 + " = 1",
            ".".join("a" * 3000) + " = 1",
            "a = " + "{b=" * 3000,
            '"\\ud800" = 1',
            "a = '''",
            "=",
            "\ufeff",
            "epochs = 1_000_000_000_000",
        )
        lines.insert(at, pick(rng, junk))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
