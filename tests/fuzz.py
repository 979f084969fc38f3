"""Fuzz all readers with changed files: each must return or raise a documented error, in bounded time and memory.

    python tests/fuzz.py --inputs 100000 --seed 1             # all readers, as docs/robustness.md reports
    python tests/fuzz.py --replay netx:1234 --seed 1          # one input again, with its traceback

An input is named by reader and number, and is the same for the same seed. A worker process reads them one by
one; the parent notes what it was at when it crashes or hangs, and starts another after that input.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import faulthandler
import json
import os
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from support.fuzz.readers import NETWORK, READERS, run_through

from lbi.errors import FitError, InputError, LbiError, UsageError

CPU_S = 8.0
"""Processor time after which an input counts as a hang."""

WALL_S = 600.0
"""Time after which the parent ends a worker that does not answer."""

MEMORY = 2 << 30
"""Bytes: the most that a worker may hold, and the most address space beyond what it has after its start."""

DOCUMENTED = (InputError, UsageError, FitError)
LONGEST = 4000
"""Characters of one problem's line."""


class Hang(BaseException):
    """Raised by the timer; no ``except Exception`` catches it."""


def make_input(
    reader: str, index: int, seed: int, seeds: list[Path], folder: Path
) -> tuple[Path, np.random.Generator]:
    """The changed file of that number, and the generator that made it, to go on with."""
    rng = np.random.default_rng([seed, index, *reader.encode()])
    whole = seeds[int(rng.integers(len(seeds)))]
    path = folder / whole.name
    if path.is_dir():
        shutil.rmtree(path)
    copy = shutil.copytree if whole.is_dir() else shutil.copyfile
    copy(whole, path)
    changes = READERS[reader].changes
    with contextlib.suppress(Exception):
        changes[int(rng.integers(len(changes)))](path, rng)  # not every change can be made everywhere
    return path, rng


def make_seeds(reader: str, folder: Path) -> list[Path]:
    """The reader's whole files, in a folder of their own; what else lies there is put beside the inputs too."""
    whole, used = folder / "whole", folder / "used"
    whole.mkdir(parents=True)
    used.mkdir()
    seeds = READERS[reader].seeds(whole)
    for extra in set(whole.iterdir()) - set(seeds):
        if extra.is_file():
            shutil.copyfile(extra, used / extra.name)
    return seeds


def outcome(reader: str, path: Path, rng: np.random.Generator) -> tuple[str, str]:
    """("read", ""), ("refused", first code), or ("failed", what and where)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            READERS[reader].read(path, rng)
    except DOCUMENTED as error:
        return _judge(error)
    except Hang:
        return "failed", f"hang: {_last_own_frame(sys.exc_info()[2])}"
    except BaseException as error:
        return (
            "failed",
            f"{type(error).__name__}: {' '.join(str(error).split())[:300]} at {_last_own_frame(error.__traceback__)}",
        )
    return "read", ""


def _judge(error: LbiError) -> tuple[str, str]:
    """A refusal, unless its lines cannot be printed or an allocation failed behind it."""
    lines = str(error).split("\n")
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or "allocate" in str(cause):
            return (
                "failed",
                f"memory: {' '.join(str(cause).split())[:300]} at {_last_own_frame(cause.__traceback__)}",
            )
        cause = cause.__cause__
    for line in lines:
        if not line.isprintable() or len(line) > LONGEST:
            return (
                "failed",
                f"message: {line[:200]!r} of {len(line)} at {_last_own_frame(error.__traceback__)}",
            )
    if len(lines) != len(error.problems) or not all(p.code and p.where and p.found for p in error.problems):
        return "failed", f"message: {lines[0][:200]!r}"
    return "refused", error.problems[0].code


def _last_own_frame(trace: Any) -> str:
    frames = [f for f in traceback.extract_tb(trace) if "/lbi/" in f.filename or "/exporters/" in f.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "no frame of lbi"


def _hang(_signum: int, _frame: Any) -> None:
    raise Hang


def _status(key: str) -> int:
    """Bytes, of a line such as VmHWM in /proc/self/status."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key + ":"))


def work(reader: str, start: int, stop: int, seed: int) -> None:
    """Read inputs start to stop, a line on stdout before and after each."""
    faulthandler.enable()
    signal.signal(signal.SIGPROF, _hang)
    with tempfile.TemporaryDirectory(prefix="lbi-fuzz-") as name:
        folder = Path(name)
        seeds = make_seeds(reader, folder)
        run_through(NETWORK)
        for whole in seeds:  # everything is imported and compiled before memory and time count
            path = folder / "used" / whole.name
            (shutil.copytree if whole.is_dir() else shutil.copyfile)(whole, path)
            with contextlib.suppress(LbiError):  # whole, but with an option that does not suit it
                READERS[reader].read(path, np.random.default_rng(0))
        limit = _status("VmSize") + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        for index in range(start, stop):
            print(json.dumps([index]), flush=True)
            path, rng = make_input(reader, index, seed, seeds, folder / "used")
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # a new peak
            signal.setitimer(signal.ITIMER_PROF, CPU_S)
            what, detail = outcome(reader, path, rng)
            signal.setitimer(signal.ITIMER_PROF, 0)
            peak = _status("VmHWM")
            if peak > MEMORY and what != "failed":
                what, detail = "failed", f"memory: {peak >> 20} MiB ({detail})"
            print(json.dumps([index, what, detail, peak]), flush=True)


class Tally:
    """What came of a reader's inputs."""

    def __init__(self) -> None:
        self.counts: collections.Counter[str] = collections.Counter()
        self.codes: collections.Counter[str] = collections.Counter()
        self.failures: dict[str, list[int]] = collections.defaultdict(list)
        self.peak = 0

    def add(self, index: int, what: str, detail: str, peak: int = 0) -> None:
        self.counts[what] += 1
        self.peak = max(self.peak, peak)
        if what == "refused":
            self.codes[detail] += 1
        elif what == "failed":
            self.failures[detail].append(index)


def supervise(reader: str, start: int, stop: int, seed: int, environment: dict[str, str]) -> Tally:
    """Run workers over the inputs until all are done."""
    tally, at = Tally(), start
    while at < stop:
        command = [sys.executable, __file__, "--work", f"{reader}:{at}:{stop}", "--seed", str(seed)]
        with tempfile.TemporaryFile() as errors:
            worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment)
            begun, ended = _listen(worker, tally)
            worker.kill()
            code = worker.wait()
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace").strip()
        if begun is None:
            raise RuntimeError(f"worker of {reader} did not start:\n{said}")
        if ended != begun:
            last = next((line.strip() for line in said.splitlines() if "/lbi/" in line), said[-300:])
            tally.add(begun, "failed", f"worker ended with {code}: {last}")
        at = begun + 1
    return tally


def _listen(worker: subprocess.Popen[bytes], tally: Tally) -> tuple[int | None, int | None]:
    """The last input begun and the last one done, when the worker ends or is silent for too long."""
    begun = ended = None
    assert worker.stdout is not None
    buffer = b""
    while select.select([worker.stdout], [], [], WALL_S)[0]:
        chunk = os.read(worker.stdout.fileno(), 1 << 16)
        if not chunk:
            break
        *lines, buffer = (buffer + chunk).split(b"\n")
        for line in lines:
            index, *rest = json.loads(line)
            begun = index
            if rest:
                ended = index
                tally.add(index, *rest)
    return begun, ended


def replay(reader: str, index: int, seed: int, keep: Path | None) -> None:
    """One input again; ``keep``: a folder to leave it in."""
    with tempfile.TemporaryDirectory(prefix="lbi-fuzz-") as name:
        seeds = make_seeds(reader, Path(name))
        path, rng = make_input(reader, index, seed, seeds, Path(name) / "used")
        print(path.name)
        if keep is not None:
            (shutil.copytree if path.is_dir() else shutil.copyfile)(path, keep)
        READERS[reader].read(path, rng)
        print("read")


def main() -> int:
    """The command line; exit code 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--inputs", type=int, default=100_000, help="over all readers")
    parser.add_argument("--first", type=int, default=0, help="number of each reader's first input")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--readers", default=",".join(READERS))
    parser.add_argument("--replay", metavar="READER:NUMBER")
    parser.add_argument("--keep", type=Path, help="with --replay: where to leave the input")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        reader, start, stop = options.work.split(":")
        work(reader, int(start), int(stop), options.seed)
        return 0
    if options.replay:
        reader, index = options.replay.split(":")
        replay(reader, int(index), options.seed, options.keep)
        return 0
    readers = [name for name in options.readers.split(",") if READERS[name].available]
    environment = {
        **os.environ,
        **{f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "NUMBA")},
    }
    each, failed, started = -(-options.inputs // len(readers)), 0, time.time()
    print(
        f"{'reader':<11} {'inputs':>7} {'read':>7} {'refused':>8} {'failed':>7} {'codes':>6} {'peak MiB':>9} {'minutes':>8}"
    )
    total: collections.Counter[str] = collections.Counter()
    for name in readers:
        begun = time.time()
        tally = supervise(name, options.first, options.first + each, options.seed, environment)
        counts = tally.counts
        total += counts
        print(
            f"{name:<11} {each:>7} {counts['read']:>7} {counts['refused']:>8} {counts['failed']:>7}"
            f" {len(tally.codes):>6} {tally.peak >> 20:>9} {(time.time() - begun) / 60:>8.1f}",
            flush=True,
        )
        for what, indices in sorted(tally.failures.items(), key=lambda item: -len(item[1])):
            failed += len(indices)
            print(f"    {len(indices):>5} × {what}  [{', '.join(map(str, indices[:4]))}]", flush=True)
    print(
        f"{'all':<11} {each * len(readers):>7} {total['read']:>7} {total['refused']:>8} {total['failed']:>7}"
        f" {'':>6} {'':>9} {(time.time() - started) / 60:>8.1f}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
