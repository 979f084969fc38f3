"""One trial of a sweep: train, quantize, run the integers, estimate; every step resumable."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Interval

from lbi import records
from lbi._version import __version__
from lbi.cli.sweep_files import Digest, check_unchanged, files_of
from lbi.errors import InputError, LbiError
from lbi.system.atomic import atomic_write, check_writable

Share = Annotated[float, Interval(ge=0, le=1)]
Amount = Annotated[float, Ge(0)]
Count = Annotated[int, Ge(0)]


@dataclass(frozen=True)
class Accuracy:
    """Shares of samples that are classified correctly."""

    train: Share
    test: Share
    validation: Share | None = None


@dataclass(frozen=True)
class Energy:
    """A range in nJ per inference."""

    low: Amount
    high: Amount


@dataclass(frozen=True)
class Figures:
    """What the tables of a sweep take from ``result.json``: shares, counts, SynOps and nJ per inference, seconds."""

    accuracy: Accuracy
    accuracy_integer: Share
    density: Share
    n_weights: Count
    n_active: Count
    n_active_integer: Count
    firing_rate: Amount
    synops: Amount
    energy_nj: Energy | None
    synaptic_memory_bits: Count
    n_cores: Count
    epochs: Count
    seconds: Amount
    energy_source: str | None = None
    """The cost sets of the energy; results of earlier versions have none."""


def run_trial(
    folder: str, arguments: Sequence[str], chip: str, digests: Mapping[str, Digest] | None = None
) -> dict[str, Any]:
    """Run or continue a trial in its folder.

    ``result.json`` is written last; with it the trial is finished and is not run again. ``model.pt.ckpt`` and
    ``model.pt`` are what a killed trial continues from, with equal results.

    Args:
        folder: the trial's.
        arguments: options of ``lbi-train``.
        chip: the chip to estimate costs on.
        digests: what the sweep's trials read → its content; a trial whose files change fails.

    Returns:
        The result; of a trial that fails, {"error": its lines}, also written to ``error.txt``.
    """
    where = Path(folder)
    where.mkdir(parents=True, exist_ok=True)
    finished = read_result(where)
    if finished is not None:
        return finished
    try:
        check_writable(where / "result.json")
        result = _run(where, arguments, chip, digests or {})
        with atomic_write(where / "result.json") as new:
            new.write_text(json.dumps(result, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    except LbiError as error:
        return _failed(where, [str(problem) for problem in error.problems])
    except Exception as error:  # a trial that fails for any reason must not end the others
        return _failed(where, [f"internal: {type(error).__name__}: {' '.join(str(error).split())}"])
    with suppress(OSError):  # a folder of this name is not ours
        (where / "error.txt").unlink(missing_ok=True)
    return result


def read_result(folder: Path) -> dict[str, Any] | None:
    """The result of a finished trial; None without one, or if it is damaged, so that the trial is run again.

    Args:
        folder: the trial's.

    Returns:
        The content of ``result.json``.
    """
    table = records.Table.of(Figures, records.Rules())
    try:
        result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
        table.read({name: result[name] for name in table.hints if name in result})
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
    return dict(result)


def _failed(folder: Path, lines: list[str]) -> dict[str, Any]:
    path = folder / "error.txt"
    with suppress(InputError):
        check_writable(path)
        with atomic_write(path) as new:
            new.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return {"error": lines}


def _run(folder: Path, arguments: Sequence[str], chip: str, digests: Mapping[str, Digest]) -> dict[str, Any]:
    from lbi.cli.sweep_plan import configured
    from lbi.train.model_pt import load_module
    from lbi.train.session.run import Outputs, complete, prepare, read_checkpoint

    started = time.perf_counter()
    config, begin = configured(arguments)
    outputs, reads = Outputs(folder / "model.pt", folder / "metrics.csv"), files_of(arguments, chip)
    check_unchanged(reads, digests)
    if not outputs.model.exists():
        try:
            begin = (
                {"checkpoint": read_checkpoint(outputs.checkpoint)} if outputs.checkpoint.exists() else begin
            )
        except InputError:
            if outputs.checkpoint.is_file():  # otherwise it is refused as an output
                outputs.checkpoint.unlink()  # damaged: the trial starts again, with equal results
        complete(prepare(config, outputs, **begin), outputs)
    model, meta = load_module(outputs.model)
    record = {key: value for key, value in meta["training"].items() if key not in ("config", "teacher")}
    record |= {**_deployed(model, config, chip), "seconds": time.perf_counter() - started, **source()}
    try:
        check_unchanged(reads, digests)
    except InputError:
        outputs.model.unlink()  # of both contents
        raise
    return {**record, "files": {what: digests[what].sha256 for what in reads if what in digests}}


def _deployed(model: Any, config: Any, chip: str) -> dict[str, Any]:
    """Accuracy and cost of the integers on the test set, per inference."""
    import lbi
    from lbi import datasets
    from lbi.costing.costs import price_source
    from lbi.train import network_of

    dataset = datasets.load(config.dataset, config.data, **config.encoding)
    test = dataset.test
    spikes = test.spikes[:]
    fixed = lbi.quantize(network_of(model), chip)
    activity = lbi.simulate(fixed, spikes, record=("spikes", "active"))
    right = fixed.readout.classify(activity.output) == test.labels
    estimate = lbi.estimate(fixed, activity, chip, spikes=spikes)
    cost = estimate.to_dict()["sparse"]
    steps, energy = activity.n_steps, cost["energy_pj_per_step"]
    return {
        "accuracy_integer": float(right.mean()),
        "n_active_integer": sum(projection.weights.nnz for projection in fixed.projections),
        "synops": cost["synops_per_step"] * steps,
        "energy_nj": None if energy is None else {key: energy[key] * steps / 1000 for key in ("low", "high")},
        "energy_source": price_source(estimate.profile, "energy") or None,
        "synaptic_memory_bits": cost["synaptic_memory_bits"],
        "n_cores": cost["n_cores"],
        "chip": chip,
    }


def source() -> Mapping[str, str | None]:
    """Version of the program, and the commit of its work tree if it runs from one ("+": with changes)."""

    def git(*arguments: str) -> str:
        folder = str(Path(__file__).parent)
        done = subprocess.run(["git", "-C", folder, *arguments], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        commit = git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.CalledProcessError):
        return {"version": __version__, "commit": None}
    return {"version": __version__, "commit": commit}
