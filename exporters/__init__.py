"""Exporters, one file per target of lbi-export: each writes a network in the format of a backend or framework."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from lbi.network.fixed import FixedNetwork
    from lbi.network.graph import Network


class Job(Protocol):
    """What an exporter uses of its input, ``lbi.deploy.job.ExportJob``.

    Attributes:
        network: The network as loaded, float or already in integers.
        dt: Seconds per timestep that the user states, or None.
    """

    network: Network | FixedNetwork
    dt: float | None

    @property
    def fixed(self) -> FixedNetwork:
        """The network in integers."""

    @property
    def formats(self) -> dict[str, str]:
        """Projection → "dense", "indexed" or "shared", whichever takes least memory on this chip."""

    @property
    def summary(self) -> dict[str, Any]:
        """Chip, populations, projections, cores and the account of quantization, as plain JSON values."""

    @property
    def text(self) -> str:
        """The summary as a table for people."""
