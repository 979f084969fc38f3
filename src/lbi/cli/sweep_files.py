"""The files that a sweep's trials read, and their digests: results of other content are not continued."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from lbi.errors import InputError, LbiWarning, Problems, Rule
from lbi.system.atomic import atomic_write
from lbi.system.paths import not_a_file

Reads = Mapping[str, Sequence[Path]]
"""What is read, such as "data set shd" or "chip own.toml" → its files."""

LEFT = ("result.json", "model.pt", "model.pt.ckpt")
"""Files of a trial that were made from what it reads."""

_PART = 1 << 20

MISSING = Rule("file-missing", "a file", "check the path")
CHANGED = Rule(
    "sweep-files",
    "content with SHA-256 {sha256}",
    "restore it, choose another -o, or delete the folders of these trials to run them again",
)
CHANGED_WHILE = Rule(
    "sweep-files", "files that stay as they are while a sweep runs", "give the same command again"
)
UNKNOWN = Rule(
    "sweep-files",
    fix="if it was changed, delete the folders of these trials; from now on it is compared",
)


@dataclass(frozen=True)
class Digest:
    """The content of files.

    Attributes:
        sha256: of the file; of several, that of the lines which ``sha256sum`` prints for them.
        state: digest of their names, sizes and times; files with an equal state are not read again.
    """

    sha256: str
    state: str

    @classmethod
    def of(cls, paths: Sequence[Path], known: Digest | None = None) -> Digest:
        """The digest of files.

        Args:
            paths: the files.
            known: their earlier digest.

        Returns:
            The digest.

        Raises:
            InputError: naming every file that cannot be read.
        """
        problems = Problems()
        for path in paths:
            why = not_a_file(path)
            MISSING.check(problems, not why, str(path), why)
        problems.raise_as(InputError)
        common = os.path.commonpath([path.absolute().parent for path in paths])
        names = {os.path.relpath(path, common): path for path in paths}
        try:
            stats = [(name, path.stat()) for name, path in sorted(names.items())]
            states = json.dumps([[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats])
            state = hashlib.sha256(states.encode()).hexdigest()
            if known is not None and known.state == state:
                return known
            sums = {name: _sha256(names[name]) for name, _ in stats}
        except OSError as error:
            where, why = str(error.filename or paths[0]), os.strerror(error.errno or 0)
            raise InputError(MISSING.broken(where, f"cannot be read ({why})")) from error
        lines = "".join(f"{digest}  {name}\n" for name, digest in sums.items())
        only = sums.popitem()[1]
        return cls(hashlib.sha256(os.fsencode(lines)).hexdigest() if sums else only, state)


def files_of(
    arguments: Sequence[str], chip: str, listed: dict[str, list[Path]] | None = None
) -> dict[str, list[Path]]:
    """The files that a trial reads.

    Args:
        arguments: options of ``lbi-train``.
        chip: the chip to estimate costs on.
        listed: files of data sets that other trials read, too; receives those of this one.

    Returns:
        What is read → its files.

    Raises:
        InputError: for data sets that cannot be found.
        UsageError: for unknown data sets and options.
    """
    from lbi import datasets
    from lbi.cli.sweep_plan import configured, parameters

    listed = {} if listed is None else listed
    config, begin = configured(arguments)
    start = begin.get("start")
    named = {
        "--config": parameters(arguments)["config"],
        "--from": None if start is None else start.path,
        "teacher": config.teacher,
        "chip": chip if chip.endswith(".toml") else None,
    }
    reads = {f"{what} {path}": [Path(path)] for what, path in named.items() if path is not None}
    if config.dataset.endswith(".npz"):  # reading it twice takes time
        files = [Path(config.dataset)]
    else:
        key = json.dumps([config.dataset, config.data, dict(config.encoding)], sort_keys=True)
        if key not in listed:
            listed[key] = list(datasets.load(config.dataset, config.data, **config.encoding).files)
        files = listed[key]
    return {**reads, f"data set {config.dataset}": files} if files else reads


def check_folder(folder: Path, reads: Mapping[str, Reads]) -> dict[str, Digest]:
    """Compare all files with the digests in a sweep's folder, and write those of new ones there.

    Args:
        folder: the sweep's; ``sweep.json`` is in it.
        reads: trial → what it reads.

    Returns:
        What is read → its digest.

    Raises:
        InputError: naming every file that was changed after a trial had read it, or cannot be read.
    """
    marker = folder / "sweep.json"
    plan = json.loads(marker.read_text(encoding="utf-8"))
    known, problems, digests = dict(_read(plan.get("files"))), Problems(), {}
    begun = sorted({path.parent.name for name in LEFT for path in (folder / "trials").glob(f"*/{name}")})
    for what, paths in {what: paths for each in reads.values() for what, paths in each.items()}.items():
        try:
            digests[what] = found = Digest.of(paths, known.get(what))
        except InputError as error:
            problems.take(error)
            continue
        readers = [name for name in begun if what in reads.get(name, [what])]
        if readers and what not in known:
            text = "trials of an earlier version, which noted no digest, are taken to have read this content"
            warnings.warn(str(UNKNOWN.broken(what, text)), LbiWarning, stacklevel=2)
        elif readers:
            text = f"changed after trials had read it: {', '.join(readers[:3])}{', …' if readers[3:] else ''}"
            same, then = found.sha256 == known[what].sha256, known[what].sha256[:16] + "…"
            CHANGED.check(problems, same, what, text, sha256=then)
    problems.raise_as(InputError)
    if digests != known:
        plan["files"] = {what: asdict(digest) for what, digest in sorted(digests.items())}
        with atomic_write(marker) as new:
            new.write_text(json.dumps(plan, indent=2) + "\n", encoding="utf-8")
    return digests


def check_unchanged(reads: Reads, digests: Mapping[str, Digest]) -> None:
    """Raise InputError naming all that no longer has its digest.

    Args:
        reads: what a trial reads.
        digests: of the content that the sweep began with.
    """
    problems = Problems()
    for what in reads.keys() & digests.keys():
        same = Digest.of(reads[what], digests[what]).sha256 == digests[what].sha256
        CHANGED_WHILE.check(problems, same, what, "changed after the sweep was started")
    problems.raise_as(InputError)


def _read(plain: Any) -> Iterator[tuple[str, Digest]]:
    """The digests in ``sweep.json``, which may hold anything; none in those of earlier versions."""
    keys = {field.name for field in fields(Digest)}
    for what, entry in plain.items() if isinstance(plain, dict) else ():
        if (
            isinstance(entry, dict)
            and entry.keys() == keys
            and all(isinstance(e, str) for e in entry.values())
        ):
            yield what, Digest(**entry)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while part := stream.read(_PART):
            digest.update(part)
    return digest.hexdigest()
