"""``lbi.export`` writes what ``lbi-export`` writes, and refuses what it refuses."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.command import call
from support.networks import random_network

import lbi
from lbi.cli.export import main as lbi_export
from lbi.errors import FitError, InputError, UsageError
from lbi.network.neurons import AtrLif


@pytest.fixture
def network():
    return random_network(np.random.default_rng(0), (12, 9, 4))


@pytest.mark.parametrize("target", ["loihi", "csr"])
def test_the_same_bytes_as_the_command(target, network, tmp_path):
    fixed = lbi.quantize(network, "loihi1")
    lbi.save(fixed, tmp_path / "network.h5")
    done = call(
        lbi_export, tmp_path / "network.h5", "--target", target, "--chip", "loihi1", "-o", tmp_path / "theirs"
    )
    assert done.code == 0, done.errors
    assert lbi.export(fixed, tmp_path / "ours", target, "loihi1") == tmp_path / "ours"
    files = [path.relative_to(tmp_path / "ours") for path in (tmp_path / "ours").rglob("*") if path.is_file()]
    assert files
    for file in files:
        assert (tmp_path / "ours" / file).read_bytes() == (tmp_path / "theirs" / file).read_bytes()


def test_a_float_network_for_nir_and_back(network, tmp_path):
    pytest.importorskip("nir")
    lbi.export(network, tmp_path / "net.nir", "nir", dt=1e-3)
    back = lbi.load(tmp_path / "net.nir")
    assert {p.name for p in back.populations} == {p.name for p in network.populations}


def test_nothing_is_written_where_it_cannot_be(network, tmp_path):
    lbi.export(network, tmp_path / "a")
    with pytest.raises(InputError, match="already exists"):
        lbi.export(network, tmp_path / "a")
    lbi.export(network, tmp_path / "a", force=True)
    with pytest.raises(UsageError, match=r"--target|unknown"):
        lbi.export(network, tmp_path / "b", "loihi9")
    with pytest.raises(UsageError, match=r"argument: network: a str.*lbi.load"):
        lbi.export("model.pt", tmp_path / "b")
    adaptive = AtrLif(0.5, 0.5, 0.5, 0.5, 1.0, 0.5)
    changed = replace(network.populations[0], neuron=adaptive)
    programmable = replace(network, populations=(changed, *network.populations[1:]))
    with pytest.raises(FitError, match="atrlif"):
        lbi.export(programmable, tmp_path / "b", chip="loihi1")
    assert not (tmp_path / "b").exists()
