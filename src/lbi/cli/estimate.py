"""``lbi-estimate``: what exports cost on a chip per timestep, dense beside sparse."""

from __future__ import annotations

from lbi.system import signals

if __name__ == "__main__":  # before the imports below take their time
    signals.install()

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lbi.cli.common import Command, common_options, console, emit_json, progress
from lbi.cli.inputs import read_samples
from lbi.errors import FitError, InputError, Problems, UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lbi.costing.report.trace import TraceWriter
    from lbi.costing.result import Estimate
    from lbi.network.fixed import FixedNetwork


@click.command(name="lbi-estimate", cls=Command)
@click.argument(
    "exports", nargs=-1, required=True, metavar="EXPORT [EXPORT2 ...]", type=click.Path(path_type=Path)
)
@click.option(
    "--dataset",
    default=None,
    metavar="NAME",
    help="Test set to run, encoded as the first export was trained.",
)
@click.option(
    "--data",
    "data_dir",
    type=click.Path(path_type=Path),
    default=None,
    metavar="DIR",
    help="Where the data set's files are.",
)
@click.option(
    "--spikes",
    type=click.Path(path_type=Path),
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
    "--trace",
    type=click.Path(path_type=Path),
    default=None,
    metavar="TRACE.csv",
    help="Write counts per sample, timestep, population and projection.",
)
@click.option(
    "--html",
    type=click.Path(path_type=Path),
    default=None,
    metavar="REPORT.html",
    help="Write a report: one self-contained page.",
)
@common_options
def main(
    exports: tuple[Path, ...],
    dataset: str | None,
    data_dir: Path | None,
    spikes: Path | None,
    samples: int | None,
    chip: str | None,
    trace: Path | None,
    html: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Estimate what EXPORT costs per timestep: synaptic operations, memory, cores, energy, time.

    EXPORT is a folder made by lbi-export, its network.h5, or a netx .net; several are run on the same
    input and compared. Without --dataset or --spikes: static figures and the worst case.
    """
    _check_options(dataset, spikes, trace, html)
    networks = _load(exports)
    data, what = None, ""
    if dataset is not None or spikes is not None:
        data, _, what = read_samples(networks[0], dataset, data_dir, spikes, samples)
    _check_widths(exports, networks, data)
    estimates = _estimate(exports, networks, chip, data, what, trace, show=not (as_json or quiet))
    names = _names(exports)
    if html is not None:
        from lbi.costing.report.html import write_report

        write_report(html, estimates, names)
    if as_json:
        emit_json(_record(estimates, names))
    elif not quiet:
        from lbi.cli.estimate_table import show

        show(console(), estimates, names)


def _check_options(dataset: str | None, spikes: Path | None, trace: Path | None, html: Path | None) -> None:
    from lbi.system.atomic import check_writable

    problems = Problems()
    problems.check(
        dataset is None or spikes is None, "options", "--dataset and --spikes", "both given", "one of them"
    )
    problems.check(
        trace is None or dataset is not None or spikes is not None,
        "options",
        "--trace",
        "no input to trace",
        remedy="name the input: --dataset NAME or --spikes FILE.npz",
    )
    problems.raise_as(UsageError)
    check_writable(*(path for path in (trace, html) if path is not None))


def _load(paths: tuple[Path, ...]) -> list[FixedNetwork]:
    """The networks of all exports; every unreadable one is reported."""
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
        if problems.check(
            isinstance(network, FixedNetwork),
            "not-an-export",
            str(path),
            "a float model",
            "an export folder, network.h5 or .net",
            f"lbi-export {path} --target loihi",
        ):
            assert isinstance(network, FixedNetwork)
            networks.append(network)
    problems.raise_as(InputError)
    return networks


def _check_widths(
    paths: tuple[Path, ...], networks: list[FixedNetwork], data: NDArray[np.uint8] | None
) -> None:
    problems = Problems()
    for path, network in zip(paths, networks, strict=True):
        width = networks[0].n_in if data is None else data.shape[2]
        problems.check(
            network.n_in == width,
            "spikes-width",
            str(path),
            f"{network.n_in} input channels",
            f"{width}, as the input",
            "compare exports of the same data set and encoding",
        )
    problems.raise_as(InputError)


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
    """One estimate per network, tracing on the way; the limits that any of them breaks are all reported."""
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
    """A short name per export: its stem, or its folder's for a file inside; numbered where two are alike."""
    inside = {"network.h5", "network.net"}
    stems = [(path.parent.stem if path.name in inside else "") or path.stem for path in paths]
    return [stem if stems.count(stem) == 1 else f"{stem} ({i + 1})" for i, stem in enumerate(stems)]


def _record(estimates: list[Estimate], names: list[str]) -> dict[str, Any]:
    """The estimate of the first export; for several also every export, and the first over each other."""
    from lbi.costing.result import ratios

    records = [{"name": name} | estimate.to_dict() for name, estimate in zip(names, estimates, strict=True)]
    if len(records) == 1:
        return records[0]
    comparison = [
        {"of": names[0], "to": other["name"], "ratio": ratios(records[0]["sparse"], other["sparse"])}
        for other in records[1:]
    ]
    return records[0] | {"exports": records, "comparison": comparison}


if __name__ == "__main__":
    main()
