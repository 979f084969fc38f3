"""Command ``lbi-train``: train a sparse spiking network on a data set and write ``model.pt``."""

from __future__ import annotations

from lbi.system import signals

if __name__ == "__main__":  # before the imports below take their time
    signals.install()

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lbi.cli.common import Command, common_options, console, emit_json, progress

if TYPE_CHECKING:
    from lbi.train.session.config import TrainConfig
    from lbi.train.session.run import Outputs

FLAGS = (
    "data",
    "optimizer",
    "density",
    "epochs",
    "seed",
    "hidden",
    "recurrent",
    "neuron",
    "readout",
    "lr",
    "batch_size",
    "validation",
    "patience",
    "precision",
)
"""Flags that are fields of the training configuration under the same name."""


@click.command("lbi-train", cls=Command)
@click.option("--dataset", help="digits (default), psdigits, shd, ssc, psmnist, or a FILE.npz of your own.")
@click.option("--data", type=click.Path(), metavar="DIR", help="Where the data set's files are.")
@click.option("--optimizer", help="adabreg (default) or linbreg: sparse; adam: dense.")
@click.option(
    "--density", type=float, metavar="D", help="Share of weights to keep, for the sparse optimizers."
)
@click.option("--epochs", type=int, metavar="N", help="Times to go through the training set.")
@click.option(
    "--seed", type=int, metavar="S", help="Of the first weights and the order of samples; 0 if not given."
)
@click.option("--hidden", metavar="N[,N…]", help="Neurons of each hidden population.")
@click.option("--recurrent/--feedforward", default=None, help="Recurrent hidden populations, or not.")
@click.option("--neuron", help="Of the hidden populations: cuba_lif (default), or atrlif: adaptive.")
@click.option(
    "--readout", help="spike_count (default), or of integrators as output: membrane_max, membrane_mean."
)
@click.option("--lr", type=float, help="Learning rate at the start.")
@click.option("--batch-size", type=int, metavar="N", help="Samples per step of the optimizer.")
@click.option("--validation", type=float, metavar="SHARE", help="Share of the training set to hold out.")
@click.option(
    "--patience", type=int, metavar="N", help="Stop after N epochs without a better validation accuracy."
)
@click.option(
    "--config",
    type=click.Path(path_type=Path),
    metavar="FILE.toml",
    help="Options by name; flags override them.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other option, as in a --config file; a wrong NAME lists them.",
)
@click.option(
    "--resume", type=click.Path(path_type=Path), metavar="CKPT", help="Go on from a checkpoint, bit for bit."
)
@click.option(
    "--from",
    "start",
    type=click.Path(path_type=Path),
    metavar="MODEL",
    help="Go on from a trained model.pt, with its data set and options unless given.",
)
@click.option("--precision", help="float (default), or chip: the last epochs run the chip's integers.")
@click.option(
    "--metrics", type=click.Path(path_type=Path), metavar="FILE.csv", help="A row of figures per epoch."
)
@click.option(
    "--tensorboard", type=click.Path(path_type=Path), metavar="DIR", help="The same for TensorBoard."
)
@click.option(
    "--output",
    "-o",
    type=click.Path(path_type=Path),
    default=Path("model.pt"),
    show_default=True,
    metavar="MODEL.pt",
    help="The model to write; OUTPUT.ckpt beside it while training.",
)
@common_options
def main(
    output: Path, metrics: Path | None, tensorboard: Path | None, as_json: bool, quiet: bool, **flags: Any
) -> None:
    """Train a spiking network whose weights are mostly absent, on real data turned into spikes.

    What is not given is what suits the data set. While it runs, OUTPUT.ckpt holds its state; after an interruption
    give it to --resume.
    """
    from lbi.errors import require

    require("torch", "train")
    from lbi.train.session.run import Outputs

    outputs = Outputs(output, metrics, tensorboard)
    outputs.check()
    config, begin = _configure(flags)
    record = _train(config, outputs, begin, show=not (as_json or quiet))
    if "model" not in record:  # another process of the same torchrun prints
        return
    if as_json:
        emit_json(record)
    elif not quiet:
        _print(record)


def _configure(flags: dict[str, Any]) -> tuple[TrainConfig, dict[str, Any]]:
    """The configuration, and what ``prepare`` begins with: ``start`` or ``checkpoint``, or neither."""
    from lbi.errors import Problem, UsageError
    from lbi.train.session.config import make_config
    from lbi.train.session.run import read_checkpoint, resume_config
    from lbi.train.session.start import Start

    options = {name: flags[name] for name in FLAGS if flags[name] is not None}
    if "hidden" in options:
        try:
            options["hidden"] = [int(part) for part in options["hidden"].split(",")]
        except ValueError:
            raise UsageError(
                Problem("option", "--hidden", repr(options["hidden"]), "whole numbers, separated by commas")
            ) from None
    options |= _assignments(flags["assignments"])
    given = flags["dataset"], flags["config"], options
    if flags["resume"] is None:
        if flags["start"] is None:
            return make_config(*given), {}
        start = Start.read(flags["start"])
        return start.config(*given), {"start": start}
    checkpoint = read_checkpoint(flags["resume"])
    also = {name for name, flag in (("dataset", "dataset"), ("from", "start")) if flags[flag]}
    fixed = sorted((set(options) - {"data", "epochs"}) | also)
    if fixed or flags["config"]:
        raise UsageError(
            Problem(
                "resume",
                "--resume",
                f"with {', '.join(fixed) or '--config'}",
                "only --data, --epochs and outputs",
                "leave the other options to the checkpoint",
            )
        )
    return resume_config(checkpoint, options), {"checkpoint": checkpoint}


def _assignments(assignments: tuple[str, ...]) -> dict[str, Any]:
    """NAME=VALUE pairs, the values read as in TOML; a bare word is a string."""
    import json

    options: dict[str, Any] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise click.UsageError(f"--set {assignment!r} is not NAME=VALUE")
        try:
            options[name.strip()] = json.loads(text)
        except json.JSONDecodeError:
            options[name.strip()] = text
    return options


def _train(config: TrainConfig, outputs: Outputs, begin: dict[str, Any], *, show: bool) -> dict[str, Any]:
    from lbi.train.session.run import complete, prepare

    trainer = prepare(config, outputs, **begin)
    total = (config.epochs - trainer.progress.epoch) * trainer.n_batches
    with progress(f"{config.optimizer} on {config.dataset}", total, show=show) as advance:

        def on_batch(record: dict[str, float]) -> None:
            figures = (f"{key} {record[key]:.3f}" for key in ("loss", "accuracy", "density", "rate"))
            advance(1, "  ".join(figures))

        trainer.on_batch = on_batch
        return complete(trainer, outputs)


def _print(record: dict[str, Any]) -> None:
    accuracy = record["accuracy"]
    console().print(
        f"{record['model']}: {record['dataset']}, {record['optimizer']}, {record['epochs']} epochs in "
        f"{record['seconds']:.1f} s\n"
        f"  accuracy  test {accuracy['test']:.2%}, training {accuracy['train']:.2%}\n"
        f"  weights   {record['n_active']:,} of {record['n_weights']:,} ({record['density']:.2%})\n"
        f"  firing    {record['firing_rate']:.2%} of neurons per step"
    )


if __name__ == "__main__":
    main()
