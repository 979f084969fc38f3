"""``lbi.export``: a network to a file or folder of a target, as ``lbi-export`` does it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lbi.chip.load import load_profile
from lbi.chip.profile import HardwareProfile
from lbi.deploy import targets
from lbi.deploy.job import ExportJob
from lbi.errors import FitError, InputError, Problems, Rule, UsageError
from lbi.network.fixed import FixedNetwork
from lbi.network.graph import Network

NETWORK = Rule(
    "argument",
    "a Network or FixedNetwork",
    "lbi.load reads files, lbi.importers.from_torch torch models",
)


def export(
    network: Network | FixedNetwork,
    path: str | Path,
    target: str = "loihi",
    chip: str | Path | HardwareProfile | None = None,
    *,
    dt: float | None = None,
    compact: bool = True,
    force: bool = False,
) -> Path:
    """Write a network for a target, atomically: as ``lbi-export`` does.

    Args:
        network: float networks are quantized for ``chip`` first, unless the target takes floats (``nir``).
        path: file or folder to write; the target's usual suffix is not added.
        target: one of ``lbi-export --list-targets``, such as "loihi", "lava", "netx", "nir", "csr".
        chip: name, TOML file or profile; None for the network's own, or "loihi2".
        dt: seconds per timestep, for targets that write time constants.
        compact: leave out neurons that cannot change the output.
        force: replace a file, or a folder that was exported.

    Returns:
        ``path``.

    Raises:
        InputError: naming everything that the target cannot hold, or a ``path`` that exists.
        FitError: naming every limit of the chip that the network breaks.
        UsageError: for an unknown target or chip.
    """
    if not isinstance(network, Network | FixedNetwork):
        raise UsageError(NETWORK.broken("network", f"a {type(network).__name__}"))
    exporter: Any = targets.exporter(target)
    wanted = chip or getattr(network, "chip", None) or "loihi2"
    profile = wanted if isinstance(wanted, HardwareProfile) else load_profile(wanted)
    job = ExportJob(network, profile, dt, compact=compact)
    Problems(exporter.check(job)).raise_as(InputError)
    if exporter.TAKES == "fixed" and job.violations:
        raise FitError(*job.violations)
    targets.write(job, exporter, Path(path), force=force)
    return Path(path)
