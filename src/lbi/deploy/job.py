"""The input of an exporter: the network as loaded, its integers, and its placement on the chip."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from lbi.chip.memory import ProjectionBits, projection_bits, sizes
from lbi.chip.placement import Placement, place
from lbi.chip.profile import HardwareProfile
from lbi.deploy import summary
from lbi.errors import FitError, Problem
from lbi.network.fixed import FixedNetwork
from lbi.network.graph import Network
from lbi.quantization.compaction import Compaction, compaction
from lbi.quantization.to_integers import quantize


class ExportJob:
    """One network to export; everything derived is computed once, on first use.

    Args:
        network: as loaded, float or already in integers.
        profile: the chip it is exported for.
        dt: seconds per timestep that the user states, for targets that write time constants.
        compact: leave out neurons that cannot change the output.
    """

    def __init__(
        self,
        network: Network | FixedNetwork,
        profile: HardwareProfile,
        dt: float | None = None,
        *,
        compact: bool = True,
    ) -> None:
        self.network = network
        self.profile = profile
        self.dt = dt
        self.compact = compact

    @property
    def fixed(self) -> FixedNetwork:
        """The network in integers, compacted unless ``compact`` is False.

        Raises:
            InputError: naming all values that the chip's number formats cannot hold.
        """
        return self.compaction.network

    @cached_property
    def compaction(self) -> Compaction:
        """The network in integers, with the neurons that were removed."""
        if self.compact:
            return compaction(self.quantized, self.profile.formats)
        none = {p.name: np.zeros(p.n, dtype=np.int8) for p in self.quantized.populations}
        return Compaction(self.quantized, none)

    @cached_property
    def quantized(self) -> FixedNetwork:
        """The network in integers, with all of its neurons.

        Raises:
            InputError: naming all values that the chip's number formats cannot hold.
        """
        if isinstance(self.network, FixedNetwork):
            return replace(self.network, chip=self.profile.name)
        return quantize(self.network, self.profile)

    @cached_property
    def placement(self) -> Placement | None:
        """The placement on the chip, or None if the network does not fit (``violations`` says why)."""
        return self._placed[0]

    @property
    def violations(self) -> tuple[Problem, ...]:
        """All chip limits that the network breaks."""
        return self._placed[1]

    @cached_property
    def _placed(self) -> tuple[Placement | None, tuple[Problem, ...]]:
        try:
            return place(self.fixed, self.profile), ()
        except FitError as error:
            return None, error.problems

    @cached_property
    def memory(self) -> dict[str, ProjectionBits]:
        """Projection → its synaptic memory, as placed; without a placement, counted for one core."""
        if self.placement is not None:
            return dict(self.placement.bits)
        by_name = sizes(self.fixed)
        return {
            projection.name: projection_bits(projection, by_name, self.profile)
            for projection in self.fixed.projections
        }

    @property
    def formats(self) -> dict[str, str]:
        """Projection → "dense", "indexed" or "shared", whichever takes least memory on this chip."""
        return {name: bits.chosen for name, bits in self.memory.items()}

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Chip, populations, projections, cores and the account of quantization, as plain JSON values."""
        fixed = self.fixed
        record: dict[str, Any] = {
            "chip": self.profile.name,
            "fits": not self.violations,
            "violations": [str(problem) for problem in self.violations],
            "n_cores": None if self.placement is None else self.placement.n_cores,
            "populations": summary.populations(fixed, self.compaction),
            "projections": summary.projections(fixed, self.formats, self.memory),
        }
        if isinstance(self.network, Network):
            record["account"] = summary.account(self.network, self.quantized)
        return record

    @property
    def text(self) -> str:
        """The summary as a table for people."""
        fixed = self.fixed
        title = (
            f"{fixed.n_in} inputs, {fixed.n_neurons} neurons in {len(fixed.populations)} populations,"
            f" for {self.profile.title}"
        )
        title += summary.removed_text(self.compaction)
        return summary.as_text(title, self.summary["projections"], self.summary["n_cores"])

    @property
    def float_text(self) -> str:
        """The network as loaded, without a chip, as a table for people: of targets that take floats."""
        return summary.float_text(self.network)
