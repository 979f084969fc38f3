"""Command ``lbi-train``: train a sparse spiking network on a data set and write ``model.pt``."""

from __future__ import annotations

from lbi.system import signals

if __name__ == "__main__":  # before the imports below take their time
    signals.install()

import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lbi.cli.common import PATH, Command, common_options, console, emit_json, progress
from lbi.errors import FitError, InputError, LbiWarning, Problems, Rule
from lbi.network.neurons import MODELS

if TYPE_CHECKING:
    from lbi.train.session.config import TrainConfig
    from lbi.train.session.run import Outputs

FLAGS = (
    "data",
    "optimizer",
    "density",
    "budget",
    "chip",
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
    "device",
)
"""Flags with the names of training configuration fields."""


NOT_BEGUN = "training had not begun, so nothing was written"
"""What an interruption reports while data and libraries are loaded."""

NOT_MET = Rule(
    "budget-not-met",
    "at most the limit",
    "the closest network was written; allow more, train longer, or with fewer --hidden neurons",
)
DENSE = Rule(
    "option",
    "1: {optimizer} trains all weights",
    "leave --density out, or choose a sparse --optimizer ({sparse})",
)
RESUMED = Rule(
    "resume", "only --data, --device, --epochs and outputs", "leave out the options that the checkpoint holds"
)

NOTHING_LEFT = Rule(
    "resume", "more than that", "the model is written as it is; give a larger --epochs to go on"
)


@click.command("lbi-train", cls=Command)
@click.option(
    "--dataset",
    help="digits (default), psdigits, mnist, psmnist, nmnist, dvsgesture, cifar10dvs, shd, ssc, or your own FILE.npz.",
)
@click.option(
    "--data", type=click.Path(readable=False), metavar="DIR", help="Folder with the data set's files."
)
@click.option(
    "--optimizer",
    help="adabreg (default) or linbreg for sparse training, adam for dense; baselines: prune, set, rigl, deepr.",
)
@click.option(
    "--density",
    type=float,
    metavar="D",
    help="Fraction of weights to keep, for the sparse optimizers  [default: 0.2, or what --budget allows]",
)
@click.option(
    "--budget",
    multiple=True,
    metavar="NAME=VALUE",
    help="The most that the deployed network may use on --chip: cores=1, memory=64KiB (B, KiB, MiB; all cores), and per timestep synops=1200, energy=40nJ (pJ, nJ, uJ; the upper end of all cost sets, or of one: energy=40nJ@COSTS), time=5us (ns, us, ms). Repeatable; with --density both hold.",
)
@click.option("--chip", metavar="CHIP", help="Chip of --budget: loihi1, loihi2 or a path ending in .toml.")
@click.option("--epochs", type=int, metavar="N", help="Passes over the training set.")
@click.option(
    "--seed", type=int, metavar="S", help="Seed of the initial weights and the order of samples  [default: 0]"
)
@click.option(
    "--hidden",
    metavar="LAYERS",
    help="Hidden populations: neurons (128,128), or with convolutions and pooling, 16c3,p2,32c3,p2,128.",
)
@click.option(
    "--recurrent/--feedforward", default=None, help="With or without recurrence in hidden populations."
)
@click.option(
    "--neuron",
    help=f"Neuron model of hidden populations: {', '.join(n for n, m in MODELS.items() if m.floats.spikes)} (default cuba_lif).",
)
@click.option(
    "--readout",
    help="spike_count (default), or for integrator outputs membrane_max, membrane_mean or membrane_last.",
)
@click.option("--lr", type=float, help="Initial learning rate.")
@click.option("--batch-size", type=int, metavar="N", help="Samples per optimizer step.")
@click.option(
    "--validation",
    type=float,
    metavar="FRACTION",
    help="Fraction of the training set to hold out  [default: 0]",
)
@click.option(
    "--patience",
    type=int,
    metavar="N",
    help="Stop after N epochs without a better validation accuracy  [default: never]",
)
@click.option(
    "--config",
    type=PATH,
    metavar="FILE.toml",
    help="Options by name; flags override them.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other option, as in a --config file; an unknown NAME lists them all.",
)
@click.option("--resume", type=PATH, metavar="CKPT", help="Resume from a checkpoint, bit for bit.")
@click.option(
    "--from",
    "start",
    type=PATH,
    metavar="MODEL",
    help="Fine-tune a trained model.pt; options that are left out are taken from it.",
)
@click.option("--device", metavar="DEVICE", help="auto (default: a GPU if there is one), cpu or cuda.")
@click.option("--precision", help="float (default), or chip: the last epochs compute in the chip's integers.")
@click.option("--metrics", type=PATH, metavar="FILE.csv", help="Write metrics, one row per epoch.")
@click.option("--tensorboard", type=PATH, metavar="DIR", help="Write metrics for TensorBoard.")
@click.option(
    "--output",
    "-o",
    type=PATH,
    default=Path("model.pt"),
    show_default=True,
    metavar="MODEL.pt",
    help="Output file, replaced if it exists; during training the checkpoint OUTPUT.ckpt stands beside it.",
)
@common_options
def main(
    output: Path, metrics: Path | None, tensorboard: Path | None, as_json: bool, quiet: bool, **flags: Any
) -> None:
    """Train a sparse spiking network on a data set and write it to OUTPUT.

    Options that are left out take the data set's preset (docs/reference/presets.md). During training, OUTPUT.ckpt holds the state after the last
    complete epoch; after an interruption pass it to --resume.
    """
    from lbi.errors import require

    with signals.on_interruption(lambda: NOT_BEGUN):
        require("torch", "train")
        from lbi.train.session.run import Outputs

        outputs = Outputs(output, metrics, tensorboard)
        _check_checkpoint(flags["resume"], output)
        read = [flags[name] for name in ("config", "start") if flags[name] is not None]
        outputs.check(flags["dataset"] or "", read, flags["resume"])
        config, begin = configure(flags)
        _check_density(flags, config)
    with outputs.only_writer():
        record = _train(config, outputs, begin, show=not (as_json or quiet))
    if "model" not in record:  # another process of the same torchrun prints
        return
    if as_json:
        emit_json(record)
    elif not quiet:
        _print(record)
    _check_budget(record["budget"])


def _check_checkpoint(resume: Path | None, output: Path) -> None:
    """Raise InputError for a trained model in a checkpoint's place before it is refused for being the output, too."""
    from lbi.train import untrusted_torch
    from lbi.train.model_pt import MODEL
    from lbi.train.session.run import read_checkpoint

    if resume is None or resume.resolve() != output.resolve():
        return
    try:
        content = untrusted_torch.load_plain(resume)
    except InputError:
        return  # the check of outputs says that it is theirs
    if isinstance(content, dict) and content.get("format") == MODEL[0]:
        read_checkpoint(resume)


def _check_density(flags: dict[str, Any], config: TrainConfig) -> None:
    """Warn of a density that has no effect, since the optimizer trains all weights."""
    from lbi.train.optim.choices import OPTIMIZERS

    given = flags["density"] is not None or "density" in _assignments(flags["assignments"])
    if given and config.density < 1 and OPTIMIZERS[config.optimizer].dense:
        sparse = ", ".join(name for name, choice in OPTIMIZERS.items() if not choice.dense)
        found = f"{config.density:g} with {config.optimizer}"
        problem = DENSE.broken("--density", found, optimizer=config.optimizer, sparse=sparse)
        warnings.warn(str(problem), LbiWarning, stacklevel=2)


def configure(flags: dict[str, Any]) -> tuple[TrainConfig, dict[str, Any]]:
    """The configuration of a run.

    Args:
        flags: option of the command → value.

    Returns:
        The configuration, and the ``start`` or ``checkpoint`` argument of ``prepare`` if there is one.

    Raises:
        UsageError: for options that do not go together, and everything that is wrong with them.
        InputError: for a model or checkpoint that cannot be read.
    """
    from lbi.errors import UsageError
    from lbi.train.session.config import make_config
    from lbi.train.session.hidden import parse
    from lbi.train.session.run import read_checkpoint, resume_config
    from lbi.train.session.start import Start

    options = {name: flags[name] for name in FLAGS if flags[name] not in (None, ())}
    if "hidden" in options:
        options["hidden"] = parse(options["hidden"])
    options |= _assignments(flags["assignments"])
    given = flags["dataset"], flags["config"], options
    if flags["resume"] is None:
        if flags["start"] is None:
            return make_config(*given), {}
        start = Start.read(flags["start"])
        return start.config(*given), {"start": start}
    checkpoint = read_checkpoint(flags["resume"])
    also = {name for name, flag in (("dataset", "dataset"), ("from", "start")) if flags[flag]}
    fixed = sorted((set(options) - {"data", "device", "epochs"}) | also)
    if fixed or flags["config"]:
        raise UsageError(RESUMED.broken("--resume", f"with {', '.join(fixed) or '--config'}"))
    return resume_config(checkpoint, options), {"checkpoint": checkpoint}


def _assignments(assignments: tuple[str, ...]) -> dict[str, Any]:
    """NAME=VALUE pairs; values are read as JSON, and anything else is a string."""
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
    from lbi.train.session.run import finish, prepare

    with signals.on_interruption(lambda: NOT_BEGUN):
        trainer = prepare(config, outputs, **begin)
    done = trainer.progress.epoch
    if done > config.epochs:
        problem = NOTHING_LEFT.broken(f"--epochs {config.epochs}", f"{done} are done already")
        warnings.warn(str(problem), LbiWarning, stacklevel=2)
    total = (config.epochs - trainer.progress.epoch) * trainer.n_batches
    with progress(f"{config.optimizer} on {config.dataset}", total, show=show) as advance:

        def on_batch(record: dict[str, float]) -> None:
            figures = (f"{key} {record[key]:.3f}" for key in ("loss", "accuracy", "density", "rate"))
            advance(1, "  ".join(figures))

        trainer.on_batch = on_batch
        return finish(trainer, outputs)


def _print(record: dict[str, Any]) -> None:
    from lbi.costing.recorded_budget import read_uses

    accuracy, n = record["accuracy"], record["epochs"]
    console().print(
        f"{record['model']}: {record['dataset']}, {record['optimizer']}, {n} {'epoch' if n == 1 else 'epochs'} in "
        f"{record['seconds']:.1f} s\n"
        f"  accuracy  test {accuracy['test']:.2%}, training {accuracy['train']:.2%}\n"
        f"  weights   {record['n_active']:,} of {record['n_weights']:,} ({record['density']:.2%})\n"
        f"  firing    {record['firing_rate']:.2%} of neurons per step"
    )
    for use in read_uses(record["budget"]):
        console().print(f"  budget    {use.sourced}", markup=False)


def _check_budget(budget: Any) -> None:
    """Raise FitError naming every limit that the network, already written, exceeds; the binding one comes first."""
    from lbi.costing.recorded_budget import exceeded, read_uses

    problems = Problems()
    for use in exceeded(read_uses(budget)):
        problems.note(NOT_MET.broken(f"--budget {use.name}", use.amounts))
    problems.raise_as(FitError)


if __name__ == "__main__":
    main()
