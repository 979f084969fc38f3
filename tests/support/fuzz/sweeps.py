"""Sweep folders for the fuzzer: a finished sweep, changes to its files, and the command that continues it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from support.fuzz.data import spikes_file
from support.fuzz.event_cameras import damage_place
from support.fuzz.values import Rng, damage_file, damage_zip, near, pick, plant

GIVEN = {
    "dataset": "spikes.npz",
    "hidden": "4",
    "epochs": "2",
    "seed": "0,1",
    "validation": "0.3",
    "patience": "1",
}
"""The sweep's options; its data set is beside its folder, which is the working folder."""


@contextmanager
def chdir(folder: Path) -> Iterator[None]:
    """Another working folder, as Python's own from 3.11 on."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def sweep_seeds(folder: Path) -> list[Path]:
    """A finished sweep of two trials; the second also has a checkpoint, and no model or result."""
    from lbi.cli.sweep_plan import configured, plan
    from lbi.train.session.run import Outputs, prepare, save_checkpoint

    spikes_file(folder)
    with chdir(folder):
        _sweep(folder / "sweep")
        last = plan({**GIVEN, "chip": "loihi1"})[1]
        trial = folder / "sweep" / "trials" / last.name
        config, _ = configured(last.arguments)
        trainer = prepare(config, Outputs(trial / "model.pt"))
        trainer.on_epoch = lambda trainer: (
            save_checkpoint(trainer, trial / "model.pt.ckpt") if trainer.progress.epoch == 1 else None
        )
        trainer.run()
    for name in ("model.pt", "result.json"):
        (trial / name).unlink()
    for file in (folder / "sweep").rglob("metrics.csv"):  # the same bytes in every run
        lines = file.read_text(encoding="utf-8").splitlines()
        file.write_text(
            "\n".join(line.rpartition(",")[0] + ",1.0" for line in lines) + "\n", encoding="utf-8"
        )
    for file in (folder / "sweep").rglob("result.json"):
        record = {**json.loads(file.read_text(encoding="utf-8")), "seconds": 1.0}
        file.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return [folder / "sweep"]


def damage_sweep(path: Path, rng: Rng) -> None:
    """Change one of the files, most often a plan or result, or put something else in its place."""
    files = sorted(each for each in path.rglob("*") if each.is_file())
    plain = [each for each in files if each.suffix == ".json"]
    file = pick(rng, files if rng.random() < 0.5 else plain)
    change = pick(rng, ("bytes", "content", "content", "content", "place", "foreign"))
    if change == "foreign":
        other = pick(rng, ("x", "trials/x", "result.json", "model.pt"))
        (path / other).write_bytes(rng.bytes(20))
        if rng.random() < 0.5:
            (path / "sweep.json").unlink()
    elif change == "place":
        damage_place(file if rng.random() < 0.8 else file.parent, rng)
    elif change == "content" and file.suffix == ".json":
        file.write_text(_json(json.loads(file.read_text(encoding="utf-8")), rng), encoding="utf-8")
    elif change == "content" and file.suffix in (".pt", ".ckpt"):
        damage_zip(file, rng)
    else:
        damage_file(file, rng)


def _json(tree: Any, rng: Rng) -> str:
    for _ in range(int(rng.integers(1, 3))):
        plant(tree, rng, near)
    text = json.dumps(tree, indent=2)
    return pick(
        rng, (*[text] * 12, "[" * 5000, "null", "[1]", "{}", '{"accuracy": 1}', "9" * 6000, "\ufeff" + text)
    )


def use_sweep(path: Path, rng: Rng) -> None:
    """Continue the sweep in this process; one time in twenty with its plots."""
    plots = rng.random() < 0.05
    with chdir(path.parent), patch.dict(os.environ, COLUMNS="120"):
        if plots:
            _sweep(path)
        else:
            with patch("lbi.cli.sweep_results.write_plots", lambda *_: []):
                _sweep(path)


def _sweep(folder: Path) -> None:
    """``lbi-sweep`` with trials in this process, one after the other."""
    from lbi.cli import sweep

    source = patch("lbi.cli.sweep_trial.source", lambda: {"version": "0", "commit": None})  # git takes long
    with patch.object(sweep, "_run", _run), source:
        sweep.main.callback(None, None, "loihi1", folder, as_json=False, quiet=True, **GIVEN)


def _run(
    trials: list[Any], folder: Path, chip: str, _address: None, _jobs: None, digests: dict[str, Any]
) -> Iterator[tuple[str, dict[str, Any]]]:
    from lbi.cli.sweep_trial import run_trial

    for trial in trials:
        result = run_trial(str(folder / "trials" / trial.name), trial.arguments, chip, digests)
        if any(line.startswith("internal") for line in result.get("error", ())):
            raise AssertionError(result["error"])
        yield trial.name, result
