"""An additional loss term: firing rates outside a range."""

from __future__ import annotations

from torch import Tensor

from lbi.train.session.config import TrainConfig


def activity_loss(run: list[tuple[Tensor, Tensor]], config: TrainConfig) -> Tensor:
    """``activity`` · Σ over hidden populations of mean((rate_low − r)₊² + (r − rate_high)₊²).

    Here r (n,) is the mean number of spikes per step of each neuron over the batch.

    Args:
        run: spikes and voltages of each population, each (n_samples, n_steps, n).
        config: the options.

    Returns:
        The loss, 0-d.
    """
    total = run[-1][0].new_zeros(())
    if config.activity == 0:
        return total
    for spikes, _ in run[:-1]:
        rate = spikes.mean(dim=(0, 1))
        low, high = (config.rate_low - rate).clamp_min(0), (rate - config.rate_high).clamp_min(0)
        total = total + config.activity * (low.square() + high.square()).mean()
    return total
