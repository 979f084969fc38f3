"""Exports run in the Lava of another Python: ``make test-oldest`` names it."""

import os

import numpy as np
import pytest
from support import cases
from support.command import call

from lbi.cli.run import main as lbi_run
from lbi.deploy.backends import LAVA_PYTHON
from lbi.files import network_h5

OTHER = os.environ.get("LBI_TEST_LAVA_PYTHON")


@pytest.mark.skipif(not OTHER, reason="LBI_TEST_LAVA_PYTHON names no Python with Lava")
@pytest.mark.parametrize("backend", ["lava", "netx"])
def test_lava_of_another_python(tmp_path, monkeypatch, backend):
    fixed, spikes = cases.make("recurrent")
    network_h5.save(fixed, tmp_path / "network.h5")
    np.savez(tmp_path / "spikes.npz", spikes=spikes)
    monkeypatch.setenv(LAVA_PYTHON, str(OTHER))
    done = call(
        lbi_run,
        tmp_path / "network.h5",
        "--backend",
        backend,
        "--spikes",
        tmp_path / "spikes.npz",
        "--verify",
        "--json",
    )
    assert done.code == 0, done.errors
    assert done.json["verified"] is True
    assert done.json["n_output_spikes"] > 0
