"""``--target loihi``: a folder with the integers, the script that runs them in Lava, and the report.

``network.h5`` (the network) · ``network.net`` (Lava-DL netx, where netx can hold it) · ``run_lava.py`` (needs
lava-nc only) · ``report.json`` and ``summary.txt``. The same network gives the same bytes.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lbi.exporters import netx

from lbi.files import network_h5

if TYPE_CHECKING:
    from lbi.deploy.job import ExportJob
    from lbi.errors import Problem

TITLE = "folder for Loihi: network.h5, network.net, run_lava.py, report"
SUFFIX = ".loihi"
TAKES = "fixed"

REPORT = ("lbi.report", 1)
"""Format and version of report.json."""

SCRIPT = "run_lava.py"


def check(job: ExportJob) -> list[Problem]:
    """Nothing but the chip's own limits can keep a network out."""
    return []


def notes(job: ExportJob) -> list[str]:
    """What of the folder is missing or of no use, a line each."""
    from lbi.exporters import lava

    found = [f"run_lava.py cannot run it: {problem}" for problem in lava.check(job)]
    if netx.check(job):
        found.append("no network.net: --target netx --check says why")
    return found


def export(job: ExportJob, path: Path) -> None:
    """Write the folder ``path``, which does not exist yet."""
    path.mkdir()
    write_network(job, path)
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
    write_json(path / "report.json", report)
    (path / "summary.txt").write_text(job.text, encoding="utf-8")


def write_network(job: ExportJob, folder: Path) -> None:
    """``network.h5``, each projection marked with its memory format, and the script that runs it."""
    network_h5.write(job.fixed, folder / "network.h5", job.formats)
    shutil.copyfile(Path(__file__).with_name(SCRIPT), folder / SCRIPT)


def write_json(path: Path, record: dict[str, Any]) -> None:
    """Write JSON that does not depend on the order of insertion."""
    text = json.dumps(record, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")
