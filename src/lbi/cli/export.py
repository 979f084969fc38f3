"""Command ``lbi-export``: convert a model to the chip's integers and write it for one target."""

from __future__ import annotations

from lbi.system import signals

if __name__ == "__main__":  # before the imports below take their time
    signals.install()

import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lbi.cli.common import PATH, Command, common_options, console, emit_json
from lbi.costing.provenance import reading_notes
from lbi.costing.recorded_budget import read_uses
from lbi.errors import FitError, InputError, LbiError, LbiWarning, Problem, Problems, Rule, UsageError

if TYPE_CHECKING:
    from lbi.deploy.job import ExportJob
    from lbi.deploy.targets import Exporter
    from lbi.network.fixed import FixedNetwork
    from lbi.network.graph import Network

OTHER_CHIP = Rule(
    "budget-chip",
    "the same chip: on {own} nothing holds it to that budget",
    "--chip {chip}, or compare with lbi-estimate --budget",
)
SIZES = Rule("input-shape", "sizes such as 1,28,28")


def _list_targets(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
    if not wanted or context.resilient_parsing:
        return
    from lbi.deploy import targets

    rows = []
    for name in targets.names():
        row = {"name": name, "origin": None if name in targets.TARGETS else targets.plugins()[name].value}
        try:
            module = targets.exporter(name)
            row |= {"title": module.TITLE, "suffix": module.SUFFIX, "error": None}
        except UsageError as error:
            row |= {"title": None, "suffix": None, "error": "; ".join(map(str, error.problems))}
        rows.append(row)
    if "--json" in sys.argv:  # an option that may not be read yet
        emit_json({"targets": rows})
    else:
        for row in rows:
            origin = f"  [{row['origin']}]" if row["origin"] else ""
            shown = (
                f"broken: {row['error']}" if row["error"] else f"{row['title']} (*{row['suffix']}){origin}"
            )
            click.echo(f"{row['name']:<8}  {shown}")
    context.exit(0)


@click.command(name="lbi-export", cls=Command)
@click.argument("model", type=PATH)
@click.option("--target", required=True, metavar="NAME", help="Output format; --list-targets shows all.")
@click.option(
    "--chip", default=None, metavar="CHIP", help="loihi1, loihi2 or a path ending in .toml  [default: loihi2]"
)
@click.option(
    "-o",
    "--output",
    type=PATH,
    default=None,
    help="File or folder to write  [default: the model's name with the target's suffix]",
)
@click.option("--force", is_flag=True, help="Replace an earlier export.")
@click.option(
    "--no-compact",
    is_flag=True,
    help="Keep neurons that cannot change the output; they are left out otherwise (not for --target nir).",
)
@click.option(
    "--check",
    "check_only",
    is_flag=True,
    help="Write nothing; list all reasons why the target cannot hold the model.",
)
@click.option(
    "--dt",
    type=float,
    default=None,
    metavar="S",
    help="Seconds per timestep: of a .nir MODEL, if the file does not decide it; of --target nir, to write.  [default there: 0.0001]",
)
@click.option(
    "--writer",
    default=None,
    metavar="NAME",
    help="For a .nir MODEL: the framework that wrote it: nir (as specified), snntorch, norse, sinabs, spikingjelly, rockpool.",
)
@click.option(
    "--arch",
    default=None,
    metavar="FILE.py:FUNCTION",
    help="For another framework's .pt: the function that builds its torch model. The file is executed.",
)
@click.option(
    "--input-shape",
    default=None,
    metavar="N[,N…]",
    help="With --arch: shape of one sample at one step, such as 1,28,28.",
)
@click.option(
    "--list-targets",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_targets,
    help="List all targets, including those of other packages.",
)
@common_options
def main(
    model: Path,
    target: str,
    chip: str | None,
    output: Path | None,
    force: bool,
    no_compact: bool,
    check_only: bool,
    dt: float | None,
    writer: str | None,
    arch: str | None,
    input_shape: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Export MODEL to a target: a model.pt, .nir, netx .net or network.h5, or with --arch a saved state_dict."""
    from lbi.chip.load import load_profile
    from lbi.deploy import targets
    from lbi.deploy.job import ExportJob
    from lbi.network.graph import Network
    from lbi.system.atomic import check_apart

    exporter = targets.exporter(target)
    chosen = None if chip is None else load_profile(chip)
    read_dt = None if target == "nir" and model.suffix != ".nir" else dt  # else it is for writing
    options = {"dt": read_dt, "writer": writer, "arch": arch, "input_shape": _sizes(input_shape)}
    network = targets.load(model, **{name: value for name, value in options.items() if value is not None})
    profile = chosen or load_profile(getattr(network, "chip", None) or "loihi2")
    if exporter.TAKES == "fixed":
        _warn_of_other_chip(network, chip or profile.name, model)
    job = ExportJob(network, profile, dt, compact=not no_compact)
    path = output or model.with_name(
        model.name.removesuffix(".net").removesuffix(model.suffix) + exporter.SUFFIX
    )
    if not check_only:
        check_apart(path, _inputs(model, chip, arch))
    reasons, violations = _reasons(job, exporter)
    if not check_only and reasons:
        raise InputError(*reasons, *violations)
    if not check_only and violations:
        raise FitError(*violations)
    if not check_only:
        targets.write(job, exporter, path, force=force)
    written = [] if check_only else _files(path)
    notes = _notes(job, exporter, reasons, violations)
    source = (
        dict(network.meta.get("nir", {})) if model.suffix == ".nir" and isinstance(network, Network) else {}
    )
    if as_json:
        record = _record(job, target, path, written, reasons, violations)
        read = [*source.pop("notes", []), *notes]
        emit_json({**record, "notes": read, **({"nir": source} if source else {})})
    elif not quiet:
        if source:
            step = f"{model} read with a time step of {source['dt']:g} s ({source['dt_from']})"
            console().print(step, markup=False, soft_wrap=True)
        _show(job, exporter, path, written, reasons, violations)
        for note in notes:
            console().print(note, markup=False, soft_wrap=True)
    if reasons or violations:
        raise (InputError if reasons else FitError)(*reasons, *violations)


def _warn_of_other_chip(network: Network | FixedNetwork, chip: str, model: Path) -> None:
    """Warn of a network that was trained to a budget on another chip than it is exported for."""
    training = getattr(network, "meta", getattr(network, "provenance", {})).get("training")
    budget = read_uses(training.get("budget")) if isinstance(training, dict) else ()
    config = training.get("config") if isinstance(training, dict) else None
    trained = config.get("chip") if isinstance(config, dict) else None
    if not (budget and isinstance(trained, str) and trained.isprintable()):
        return
    if os.path.realpath(trained) != os.path.realpath(chip):
        names = ", ".join(use.name for use in budget)
        problem = OTHER_CHIP.broken(
            str(model), f"trained to a budget ({names}) on {trained}", chip=trained, own=chip
        )
        warnings.warn(str(problem), LbiWarning, stacklevel=2)


def _notes(
    job: ExportJob, exporter: Exporter, reasons: list[Problem], violations: list[Problem]
) -> list[str]:
    """What reading the network changed, then what the target says of its output."""
    from lbi.network.fixed import FixedNetwork

    own = [] if reasons or violations or not hasattr(exporter, "notes") else exporter.notes(job)
    if isinstance(job.network, FixedNetwork):
        return [*reading_notes(job.network), *own]
    if exporter.TAKES == "fixed" and not reasons:
        return [*reading_notes(job.quantized), *own]
    return own


def _inputs(model: Path, chip: str | None, arch: str | None) -> list[str | Path]:
    """The files and folders that the command reads."""
    own_chip = [chip] if chip is not None and chip.endswith(".toml") else []
    return [model, *own_chip, *([] if arch is None else [arch.rpartition(":")[0]])]


def _sizes(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    try:
        sizes = tuple(int(size) for size in text.split(","))
    except ValueError:
        sizes = ()
    if not sizes or min(sizes) < 1:
        raise UsageError(SIZES.broken("--input-shape", repr(text)))
    return sizes


def _reasons(job: ExportJob, exporter: Exporter) -> tuple[list[Problem], list[Problem]]:
    """All reasons why the target cannot hold the network, and all chip limits that it breaks."""
    problems = Problems()
    violations: list[Problem] = []
    try:
        problems = Problems(exporter.check(job))
        if exporter.TAKES == "fixed":
            violations = list(job.violations)
    except LbiError as error:
        problems.take(error)
    return list(problems), violations


def _files(path: Path) -> list[str]:
    if path.is_file():
        return [path.name]
    return sorted(str(file.relative_to(path)) for file in path.rglob("*") if file.is_file())


def _record(
    job: ExportJob,
    target: str,
    path: Path,
    written: list[str],
    reasons: list[Problem],
    violations: list[Problem],
) -> dict[str, Any]:
    try:
        summary = job.summary
    except LbiError:
        summary = {"chip": job.profile.name, "populations": [], "projections": [], "n_cores": None}
    return {
        **summary,
        "target": target,
        "path": str(path),
        "files": written,
        "fits": not violations and not reasons,
        "violations": [str(problem) for problem in (*reasons, *violations)],
    }


def _show(
    job: ExportJob,
    exporter: Exporter,
    path: Path,
    written: list[str],
    reasons: list[Problem],
    violations: list[Problem],
) -> None:
    out = console()
    if not reasons:
        text = job.text if exporter.TAKES == "fixed" else job.float_text
        out.print(text, markup=False, soft_wrap=True)
    if written:
        listed = "" if path.is_file() else f": {', '.join(written)}"
        out.print(f"wrote {path}{listed}", markup=False, soft_wrap=True)
    elif not reasons and not violations:
        out.print(f"{exporter.SUFFIX.lstrip('.')}: this model can be exported", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
