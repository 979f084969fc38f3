"""Spiking Heidelberg Digits and Spiking Speech Commands, from their HDF5 files.

Cramer, Stradmann, Schemmel, Zenke, IEEE TNNLS 33(7), 2022, DOI 10.1109/TNNLS.2020.3044364. A file holds
``spikes/times`` (variable-length float16 or float32, seconds), ``spikes/units`` (0 to 699), ``labels``.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.datasets.base import Dataset, DataWarning, SpikeData, check_options, read_as
from lbi.datasets.cached import NotKeptError, SpikeCache
from lbi.datasets.packed import Spikes, collect, is_large, is_large_packed, part_length
from lbi.errors import InputError, Problems, Rule
from lbi.files.untrusted_hdf5 import numbers, open_tree
from lbi.system.paths import MISSING, not_a_file

N_UNITS = 700
"""Cochlea channels in the files."""

REFERENCE_BYTES = 16
"""Smallest number of bytes per sample in a file: the reference to its events."""

FAR = 10
"""Times the span of all steps: samples that last longer, and lie behind the last step, are not in seconds."""

FEW_SHORT = 0.1
"""Part of the samples that may lose most of their events without a warning."""

EARLY = 50
"""Part of the steps that holds all events where times are too small to be seconds, as in minutes."""

SHOWN = 3
"""Samples with wrong events that are named; of the others, the number is."""

NO_FOLDER = Rule(
    "data-missing",
    "a folder with {files}",
    "get them {origin}, unpack them, and give the folder with --data",
)
NO_FILE = Rule("data-missing", "{file}", "get it {origin}, and unpack it there")
UNREADABLE = Rule("data-broken", "a whole file", "it may be truncated: get it again")
LACKS = Rule("data-broken", "spikes/times, spikes/units, labels", "write all three, as SHD's authors do")
SHAPES = Rule("data-broken", "one of each per sample", "write as many times and units as labels (integers)")
CLAIMED = Rule("data-broken", "{most} in a file of this size", "it may be damaged: get it again")
EVENTS = Rule(
    "data-broken",
    "as many finite times from 0 as units of 0 to {most}, whole numbers",
    "write the events of each sample as two lists of one length, and count the times from its start, the units from 0",
)
SECONDS = Rule(
    "data-times",
    "seconds, most of them in the {n_steps} steps of {step_ms:g} ms",
    "write times in seconds{factor}, or choose n_steps and step_ms that cover them",
)
NO_EVENTS = Rule("data-empty", "at least one event", "check how the file was written")

SOURCE = "zenkelab.org/resources/spiking-heidelberg-datasets-shd"


def load_shd(
    data_dir: Path | None = None, *, n_steps: int = 100, step_ms: float = 12.0, n_channels: int = N_UNITS
) -> Dataset:
    """Spoken digits, 20 classes: a channel is 1 in a step if any of its units fired in it; later events are cut.

    Args:
        data_dir: folder with the files.
        n_steps: timesteps per sample.
        step_ms: milliseconds per timestep.
        n_channels: number of channels into which neighbouring units of the 700 are merged.

    Returns:
        The data set.
    """
    files = {"train": "shd_train.h5", "test": "shd_test.h5"}
    return _dataset("shd", data_dir, files, 20, n_steps, step_ms, n_channels)


def load_ssc(
    data_dir: Path | None = None, *, n_steps: int = 100, step_ms: float = 10.0, n_channels: int = 140
) -> Dataset:
    """Speech commands, 35 classes, with their own validation set; options as for ``load_shd``.

    The data set has n_steps · n_channels bits for each of 105,829 samples, 190 MB with these defaults; see ``read``.

    Args:
        data_dir: folder with the files.
        n_steps: timesteps per sample.
        step_ms: milliseconds per timestep.
        n_channels: number of channels into which neighbouring units of the 700 are merged.

    Returns:
        The data set.
    """
    files = {"train": "ssc_train.h5", "validation": "ssc_valid.h5", "test": "ssc_test.h5"}
    return _dataset("ssc", data_dir, files, 35, n_steps, step_ms, n_channels)


def _dataset(
    name: str,
    data_dir: Path | None,
    files: dict[str, str],
    n_classes: int,
    n_steps: int,
    step_ms: float,
    n_channels: int,
) -> Dataset:
    check_options(
        n_steps=(n_steps, isinstance(n_steps, int) and 1 <= n_steps <= 65536, "1 to 65536"),
        step_ms=(step_ms, isinstance(step_ms, int | float) and 0 < step_ms < 1e6, "above 0"),
        n_channels=(
            n_channels,
            isinstance(n_channels, int) and 1 <= n_channels <= N_UNITS,
            f"1 to {N_UNITS}",
        ),
    )
    paths = find_files(name, data_dir, files, f"from {SOURCE}")

    def reader(path: Path) -> Callable[[], SpikeData]:
        return lambda: read(path, n_steps, step_ms / 1000.0, n_channels)

    return Dataset(
        name,
        {split: reader(path) for split, path in paths.items()},
        n_classes=n_classes,
        n_steps=n_steps,
        input_shape=(n_channels,),
        encoding={"n_steps": n_steps, "step_ms": step_ms, "n_channels": n_channels},
        step_s=step_ms / 1000.0,
        files=paths.values(),
    )


def find_files(name: str, data_dir: Path | None, files: dict[str, str], origin: str) -> dict[str, Path]:
    """Split → path of its file.

    Args:
        name: the data set; also a subfolder of ``data_dir``, as other loaders lay it out.
        data_dir: the user's folder.
        files: split → file name.
        origin: where the files come from, for messages.

    Returns:
        The paths.

    Raises:
        InputError: naming every file that is missing, where to get it and where to put it.
    """
    problems = Problems()
    if data_dir is None:
        names = ", ".join(files.values())
        problems.note(NO_FOLDER.broken(f"data set {name}", "no folder given", files=names, origin=origin))
        problems.raise_as(InputError)
    assert data_dir is not None
    found = {}
    for split, file in files.items():
        places = (data_dir / file, data_dir / name.upper() / file, data_dir / name / file)
        path = next((place for place in places if os.path.isfile(place)), None)
        where, why = str(data_dir / file), not_a_file(data_dir / file) or MISSING
        if NO_FILE.check(problems, path is not None, where, why, file=file, origin=origin):
            assert path is not None
            found[split] = path
    problems.raise_as(InputError)
    return found


def read(path: Path, n_steps: int, step_s: float, n_channels: int) -> SpikeData:
    """Spikes (n_samples, n_steps, n_channels) and labels of a file: its events, binned.

    Large spikes (``lbi.datasets.packed``) are kept as bits in the user's cache folder until the file or the options change,
    and mapped from there. Where that folder cannot be written, bits of ``PACKED_ABOVE`` bytes or less stay in memory.

    Args:
        path: the HDF5 file.
        n_steps: steps of each sample; later events are cut.
        step_s: seconds per step.
        n_channels: channels that the 700 units are merged into.

    Returns:
        The spikes and labels.

    Raises:
        InputError: for a file that is truncated, lacks a part, holds events out of range, or times that are not
            seconds; for large spikes that cannot be kept.

    Warns:
        DataWarning: if most events are cut, or all are at the start of the steps.
    """
    cache = SpikeCache(path.stem, os.path.abspath(path), _state(path, n_steps, step_s, n_channels))
    found = cache.read(n_steps, n_channels)
    if found is None:
        spikes, labels, ends = _bin_all(_EventFile(path, n_steps, step_s, n_channels), cache)
    else:
        spikes, (labels, ends) = found
    _check_times(str(path), ends, n_steps, step_s)
    return read_as(str(path), spikes, labels)


def _state(path: Path, n_steps: int, step_s: float, n_channels: int) -> str:
    """All that the spikes depend on beside the path."""
    try:
        stat = path.stat()
    except OSError:
        return ""  # reading it says why
    return json.dumps([stat.st_size, stat.st_mtime_ns, n_steps, step_s, n_channels])


def _bin_all(
    file: _EventFile, cache: SpikeCache | None
) -> tuple[Spikes, NDArray[np.int64], NDArray[np.float64]]:
    """Spikes, labels and ends of the samples; large spikes in ``cache``, if there is one."""
    with closing(file.parts()) as parts:
        next(parts)
        shape = (len(file.labels), *file.shape)
        if cache is None or not is_large(shape):
            return collect(shape, parts), file.labels, file.ends
        try:
            kept = cache.write(shape, parts, lambda: (file.labels, file.ends))
            return kept.spikes, file.labels, file.ends
        except NotKeptError:
            if is_large_packed(shape):
                raise
    return _bin_all(file, None)


class _EventFile:
    """The samples of an HDF5 file, binned part by part.

    Attributes:
        shape: (n_steps, n_channels).
        labels: (n_samples,), from the first part on.
        ends: (n_samples, 3), the number of events, of those in a step, and the last time; after the last part.
    """

    labels: NDArray[np.int64]
    ends: NDArray[np.float64]

    def __init__(self, path: Path, n_steps: int, step_s: float, n_channels: int) -> None:
        self.path, self.step_s = path, step_s
        self.shape = (n_steps, n_channels)

    def parts(self) -> Generator[NDArray[np.uint8], None, None]:
        """An empty part as soon as the file is open and ``labels`` are known, then the spikes.

        Errors of the caller do not pass through here, so they are not taken for errors of the file.
        """
        problems, length = Problems(), part_length(*self.shape)
        with open_tree(self.path, UNREADABLE.broken(str(self.path), "is not readable as HDF5")) as file:
            times, units = self._open(file)
            yield np.zeros((0, *self.shape), np.uint8)
            for start in range(0, len(self.labels), length):
                stop = min(start + length, len(self.labels))
                yield self._bin_part(times[start:stop], units[start:stop], start, problems)
        found = list(problems)
        if len(found) > SHOWN:
            n_more = f"{len(found) - SHOWN} more samples of this kind"
            found = [*found[:SHOWN], EVENTS.broken(str(self.path), n_more, most=N_UNITS - 1)]
        Problems(found).raise_as(InputError)

    def _open(self, file: Any) -> tuple[Any, Any]:
        """The data sets of times and units, after checks of their shapes; sets ``labels``."""
        where, problems = str(self.path), Problems()
        missing = [key for key in ("spikes/times", "spikes/units", "labels") if key not in file]
        if missing:
            raise InputError(LACKS.broken(where, f"lacks {', '.join(missing)}"))
        labels = numbers(file, "labels")
        times, units = file["spikes/times"], file["spikes/units"]
        shapes = [times.shape, units.shape, labels.shape]
        SHAPES.check(
            problems,
            shapes[0] == shapes[1] == shapes[2] and labels.ndim == 1 and labels.dtype.kind in "iu",
            where,
            f"times {shapes[0]}, units {shapes[1]}, labels {labels.dtype} {shapes[2]}",
        )
        n_most = self.path.stat().st_size // REFERENCE_BYTES
        fits = len(shapes[2]) != 1 or shapes[2][0] <= n_most
        CLAIMED.check(problems, fits, where, f"{shapes[2]} samples claimed", most=n_most)
        problems.raise_as(InputError)
        self.labels, self.ends = labels.astype(np.int64), np.zeros((len(labels), 3))
        return times, units

    def _bin_part(self, times: Any, units: Any, start: int, problems: Problems) -> NDArray[np.uint8]:
        """The spikes of the samples from number ``start`` on; sets their ``ends``."""
        spikes = np.zeros((len(times), *self.shape), dtype=np.uint8)
        for i, (when, unit) in enumerate(zip(times, units, strict=True)):
            where = f"{self.path}, sample {start + i}"
            self.ends[start + i] = _bin(when, unit, spikes[i], self.step_s, where, problems)
        return spikes


def _check_times(where: str, ends: NDArray[np.float64], n_steps: int, step_s: float) -> None:
    """Raise InputError for times that are not seconds, warn where most are behind the last step or all at the start.

    Args:
        where: the file.
        ends: (n_samples, 3), the number of events, of those in a step, and the last time.
        n_steps: steps of each sample.
        step_s: seconds per step.
    """
    problems = Problems()
    n_events, n_kept = int(ends[:, 0].sum()), int(ends[:, 1].sum())
    if ends.shape[0] and not NO_EVENTS.check(problems, n_events > 0, where, f"{len(ends)} samples, no event"):
        problems.raise_as(InputError)
    if n_events == 0:
        return
    lasts = ends[ends[:, 0] > 0, 2]
    last = float(np.median(lasts))
    if EARLY * lasts.max() < n_steps * step_s:
        found = f"all {n_events} events are in the first {lasts.max():g} s of {n_steps * step_s:g} s"
        problem = SECONDS.broken(where, found, n_steps=n_steps, step_ms=1000 * step_s, factor="")
        warnings.warn(str(problem), DataWarning, stacklevel=2)
    if 2 * n_kept >= n_events:
        n_short = int(np.count_nonzero(2 * ends[:, 1] < ends[:, 0]))
        if n_short > FEW_SHORT * len(ends):
            found = f"{n_short} of {len(ends)} samples have most of their events behind the last step"
            problem = SECONDS.broken(where, found, n_steps=n_steps, step_ms=1000 * step_s, factor="")
            warnings.warn(str(problem), DataWarning, stacklevel=2)
        return
    factor = "" if last < FAR * n_steps * step_s else " (ms / 1e3)" if last < 1e5 else " (µs / 1e6)"
    found = f"{n_events - n_kept} of {n_events} events are behind the last step; samples end at {last:g} s (median)"
    problem = SECONDS.broken(where, found, n_steps=n_steps, step_ms=1000 * step_s, factor=factor)
    if n_kept == 0 or factor:
        raise InputError(problem)
    warnings.warn(str(problem), DataWarning, stacklevel=2)


def _bin(
    when: NDArray[Any],
    unit: NDArray[Any],
    out: NDArray[np.uint8],
    step_s: float,
    where: str,
    problems: Problems,
) -> tuple[int, int, float]:
    """Set ``out`` (n_steps, n_channels) where there is an event; all events, those in a step, and the last time."""
    n_steps, n_channels = out.shape
    when, unit = np.asarray(when), np.asarray(unit)
    fits = (
        when.ndim == 1 and when.shape == unit.shape and when.dtype.kind in "fiu" and unit.dtype.kind in "iu"
    )
    seconds = when.astype(np.float64) if fits else np.zeros(0)  # float16 overflows when it is scaled
    fits = fits and bool(np.all(np.isfinite(seconds))) and seconds.min(initial=0.0) >= 0
    fits = fits and (unit.size == 0 or 0 <= int(unit.min()) <= int(unit.max()) < N_UNITS)
    found = f"{_range('times', when)}; {_range('units', unit)}"
    if not EVENTS.check(problems, fits, where, found, most=N_UNITS - 1):
        return 0, 0, 0.0
    step = np.minimum(seconds / step_s, n_steps).astype(np.int64)
    kept = step < n_steps
    out[step[kept], unit[kept].astype(np.int64) * n_channels // N_UNITS] = 1
    return when.size, int(kept.sum()), float(seconds.max(initial=0.0))


def _range(name: str, values: NDArray[Any]) -> str:
    """How many numbers of which type, from the least to the greatest."""
    ends = f" from {values.min():g} to {values.max():g}" if values.size and values.dtype.kind in "fiu" else ""
    return f"{values.size} {name} of {values.dtype}{ends}"
