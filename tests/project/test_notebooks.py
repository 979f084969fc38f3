"""The notebooks run from top to bottom and are committed without outputs."""

from __future__ import annotations

import asyncio
import gc
import os
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_is_stripped(path):
    nbformat = pytest.importorskip("nbformat")
    cells = nbformat.read(path, as_version=4).cells
    assert cells
    assert not [cell for cell in cells if cell.get("outputs") or cell.get("execution_count")]


@pytest.fixture(scope="module")
def executed():
    """Path → the notebook after its run, or what ended it; two run at a time, on one thread each."""
    for package in ("torch", "ipykernel"):
        pytest.importorskip(package)
    nbformat, nbclient = pytest.importorskip("nbformat"), pytest.importorskip("nbclient")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}

    async def run(path, two):
        notebook = nbformat.read(path, as_version=4)
        client = nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3")
        async with two:
            try:
                return await client.async_execute(env=environment)
            except Exception as error:
                return error

    async def run_all():
        two = asyncio.Semaphore(2)
        return await asyncio.gather(*(run(path, two) for path in NOTEBOOKS))

    found = dict(zip(NOTEBOOKS, asyncio.run(run_all()), strict=True))
    gc.collect()  # sockets that the kernels' clients leave open are warned of here, not in some later test
    return found


@pytest.mark.lava
@pytest.mark.filterwarnings("ignore")  # of the kernel's own machinery
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs(path, executed):
    if isinstance(executed[path], Exception):
        raise executed[path]
    outputs = [output for cell in executed[path].cells for output in cell.get("outputs", ())]
    assert outputs
    assert not [output for output in outputs if output.output_type == "error"]
