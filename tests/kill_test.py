"""Kill every command at random moments and check that no output, process or file is damaged or left over.

    python tests/kill_test.py --kills 50 [--commands train budget export run estimate sweep] [--seed 0]

Each command first runs undisturbed. Then it is started over outputs of an earlier version, ended by SIGKILL, SIGINT
or SIGTERM at a moment drawn from its running time, and looked at: every output is the earlier version or the new one,
bit for bit; no process, shared memory or temporary file is left (a hidden one may be, after SIGKILL); SIGINT and
SIGTERM give exit code 130 and one line. Then, after some, the same command (train: with --resume wherever there is
a checkpoint) must bring the undisturbed result. "budget" is a training to a chip budget. A sweep starts in an empty folder; each file of a trial
must be missing or the undisturbed one, and the next run must leave the results of finished trials untouched.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path

SIGNALS = (signal.SIGKILL, signal.SIGINT, signal.SIGTERM)
TOKEN = "LBI_KILLS"
"""Environment variable by which a command's descendants are recognized."""

GONE_S, RAYS_GONE_S = 10.0, 120.0
"""How long after the end of a command its descendants may take to be gone; they need about one second, Ray's agents one minute."""

EAGER = "from lbi.system import signals; signals.install(); import lbi.train.session.run as run; run.CHECKPOINT_EVERY_S = 0.0; from lbi.cli.train import main; main()"
"""lbi-train with a checkpoint after every epoch."""

BACKEND = "lava" if find_spec("lava") or os.environ.get("LBI_LAVA_PYTHON") else "sim"
SMALL = ["--set", 'encoding={"n_steps": 6}', "--hidden", "24", "--epochs", "6", "--batch-size", "64"]
TRAININGS = {"train": SMALL, "budget": [*SMALL, "--budget", "energy=10nJ", "--chip", "loihi1"]}
OUTPUTS = {
    "train": ("model.pt", "metrics.csv"),
    "budget": ("model.pt", "metrics.csv"),
    "export": ("model.loihi",),
    "run": ("out.npz",),
    "estimate": ("trace.csv", "report.html"),
    "sweep": ("sweep",),
}
ON_THE_WAY = {"model.pt.ckpt", "metrics.csv", "results.md"}
"""Files of a sweep that grow while it runs."""


def command_line(command: str, folder: Path, *, seed: int = 1) -> list[str]:
    """The command as a user starts it, on inputs in ``folder``."""
    python, name = [sys.executable], f"lbi.cli.{command}"
    if command in TRAININGS:
        script = folder / "lbi-train"
        script.write_text(EAGER)
        checkpoint = folder / "model.pt.ckpt"
        rest = (
            ["--resume", str(checkpoint)]
            if checkpoint.exists()
            else [*TRAININGS[command], "--seed", str(seed)]
        )
        return [
            *python,
            str(script),
            *rest,
            "-o",
            str(folder / "model.pt"),
            "--metrics",
            str(folder / "metrics.csv"),
        ]
    if command == "export":
        arguments = ["input.pt", "--target", "loihi", "-o", "model.loihi", "--force"]
    elif command == "sweep":
        arguments = [*SMALL, "--dataset", "digits", "--seed", "0,1", "-o", "sweep", "--quiet"]
    elif command == "run":
        arguments = ["input.loihi", "--backend", BACKEND, "--samples", "5", "-o", "out.npz"]
    else:
        arguments = [
            "input.loihi",
            "--dataset",
            "digits",
            "--samples",
            "20",
            "--trace",
            "trace.csv",
            "--html",
            "report.html",
        ]
    return [*python, "-m", name, *arguments]


def content(path: Path) -> dict[str, bytes]:
    """Relative path → bytes, of a file or of all files in a folder; seconds and pictures left out."""
    if path.is_dir():
        files = (file for file in sorted(path.rglob("*")) if file.is_file() and file.suffix != ".png")
        return {str(file.relative_to(path)): without_seconds(file) for file in files}
    return {"": without_seconds(path)} if path.exists() else {}


def without_seconds(path: Path) -> bytes:
    """A file's bytes; of metrics and of a sweep's results, all but the seconds."""
    whole = path.read_bytes()
    if path.name in ("metrics.csv", "results.csv"):
        rows = list(csv.DictReader(io.StringIO(whole.decode())))
        if path.name == "results.csv":
            rows = [row for row in rows if row["status"] == "done"]  # it is written after every trial
        return "\n".join(repr({**row, "seconds": None}) for row in rows).encode()
    if path.name == "result.json":
        return repr({**json.loads(whole), "seconds": None}).encode()
    return whole


class Bench:
    """One command's folder, its undisturbed result, and the earlier version of its outputs."""

    def __init__(self, command: str, folder: Path, inputs: Path) -> None:
        self.command, self.folder = command, folder
        folder.mkdir()
        for name in ("input.pt", "input.loihi"):
            if (inputs / name).exists():
                copy(inputs / name, folder / name)
        self.fixed_names = {path.name for path in folder.iterdir()} | {
            "lbi-train",
            "model.pt.ckpt",
            "__pycache__",
        }
        started = time.perf_counter()
        self.run_to_the_end()
        self.seconds = time.perf_counter() - started
        self.new = {name: content(folder / name) for name in OUTPUTS[command]}
        self.old = {name: {"": b"an earlier version"} for name in OUTPUTS[command]}
        if command == "export":
            self.old = {"model.loihi": {"network.h5": b"an earlier version", "run_lava.py": b"of the folder"}}

    def run_to_the_end(self) -> None:
        done = subprocess.run(
            command_line(self.command, self.folder),
            cwd=self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    def lay_out_old(self) -> None:
        for path in self.folder.iterdir():
            if path.name not in self.fixed_names - {"model.pt.ckpt"}:
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        if self.command == "sweep":
            return
        for name, files in self.old.items():
            if self.command == "export":
                (self.folder / name).mkdir()
            for file, data in files.items():
                (self.folder / name / file if file else self.folder / name).write_bytes(data)

    def kill(self, number: int, moment: float) -> str:
        """Start, send the signal after ``moment`` seconds, look at what is left; returns what happened."""
        self.lay_out_old()
        token = secrets.token_hex(8)
        process = subprocess.Popen(
            command_line(self.command, self.folder),
            cwd=self.folder,
            env={**os.environ, TOKEN: token},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        time.sleep(moment)
        prefixes = shared_memory_prefixes(token)
        if number == signal.SIGINT:
            os.killpg(process.pid, number)  # as a terminal does
        else:
            process.send_signal(number)
        try:
            _, errors = process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(f"went on for 30 s after {number.name}") from None
        outcome = self.check_end(process.returncode, errors, number)
        self.check_files(number, outcome)
        check_nothing_runs(token, prefixes, RAYS_GONE_S if self.command == "sweep" else GONE_S)
        return outcome

    def check_next_run(self) -> None:
        """The command again, over what the killed one has left; lbi-train from its checkpoint."""
        finished = self.finished_trials()
        self.run_to_the_end()
        again = self.finished_trials()
        assert finished.items() <= again.items(), "a finished trial was run again"
        assert {name: content(self.folder / name) for name in self.new} == self.new, "the next run differs"
        assert not (self.folder / "model.pt.ckpt").exists(), "the checkpoint is still there"

    def finished_trials(self) -> dict[str, int]:
        """Result of a sweep's trial → when it was written."""
        found = self.folder.glob("sweep/trials/*/result.json")
        return {str(path): path.stat().st_mtime_ns for path in found}

    def check_end(self, code: int, errors: str, number: int) -> str:
        if code == 0:
            return "finished"
        if number == signal.SIGKILL:
            assert code == -number, (code, errors)
            return "killed"
        if self.command in TRAININGS and errors.startswith("interrupted: ") and errors.count("\n") == 1:
            errors = "interrupted\n"  # a training says in the same line what it keeps
        if code == 130 and errors == "interrupted\n":
            return "interrupted"
        before_us = not any(part in errors for part in ("/lbi/", "lbi.", "interrupted"))
        assert before_us, (code, errors)
        assert code in (-number, 1, 130), (code, errors)
        return "before the first line of ours"

    def check_files(self, number: int, outcome: str) -> None:
        if self.command == "sweep":
            self.check_sweep(number, outcome)
            return
        for name, new in self.new.items():
            found = content(self.folder / name)
            whole = found in (new, self.old[name]) or (
                name == "metrics.csv" and new[""].startswith(found[""])
            )
            assert whole, f"{name} is neither the old nor the new one"
            assert outcome != "finished" or found == new, name
        rest = {path.name for path in self.folder.iterdir()} - self.fixed_names - set(self.new)
        if number == signal.SIGKILL:
            rest = {name for name in rest if not (name.startswith(".") and name.endswith(".tmp"))}
        assert not rest, f"left behind: {rest}"

    def check_sweep(self, number: int, outcome: str) -> None:
        found, new = content(self.folder / "sweep"), self.new["sweep"]
        for name, data in found.items():
            base = Path(name).name
            unfinished = number == signal.SIGKILL and base.startswith(".") and base.endswith(".tmp")
            if base == "results.csv":
                known = set(new[name].splitlines())
                assert known.issuperset(data.splitlines()), f"{name} has other rows"
            elif base not in ON_THE_WAY and not unfinished:
                assert data == new.get(name), f"{name} is not the undisturbed one"
        assert outcome != "finished" or found == new, "the sweep's results differ"


def copy(source: Path, to: Path) -> None:
    shutil.copytree(source, to) if source.is_dir() else shutil.copyfile(source, to)


def descendants(token: str) -> list[Path]:
    """/proc folders of living processes that carry the token."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            alive = (process / "stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
            if alive and f"{TOKEN}={token}".encode() in (process / "environ").read_bytes():
                found.append(process)
        except OSError:
            continue
    return found


def shared_memory_prefixes(token: str) -> set[str]:
    """What the shared memory of the command's supervised children starts with."""
    found = set()
    for process in descendants(token):
        try:
            words = (process / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        found |= {words[i + 1] for i, word in enumerate(words[:-1]) if word.endswith("child.py")}
    return found


def check_nothing_runs(token: str, prefixes: set[str], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while True:
        running = descendants(token)
        memory = [name for name in os.listdir("/dev/shm") if name.startswith(tuple(prefixes))]
        if not running and not memory:
            return
        assert time.monotonic() < deadline, f"left behind: {running}, {memory}"
        time.sleep(0.05)


def make_inputs(folder: Path) -> None:
    """input.pt and input.loihi: a trained model and its export."""
    folder.mkdir()
    for arguments in (
        ["lbi.cli.train", *SMALL, "--seed", "0", "-o", "input.pt"],
        ["lbi.cli.export", "input.pt", "--target", "loihi", "-o", "input.loihi"],
    ):
        subprocess.run([sys.executable, "-m", *arguments, "--quiet"], cwd=folder, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50, help="per command")
    parser.add_argument(
        "--again", type=int, default=5, help="run to the end after every Nth kill, and after every checkpoint"
    )
    parser.add_argument("--commands", nargs="+", choices=OUTPUTS, default=list(OUTPUTS))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # a shell's background job ignores it, and so would we
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")  # or Ray prints a line where it finds a token
    failures = 0
    with tempfile.TemporaryDirectory(prefix="kills-") as name:
        make_inputs(Path(name) / "inputs")
        for command in options.commands:
            rng = random.Random(f"{options.seed} {command}")
            bench = Bench(command, Path(name) / command, Path(name) / "inputs")
            outcomes: Counter[str] = Counter()
            for i in range(options.kills):
                number, moment = SIGNALS[i % len(SIGNALS)], rng.uniform(0, 1.1 * bench.seconds)
                try:
                    outcomes[bench.kill(number, moment)] += 1
                    if i % options.again == 0 or (bench.folder / "model.pt.ckpt").exists():
                        bench.check_next_run()
                        outcomes["next run as undisturbed"] += 1
                except AssertionError as error:
                    failures += 1
                    print(f"{command}: {number.name} after {moment:.3f} s: {error}", flush=True)
            print(
                json.dumps({"command": command, "seconds": round(bench.seconds, 1), **outcomes}), flush=True
            )
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
