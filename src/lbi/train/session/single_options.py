"""Options with rules of their own beside the annotations: hidden layers, the neuron model, the budget."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lbi.costing.budget import Budget
from lbi.errors import LbiError, Problems, Rule
from lbi.train.neurons import NEURONS
from lbi.train.session.hidden import check as check_hidden

NEURON = Rule("option", "{names}")


def spiking() -> tuple[str, ...]:
    """The neuron models that hidden populations can have.

    Returns:
        Names, in the order of the registry.
    """
    return tuple(name for name, model in NEURONS.items() if model.spikes)


def check_neuron(neuron: str, problems: Problems) -> bool:
    """Note a neuron model that hidden populations cannot have.

    Args:
        neuron: its name.
        problems: receives the problem.

    Returns:
        True if there is such a model, whose neurons spike.
    """
    return NEURON.check(problems, neuron in spiking(), "neuron", repr(neuron), names=", ".join(spiking()))


def check_given(given: Mapping[str, Any], problems: Problems) -> None:
    """Note what is wrong with these options where others are wrong already, so that one pass reports all.

    Args:
        given: option → value of any type; wrong types are noted elsewhere.
        problems: receives the problems.
    """
    check_hidden(given.get("hidden"), problems)
    neuron, budget, chip = given.get("neuron"), given.get("budget"), given.get("chip")
    if isinstance(neuron, str):
        check_neuron(neuron, problems)
    texts = tuple(budget) if isinstance(budget, list | tuple) else ()
    if texts and all(isinstance(text, str) for text in (*texts, chip or "")):
        try:
            Budget.read(texts, chip)
        except LbiError as error:
            problems.take(error)
