"""One training run from configuration to ``model.pt``, as ``lbi-train`` does it, for use from Python."""

from __future__ import annotations

import os
import shlex
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lbi import datasets
from lbi.errors import InputError, LbiWarning, Problems, Rule, require
from lbi.system.allocator import keep_freed_memory, return_freed_memory
from lbi.system.atomic import atomic_write, check_writable
from lbi.system.locks import only_writer
from lbi.system.paths import data_files
from lbi.system.signals import on_exit, on_interruption
from lbi.train import untrusted_torch
from lbi.train.layers.chip_exact import leave_chip
from lbi.train.layers.model import SpikingNetwork
from lbi.train.layers.numba_bridge import take_threads
from lbi.train.model_pt import save_model
from lbi.train.session import distributed
from lbi.train.session.config import TrainConfig, make_config
from lbi.train.session.device import choose
from lbi.train.session.gpu_check import enable
from lbi.train.session.loop import Trainer, evaluate
from lbi.train.session.metrics import Metrics
from lbi.train.session.resume import checked_network
from lbi.train.session.start import Start

CHECKPOINT = ("lbi.checkpoint", 1)
"""Format and version of a checkpoint: a torch.save file of plain types and tensors."""

CHECKPOINT_EVERY_S = 20.0
"""Seconds of training that a killed run can lose; an interrupted one (Ctrl-C) loses the epoch that it is in."""

EARLIER = Rule("earlier-checkpoint", fix="finish that run with lbi-train --resume {kept}, or delete the file")
BOARD = Rule("output", "a folder", "give another --tensorboard")
INCOMPLETE = Rule("checkpoint", "a complete checkpoint")


@dataclass(frozen=True)
class Outputs:
    """Output files of a run: the model, its checkpoint during the run, and metrics."""

    model: Path
    metrics: Path | None = None
    tensorboard: Path | None = None

    @property
    def checkpoint(self) -> Path:
        """The checkpoint beside the model, removed after a successful run."""
        return self.model.with_name(self.model.name + ".ckpt")

    def resuming(self) -> str:
        """The command that resumes the run from its checkpoint and writes the same files."""
        names = ("--resume", "--output", "--metrics", "--tensorboard")
        paths = (self.checkpoint, self.model, self.metrics, self.tensorboard)
        given = (part for name, path in zip(names, paths, strict=True) if path for part in (name, str(path)))
        return shlex.join(["lbi-train", *given])

    @contextmanager
    def only_writer(self) -> Iterator[None]:
        """A block in which no other process trains to the same files; under ``torchrun`` the first process holds them.

        Raises:
            InputError: naming every file that another process writes.
        """
        files = [path for path in (self.model, self.metrics) if path is not None]
        problems = Problems()
        with ExitStack() as held:
            for path in files if distributed.is_first() else ():
                try:
                    held.enter_context(only_writer(path))
                except InputError as error:
                    problems.take(error)
            problems.raise_as(InputError)
            yield

    def check(
        self, dataset: str, inputs: Iterable[Path] = (), resumed: Path | None = None, data: str | None = None
    ) -> None:
        """Check, before any work, that all files can be written and none is read by the same run.

        Args:
            dataset: name of the data set, or its ``.npz`` file.
            inputs: other files that are read.
            resumed: a checkpoint that is read; it may be the run's own.
            data: folder of the data set.

        Raises:
            InputError: naming every file that is wrong.
        """
        outputs = [path for path in (self.model, self.checkpoint, self.metrics) if path is not None]
        read = [Path(dataset)] if dataset.endswith(".npz") else []
        read += [] if data is None else data_files(data)
        if resumed is not None and os.path.realpath(resumed) != os.path.realpath(self.checkpoint):
            read.append(resumed)
        problems = Problems()
        if self.tensorboard is not None:
            require("tensorboard", "tensorboard")
            where, board = str(self.tensorboard), os.path.realpath(self.tensorboard)
            BOARD.check(problems, board not in map(os.path.realpath, outputs), where, "given for two outputs")
            BOARD.check(problems, not os.path.isfile(board), where, "a file")
        try:
            check_writable(*outputs, inputs=[*read, *inputs])
        except InputError as error:
            problems.take(error)
        problems.raise_as(InputError)


def resume_config(checkpoint: dict[str, Any], options: dict[str, Any]) -> TrainConfig:
    """The checkpoint's configuration with the options that may change (``data``, ``device``, ``epochs``).

    Args:
        checkpoint: content of a checkpoint.
        options: field → value.

    Returns:
        The configuration.
    """
    return make_config(None, None, options, checkpoint["config"])


def prepare(
    config: TrainConfig,
    outputs: Outputs,
    checkpoint: dict[str, Any] | None = None,
    start: Start | None = None,
) -> Trainer:
    """A trainer with its data loaded and its network built.

    Under ``torchrun`` every process calls this and then ``complete``; the first one writes.

    Args:
        config: all options.
        outputs: files to write.
        checkpoint: content of a checkpoint to resume from.
        start: a trained model to start from.

    Returns:
        The trainer.
    """
    device = choose(config.device)
    distributed.start(device)
    if device.type == "cuda":
        enable(device)
    read = [config.teacher, config.chip if str(config.chip).endswith(".toml") else None]
    outputs.check(config.dataset, [Path(name) for name in read if name is not None], data=config.data)
    dataset, model = datasets.load(config.dataset, config.data, **config.encoding), None
    if start is not None:
        start.check(dataset)
        model = start.model
        if config.precision == "float":
            leave_chip(model)
    elif checkpoint is not None:
        model = SpikingNetwork(checked_network(checkpoint, dataset))
    trainer = Trainer(config, dataset, model=model)
    if checkpoint is not None:
        trainer.restore(checkpoint)
    if device.type == "cpu" and all(layer.neuron.kernels for layer in trainer.model.populations()):
        take_threads()
        keep_freed_memory()
    return trainer


def complete(trainer: Trainer, outputs: Outputs) -> dict[str, Any]:
    """Train to the end, write the model, and return the record that ``lbi-train --json`` prints.

    A checkpoint is written at least every ``CHECKPOINT_EVERY_S`` seconds (or epoch, if longer), and on interruption.

    Args:
        trainer: the run.
        outputs: files to write.

    Returns:
        The record.

    Raises:
        InputError: if another process is training to the same files.
    """
    with outputs.only_writer():
        return finish(trainer, outputs)


def finish(trainer: Trainer, outputs: Outputs) -> dict[str, Any]:
    """``complete``, for a caller that has held ``outputs.only_writer()`` since before the data was loaded.

    Args:
        trainer: the run.
        outputs: files to write.

    Returns:
        The record.
    """
    writes = distributed.rank() == 0
    started, last = time.perf_counter(), _LastEpoch(outputs, trainer.progress.epoch)

    def on_epoch(trainer: Trainer) -> None:
        metrics.write(trainer.progress.history[-1])
        last.take(trainer)

    trainer.on_epoch = on_epoch if writes else None
    where = (outputs.metrics, outputs.tensorboard) if writes else (None, None)
    with on_exit(last.write), on_interruption(last.report if writes else str):
        with Metrics(*where, trainer.progress.epoch) as metrics:
            trainer.run()
        record = summary(trainer, time.perf_counter() - started)
        return_freed_memory()
        distributed.stop()
        if not writes:
            return record
        save_model(trainer.model, outputs.model, describe(trainer, record))
        last.drop()
    last.remove()
    return {**record, "model": str(outputs.model)}


def _keep_earlier(outputs: Outputs) -> None:
    """Move the checkpoint of an earlier run aside, which this one would replace, and say how to finish that run."""
    found, number = outputs.checkpoint, 1
    while os.path.lexists(kept := found.with_name(f"{found.name}.{number}")):
        number += 1
    found.rename(kept)
    warnings.warn(str(EARLIER.broken(str(found), f"kept as {kept}", kept=kept)), LbiWarning, stacklevel=2)


class _LastEpoch:
    """The state after the last epoch: written now and then, and when the run ends early.

    Args:
        outputs: files to write.
        first: number of epochs before this run, 0 unless it is resumed.
    """

    def __init__(self, outputs: Outputs, first: int) -> None:
        self._outputs, self._first = outputs, first
        self._packed: bytes | None = None
        self._earlier = first == 0 and outputs.checkpoint.exists()  # of another run
        self._epoch, self._kept, self._lost, self._done = first, first, False, False
        self._written = time.perf_counter()

    def take(self, trainer: Trainer) -> None:
        """Keep the state after an epoch, in memory until it is due in the file."""
        self._packed, self._epoch = untrusted_torch.pack(_checkpoint(trainer)), trainer.progress.epoch
        if time.perf_counter() - self._written > CHECKPOINT_EVERY_S:
            self.write(failing=True)

    def write(self, *, failing: bool = False) -> None:
        """Write the state that is not in the file yet; a disk that is full matters only if the run goes on."""
        if self._packed is None:
            return
        self._lost = True
        with nullcontext() if failing else suppress(InputError):
            if self._earlier:
                _keep_earlier(self._outputs)
                self._earlier = False
            with atomic_write(self._outputs.checkpoint) as new:
                new.write_bytes(self._packed)
            self._lost, self._kept = False, self._epoch
        self._packed, self._written = None, time.perf_counter()

    def remove(self) -> None:
        """Remove the file, unless it is still that of an earlier run."""
        if not self._earlier:
            self._outputs.checkpoint.unlink(missing_ok=True)

    def drop(self) -> None:
        """Forget the state, since the model is written."""
        self._packed, self._done = None, True

    def report(self) -> str:
        """What an interruption leaves and how to go on; empty after the model is written."""
        if self._done:
            return ""
        checkpoint, kept = self._outputs.checkpoint, self._kept
        failed = f"{checkpoint} could not be written; " if self._lost else ""
        if kept > self._first:
            epochs = "1 epoch is" if kept == 1 else f"{kept} epochs are"
            return f"{failed}{epochs} kept in {checkpoint}; continue with {self._outputs.resuming()}"
        if self._first:
            return f"{failed}nothing of this run was kept; the checkpoint that it resumed from is unchanged"
        why = failed or "no epoch was complete, so "
        older = f"; {checkpoint} is of an earlier run" if checkpoint.exists() else ""
        return f"{why}nothing was kept: neither checkpoint nor model was written{older}"


def describe(trainer: Trainer, record: dict[str, Any]) -> dict[str, Any]:
    """The meta of ``model.pt``: data set with encoding, and training; without anything that differs between equal runs.

    Args:
        trainer: the run.
        record: the record of the run.

    Returns:
        Plain JSON values.
    """
    dataset = trainer.dataset
    config = {key: value for key, value in trainer.config.to_dict().items() if key not in ("data", "teacher")}
    training = {key: value for key, value in record.items() if key != "seconds"}
    training["n_steps"] = dataset.n_steps
    if trainer.teacher is not None:
        path = Path(str(trainer.config.teacher))
        training["teacher"] = {"file": path.name, "sha256": trainer.teacher.sha256}
    return {
        "dataset": {"name": dataset.name, **dataset.encoding},
        "training": {**training, "config": config},
    }


def save_checkpoint(trainer: Trainer, path: Path) -> None:
    """Write a checkpoint for ``--resume``.

    Args:
        trainer: the run.
        path: the file to write.
    """
    untrusted_torch.write(_checkpoint(trainer), path)


def _checkpoint(trainer: Trainer) -> dict[str, Any]:
    return {"format": CHECKPOINT[0], "version": CHECKPOINT[1], **trainer.checkpoint()}


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a checkpoint.

    Args:
        path: the file.

    Returns:
        Its content.

    Raises:
        InputError: if the file is missing, broken or foreign.
    """
    content = untrusted_torch.read(path, CHECKPOINT)
    missing = [
        key
        for key in ("config", "network", "model", "optimizer", "progress")
        if not isinstance(content.get(key), dict)
    ]
    missing += [] if isinstance(content.get("controller", ""), dict | None) else ["controller"]
    if missing:
        raise InputError(INCOMPLETE.broken(str(path), f"lacks {', '.join(missing)}"))
    return content


def summary(trainer: Trainer, seconds: float) -> dict[str, Any]:
    """Accuracies by the deployed readout, weights and time, as JSON values.

    Args:
        trainer: the run.
        seconds: time of the run.

    Returns:
        The record.
    """
    config, model = trainer.config, trainer.model
    accuracy = {"train": evaluate(model, trainer.train), "test": evaluate(model, trainer.dataset.test)}
    if trainer.validation is not None:
        accuracy["validation"] = evaluate(model, trainer.validation)
    last = trainer.progress.history[-1] if trainer.progress.history else {}
    return {
        "dataset": config.dataset,
        "optimizer": config.optimizer,
        "seed": config.seed,
        "n_weights": model.n_weights(),
        "n_active": model.n_active(),
        "density": trainer.density(),
        "accuracy": accuracy,
        "epochs": trainer.progress.epoch,
        "firing_rate": last.get("rate", 0.0),
        "seconds": seconds,
        "budget": {use.limit.name: use.recorded().to_dict() for use in trainer.uses} or None,
    }
