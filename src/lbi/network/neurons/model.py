"""The registry row of a neuron model, defined in the model's file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from lbi.network.neurons.parameters import FixedParameters, FloatParameters

Term: TypeAlias = "int | tuple[str, float]"
"""A constant, or an integer parameter of the model and the factor that it is multiplied with."""


@dataclass(frozen=True)
class LavaProcess:
    """The Lava process that runs a neuron model in fixed point, as data for ``run_lava.py``.

    Attributes:
        process: Dotted name of the process's class.
        resetting: Dotted name of a class with the same arguments that also takes ``reset_interval`` and
            ``reset_offset`` (in chip steps, counted from 1) and starts from rest there; empty if there is none.
        arguments: Argument of the class → its value.
        at_rest: Variable of the process → its value at rest, for the variables that have to be set from outside
            because there is no ``resetting`` class.
    """

    process: str
    arguments: Mapping[str, Term]
    resetting: str = ""
    at_rest: Mapping[str, Term] = field(default_factory=dict)

    def to_dict(self) -> dict[str, object]:
        """The process in plain types, as written into the exported script.

        Returns:
            The four attributes by name.
        """
        return {
            "process": self.process,
            "resetting": self.resetting,
            "arguments": dict(self.arguments),
            "at_rest": dict(self.at_rest),
        }


@dataclass(frozen=True)
class NeuronModel:
    """One neuron model with its records and its counterparts in Lava and NIR; a row of ``lbi.network.neurons.MODELS``.

    Attributes:
        floats: The record of float parameters: equations of training, default options.
        integers: The record of chip integers: equations of the chip, number formats, bounds on the state.
        lava: The Lava process that runs it; None if lava-nc has none.
        netx: Type of the netx neuron that holds it by its ``du``, ``dv``, ``vth`` (absent: none) and bias; empty if
            there is none.
        nir: Names of the NIR nodes that hold it: with a leaky current, and without; empty if NIR has none.
    """

    floats: type[FloatParameters]
    integers: type[FixedParameters]
    lava: LavaProcess | None = None
    nir: tuple[str, ...] = ()
    netx: str = ""

    @property
    def name(self) -> str:
        """The model's name in files and options."""
        return self.floats.model
