"""``--target loihi``: a folder with the network in integers, a script that runs it in Lava, and a report.

The files are ``network.h5`` (the network), ``network.net`` (Lava-DL netx, if netx can hold the network),
``run_lava.py`` (needs lava-nc but not this package), ``report.json`` and ``summary.txt``. The same network gives
the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from lbi.exporters import lava, netx

from lbi.files import plain_json

if TYPE_CHECKING:
    from lbi.exporters import Job

    from lbi.errors import Problem

TITLE = "folder for Loihi: network.h5, network.net, run_lava.py, report"
SUFFIX = ".loihi"
TAKES = "fixed"

REPORT = ("lbi.report", 1)
"""Format and version of report.json."""

NO_NETX = "no network.net: --target netx --check says why"
"""The note on an export without netx's file; docs/howto/frameworks.md explains it."""


def check(job: Job) -> list[Problem]:
    """No reasons: any network can be exported, subject to the chip's limits.

    Args:
        job: the network, its chip and options.

    Returns:
        An empty list, of no reasons against an export.
    """
    return []


def notes(job: Job) -> list[str]:
    """One line for each file of the folder that is missing or cannot be used, and for each convolution.

    Args:
        job: the network, its chip and options.

    Returns:
        The lines; none if the folder is complete.
    """
    found = [f"run_lava.py cannot run it: {problem}" for problem in lava.check(job)]
    found += lava.convolution_notes(job.fixed)
    if netx.check(job):
        found.append(NO_NETX)
    return found


def export(job: Job, path: Path) -> None:
    """Write the folder ``path``, which does not exist yet.

    Args:
        job: the network, its chip and options.
        path: a folder that does not exist yet.
    """
    path.mkdir()
    lava.write_network(job, path)
    reasons = [str(problem) for problem in netx.check(job)]
    if not reasons:
        netx.export(job, path / "network.net")
    report = {
        "format": REPORT[0],
        "version": REPORT[1],
        "netx": {"written": not reasons, "reasons": reasons},
        "provenance": dict(job.fixed.provenance),
        **job.summary,
    }
    plain_json.write(path / "report.json", report)
    (path / "summary.txt").write_text(job.text, encoding="utf-8")
