"""The table of export targets, and ``load`` for every file format that can be read.

To add a target, write one module with ``TITLE``, ``SUFFIX``, ``TAKES``, ``check(job)`` and ``export(job, path)``
(see docs/adding-a-target.md) and list it in ``TARGETS``, or in another package in the entry-point group
``lbi.exporters``.
"""

from __future__ import annotations

import json
import os
import shutil
import warnings
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from lbi.chip.load import load_profile, profile_names
from lbi.errors import InputError, LbiError, LbiWarning, Problem, Problems, Rule, UsageError
from lbi.system.atomic import atomic_write
from lbi.system.paths import not_a_file

if TYPE_CHECKING:
    from lbi.chip.profile import HardwareProfile
    from lbi.deploy.job import ExportJob
    from lbi.network.fixed import FixedNetwork
    from lbi.network.graph import Network

TARGETS = {
    "loihi": "lbi.exporters.loihi",
    "lava": "lbi.exporters.lava",
    "netx": "lbi.exporters.netx",
    "nir": "lbi.exporters.nir",
    "csr": "lbi.exporters.csr",
}
"""``--target`` → the module that writes it."""

ENTRY_POINTS = "lbi.exporters"
"""Entry-point group for targets of other packages: ``mytarget = "mypackage.exporter"``."""

NETWORK_FILE = "network.h5"

MARKS = (NETWORK_FILE, "manifest.json")
"""Files of which every exported folder holds one."""

OWN_ENTRIES = {
    *(*MARKS, "network.net", "run_lava.py", "report.json", "summary.txt", "__pycache__"),
    *("weights", "pattern", "delay", "bias_mant"),
}
"""What exported folders hold; anything else in them is the user's."""

NAMED = Rule(
    "chip-name",
    "another name than those of the built-in chips",
    "name the chip in its file: the export says this name, and is estimated with the built-in chip where --chip is left out",
)
KNOWN = Rule("unknown-target", "{names}")
CHIP = Rule("unknown-target", "{names}", "the chip is another option: --target loihi --chip {chip}")
LOADS = Rule("plugin-broken", fix="repair or uninstall that package")
COMPLETE = Rule(
    "plugin-incomplete", "TITLE, SUFFIX, TAKES, check and export", "repair or uninstall that package"
)
FREE = Rule("exists", "a new path", "choose another -o, or replace it with --force")
REPLACEABLE = Rule("not-an-export", "an earlier export", "choose another -o")
EXISTS = Rule("file-missing", fix="check the path")
EXPORT_FOLDER = Rule("not-an-export", "a folder made by lbi-export, or a file ({suffixes})", "check the path")
READABLE = Rule("file-kind", "{suffixes}, a folder", "{fix}")
CONVERSIONS = {
    ".safetensors": "if it holds a model's state: torch.save(safetensors.torch.load_file(path), 'state.pt')",
    ".npz": "if it holds a model's state: torch.save({k: torch.from_numpy(v) for k, v in numpy.load(path).items()},"
    " 'state.pt')",
    ".pt2": "if it is an archive of torch.export: torch.save(dict(torch.export.load(path).state_dict), 'state.pt')",
    ".pkl": "save the model's state with torch.save(model.state_dict(), 'state.pt')",
}
"""Suffix of files that other packages write → what makes a torch file of one."""
RENAME = "if it is a file of torch.save, rename it to .pt"
READER_OPTION = Rule(
    "option", "dt and writer with a .nir file; arch and input_shape with a .pt", "leave it out"
)


class Exporter(Protocol):
    """The interface of a target's module."""

    TITLE: str
    """Description in one line, for ``--list-targets``."""

    SUFFIX: str
    """Suffix of the file or folder written, as in ``model.loihi``."""

    TAKES: str
    """"fixed" for the chip's integers (a float model is quantized first), "float" for the network as trained."""

    @staticmethod
    def check(job: ExportJob) -> list[Problem]:
        """All reasons why the target cannot hold the network; empty if it can.

        Args:
            job: the network, its chip and options.
        """

    @staticmethod
    def export(job: ExportJob, path: Path) -> None:
        """Write the file or folder ``path``, which does not exist yet.

        Args:
            job: the network, its chip and options.
            path: the file or folder to write.
        """


def plugins() -> dict[str, EntryPoint]:
    """Targets of other installed packages, by name; they cannot replace a built-in target."""
    found = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    return {name: found[name] for name in sorted(found) if name not in TARGETS}


def names() -> tuple[str, ...]:
    """Names of all targets: those of ``TARGETS``, then those of other packages."""
    return (*TARGETS, *plugins())


def exporter(name: str) -> Exporter:
    """The module that writes a target.

    Args:
        name: as in ``--target``.

    Returns:
        The module, which has all parts of an exporter.

    Raises:
        UsageError: for an unknown name, and for a plug-in that cannot be loaded or lacks a part.
    """
    if name in TARGETS:
        return cast(Exporter, import_module(TARGETS[name]))
    entry = plugins().get(name)
    if entry is None:
        rule = CHIP if name in profile_names() else KNOWN
        raise UsageError(rule.broken("--target", repr(name), names=", ".join(names()), chip=name))
    where = f"target {name!r} of {entry.dist.name if entry.dist else 'another package'} ({entry.value})"
    try:
        module = entry.load()
    except Exception as error:
        raise UsageError(
            LOADS.broken(where, f"cannot be loaded ({type(error).__name__}: {error})")
        ) from error
    problems = Problems()
    for part in ("TITLE", "SUFFIX", "TAKES", "check", "export"):
        COMPLETE.check(problems, hasattr(module, part), where, f"has no {part}")
    problems.raise_as(UsageError)
    return cast(Exporter, module)


def write(job: ExportJob, module: Exporter, path: Path, *, force: bool) -> None:
    """Export a job to ``path`` atomically.

    Args:
        job: the network and its chip.
        module: the target's module.
        path: file or folder to write.
        force: replace a file, or a folder that lbi-export wrote.

    Raises:
        InputError: if ``path`` exists and must not be replaced, or cannot be written.
    """
    _warn_of_name(job.profile)
    with atomic_write(path) as new:
        _check_replaceable(path, force)
        module.export(job, new)
        _check_replaceable(path, force, new, module.SUFFIX)  # another process may have written it meanwhile
        if new.is_dir() and path.is_dir():
            _keep_others(path, new)


def _warn_of_name(profile: HardwareProfile) -> None:
    """Warn of a chip of one's own that a later command would take for the built-in one of its name."""
    if profile.name in profile_names() and profile != load_profile(profile.name):
        warnings.warn(str(NAMED.broken("chip", f"name = {profile.name!r}")), LbiWarning, stacklevel=3)


def _check_replaceable(path: Path, force: bool, new: Path | None = None, suffix: str = "") -> None:
    """Raise InputError for a path that must not be replaced: anything but an export of the kind of ``new``.

    A file is of that kind if its name ends in the target's suffix, or if it begins as the new one does.
    """
    if not os.path.lexists(path):
        return
    problems = Problems()
    if FREE.check(problems, force, str(path), "already exists"):
        REPLACEABLE.check(problems, not path.is_symlink(), str(path), "is a symbolic link")
        if path.is_dir():
            entries = set(os.listdir(path))
            ours = entries & set(MARKS) and (
                not _is_anothers(path) if entries <= OWN_ENTRIES else _is_marked(path)
            )
            stays = new is None or new.is_dir() or entries <= OWN_ENTRIES
            found = "is not a file or folder that lbi-export wrote"
            REPLACEABLE.check(problems, bool(ours and stays), str(path), found)
        elif new is not None:
            alike = new.is_file() and (path.suffix == suffix or _start(new) == _start(path))
            REPLACEABLE.check(
                problems, alike, str(path), "is not a file that lbi-export wrote for this target"
            )
    problems.raise_as(InputError)


def _is_anothers(folder: Path) -> bool:
    """Whether the marks of a folder are whole files of another program; damaged ones may be ours."""
    import h5py

    manifest, network = folder / "manifest.json", folder / NETWORK_FILE
    if manifest.is_file():
        try:
            json.loads(manifest.read_bytes())
        except ValueError:
            return False
        return not _is_marked(folder)
    if not network.is_file() or not h5py.is_hdf5(network):
        return False
    try:
        with h5py.File(network) as file:
            return not str(file.attrs.get("format", "")).startswith("lbi")
    except OSError:
        return False


def _is_marked(folder: Path) -> bool:
    """Whether one of the marks of a folder says that it is an export."""
    from lbi.files.network_h5 import load as load_h5

    manifest = folder / "manifest.json"
    try:
        if manifest.is_file():
            content = json.loads(manifest.read_bytes())
            return isinstance(content, dict) and str(content.get("format", "")).startswith("lbi.")
        load_h5(folder / NETWORK_FILE)
    except (LbiError, ValueError, OSError):
        return False
    return True


def _keep_others(old: Path, new: Path) -> None:
    """Copy what a user put into an export into the one that replaces it."""
    for name in sorted(set(os.listdir(old)) - OWN_ENTRIES - set(os.listdir(new))):
        if (old / name).is_dir() and not (old / name).is_symlink():
            shutil.copytree(old / name, new / name, symlinks=True)
        else:
            shutil.copy2(old / name, new / name, follow_symlinks=False)
    for folder in (new / name for name in OWN_ENTRIES):
        if folder.is_dir() and (old / folder.name).is_dir():
            kinds = {file.suffix for file in folder.iterdir()}
            for file in (old / folder.name).iterdir():
                if file.is_file() and file.suffix not in kinds:
                    shutil.copy2(file, folder / file.name, follow_symlinks=False)


def _start(file: Path) -> bytes:
    """The first bytes of a file, by which formats differ."""
    with file.open("rb") as content:
        return content.read(4)


def load(path: str | Path, **options: Any) -> Network | FixedNetwork:
    """A network from ``model.pt`` or ``.nir`` (float), ``network.h5``, an export folder or ``.net`` (integers).

    Args:
        path: file or export folder.
        **options: of the file's reader: ``dt`` (seconds per timestep) and ``writer`` for ``.nir``; ``arch`` and
            ``input_shape`` for another framework's ``.pt`` (see ``lbi.importers``).

    Returns:
        A ``Network`` for float formats, a ``FixedNetwork`` for integer formats.

    Raises:
        InputError: naming everything that is wrong with the file.
        UsageError: for an option that the file's reader does not take.
    """
    path = Path(path)
    suffixes = ", ".join(sorted(_READERS))
    if os.path.isdir(path):
        inside = path / NETWORK_FILE
        if not inside.is_file():
            found = f"is a folder without {NETWORK_FILE}"
            raise InputError(EXPORT_FOLDER.broken(str(path), found, suffixes=suffixes))
        path = inside
    elif why := not_a_file(path):
        raise InputError(EXISTS.broken(str(path), why))
    reader = _READERS.get(path.suffix)
    if reader is None:
        fix, found = CONVERSIONS.get(path.suffix, RENAME), f"suffix {path.suffix!r}"
        raise InputError(READABLE.broken(str(path), found, suffixes=suffixes, fix=fix))
    module, function = reader.split(":")
    read = getattr(import_module(module), function)
    problems = Problems()
    for name in options:
        known = name in signature(read).parameters
        READER_OPTION.check(problems, known, f"{name} with {path}", "does not apply to this file")
    problems.raise_as(UsageError)
    network: Any = read(path, **options)
    return network


_READERS = {
    ".pt": "lbi.importers.torch.saved:load",
    ".pth": "lbi.importers.torch.saved:load",
    ".ckpt": "lbi.importers.torch.saved:load",
    ".nir": "lbi.importers.nir:load",
    ".h5": "lbi.files.network_h5:load",
    ".net": "lbi.files.netx.reader:load",
}
"""File suffix → "module:function" that reads it."""
