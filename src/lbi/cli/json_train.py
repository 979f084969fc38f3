"""Type of the JSON object that ``lbi-train`` prints (``lbi.cli.json_records``)."""

from __future__ import annotations

from typing_extensions import NotRequired, TypedDict

from lbi.cli.json_costs import Amount, Count, Share


class Accuracy(TypedDict):
    """Correct classifications, by part of the data set."""

    train: Share
    """On the training set, by the deployed readout (share, 0 to 1)"""
    test: Share
    """On the test set (share, 0 to 1)"""
    validation: NotRequired[Share]
    """On the held-out part of the training set; only with --validation (share, 0 to 1)"""


class BudgetUse(TypedDict):
    """What a network uses of one resource of the chip."""

    limit: Amount
    """The most that --budget allows, in ``unit``"""
    used: Amount | None
    """What the network uses, in ``unit``; null if it does not fit the chip"""
    unit: str
    """Unit as given to --budget; empty for plain numbers"""
    met: bool
    """Whether the use is within the limit"""
    costs: NotRequired[str]
    """Cost set or scenario that prices the energy; of energy only"""
    source: NotRequired[str]
    """Labels of what prices it, and how sure they are; of energy and time only"""


class TrainRecord(TypedDict):
    """What ``lbi-train --json`` prints."""

    dataset: str
    """Data set trained on: its name, or the path of a .npz"""
    optimizer: str
    """adabreg, linbreg or adam"""
    seed: Count
    """Seed of initialization and order of samples"""
    n_weights: Count
    """Weights the network could have (count)"""
    n_active: Count
    """Weights that are not zero (count)"""
    density: Share
    """n_active / n_weights, of the layers whose density is asked for (share, 0 to 1)"""
    accuracy: Accuracy
    """Correct classifications, by data set part"""
    epochs: Count
    """Epochs trained, those before a --resume included (count)"""
    firing_rate: Share
    """Neurons that spike per timestep, in the last epoch (share, 0 to 1)"""
    seconds: Amount
    """Wall time of training and evaluation (s)"""
    model: str
    """Path of the model that was written"""
    budget: dict[str, BudgetUse] | None
    """Resource → its use beside its limit, on the chip's integers and training samples; null without --budget"""
