"""Command ``lbi-sweep``: train every combination of lists of options, on all cores or a Ray cluster."""

from __future__ import annotations

from lbi.system import signals

if __name__ == "__main__":  # before the imports below take their time
    signals.install()

import json
import logging
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click

from lbi.cli.common import PATH, Command, common_options, console, debugging, emit_json
from lbi.cli.sweep_plan import Trial, absolute, plan, swept_options
from lbi.costing.recorded_budget import read_uses
from lbi.errors import (
    BackendError,
    FitError,
    InputError,
    LbiError,
    Problem,
    Problems,
    Rule,
    UsageError,
    require,
)

if TYPE_CHECKING:
    from rich.table import Table

    from lbi.cli.sweep_files import Digest

SWEEP = ("lbi.sweep", 1)
"""Format and version of ``sweep.json``."""

REACH_S = 10.0
"""Seconds to wait for a cluster's head to answer."""

RETRIES = 3
"""Times that a trial is continued after its worker died."""

OTHER_SWEEP = Rule(
    "sweep-folder",
    "the folder of this very sweep, or an empty one",
    "choose another -o, or give the same options again",
)
IN_USE = Rule("sweep-folder", "one sweep at a time", "wait for it, or end it")
UNREACHABLE = Rule(
    "cluster-unreachable",
    "a running Ray cluster",
    "check `ray status` there, and that Python and Ray have its versions",
)
FAILED = Rule(
    "trial-failed",
    fix="correct its options or data; the same command runs only the trials that are not finished",
)


@click.command("lbi-sweep", cls=Command)
@click.option(
    "--address",
    metavar="RAY",
    help="Address of a Ray cluster, or auto; without it, this machine's cores are used.",
)
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    metavar="N",
    help="Trials at a time on this machine  [default: one per core]",
)
@click.option(
    "--chip",
    default="loihi1",
    show_default=True,
    help="Chip whose integers are run and whose costs are estimated.",
)
@click.option(
    "--output", "-o", type=PATH, required=True, metavar="DIR", help="Folder of the sweep; the same command continues it."
)  # fmt: skip
@common_options
def main(
    address: str | None, jobs: int | None, chip: str, output: Path, as_json: bool, quiet: bool, **given: Any
) -> None:
    """Train every combination of lists: --optimizer adam,adabreg --density 0.1,0.05 --seed 0,1,2.

    Every option of lbi-train takes a list here, separated by commas, or by ";" where values hold commas (--hidden
    "256;128,128"). Each trial computes on one core. DIR gets results.csv, results.md, plots, and a folder per trial.
    """
    require("torch", "train")
    require("ray", "sweep")
    from lbi.cli.sweep_files import check_folder
    from lbi.cli.sweep_results import missed, row_of, write_plots, write_tables
    from lbi.cli.sweep_trial import read_result

    given = absolute(given)
    if chip.endswith(".toml"):
        chip = str(Path(chip).resolve())  # a trial's working folder is another
    trials = _plan(given, chip)
    _check_reachable(address)
    reads = _read_files(trials, chip)
    command = shlex.join(["lbi-sweep", *_shown(given)])
    with _folder(output, {"options": given, "chip": chip}) as folder:
        digests = check_folder(folder, reads)
        results = {trial.name: read_result(folder / "trials" / trial.name) for trial in trials}
        n_reused = sum(result is not None for result in results.values())
        waiting = [trial for trial in trials if results[trial.name] is None]
        with _display(trials, results, show=not (as_json or quiet)) as redraw:
            for name, result in _run(waiting, folder, chip, address, jobs, digests):
                results[name] = result
                redraw(name)
                write_tables(folder, [row_of(trial, results[trial.name]) for trial in trials], command)
        rows = [row_of(trial, results[trial.name]) for trial in trials]
        files = [*write_tables(folder, rows, command), *write_plots(folder, rows)]
    failed = [row for row in rows if row["status"] == "failed"]
    if as_json:
        record = {"output": str(output), "files": files, "n_trials": len(rows), "n_reused": n_reused}
        shown = [{k: v for k, v in row.items() if k not in ("config", "varied")} for row in rows]
        emit_json({**record, "n_failed": len(failed), "trials": shown})
    elif not quiet:
        console().print((folder / "results.md").read_text(encoding="utf-8"), markup=False, soft_wrap=True)
    problems = [*(FAILED.broken(row["trial"], row["error"]) for row in failed), *missed(rows)]
    Problems(problems).raise_as(InputError if failed else FitError)


main.params[:0] = swept_options()


def _plan(given: dict[str, Any], chip: str) -> list[Trial]:
    """The trials; raises for all that is wrong in the options and the chip together."""
    from lbi.chip.load import load_profile
    from lbi.cli.sweep_plan import configured
    from lbi.train.session.budget_options import check_models

    problems: dict[Problem, None] = {}
    kind: type[LbiError] = UsageError
    trials = []
    try:
        trials = plan({**given, "chip": chip})
    except UsageError as error:
        problems |= dict.fromkeys(error.problems)
    try:
        profile = load_profile(chip)
    except (InputError, UsageError) as error:
        kind = UsageError if problems else type(error)
        problems |= dict.fromkeys(error.problems)
    else:
        unable = Problems()
        for trial in trials:
            check_models(configured(trial.arguments)[0], profile, unable)
        problems |= dict.fromkeys(unable)
    Problems(problems).raise_as(kind)
    return trials


def _shown(given: dict[str, Any]) -> Iterator[str]:
    """The options as they are typed."""
    for option in swept_options():
        value = given.get(str(option.name))
        if option.is_flag:
            yield from [] if value is None else [option.opts[0] if value else option.secondary_opts[0]]
        elif value:
            for part in value if option.multiple else (value,):
                yield from (option.opts[0], part)


def _check_reachable(address: str | None) -> None:
    """Raise BackendError unless something listens at ``HOST:PORT``; Ray itself waits for minutes."""
    import socket

    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not (host and port.isdigit()):
        return
    try:
        socket.create_connection((host, int(port)), REACH_S).close()
    except (OSError, OverflowError) as error:
        raise BackendError(UNREACHABLE.broken(f"--address {address}", str(error))) from error


def _read_files(trials: list[Trial], chip: str) -> dict[str, dict[str, list[Path]]]:
    """What each trial reads; raises, before any work, for data sets that cannot be found."""
    from lbi import datasets
    from lbi.cli.sweep_files import files_of
    from lbi.cli.sweep_plan import configured

    seen, problems = set(), Problems()
    for trial in trials:
        config, _ = configured(trial.arguments)
        key = json.dumps([config.dataset, config.data, dict(config.encoding)], sort_keys=True)
        if key not in seen:
            seen.add(key)
            try:
                datasets.load(config.dataset, config.data, **config.encoding)
            except (InputError, UsageError) as error:
                problems.take(error)
    problems.raise_as(InputError)
    listed: dict[str, list[Path]] = {}
    return {trial.name: files_of(trial.arguments, chip, listed) for trial in trials}


@contextmanager
def _folder(path: Path, sweep: dict[str, Any]) -> Iterator[Path]:
    """The sweep's folder, held by this process alone."""
    from lbi.system.atomic import WRITTEN, atomic_write

    folder, description = path.resolve(), {"format": SWEEP[0], "version": SWEEP[1], **sweep}
    plain = json.loads(json.dumps(description))
    marker, problems = folder / "sweep.json", Problems()
    if os.path.exists(folder) and not folder.is_dir():
        OTHER_SWEEP.check(problems, False, str(path), "a file")
    elif os.path.exists(marker):
        try:
            found = json.loads(marker.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            found = None
        if isinstance(found, dict):
            found.pop("files", None)  # compared when their content is known
        OTHER_SWEEP.check(problems, found == plain, str(path), f"a sweep with {_difference(found, plain)}")
    elif os.path.isdir(folder):
        foreign = sorted(name for name in os.listdir(folder) if name != "sweep.lock")
        OTHER_SWEEP.check(problems, not foreign, str(path), f"other files ({', '.join(foreign[:3])})")
    problems.raise_as(InputError)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(WRITTEN.broken(str(path), error.strerror)) from error
    with _lock(folder / "sweep.lock", path):
        if not marker.exists():
            with atomic_write(marker) as new:
                new.write_text(json.dumps(plain, indent=2) + "\n", encoding="utf-8")
        yield folder


def _lock(file: Path, path: Path) -> IO[str]:
    """The file, opened, and locked until it is closed."""
    from lbi.system.locks import locked

    try:
        lock = locked(file)
    except OSError as error:
        raise InputError(OTHER_SWEEP.broken(str(path), f"{file.name}: {error.strerror}")) from error
    if lock is None:
        raise InputError(IN_USE.broken(str(path), "another sweep is running in it"))
    return lock


def _difference(found: Any, wanted: dict[str, Any]) -> str:
    readable = isinstance(found, dict) and isinstance(found.get("options"), dict)
    if not readable or found.get("format") != wanted["format"]:
        return "an unreadable sweep.json"
    own, other = ({**sweep["options"], "chip": sweep.get("chip")} for sweep in (wanted, found))
    names = sorted(name for name in {*own, *other} if own.get(name) != other.get(name))
    return f"another {', '.join(names)}" if names else "another version"


def _run(
    trials: list[Trial],
    folder: Path,
    chip: str,
    address: str | None,
    jobs: int | None,
    digests: dict[str, Digest],
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Run trials on Ray, one core and one thread each, and yield (name, result) as they end."""
    if not trials:
        return
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_worker_niceness", "0")  # Ray's 15 leaves trials no time beside other work
    import ray

    if not debugging():
        logging.getLogger("ray").setLevel(logging.ERROR)  # its advice on running a cluster
    from lbi.cli.sweep_trial import run_trial
    from lbi.system.cores import whole_cores

    threads = dict.fromkeys(("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    here: dict[str, Any] = {} if address else {"num_cpus": jobs or whole_cores(), "include_dashboard": False}
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            configure_logging=False,
            runtime_env={"env_vars": threads},
            **here,
        )
    except SystemExit as end:  # Ray's own handler, while it starts
        if end.code != signal.SIGTERM:
            raise
        signals.leave()
    except Exception as error:  # Ray raises many kinds
        lines = " ".join(str(error).split())[:300]
        raise BackendError(UNREACHABLE.broken(f"--address {address}", lines)) from error
    signals.install()  # Ray has its own for SIGTERM
    try:
        task = ray.remote(num_cpus=1, max_retries=RETRIES)(run_trial)
        running = {
            task.options(name=trial.name).remote(
                str(folder / "trials" / trial.name), trial.arguments, chip, digests
            ): trial
            for trial in trials
        }
        while running:
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            trial = running.pop(done)
            try:
                yield trial.name, ray.get(done)
            except Exception as error:  # the worker died more often than it is restarted
                yield (
                    trial.name,
                    {"error": [f"worker: {type(error).__name__}: {' '.join(str(error).split())[:300]}"]},
                )
    finally:
        ray.shutdown()


@contextmanager
def _display(trials: list[Trial], results: dict[str, Any], *, show: bool) -> Iterator[Any]:
    """A table of trials on a terminal, else a line per finished trial; yields what to call for a new result."""
    out = console(stderr=True, quiet=not show)
    if not (show and sys.stderr.isatty()):
        yield lambda name: out.print(f"{name}: {_status(results[name])}", markup=False, soft_wrap=True)
        return
    from rich.live import Live

    with Live(_table(trials, results), console=out, transient=True) as live, nullcontext():
        yield lambda _name: live.update(_table(trials, results))


def _table(trials: list[Trial], results: dict[str, Any]) -> Table:
    from rich.table import Table

    done = sum(result is not None for result in results.values())
    table = Table("trial", "result", title=f"{done} of {len(trials)} trials")
    for trial in trials:
        table.add_row(trial.name, _status(results[trial.name]))
    return table


def _status(result: dict[str, Any] | None) -> str:
    if result is None:
        return "waiting or running"
    if "error" in result:
        return f"failed: {'; '.join(result['error'])}"
    figures = f"test {result['accuracy']['test']:.2%}, integer {result['accuracy_integer']:.2%}"
    uses = "".join(f", budget {use}" for use in read_uses(result.get("budget")))
    return f"{figures}, density {result['density']:.4f}, {result['synops']:,.0f} SynOps{uses}"


if __name__ == "__main__":
    main()
