"""Control of the density by a budget: measure the present network on the chip, and aim for the density that just meets it.

Every few epochs the network is measured on fixed training samples (``lbi.train.session.budget``). The use of every resource rises with
the density, about as a power of it; the exponent is taken from the last two measurements at clearly different densities. So
a network that is still dense tells at which density it will be within its limits. The final density of the run's own
schedule moves half of the way there (in logarithms) at each measurement, and ``DensityController`` underneath turns it into λ.
Once the set of weights is fixed, a network that is over its budget loses its weakest weights, a tenth at most at a time; the
rest is trained on.

A neuron costs an update in every timestep, as much energy as many weights. ``update_share`` limits the updates of hidden
neurons to a share of what the readout's updates leave of an energy budget. All neurons but the strongest lose their weights while the density
falls (``lbi.train.optim.neuron_groups``), and the budget goes to the weights of the others.

With ``price_updates`` above 0, λ is higher for the weights of neurons that have few, by that many times what the measurement says an
update costs beside a weight (``lbi.train.optim.neuron_groups.set_prices``).

After the last epoch the network is certified on more samples and, if it is a little over, trimmed by bisection.
"""

from __future__ import annotations

import math
from contextlib import nullcontext
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from lbi.costing.budget import Budget, Use, worst
from lbi.datasets.packed import Spikes
from lbi.errors import InputError, Rule
from lbi.network.graph import Network
from lbi.train.layers.model import SpikingNetwork
from lbi.train.model_pt import to_network
from lbi.train.optim.density import DensityController
from lbi.train.optim.neuron_groups import PopulationWeights, keep, set_prices
from lbi.train.session.averaging import Average
from lbi.train.session.budget import measure

CHECKS = 25
"""Measurements over a run, at most one per epoch."""

SAMPLES, CERTIFICATE_SAMPLES = 128, 1024
"""Training samples measured during training, and for the certificate."""

AIM = 0.98
"""Share of the limit to aim for."""

LEAST_DENSITY = 1e-3
EXPONENT, EXPONENTS = 0.8, (0.5, 1.3)
"""Power by which use grows with density until it is known, and its range."""

APART = 0.3
"""Logarithm of the ratio of two densities from which on their uses tell the power."""

LARGEST_CUT = 0.9
"""Share of a settled network's weights that one cut leaves at least."""

TRIM_STEPS = 7
"""Bisections of the last trim, which keeps at least half of the weights."""

STATE = Rule("checkpoint", "a density and finite figures")


class BudgetController:
    """Sets the density of a run so that the network meets a budget.

    Args:
        budget: the limits.
        highest: density that is not exceeded.
        spikes: the training samples, (n_samples, n_steps, n_in).
        epochs: epochs of the run.
        settling: epochs after which the set of weights is fixed.
        update_share: share of an energy budget, without the readout's updates, for the updates of hidden neurons; 1 for
            any number of neurons.
        price_updates: how many times the cost of their neuron's update weights pay for; 0 for one λ.
    """

    def __init__(
        self,
        budget: Budget,
        highest: float,
        spikes: Spikes,
        epochs: int,
        *,
        settling: int = 1,
        update_share: float = 1.0,
        price_updates: float = 0.0,
    ) -> None:
        self.budget, self.highest = budget, highest
        self.settling, self.update_share = settling, update_share
        self.update: float | None = None
        self.price_updates = price_updates
        self.price: float | None = None
        self.every = max(1, epochs // CHECKS)
        self.density = min(highest, 0.1)
        self.history: list[tuple[float, float]] = []
        order = np.random.default_rng(0).permutation(spikes.shape[0])
        self._sample = spikes[np.sort(order[:SAMPLES])]
        self._certificate = spikes[np.sort(order[:CERTIFICATE_SAMPLES])]

    def after_epoch(
        self, epoch: int, model: SpikingNetwork, controller: DensityController, average: Average | None = None
    ) -> bool:
        """Measure if it is time, and steer.

        Args:
            epoch: epochs done.
            model: the network.
            controller: its density control.
            average: the average of its weights, if that is what will be deployed.

        Returns:
            True if weights were removed from a settled network.
        """
        if self.update is not None and not controller.settled:
            *hidden, output = (layer.config.n for layer in model.populations())
            keep(hidden_groups(model), self.allowed(epoch, sum(hidden), output), controller.optimizer)
        if epoch % self.every == 0 and self._measure(model, controller, average):
            return True
        if self.price is not None and not controller.settled:
            set_prices(hidden_groups(model), controller.optimizer, self.price)
        return False

    def _measure(self, model: SpikingNetwork, controller: DensityController, average: Average | None) -> bool:
        """Measure and steer; True if weights were removed from a settled network."""
        now = controller.density()
        with nullcontext() if average is None else average.in_place():
            uses = measure(self.budget, as_network(model), self._sample)
        ratio = worst(uses).ratio
        if self.update_share < 1:
            self.update = max((use.update for use in uses if use.update is not None), default=self.update)
        if self.price_updates > 0:
            prices = (self._price(use, model) for use in uses)
            self.price = max((price for price in prices if price is not None), default=self.price)
        self.history.append((now, ratio if math.isfinite(ratio) else -1.0))
        if not controller.settled:
            self._plan(now, ratio)
            return False
        if ratio <= 1:
            return False
        controller.tighten(max(self._meeting(now, ratio, AIM), LARGEST_CUT * now))
        if average is not None:
            average.mask()
        return True

    def allowed(self, epoch: int, n: int, n_out: int) -> int:
        """Hidden neurons that may have weights: all at the start, from ``settling`` on as many as their share pays for.

        Args:
            epoch: epochs done.
            n: hidden neurons of the network.
            n_out: neurons of its output.

        Returns:
            A number from 1 to ``n``; ``n`` as long as no share of an update is known.
        """
        if self.update is None:
            return n
        paid = min(max(self.update_share * (1 / self.update - n_out), 1.0), n)
        left = (1 - min(1.0, epoch / self.settling) ** 2) ** 2
        return round(paid + left * (n - paid))

    def _price(self, use: Use, model: SpikingNetwork) -> float | None:
        """What weights pay for an update, in average weights; None if the use does not tell."""
        if use.update is None or use.updates is None or use.ratio <= use.updates:
            return None
        return self.price_updates * use.update * model.n_active() / (use.ratio - use.updates)

    def _plan(self, now: float, ratio: float) -> None:
        """Set the density that the set of weights shall have when it is fixed."""
        meeting = self._meeting(now, ratio, 1.0)
        wanted = meeting if len(self.history) == 1 else math.sqrt(self.density * meeting)
        self.density = min(max(wanted, LEAST_DENSITY), self.highest)

    def _meeting(self, now: float, ratio: float, aim: float) -> float:
        """The density at which the use would be ``aim`` times the limit; of a network that does not fit the chip, a half."""
        if math.isinf(ratio):
            return now / 2
        return float(now * (aim / max(ratio, 1e-3)) ** (1 / self._exponent()))

    def finish(self, model: SpikingNetwork, controller: DensityController) -> tuple[Use, ...]:
        """Certify the trained network; trim it if it is over its budget and half of its weights suffice.

        Args:
            model: the trained network, which is trimmed in place.
            controller: sets the density of its weights.

        Returns:
            One use per limit of the network as it is left, whether or not it meets the budget.
        """
        uses = self.certify(model)
        if worst(uses).met:
            return uses
        whole = {name: value.clone() for name, value in model.state_dict().items()}
        now = controller.density()
        met, over, best = now / 2, now, None
        for step in range(TRIM_STEPS):
            tried = met if step == 0 else math.sqrt(met * over)
            model.load_state_dict(whole)
            controller.tighten(tried)
            uses = self.certify(model)
            if worst(uses).met:
                met, best = tried, ({name: value.clone() for name, value in model.state_dict().items()}, uses)
            elif step == 0:
                break
            else:
                over = tried
        model.load_state_dict(whole if best is None else best[0])
        return self.certify(model) if best is None else best[1]

    def certify(self, model: SpikingNetwork) -> tuple[Use, ...]:
        """What the network uses, on the samples of the certificate.

        Args:
            model: the network.

        Returns:
            One use per limit.
        """
        return measure(self.budget, as_network(model), self._certificate)

    def _exponent(self) -> float:
        """By which power of the density the use grows, from the last two measurements at clearly different densities."""
        found = [(density, ratio) for density, ratio in self.history if ratio > 0 and density > 0]
        for earlier in reversed(found[:-1]):
            apart = math.log(found[-1][0] / earlier[0])
            if abs(apart) > APART:
                exponent = math.log(found[-1][1] / earlier[1]) / apart
                return min(max(exponent, EXPONENTS[0]), EXPONENTS[1])
        return EXPONENT

    def state_dict(self) -> dict[str, Any]:
        """The state in plain types."""
        state = {"density": self.density, "history": [list(entry) for entry in self.history]}
        found = {"update": self.update, "price": self.price}
        return {**state, **{name: figure for name, figure in found.items() if figure is not None}}

    def load_state_dict(self, state: Any) -> None:
        """Continue from a saved state.

        Args:
            state: what ``state_dict`` gave.

        Raises:
            InputError: for anything else.
        """
        try:
            density = float(state["density"])
            history = [(float(one), float(other)) for one, other in state["history"]]
            update, price = (
                None if state.get(name) is None else float(state[name]) for name in ("update", "price")
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(STATE.broken("--resume, budget", "another state")) from error
        figures = np.array(
            [density, update or 1.0, price or 1.0, *(figure for entry in history for figure in entry)]
        )
        holds = np.all(np.isfinite(figures)) and all(one is None or one > 0 for one in (update, price))
        if not (holds and 0 < density <= 1):
            found = f"density {density}, update {update}, price {price}"
            raise InputError(STATE.broken("--resume, budget", found))
        self.density, self.history, self.update, self.price = density, history, update, price


def hidden_groups(model: SpikingNetwork) -> list[PopulationWeights]:
    """The weights of the hidden neurons of a network without convolutions, in which neurons share weights.

    Args:
        model: the network.

    Returns:
        One record per hidden layer: weights onto its neurons, then weights from them.
    """
    layers = model.populations()
    return [
        PopulationWeights(
            tuple(w for w in (layer.weight, layer.recurrent) if w is not None),
            tuple(w for w in (after.weight, layer.recurrent) if w is not None),
        )
        for layer, after in pairwise(layers)
    ]


@torch.no_grad()
def as_network(model: SpikingNetwork) -> Network:
    """The float network as it stands, on the CPU.

    Args:
        model: the network, on any device.

    Returns:
        The float network.
    """
    state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    return to_network(model.config, state, {})
