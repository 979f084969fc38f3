"""Where networks come from and go to: the table of targets, and ``load`` for every file we read.

To add a target, write one module with ``TITLE``, ``SUFFIX``, ``TAKES``, ``check(job)`` and ``export(job, path)``
(see docs/adding-a-target.md) and name it in ``TARGETS``, or, in a package of your own, in the
entry-point group ``lbi.exporters``.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from lbi.errors import InputError, Problem, Problems, UsageError
from lbi.system.atomic import atomic_write

if TYPE_CHECKING:
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
"""Entry-point group of targets that come in other packages: ``mytarget = "mypackage.exporter"``."""

NETWORK_FILE = "network.h5"


class Exporter(Protocol):
    """What a target's module offers."""

    TITLE: str
    """One line for ``--list-targets``."""

    SUFFIX: str
    """Of the file or folder, as in ``model.loihi``."""

    TAKES: str
    """"fixed": the chip's integers (the model is quantized first), or "float": the network as trained."""

    @staticmethod
    def check(job: ExportJob) -> list[Problem]:
        """Every reason why the target cannot hold the network; empty if it can."""

    @staticmethod
    def export(job: ExportJob, path: Path) -> None:
        """Write the file or folder ``path``, which does not exist yet."""


def plugins() -> dict[str, EntryPoint]:
    """Targets of other installed packages, by name; a built-in one is not replaced."""
    found = {entry.name: entry for entry in entry_points(group=ENTRY_POINTS)}
    return {name: found[name] for name in sorted(found) if name not in TARGETS}


def names() -> tuple[str, ...]:
    """Every target there is: the table's, then those of other packages."""
    return (*TARGETS, *plugins())


def exporter(name: str) -> Exporter:
    """The module that writes a target.

    Raises UsageError for an unknown name, and for a plug-in that cannot be loaded or lacks a part.
    """
    if name in TARGETS:
        return cast(Exporter, import_module(TARGETS[name]))
    entry = plugins().get(name)
    if entry is None:
        raise UsageError(Problem("unknown-target", "--target", repr(name), ", ".join(names())))
    where = f"target {name!r} of {entry.dist.name if entry.dist else 'another package'} ({entry.value})"
    try:
        module = entry.load()
    except Exception as error:
        raise UsageError(
            Problem(
                "plugin-broken",
                where,
                f"cannot be loaded ({type(error).__name__}: {error})",
                remedy="mend or uninstall that package",
            )
        ) from error
    problems = Problems()
    for part in ("TITLE", "SUFFIX", "TAKES", "check", "export"):
        problems.check(
            hasattr(module, part),
            "plugin-incomplete",
            where,
            f"has no {part}",
            "TITLE, SUFFIX, TAKES, check and export",
            "mend or uninstall that package",
        )
    problems.raise_as(UsageError)
    return cast(Exporter, module)


def write(job: ExportJob, module: Exporter, path: Path, *, force: bool) -> None:
    """Export to ``path``, which at any moment is whole or absent.

    force: replace a file, or a folder that is an export; raises InputError for what must not be replaced.
    """
    with atomic_write(path) as new:
        _check_replaceable(path, force)
        module.export(job, new)
        _check_replaceable(path, force)  # another command may have been faster


def _check_replaceable(path: Path, force: bool) -> None:
    if not (path.exists() or path.is_symlink()):
        return
    problems = Problems()
    if problems.check(
        force,
        "exists",
        str(path),
        "already there",
        "a new path",
        "choose another -o, or replace it with --force",
    ):
        ours = path.is_file() or (
            path.is_dir() and any((path / name).is_file() for name in (NETWORK_FILE, "manifest.json"))
        )
        problems.check(
            ours and not path.is_symlink(),
            "not-an-export",
            str(path),
            "is no file or folder that lbi-export wrote",
            "an earlier export",
            "choose another -o",
        )
    problems.raise_as(InputError)


def load(path: str | Path, **options: Any) -> Network | FixedNetwork:
    """A network from ``model.pt`` or ``.nir`` (float), ``network.h5``, an export folder or ``.net`` (integers).

    options: of the file's reader: ``dt`` (seconds per timestep) and ``writer`` for ``.nir``; ``arch`` and
        ``input_shape`` for another framework's ``.pt`` (see ``lbi.importers``)

    Raises InputError naming all that is wrong with the file.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(
            Problem("file-missing", str(path), "no such file or folder", remedy="check the path")
        )
    if path.is_dir():
        inside = path / NETWORK_FILE
        if not inside.is_file():
            raise InputError(
                Problem("not-an-export", str(path), f"has no {NETWORK_FILE}", "a folder made by lbi-export")
            )
        path = inside
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise InputError(
            Problem(
                "file-kind", str(path), f"suffix {path.suffix!r}", ", ".join(sorted(_READERS)) + ", a folder"
            )
        )
    module, function = reader.split(":")
    read = getattr(import_module(module), function)
    problems = Problems()
    for name in options:
        problems.check(
            name in signature(read).parameters,
            "option",
            f"{name} with {path}",
            "has no meaning there",
            "dt and writer with a .nir file; arch and input_shape with a .pt",
            "leave it out",
        )
    problems.raise_as(UsageError)
    network: Any = read(path, **options)
    return network


_READERS = {
    ".pt": "lbi.importers.torch.saved:load",
    ".pth": "lbi.importers.torch.saved:load",
    ".nir": "lbi.importers.nir:load",
    ".h5": "lbi.files.network_h5:load",
    ".net": "lbi.files.netx.reader:load",
}
"""File suffix → "module:function" that reads it."""
