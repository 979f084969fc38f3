"""Command ``lbi-run``: run an export in Lava, Lava-DL or the simulator, and compare two of them."""

from __future__ import annotations

from lbi.system import signals

if __name__ == "__main__":  # before the imports below take their time
    signals.install()

import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lbi.cli.common import PATH, Command, common_options, console, debugging, emit_json, progress
from lbi.cli.inputs import (
    ONE_INPUT,
    check_labels,
    files_read,
    read_samples,
)
from lbi.costing.provenance import length_notes, reading_notes, trained_dataset
from lbi.errors import Problem, Rule, UsageError, VerificationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lbi.deploy.backends import Divergence, Export, RunOptions

BACKEND_NAMES = ("lava", "netx", "sim")

HAS_INPUT = Rule("no-input", fix="name the input: --dataset NAME or --spikes FILE.npz")
IDENTICAL = Rule("not-identical", "identical {compared}", "keep the export and the spikes, and report it")


class Seconds(click.FloatRange):
    """A time limit: a number above 0, which NaN is not."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number; raises click's error for any other text."""
        number = super().convert(value, param, ctx)
        if number != number:
            self.fail(f"{value!r} is not a number of seconds", param, ctx)
        return number


@click.command(name="lbi-run", cls=Command)
@click.argument("export", type=PATH)
@click.option(
    "--backend",
    type=click.Choice(BACKEND_NAMES),
    default="lava",
    show_default=True,
    help="lava-nc processes, Lava-DL's netx, or the bit-exact simulator.",
)
@click.option(
    "--dataset",
    default=None,
    metavar="NAME",
    help="Test set to run, encoded as in training  [default: the one it was trained on]",
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
    help="Spikes to run instead: (n_samples, n_steps, n_in) of 0 and 1, optional labels.",
)
@click.option("--samples", type=click.IntRange(min=1), default=None, help="Run the first N samples only.")
@click.option(
    "--verify",
    is_flag=True,
    help="Also run sim (for sim: lava) and compare every output spike.",
)
@click.option(
    "--timeout",
    type=Seconds(min=0, min_open=True),
    default=600.0,
    show_default=True,
    metavar="S",
    help="Time limit of a backend in seconds.",
)
@click.option(
    "-o",
    "--output",
    type=PATH,
    default=None,
    metavar="OUT.npz",
    help="Write output spikes, predictions and labels to a file; an existing one is replaced.",
)
@common_options
def main(
    export: Path,
    backend: str,
    dataset: str | None,
    data_dir: Path | None,
    spikes: Path | None,
    samples: int | None,
    verify: bool,
    timeout: float,
    output: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run EXPORT: a folder made by lbi-export, its network.h5, or a netx .net."""
    from lbi.deploy import backends
    from lbi.system.atomic import check_writable

    if dataset is not None and spikes is not None:
        raise UsageError(ONE_INPUT.broken("--dataset and --spikes", "both given"))
    opened = backends.open_export(export)
    name = _dataset(opened, dataset, spikes)
    if output is not None:
        check_writable(output, inputs=files_read([export], spikes or name, data_dir=data_dir))
    chosen = read_samples(opened.fixed, name, data_dir, spikes, samples)
    check_labels(chosen, opened.fixed)
    data, labels, _ = chosen
    # With --verify one of the two backends is the simulator, which warns of saturation itself.
    options = backends.RunOptions(timeout_s=timeout, echo=debugging(), watch=not verify)
    show = not (as_json or quiet)
    started = time.perf_counter()
    result = _run(opened, data, backend, options, show)
    seconds = time.perf_counter() - started
    divergence = None
    if verify:
        other = _run(opened, data, backends.other_backend(backend), options, show)
        divergence = backends.first_divergence(result, other, opened.fixed.readout.population)
    predictions = opened.fixed.readout.classify(result)
    of_membrane = opened.fixed.readout.of_membrane
    compared = "output voltages" if of_membrane else "output spikes"
    record = {
        "backend": backend,
        "n_samples": int(data.shape[0]),
        "n_steps": int(data.shape[1]),
        "accuracy": None if labels is None else float((predictions == labels).mean()),
        "n_output_spikes": 0 if of_membrane else int(result.sum()),
        "seconds": seconds,
        "verified": (divergence is None) if verify else None,
        "verified_with": backends.other_backend(backend) if verify else None,
        "first_divergence": None if divergence is None else asdict(divergence),
        "notes": [*reading_notes(opened.fixed), *length_notes(opened.fixed, data.shape[1])],
    }
    if output is not None:
        arrays = {"membrane" if of_membrane else "spikes": result, "predictions": predictions}
        _save(output, arrays if labels is None else {**arrays, "labels": labels})
    if as_json:
        emit_json(record)
    elif not quiet:
        _show(record, compared)
    if divergence is not None:
        raise VerificationError(_as_problem(divergence, backend, compared))


def _dataset(export: Export, dataset: str | None, spikes: Path | None) -> str | None:
    """The data set to run: the requested one, else the one the network was trained on."""
    name = trained_dataset(export.fixed) if dataset is None else dataset
    if name is None and spikes is None:
        raise UsageError(HAS_INPUT.broken(export.where, "does not say what it was trained on"))
    return name


def _run(
    export: Export, data: NDArray[np.uint8], backend: str, options: RunOptions, show: bool
) -> NDArray[Any]:
    """Run one backend, with a progress bar on a terminal."""
    from lbi.deploy import backends

    with progress(backend, len(data), show=show) as advance:
        seen = show and sys.stderr.isatty()
        return backends.run(export, data, backend, replace(options, on_done=advance if seen else None))


def _as_problem(divergence: Divergence, backend: str, compared: str) -> Problem:
    from lbi.deploy.backends import other_backend

    return IDENTICAL.broken(
        f"{backend} against {other_backend(backend)}",
        f"{divergence.n_different} {compared} differ, the first at sample {divergence.sample}, step"
        f" {divergence.step}, population {divergence.population!r}, neuron {divergence.neuron}",
        compared=compared,
    )


def _save(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    import io

    import numpy as np

    from lbi.system.atomic import atomic_write

    file = io.BytesIO()  # on a full disk numpy itself would print a traceback
    np.savez_compressed(file, **arrays)
    with atomic_write(path) as new:
        new.write_bytes(file.getvalue())


def _show(record: dict[str, Any], compared: str) -> None:
    out = console()
    out.print(
        f"{record['backend']}: {record['n_samples']} samples of {record['n_steps']} steps"
        f" in {record['seconds']:.1f} s, {record['n_output_spikes']} output spikes",
        markup=False,
    )
    if record["accuracy"] is not None:
        out.print(f"accuracy {record['accuracy']:.4f}", markup=False)
    for note in record["notes"]:
        out.print(note, markup=False, soft_wrap=True)
    if record["verified"]:
        out.print(f"identical to {record['verified_with']}: 0 {compared} differ", markup=False)


if __name__ == "__main__":
    main()
