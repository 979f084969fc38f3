"""``--target lava``: the network as lava-nc processes, in a file of integers and a script that builds them.

``<name>.lava/run_lava.py`` runs the network. Its ``Network`` is a Lava ``AbstractProcess`` with ports ``inp`` and
``out`` that can be part of a larger application; in Python, ``process`` makes it from a FixedNetwork.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from pprint import pformat
from typing import TYPE_CHECKING, Any

from lbi.errors import Problems, Rule, require
from lbi.files import checksum, network_h5, script_files
from lbi.network.convolution import inexact_in_lava
from lbi.network.convolution_weights import ConvolutionWeights
from lbi.network.fixed import FixedNetwork
from lbi.network.neurons import MODELS
from lbi.system import lava_compat

if TYPE_CHECKING:
    from lbi.exporters import Job

    from lbi.errors import Problem

TITLE = "lava-nc processes: network.h5 and a script that builds and runs them"
SUFFIX = ".lava"
TAKES = "fixed"

SCRIPT = "run_lava.py"

NEURON_MODEL = Rule(
    "neuron-model",
    "{models}",
    "lbi-run --backend sim runs it; snnTorch's Synaptic and RLeaky with reset_delay=False are a cuba_lif (for RSynaptic:"
    " such a Synaptic, and its spikes fed back through a torch.nn.Linear)",
)

_PLACE = "PROCESSES: dict[str, Any] = {}\n"
_COPIED = (
    (lava_compat, "# Lava on newer Pythons, begin", "# Lava on newer Pythons, end."),
    (checksum, "# Checksum, begin", "# Checksum, end."),
    (script_files, "# Files, begin", "# Files, end."),
)
"""Modules, and the marks between which the script has their text in place of an import."""


def check(job: Job) -> list[Problem]:
    """One problem per population whose neuron model Lava lacks.

    Args:
        job: the network, its chip and options.

    Returns:
        The problems; none if Lava runs every model.
    """
    return check_network(job.fixed)


def check_network(fixed: FixedNetwork) -> list[Problem]:
    """One problem per population whose neuron model Lava lacks.

    Args:
        fixed: the network.

    Returns:
        The problems; none if Lava runs every model.
    """
    problems, known = Problems(), processes()
    for population in fixed.populations:
        model = population.neuron.model
        NEURON_MODEL.check(
            problems,
            model in known,
            f"population {population.name!r}",
            f"Lava has no process for {model!r}",
            models=", ".join(map(repr, known)),
        )
    return list(problems)


def notes(job: Job) -> list[str]:
    """One line per convolution: the Lava process that runs it.

    Args:
        job: the network, its chip and options.

    Returns:
        The lines.
    """
    return convolution_notes(job.fixed)


def export(job: Job, path: Path) -> None:
    """Write the folder ``path``, which does not exist yet.

    Args:
        job: the network, its chip and options.
        path: a folder that does not exist yet.
    """
    path.mkdir()
    write_network(job, path)


def write_network(job: Job, folder: Path) -> None:
    """Write ``network.h5``, with the memory format of each projection, and the script that runs it.

    Args:
        job: the network, its chip and options.
        folder: an existing folder.
    """
    network_h5.write(job.fixed, folder / "network.h5", job.formats)
    write_script(folder / SCRIPT)


def processes() -> dict[str, dict[str, object]]:
    """The Lava process of every neuron model that has one, as data.

    Returns:
        Neuron model → its ``LavaProcess`` in plain types.
    """
    return {name: model.lava.to_dict() for name, model in MODELS.items() if model.lava is not None}


def write_script(path: Path) -> None:
    """Write ``run_lava.py`` with the processes of all neuron models and what it imports of this package filled in.

    Args:
        path: The file to write.
    """
    text = Path(__file__).with_name(SCRIPT).read_text(encoding="utf-8")
    for module, *marks in _COPIED:
        source = Path(str(module.__file__)).read_text(encoding="utf-8")
        text = text.replace(_between(text, *marks), _between(source, *marks))
    table = pformat(processes(), width=100, sort_dicts=False)
    path.write_text(text.replace(_PLACE, _PLACE.replace("{}", table)), encoding="utf-8")


def _between(text: str, begin: str, end: str) -> str:
    """The part of a file from one mark to the other."""
    return text[text.index(begin) : text.index(end)]


def process(fixed: FixedNetwork, reset_interval: int | None = None) -> Any:
    """The network as a Lava process with ports ``inp`` (n_in,) and ``out`` (n_out,).

    Args:
        fixed: the network.
        reset_interval: chip steps after which every population starts from rest again: the steps of a sample
            plus ``fixed.depth``; None for never.

    Returns:
        A ``Network`` of ``run_lava.py``, to run with ``Loihi2SimCfg(select_tag="fixed_pt")``.

    Raises:
        MissingPackageError: without lava-nc.
    """
    require("lava.magma", "lava")
    from lbi.exporters import run_lava

    run_lava.PROCESSES.update(processes())
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.h5"
        network_h5.save(fixed, path)
        return run_lava.Network(path=path, reset_interval=reset_interval)


def convolution_notes(fixed: FixedNetwork) -> list[str]:
    """One line per convolution: whether Lava runs it in its ``Conv``, or unrolled in ``Sparse`` and why.

    Args:
        fixed: the network.

    Returns:
        The lines.
    """
    found = []
    for projection in fixed.projections:
        if isinstance(projection.weights, ConvolutionWeights):
            reason = _why_unrolled(projection.weights, projection.weight_exp, projection.max_delay)
            process = f"Sparse, unrolled: {reason}" if reason else "Conv, in its kernels"
            found.append(f"run_lava.py runs projection {projection.name!r} in Lava's {process}")
    return found


def _why_unrolled(weights: ConvolutionWeights, exponent: int, delay: int) -> str:
    """Why ``run_lava.py`` does not run it in ``Conv`` (its ``exact_in_conv``); empty if it does."""
    if delay:
        return "Conv ignores delays"
    if exponent < 0:
        return "Conv does not shift sums right"
    return inexact_in_lava(weights.convolution, exponent)
