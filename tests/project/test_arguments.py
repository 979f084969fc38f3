"""Public functions given another of the package's objects, a path or an array name the call that makes the right one."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import lbi
from lbi.errors import UsageError

SPIKES = np.zeros((1, 3, 2), np.uint8)


def network():
    output = lbi.Population("out", (2,), lbi.CubaLif(current_decay=0.5, voltage_decay=0.1, threshold=1.0))
    weights = lbi.CsrMatrix.from_dense(np.eye(2))
    return lbi.Network((2,), (output,), (lbi.Projection("p", "input", "out", weights),), lbi.Readout("out"))


TAKE_FIXED = {
    "simulate": lambda it: lbi.simulate(it, SPIKES),
    "estimate": lbi.estimate,
    "save": lambda it: lbi.save(it, "never.h5"),
    "compact": lbi.compact,
}


@pytest.mark.parametrize("name", TAKE_FIXED)
@pytest.mark.parametrize(
    ("make", "fix"),
    [
        (network, r"a Network; .*fix: lbi\.quantize\(network, chip\)"),
        (lambda: "model.loihi", r"a str; .*fix: lbi\.load\(path\)"),
        (lambda: Path("model.loihi"), r"Path; .*fix: lbi\.load\(path\)"),
        (lambda: SPIKES, r"a ndarray; .*fix: lbi\.quantize or lbi\.load"),
    ],
)
def test_a_fixed_network_is_asked_for(name, make, fix, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=f"argument: network: .*{fix}"):
        TAKE_FIXED[name](make())
    assert list(tmp_path.iterdir()) == []


def test_the_other_arguments():
    fixed = lbi.quantize(network(), "loihi2")
    with pytest.raises(UsageError, match="a FixedNetwork; allowed: a Network; fix: give the float network"):
        lbi.quantize(fixed, "loihi1")
    with pytest.raises(UsageError, match=r"activity: a ndarray; .*fix: lbi\.simulate\(fixed, spikes\)"):
        lbi.estimate(fixed, SPIKES)
