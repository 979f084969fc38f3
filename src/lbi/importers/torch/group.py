"""A population under construction, and the refusal of a calling convention."""

from __future__ import annotations

from dataclasses import dataclass, field

from lbi.errors import Problem
from lbi.importers.signal import Signal
from lbi.importers.torch.running import Site


class NotThisWay(Exception):  # noqa: N818 - no error of the model, but of this way to call it
    """The calling convention is not that of the model."""

    def __init__(self, problem: Problem, progress: int = 0) -> None:
        super().__init__(str(problem))
        self.problem, self.progress = problem, progress


@dataclass
class Group:
    """A population under construction: the sequence of states of a neuron module.

    Attributes:
        inputs: input at each step.
        shape: shape of a sample's output in a step; ``in_shape`` is that of its input.
    """

    site: Site
    name: str
    number: int
    shape: tuple[int, ...] = ()
    in_shape: tuple[int, ...] = ()
    inputs: list[Signal] = field(default_factory=list)
    lost: bool = False

    @property
    def called(self) -> bool:
        """True if it is a module's; False if the model's own code computes it."""
        return self.site.called

    @property
    def integrates(self) -> bool:
        """True if it is read by its voltage."""
        return self.site.neurons.integrates(self.site.module)

    @property
    def where(self) -> str:
        """The neuron module's place in the model, for messages."""
        return self.site.where
