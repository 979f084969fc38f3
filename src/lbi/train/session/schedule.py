"""Learning rate and phases of a run, as functions of its step."""

from __future__ import annotations

import math

from lbi.train.session.config import TrainConfig


def settling_epoch(config: TrainConfig) -> int:
    """The first epoch with a fixed set of weights; the number of epochs if there is none.

    Args:
        config: the run's options, of which ``settle`` and ``epochs`` matter.

    Returns:
        An epoch, counted from 0.
    """
    if config.settle == 0:
        return config.epochs
    return min(round((1 - config.settle) * config.epochs), max(1, config.epochs - 1))


def learning_rate(config: TrainConfig, n_batches: int, step: int) -> float:
    """The learning rate of an optimizer step.

    Args:
        config: the run's options. "cosine" falls to 0 over the whole run; "settled" is constant while the set of
            weights changes and falls to 0 along a cosine from ``settling_epoch`` on; "constant" does not fall.
        n_batches: optimizer steps per epoch.
        step: steps done before.

    Returns:
        The rate, from 0 to ``config.lr``.
    """
    if config.schedule == "constant":
        return config.lr
    start = settling_epoch(config) * n_batches if config.schedule == "settled" else 0
    share = max(0.0, (step - start) / max(1, n_batches * config.epochs - start))
    return config.lr * 0.5 * (1 + math.cos(math.pi * share))
