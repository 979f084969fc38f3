"""Reading and writing ``torch.save`` files of plain types and tensors: models and checkpoints.

Nothing else is ever unpickled (``weights_only=True``, always). A file that cannot be read, such as a pickled
module, a TorchScript archive or a truncated download, is named in a one-line error.
"""

from __future__ import annotations

import io
import math
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lbi.errors import InputError, LbiWarning, Problems, Rule
from lbi.limits import most_elements
from lbi.system.atomic import atomic_write
from lbi.system.paths import is_empty, not_a_file

NOT_A_DICTIONARY = Rule("model-foreign", "a {name} file")
FOREIGN = Rule(
    "model-foreign",
    "format {name!r}, as lbi-train writes it",
    "a state_dict does not say how its layers connect: give lbi-export the function that builds the model, --arch FILE.py:FUNCTION",
)
OWN_FORMATS = {
    "lbi.model": "it is a trained model: train on from it with --from, or resume an interrupted run from {path}.ckpt",
    "lbi.checkpoint": "it is the state of a run: finish it with lbi-train --resume",
}
"""Format → what to do with such a file where another one is wanted."""

VERSION = Rule("version", "version {version}", "update lbi-snn, or write the file with this version")
MISSING = Rule("file-missing", "a {name} file", "check the path")
TRUNCATED = Rule("file-broken", "a {name} file", "it may be truncated: copy or write it again")
CHANGED = Rule(
    "file-changed",
    "the bytes that torch.save wrote",
    "take an undamaged copy or save it again, without set_crc32_options(False)",
)
UNFOLDS = Rule("file-unfolds", "at most {most}", "save it without compression")
TORCHSCRIPT = Rule(
    "model-torchscript", "a {name} file", "save the model's state instead of scripting or tracing it"
)
EXPORTED = Rule(
    "model-exported",
    "a {name} file",
    "take its state out of it: torch.save(dict(torch.export.load(path).state_dict), 'state.pt')",
)
POINTER = Rule("file-broken", "a {name} file", "fetch its content: git lfs pull")
WEB_PAGE = Rule("file-broken", "a {name} file", "download the file itself")
TENSOR_KIND = Rule("tensor-kind", "real or whole numbers, dense or sparse", "convert it before saving")
TOO_MANY_NUMBERS = Rule(
    "tensor-size", "{allowed} in a file of {size} bytes", "save tensors that are not expanded"
)
NOT_TORCH = Rule("file-broken", "a {name} file", "it may be truncated or no torch file")
PICKLED = Rule(
    "model-pickled",
    "plain types and tensors",
    "re-save it where it was made: torch.save(model.state_dict(), path)",
)

SAFE_TORCH = (2, 10)
"""First version without published vulnerabilities of ``weights_only=True`` (CVE-2025-32434, CVE-2026-24747)."""


UNFOLDED = 1 << 27
"""Bytes to which the entries of a small file may expand; torch itself does not compress."""


class UnsafeTorchWarning(LbiWarning):
    """Warning that the installed torch has a known vulnerability in ``torch.load(weights_only=True)``."""


def write(content: dict[str, Any], path: str | Path) -> None:
    """Write ``content`` to ``path`` atomically; the same content gives the same bytes.

    Args:
        content: plain types and tensors.
        path: the file to write.

    Raises:
        InputError: if it cannot be written.
    """
    packed = pack(content)
    with atomic_write(path) as new:
        new.write_bytes(packed)


def pack(content: dict[str, Any]) -> bytes:
    """The bytes of a file with this content.

    Args:
        content: plain types and tensors.

    Returns:
        The bytes, which are the same for the same content.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def read(path: str | Path, expected: tuple[str, int], oldest: int = 1) -> dict[str, Any]:
    """The dictionary in a file of the format ``expected``, of a version from ``oldest`` up to that.

    Args:
        path: the file.
        expected: name and version of the format.
        oldest: the first version that is read.

    Returns:
        The dictionary, of plain types and tensors.

    Raises:
        InputError: for a file that is missing, truncated, of another kind, or newer.
    """
    name, version = expected
    content = _load(Path(path), name)
    where = str(path)
    if not isinstance(content, dict):
        raise InputError(NOT_A_DICTIONARY.broken(where, f"holds a {type(content).__name__}", name=name))
    if not isinstance(content.get("format"), str) or content["format"] != name:
        keys = ", ".join(repr(key) for key in list(content)[:4]) + (", …" if len(content) > 4 else "")
        what = "a bare state_dict" if _is_state_dict(content) else "a dictionary of another program"
        rule = FOREIGN
        if "format" in content:
            what = f"format {content['format']!r}"
            rule = replace(FOREIGN, fix=OWN_FORMATS.get(str(content["format"]), FOREIGN.fix))
        raise InputError(rule.broken(where, f"{what} with keys {keys or '(none)'}", name=name, path=where))
    found = content.get("version")
    if not isinstance(found, int) or isinstance(found, bool) or not oldest <= found <= version:
        raise InputError(
            VERSION.broken(where, f"version {content.get('version')!r} of {name}", version=version)
        )
    return content


def load_plain(path: str | Path) -> Any:
    """The plain types and tensors of a torch file.

    Args:
        path: the file.

    Returns:
        The object that was saved.

    Raises:
        InputError: for anything else.
    """
    return _load(Path(path), "torch")


def _is_state_dict(content: dict[Any, Any]) -> bool:
    return bool(content) and all(isinstance(value, torch.Tensor) for value in content.values())


def _load(path: Path, name: str) -> Any:
    where = str(path)
    if why := not_a_file(path):
        raise InputError(MISSING.broken(where, why, name=name))
    if is_empty(path):
        raise InputError(TRUNCATED.broken(where, "is empty", name=name))
    if _version() < SAFE_TORCH:
        warnings.warn(
            f"torch {torch.__version__}: loading untrusted files is unsafe before torch 2.10"
            " (CVE-2025-32434, CVE-2026-24747)",
            UnsafeTorchWarning,
            stacklevel=3,
        )
    try:
        _refuse_archive(path, name)
        _check_sums(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch warns about formats that are refused below
            content = torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    except pickle.UnpicklingError as error:
        raise _pickled(where, name, error) from error
    except Exception as error:  # the exceptions of zipfile and torch for damaged bytes are not documented
        size = path.stat().st_size
        raise InputError(
            TRUNCATED.broken(
                where, f"{size} bytes that torch cannot read ({_first_sentence(error)})", name=name
            )
        ) from error
    _check_tensors(content, where, path.stat().st_size)
    return content


def _refuse_archive(path: Path, name: str) -> None:
    """Raise InputError for an archive of code, or of more than can be read safely, and for what stands for a file."""
    if not zipfile.is_zipfile(path):
        _refuse_text(path, name)
        return
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    unfolded, most = sum(entry.file_size for entry in entries), max(UNFOLDED, path.stat().st_size)
    if unfolded > most:
        raise InputError(UNFOLDS.broken(str(path), f"unfolds to {unfolded} bytes", most=most))
    parts = {entry.filename.split("/", 1)[-1] for entry in entries}
    if "constants.pkl" in parts or any(part.startswith("code/") for part in parts):
        raise InputError(TORCHSCRIPT.broken(str(path), "is a TorchScript archive (compiled code)", name=name))
    if "archive_format" in parts:
        raise InputError(EXPORTED.broken(str(path), "is an archive of torch.export", name=name))


def _refuse_text(path: Path, name: str) -> None:
    """Raise InputError for the texts that downloads leave in the place of a file."""
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        raise InputError(
            POINTER.broken(str(path), "is a Git LFS pointer, without the file's content", name=name)
        )
    if start.startswith((b"<!doctype html", b"<html")):
        raise InputError(WEB_PAGE.broken(str(path), "is a web page", name=name))


def _check_sums(path: Path) -> None:
    """Raise InputError for an archive whose bytes changed since it was written: torch does not compare the CRC-32."""
    if not zipfile.is_zipfile(path):
        return
    with zipfile.ZipFile(path) as archive:
        damaged = archive.testzip()
    if damaged is not None:
        raise InputError(CHANGED.broken(str(path), f"entry {damaged!r} differs from its CRC-32"))


_LAYOUTS = (torch.strided, torch.sparse_coo, torch.sparse_csr, torch.sparse_csc)
_DTYPES = (
    torch.bool,
    torch.uint8,
    torch.int8,
    torch.int16,
    torch.int32,
    torch.int64,
    torch.float16,
    torch.bfloat16,
    torch.float32,
    torch.float64,
)


def _check_tensors(content: Any, where: str, size: int) -> None:
    """Raise InputError for tensors that are not plain numbers, or claim more of them than the file can hold."""
    problems, n_elements = Problems(), 0
    parts = [("", content)]
    while parts:
        place, part = parts.pop()
        if isinstance(part, torch.Tensor):
            n_elements += math.prod(part.shape)
            plain = part.layout in _LAYOUTS and part.dtype in _DTYPES and part.device.type == "cpu"
            TENSOR_KIND.check(
                problems, plain, where + place, f"a {part.layout} tensor of {part.dtype} on {part.device}"
            )
        elif isinstance(part, Mapping):
            parts += [(f"{place}[{key!r}]", value) for key, value in part.items()]
        elif isinstance(part, list | tuple | set):
            parts += [(f"{place}[{i}]", value) for i, value in enumerate(part)]
    TOO_MANY_NUMBERS.check(
        problems,
        n_elements <= most_elements(size),
        where,
        f"{n_elements} numbers claimed",
        allowed=most_elements(size),
        size=size,
    )
    problems.raise_as(InputError)


def _pickled(where: str, name: str, error: pickle.UnpicklingError) -> InputError:
    found = re.search(r"GLOBAL ([\w.]+)", str(error)) or re.search(r"class ([\w.]+)", str(error))
    if found is None:
        return InputError(
            NOT_TORCH.broken(where, f"torch cannot read it ({_first_sentence(error)})", name=name)
        )
    return InputError(
        PICKLED.broken(where, f"holds pickled Python objects ({found[1]}), which could run any code")
    )


def _first_sentence(error: Exception) -> str:
    """The first sentence of a torch error; some of torch's messages are only a number."""
    sentence = re.split(r"\.\s|\n", str(error).strip())[0].rstrip(".")
    return sentence if re.search("[a-z]", sentence) else type(error).__name__


def _version() -> tuple[int, int]:
    major, minor = re.match(r"(\d+)\.(\d+)", torch.__version__).groups()  # type: ignore[union-attr]
    return int(major), int(minor)
