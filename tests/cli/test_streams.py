"""Programs whose standard streams are closed: the work is done, and no file takes a stream's place."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from support.networks import random_network

import lbi
from lbi.cli.common import Command

PROGRAM = "from lbi.cli.programs import export; export()"


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("options", ["", "--json"])
def test_closed_streams(closed, options, tmp_path):
    lbi.save(lbi.quantize(random_network(np.random.default_rng(0))), tmp_path / "network.h5")
    line = f"{sys.executable} -c '{PROGRAM}' network.h5 --target csr -o out.csr {options} {closed}"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "internal" not in done.stderr
    written = {path.relative_to(tmp_path / "out.csr") for path in (tmp_path / "out.csr").rglob("*")}
    lbi.export(lbi.load(tmp_path / "network.h5"), tmp_path / "again.csr", "csr")
    for path in written:
        if (tmp_path / "out.csr" / path).is_file():
            assert (tmp_path / "out.csr" / path).read_bytes() == (tmp_path / "again.csr" / path).read_bytes()


def test_a_reader_that_closes_the_pipe_interrupts(monkeypatch):
    def stopped() -> None:
        raise BrokenPipeError

    monkeypatch.setattr(sys, "stdout", sys.stdout)  # put back what the command replaces
    with pytest.raises(SystemExit) as ended:
        Command("x", callback=stopped).main([])
    assert ended.value.code == 130
    sys.stdout.close()
