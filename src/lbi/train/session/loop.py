"""The training loop: epochs over spikes, evaluation, early stop, checkpoints that resume bit for bit.

All random choices of an epoch (order, augmentation, dropout) are drawn from (seed, epoch), so a run that is
resumed at the start of an epoch continues exactly.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from lbi.costing.budget import Use
from lbi.datasets import Dataset, SpikeData
from lbi.datasets.base import stratified_split
from lbi.errors import InputError, Problems, Rule, UsageError
from lbi.train.layers.chip_exact import set_scales, snap
from lbi.train.layers.model import SpikingNetwork
from lbi.train.optim.density import DensityController
from lbi.train.optim.masks import MaskControl
from lbi.train.session import distributed
from lbi.train.session.augment import augment
from lbi.train.session.averaging import Average
from lbi.train.session.config import TrainConfig
from lbi.train.session.device import choose, on_cpu
from lbi.train.session.distillation import Teacher, divergence
from lbi.train.session.losses import activity_loss
from lbi.train.session.progress import Progress
from lbi.train.session.readout import predict, scores
from lbi.train.session.resume import check_data, check_optimizer, checked_progress
from lbi.train.session.schedule import learning_rate, settling_epoch
from lbi.train.session.setup import make_budget, make_controller, make_optimizer

EVALUATION_BATCH = 256

DIVERGED = Rule("diverged", "finite numbers", "lower --lr, or set clip")
OTHER_RUN = Rule("checkpoint", "a checkpoint of the same network and optimizer")
HELD_OUT = Rule("option", "a share that holds out at least one sample, and leaves one", "hold out more")
NO_VALIDATION = Rule("option", "a validation share above 0", "add --validation 0.1")


class Trainer:
    """One run: model, optimizer, density control and data of a ``TrainConfig``.

    Args:
        config: all options.
        dataset: the data.
        on_batch: called after every batch with its record (loss, accuracy, density, rate), for progress bars.
        on_epoch: called after every epoch with the trainer, for metrics and checkpoints.
        model: a trained network to continue from; None for a new one.
    """

    def __init__(
        self,
        config: TrainConfig,
        dataset: Dataset,
        *,
        on_batch: Callable[[dict[str, float]], None] | None = None,
        on_epoch: Callable[[Trainer], None] | None = None,
        model: SpikingNetwork | None = None,
    ) -> None:
        self.config = config
        self.dataset = dataset
        self.on_batch = on_batch
        self.on_epoch = on_epoch
        self.train, self.validation = split(dataset, config)
        dataset.check_classes(self.train)
        self.device = choose(config.device)
        network = model or SpikingNetwork(config.model(dataset.input_shape, dataset.n_classes), config.seed)
        self.model = network.to(self.device)
        self.optimizer = make_optimizer(config, self.model, fresh=model is None)
        self.controller = make_controller(
            config, self.model, self.optimizer, self.n_batches, fresh=model is None
        )
        self.budget = make_budget(config, self.train.spikes)
        self.uses: tuple[Use, ...] = ()
        self.average: Average | None = None
        self.teacher: Teacher | None = None
        if config.teacher is not None:
            self.teacher = Teacher.read(Path(config.teacher), dataset, config, self.device)
        self.start_density = config.initial_density if model is None else self.density()
        self.progress = Progress()

    @property
    def n_batches(self) -> int:
        """Batches per epoch."""
        return math.ceil(len(self.train) / self.config.batch_size)

    def run(self) -> Progress:
        """Train to the last epoch, or until validation has not improved for ``patience`` epochs."""
        while self.progress.epoch < self.config.epochs and not self._stale():
            self._enter_chip()
            self._steer()
            if self.average is None and self.averages():
                self.average = Average(self.model, self.config.average)
            self._epoch()
            self._budget()
            if self.on_epoch is not None:
                self.on_epoch(self)
        if self.progress.best_state is not None and self.config.patience:
            self.model.load_state_dict(self.progress.best_state)
        elif self.average is not None:
            self.average.write()
        self._steer(ended=True)
        self._enter_chip()
        if self.config.precision == "chip":
            snap(self.model)
        if self.budget is not None and isinstance(self.controller, DensityController):
            self.uses = self.budget.finish(self.model, self.controller)
        return self.progress

    def averages(self) -> bool:
        """Whether weights are averaged in the present epoch: once the set of weights is fixed."""
        settled = self.progress.epoch >= settling_epoch(self.config)
        return self.config.average > 0 and settled

    def _budget(self) -> None:
        """Steer by the budget; a settled network that loses weights is another candidate for the best one."""
        if self.budget is None or not isinstance(self.controller, DensityController):
            return
        if self.budget.after_epoch(self.progress.epoch, self.model, self.controller, self.average):
            self.progress.best, self.progress.best_epoch = -1.0, self.progress.epoch

    def _enter_chip(self) -> None:
        """With ``precision="chip"``, switch to the chip's integers at the configured epoch."""
        config = self.config
        due = self.progress.epoch >= round(config.chip_from * config.epochs)
        if (
            config.precision == "chip"
            and due
            and not all(layer.on_chip for layer in self.model.populations())
        ):
            set_scales(self.model)
            self.progress.best, self.progress.best_epoch = -1.0, self.progress.epoch

    def _steer(self, *, ended: bool = False) -> None:
        """Set the density to aim for in this epoch; in the last fraction ``settle`` of the epochs, fix the support."""
        config, controller = self.config, self.controller
        if controller is None or controller.settled:
            return
        density = config.density
        if self.budget is not None and isinstance(controller, DensityController):
            density = self.budget.density
            controller.aim(density)
        share = self.progress.epoch / max(1, config.epochs)
        if config.settle > 0 and (ended or self.progress.epoch >= settling_epoch(config)):
            controller.settle()
            self.progress.best, self.progress.best_epoch = -1.0, self.progress.epoch
        elif isinstance(controller, DensityController):
            left = max(0.0, 1 - share / config.shrink) ** 3
            controller.overshoot = 1 + left * max(0.0, self.start_density / density - 1)

    def _stale(self) -> bool:
        patience = self.config.patience
        return bool(patience) and self.progress.epoch - self.progress.best_epoch >= patience

    def _epoch(self) -> None:
        config, epoch = self.config, self.progress.epoch
        rng = np.random.default_rng([config.seed, epoch])
        torch.manual_seed(int(rng.integers(2**63 - 1)))
        started = time.perf_counter()
        order = rng.permutation(len(self.train))
        sums = {"loss": 0.0, "accuracy": 0.0, "rate": 0.0}
        for i in range(self.n_batches):
            self._set_lr(epoch * self.n_batches + i)
            chosen = order[i * config.batch_size : (i + 1) * config.batch_size]
            record = self._batch(chosen, rng)
            for key in sums:
                sums[key] += record[key] * chosen.size
            if self.on_batch is not None:
                self.on_batch(record)
        self._check_finite()
        mean = {key: value / len(self.train) for key, value in sums.items()}
        entry = {
            "epoch": epoch + 1,
            **mean,
            "density": self.density(),
            "lr": self._lr(),
            "seconds": time.perf_counter() - started,
        }
        if self.validation is not None:
            with nullcontext() if self.average is None else self.average.in_place():
                entry["validation"] = evaluate(self.model, self.validation)
            if entry["validation"] > self.progress.best:
                self.progress.best = entry["validation"]
                self.progress.best_epoch = epoch + 1
                self.progress.best_state = self._state()
        self.progress.epoch = epoch + 1
        self.progress.history.append(entry)

    def _state(self) -> dict[str, Tensor]:
        """A copy of the model's state, averaged if weights are."""
        with nullcontext() if self.average is None else self.average.in_place():
            return {key: value.clone() for key, value in self.model.state_dict().items()}

    @torch.no_grad()
    def _check_finite(self) -> None:
        """Raise InputError naming every parameter that the epoch's last steps made NaN or infinite."""
        problems, where = Problems(), f"epoch {self.progress.epoch + 1}"
        for name, p in self.model.named_parameters():
            n_bad = int((~torch.isfinite(p)).sum())
            DIVERGED.check(problems, n_bad == 0, f"{where}, {name}", f"{n_bad} values are NaN or infinite")
        problems.raise_as(InputError)

    def _batch(self, chosen: np.ndarray, rng: np.random.Generator) -> dict[str, float]:
        config = self.config
        moved = augment(self.train.spikes[chosen], config.channel_jitter, config.time_shift, rng)
        mine = distributed.share(chosen.size)
        spikes = torch.from_numpy(moved[mine]).to(self.device)
        labels = torch.from_numpy(self.train.labels[chosen[mine]]).to(self.device)
        self._choose_gradients()
        run = self.model(spikes, config.dropout)
        loss = self._loss(spikes, run, labels) / chosen.size
        loss = loss + activity_loss(run, config) * (labels.numel() / chosen.size)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        sums = self._sums(loss, run, labels)
        distributed.add_up(self.model, sums)
        if isinstance(self.controller, MaskControl):
            self.controller.before_step()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), config.clip or math.inf)
        value, n_right, n_spikes = sums.tolist()
        if not (math.isfinite(value) and math.isfinite(float(norm))):
            found = f"loss {value}, gradient norm {float(norm)}"
            raise InputError(DIVERGED.broken(f"epoch {self.progress.epoch + 1}", found))
        self.optimizer.step()
        if self.controller is not None:
            self.controller.step()
        if self.average is not None:
            self.average.step()
        n_updates = chosen.size * spikes.shape[1] * sum(layer.config.n for layer in self.model.populations())
        return {
            "loss": value,
            "accuracy": n_right / chosen.size,
            "rate": n_spikes / n_updates,
            "density": self.density(),
        }

    def _loss(self, spikes: Tensor, run: list[tuple[Tensor, Tensor]], labels: Tensor) -> Tensor:
        """Cross-entropy, distilled if there is a teacher, summed over the batch."""
        config, own = self.config, self.config.gain * scores(self.model, run)
        loss = cross_entropy(own, labels, reduction="sum")
        if self.teacher is None:
            return loss
        taught = divergence(own, self.teacher.scores(spikes), config.teacher_temperature)
        return (1 - config.teacher_share) * loss + config.teacher_share * taught

    def _choose_gradients(self) -> None:
        """Leave out gradients of dead weights where nothing depends on them, and between every ``dead_every``-th step."""
        control = self.controller
        few = isinstance(control, DensityController) and (
            control.settled or control.steps % self.config.dead_every != 0
        )
        for layer in self.model.populations():
            layer.only_living = few

    @torch.no_grad()
    def _sums(self, loss: Tensor, run: list[tuple[Tensor, Tensor]], labels: Tensor) -> Tensor:
        """(3,) float64 sums of loss, correct answers and spikes over this process's share of a batch."""
        n_spikes = torch.stack([spikes.sum(-1).sum(dtype=torch.float64) for spikes, _ in run]).sum()
        n_right = (predict(self.model, run) == labels).sum().double()
        return torch.stack([loss.detach().double(), n_right, n_spikes])

    def _set_lr(self, step: int) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.n_batches, step)

    def _lr(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def density(self) -> float:
        """Fraction of weights that are not 0, over all projections."""
        return self.model.n_active() / self.model.n_weights()

    def checkpoint(self) -> dict[str, Any]:
        """The complete state for resuming, in plain types and tensors."""
        progress = self.progress
        state: dict[str, Any] = {
            "config": self.config.to_dict(),
            "data": self.dataset.sha256,
            "network": self.model.config.to_dict(),
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "controller": None if self.controller is None else self.controller.state_dict(),
            "start_density": self.start_density,
            "budget": None if self.budget is None else self.budget.state_dict(),
            "progress": {
                "epoch": progress.epoch,
                "history": progress.history,
                "best": progress.best,
                "best_epoch": progress.best_epoch,
                "best_state": progress.best_state,
            },
        }
        if self.average is not None:
            state["average"] = self.average.values
        if self.teacher is not None:
            state["teacher"] = self.teacher.sha256
        return state if self.device.type == "cpu" else dict(on_cpu(state))

    def restore(self, checkpoint: dict[str, Any]) -> None:
        """Load a checkpoint's state; the run continues bit for bit.

        Args:
            checkpoint: content of a checkpoint.

        Raises:
            InputError: for a checkpoint of other data, or of another network or optimizer.
        """
        check_data(checkpoint.get("data"), self.dataset)
        try:
            check_optimizer(checkpoint["optimizer"], self.optimizer)
            progress = checked_progress(checkpoint["progress"], self.model.config)
            self.model.load_state_dict(checkpoint["model"])
            self.optimizer.load_state_dict(checkpoint["optimizer"])
            if self.controller is not None:
                self.controller.load_state_dict(checkpoint["controller"])
            self.start_density = float(checkpoint["start_density"])
            if self.teacher is not None:
                self.teacher.check_same(checkpoint["teacher"])
            if "average" in checkpoint:
                self.average = Average(self.model, self.config.average)
                self.average.load(checkpoint["average"])
            if self.budget is not None:
                self.budget.load_state_dict(checkpoint.get("budget"))
            self.progress = progress
        except InputError:
            raise
        except (LookupError, TypeError, ValueError, RuntimeError, AttributeError, OverflowError) as error:
            found = f"does not fit this run ({' '.join(str(error).split())[:200]})"
            raise InputError(OTHER_RUN.broken("--resume", found)) from error


def split(dataset: Dataset, config: TrainConfig) -> tuple[SpikeData, SpikeData | None]:
    """Training and validation samples: those of the data set, or a stratified split that is the same for every seed.

    Args:
        dataset: the data set.
        config: the options.

    Returns:
        Training samples, and validation samples or None if the options ask for none.

    Raises:
        UsageError: if there is nothing for ``patience`` to validate on, or one of the two parts would be
            empty.
    """
    if config.validation == 0:
        if config.patience and dataset.validation is None:
            found = f"{config.patience}, but {dataset.name} has no validation samples"
            raise UsageError(NO_VALIDATION.broken("patience", found))
        return dataset.train, dataset.validation if config.patience else None
    train, held_out = stratified_split(dataset.train.labels, config.validation, np.random.default_rng(1))
    if not min(len(train), len(held_out)):
        found = f"{config.validation:g} of {len(dataset.train.labels)} samples is {len(held_out)} of them"
        raise UsageError(HELD_OUT.broken("validation", found))
    return dataset.train.subset(train), dataset.train.subset(held_out)


@torch.no_grad()
def evaluate(model: SpikingNetwork, data: SpikeData) -> float:
    """Accuracy in [0, 1] with the deployed readout.

    Args:
        model: the network.
        data: samples with labels.

    Returns:
        The fraction of samples with the right class; 0 without samples.
    """
    n_right, device = 0, next(model.parameters()).device
    for start in range(0, len(data), EVALUATION_BATCH):
        part = slice(start, start + EVALUATION_BATCH)
        classes = predict(model, model(torch.from_numpy(data.spikes[part]).to(device)))
        n_right += int((classes.cpu() == torch.from_numpy(data.labels[part])).sum())
    return n_right / max(1, len(data))
