"""Command ``lbi-estimate``: the cost of exports on a chip per timestep, dense beside sparse."""

from __future__ import annotations

from lbi.system import signals

if __name__ == "__main__":  # before the imports below take their time
    signals.install()

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lbi.cli.common import PATH, Command, common_options, console, emit_json, progress
from lbi.cli.inputs import ONE_INPUT, files_read, read_samples
from lbi.errors import FitError, InputError, Problems, Rule, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lbi.costing.budget import Budget
    from lbi.costing.recorded_budget import RecordedUse
    from lbi.costing.report.trace import TraceWriter
    from lbi.costing.result import Estimate
    from lbi.network.fixed import FixedNetwork

TRACED = Rule("options", fix="name the input: --dataset NAME or --spikes FILE.npz")
OWN_CHIP = Rule(
    "unknown-chip", "{names}, or the TOML file of the chip", "name the file: --chip PATH/{chip}.toml"
)
AN_EXPORT = Rule("not-an-export", "an export folder, network.h5 or .net", "lbi-export {path} --target loihi")
SAME_WIDTH = Rule(
    "spikes-width", "{width}, as the input", "compare exports of the same data set and encoding"
)
NOT_MET = Rule(
    "budget-not-met", "at most the limit", "allow more, or train to it: lbi-train --budget … --chip {chip}"
)


@click.command(name="lbi-estimate", cls=Command)
@click.argument("exports", nargs=-1, required=True, metavar="EXPORT [EXPORT2 ...]", type=PATH)
@click.option(
    "--dataset",
    default=None,
    metavar="NAME",
    help="Test set to run, encoded as the first export was trained.",
)
@click.option(
    "--data",
    "data_dir",
    type=PATH,
    default=None,
    metavar="DIR",
    help="Folder with the data set's files.",
)
@click.option(
    "--spikes",
    type=PATH,
    default=None,
    metavar="FILE.npz",
    help="Spikes to run instead: (n_samples, n_steps, n_in) of 0 and 1.",
)
@click.option("--samples", type=click.IntRange(min=1), default=None, help="Run the first N samples only.")
@click.option(
    "--chip",
    default=None,
    metavar="loihi1|loihi2|PATH.toml",
    help="Chip to estimate for  [default: the one each export was made for]",
)
@click.option(
    "--budget",
    multiple=True,
    metavar="NAME=VALUE",
    help="The most that an export may use, as with lbi-train: cores=1, memory=64KiB, and per timestep synops=1200, energy=40nJ, time=5us. Repeatable; exit code 6 if one is exceeded.",
)
@click.option(
    "--trace",
    type=PATH,
    default=None,
    metavar="TRACE.csv",
    help="Write counts per sample, timestep, population and projection.",
)
@click.option(
    "--html",
    type=PATH,
    default=None,
    metavar="REPORT.html",
    help="Write the report as one self-contained page.",
)
@click.option(
    "--sources", is_flag=True, help="Print every number of the chip behind the figures, with its reference."
)
@common_options
def main(
    exports: tuple[Path, ...],
    dataset: str | None,
    data_dir: Path | None,
    spikes: Path | None,
    samples: int | None,
    chip: str | None,
    budget: tuple[str, ...],
    trace: Path | None,
    html: Path | None,
    sources: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Estimate what EXPORT costs per timestep: synaptic operations, memory, cores, energy, time.

    EXPORT is a folder made by lbi-export, its network.h5, or a netx .net. Several exports are run on the same
    input and compared. Without --dataset or --spikes, static figures and the worst case are shown.
    """
    _check_options(dataset, spikes, samples, trace)
    _check_outputs(trace, html, files_read(exports, chip, dataset, spikes, data_dir=data_dir))
    networks = _load(exports)
    data, what = None, ""
    if dataset is not None or spikes is not None:
        data, _, what = read_samples(networks[0], dataset, data_dir, spikes, samples)
    _check_widths(exports, networks, data)
    if chip is None:
        _check_chips(exports, networks)
    budgets = _budgets(budget, networks, chip)
    estimates = _estimate(exports, networks, chip, data, what, trace, show=not (as_json or quiet))
    names = _names(exports)
    uses = [
        tuple(use.recorded() for use in own.uses(estimate.sparse))
        for own, estimate in zip(budgets, estimates, strict=True)
    ]
    if html is not None:
        from lbi.costing.report.html import write_report

        write_report(html, estimates, names, uses)
    if as_json:
        emit_json(_record(estimates, names, uses))
    elif not quiet:
        from lbi.cli.estimate_table import show

        show(console(), estimates, names, uses, sources=sources)
    _check_budget(exports, estimates, uses)


def _check_options(dataset: str | None, spikes: Path | None, samples: int | None, trace: Path | None) -> None:
    problems = Problems()
    ONE_INPUT.check(problems, dataset is None or spikes is None, "--dataset and --spikes", "both given")
    has_input = dataset is not None or spikes is not None
    TRACED.check(problems, trace is None or has_input, "--trace", "no input to trace")
    TRACED.check(problems, samples is None or has_input, "--samples", "no input to take them from")
    problems.raise_as(UsageError)


def _check_outputs(trace: Path | None, html: Path | None, inputs: list[Path]) -> None:
    from lbi.system.atomic import check_writable

    check_writable(*(path for path in (trace, html) if path is not None), inputs=inputs)


def _load(paths: tuple[Path, ...]) -> list[FixedNetwork]:
    """The networks of all exports; all unreadable ones are reported together."""
    from lbi.deploy import targets
    from lbi.network.fixed import FixedNetwork

    problems = Problems()
    networks = []
    for path in paths:
        try:
            network = targets.load(path)
        except InputError as error:
            problems.take(error)
            continue
        if isinstance(network, FixedNetwork):
            networks.append(network)
        else:
            problems.note(AN_EXPORT.broken(str(path), "a float model", path=path))
    problems.raise_as(InputError)
    return networks


def _check_widths(
    paths: tuple[Path, ...], networks: list[FixedNetwork], data: NDArray[np.uint8] | None
) -> None:
    problems = Problems()
    for path, network in zip(paths, networks, strict=True):
        width = networks[0].n_in if data is None else data.shape[2]
        SAME_WIDTH.check(
            problems, network.n_in == width, str(path), f"{network.n_in} input channels", width=width
        )
    problems.raise_as(InputError)


def _check_chips(paths: tuple[Path, ...], networks: list[FixedNetwork]) -> None:
    """An export holds the name of its chip only, so a chip of the user's own has to be given."""
    from lbi.chip.load import profile_names

    problems = Problems()
    names = profile_names()
    for path, chip in zip(paths, (network.chip for network in networks), strict=True):
        found = f"made for the chip {chip!r}"
        OWN_CHIP.check(problems, chip in names, str(path), found, names=", ".join(names), chip=chip)
    problems.raise_as(UsageError)


def _budgets(texts: tuple[str, ...], networks: list[FixedNetwork], chip: str | None) -> list[Budget]:
    """The limits on each export's chip."""
    from lbi.chip.load import load_profile
    from lbi.costing.budget import Budget

    return [Budget.of(texts, load_profile(chip or network.chip)) for network in networks]


def _check_budget(
    paths: tuple[Path, ...], estimates: list[Estimate], uses: list[tuple[RecordedUse, ...]]
) -> None:
    """Raise FitError naming every limit that an export exceeds; its figures have been shown."""
    from lbi.costing.recorded_budget import exceeded

    problems = Problems()
    for path, estimate, own in zip(paths, estimates, uses, strict=True):
        for use in exceeded(own):
            where = f"{path}, --budget {use.name}"
            problems.note(NOT_MET.broken(where, use.amounts, chip=estimate.profile.name))
    problems.raise_as(FitError)


def _estimate(
    paths: tuple[Path, ...],
    networks: list[FixedNetwork],
    chip: str | None,
    data: NDArray[np.uint8] | None,
    what: str,
    trace: Path | None,
    *,
    show: bool,
) -> list[Estimate]:
    """One estimate per network, with the trace written on the way; all broken chip limits are reported together."""
    from lbi.chip.load import load_profile
    from lbi.costing.estimation import estimate
    from lbi.costing.report.trace import TraceWriter

    problems = Problems()
    estimates = []
    n_samples = 0 if data is None else data.shape[0]
    basis = "" if data is None else f"measured: {what}, {n_samples} samples of {data.shape[1]} timesteps"
    with (
        TraceWriter.open(trace) as writer,
        progress("estimate", len(paths) * n_samples, show=show) as advance,
    ):
        for path, name, network in zip(paths, _names(paths), networks, strict=True):

            def on_activity(start: int, activity: Any, name: str = name, network: Any = network) -> None:
                _trace(writer, name, network, start, activity)
                advance(activity.n_samples)

            try:
                profile = load_profile(chip or network.chip)
                estimates.append(
                    estimate(network, chip=profile, spikes=data, basis=basis, on_activity=on_activity)
                )
            except FitError as error:
                problems.take(error, inside=str(path) if len(paths) > 1 else "")
        problems.raise_as(FitError)
    return estimates


def _trace(writer: TraceWriter | None, name: str, network: FixedNetwork, start: int, activity: Any) -> None:
    if writer is not None:
        writer.add(name, network, start, activity)


def _names(paths: tuple[Path, ...]) -> list[str]:
    """A short name per export: its stem, or its folder's stem for a file inside; equal names are numbered."""
    inside = {"network.h5", "network.net"}
    stems = [(path.parent.stem if path.name in inside else "") or path.stem for path in paths]
    return [stem if stems.count(stem) == 1 else f"{stem} ({i + 1})" for i, stem in enumerate(stems)]


def _record(
    estimates: list[Estimate], names: list[str], uses: list[tuple[RecordedUse, ...]]
) -> dict[str, Any]:
    """The JSON record: the first export's estimate; for several, also all estimates and their ratios."""
    from lbi.costing.ratios import ratios

    records = [
        {"name": name} | estimate.to_dict() | {"limits": {use.name: use.to_dict() for use in own} or None}
        for name, estimate, own in zip(names, estimates, uses, strict=True)
    ]
    if len(records) == 1:
        return records[0]
    comparison = [
        {"of": names[0], "to": other["name"], "ratio": ratios(records[0]["sparse"], other["sparse"])}
        for other in records[1:]
    ]
    return records[0] | {"exports": records, "comparison": comparison}


if __name__ == "__main__":
    main()
