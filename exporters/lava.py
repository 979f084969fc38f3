"""``--target lava``: the network as lava-nc processes, in a file of integers and a script that builds them.

``<name>.lava/run_lava.py`` runs the network. Its ``Network`` is a Lava ``AbstractProcess`` with ports ``inp`` and
``out`` that can be part of a larger application; in Python, ``process`` makes it from a FixedNetwork.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lbi.errors import Problems, require
from lbi.files import network_h5
from lbi.network.fixed import FixedNetwork

if TYPE_CHECKING:
    from lbi.deploy.job import ExportJob
    from lbi.errors import Problem

TITLE = "lava-nc processes: network.h5 and a script that builds and runs them"
SUFFIX = ".lava"
TAKES = "fixed"

SCRIPT = "run_lava.py"

MODELS = ("cuba_lif", "integrator", "atrlif")
"""Neuron models for which run_lava.py has a Lava process."""


def check(job: ExportJob) -> list[Problem]:
    """One problem per population whose neuron model Lava lacks."""
    return check_network(job.fixed)


def check_network(fixed: FixedNetwork) -> list[Problem]:
    """One problem per population whose neuron model Lava lacks."""
    problems = Problems()
    for population in fixed.populations:
        problems.check(
            population.neuron.model in MODELS,
            "neuron-model",
            f"population {population.name!r}",
            f"Lava has no process for {population.neuron.model!r}",
            ", ".join(map(repr, MODELS)),
            "lbi-run --backend sim runs it; train snnTorch's Synaptic with reset_delay=False for a cuba_lif",
        )
    return list(problems)


def export(job: ExportJob, path: Path) -> None:
    """Write the folder ``path``, which does not exist yet."""
    path.mkdir()
    write_network(job, path)


def write_network(job: ExportJob, folder: Path) -> None:
    """``network.h5``, each projection marked with its memory format, and the script that runs it."""
    network_h5.write(job.fixed, folder / "network.h5", job.formats)
    shutil.copyfile(Path(__file__).with_name(SCRIPT), folder / SCRIPT)


def process(fixed: FixedNetwork, reset_interval: int | None = None) -> Any:
    """The network as a Lava process with ports ``inp`` (n_in,) and ``out`` (n_out,).

    reset_interval: chip steps after which every population starts from rest again: the steps of a sample
    plus ``fixed.depth``; None for never. Run it with ``Loihi2SimCfg(select_tag="fixed_pt")``.
    Raises MissingPackageError without lava-nc.
    """
    require("lava.magma", "lava")
    from lbi.exporters.run_lava import Network

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.h5"
        network_h5.save(fixed, path)
        return Network(path=path, reset_interval=reset_interval)
