"""Damaged files of sweeps and resumed runs: earlier findings of ``tests/fuzz.py``."""

from __future__ import annotations

import json

import numpy as np
import pytest
from support.fuzz.readers import READERS

from lbi.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore")  # of other packages, on damaged input

RESULT_CHANGES = {
    "accuracy": (1, {"train": 1.0}, {"train": 1.0, "test": "x"}, {"train": 1.0, "test": 2.0}),
    "energy_nj": (3, {"low": 1.0}, {"low": None, "high": 1.0}),
    "density": (None, "0.1", float("nan")),
    "synops": ([], -1.0),
}


def test_damaged_results_of_a_sweep_are_made_again(tmp_path):
    """Each was a traceback in the table of results, and a table with wrong figures is worse."""
    pytest.importorskip("torch")
    pytest.importorskip("ray")
    from lbi.cli.sweep_trial import read_result

    sweep = READERS["sweep"].seeds(tmp_path)[0]
    (path,) = sweep.rglob("result.json")
    whole = json.loads(path.read_text(encoding="utf-8"))
    assert read_result(path.parent) == whole
    changed = [{**whole, name: value} for name, values in RESULT_CHANGES.items() for value in values]
    changed += [{key: value for key, value in whole.items() if key != name} for name in RESULT_CHANGES]
    for record in changed:
        path.write_text(json.dumps(record), encoding="utf-8")
        assert read_result(path.parent) is None
    for text in ("[" * 100_000, "[1]", "null", "\ufeff{}", ""):
        path.write_text(text, encoding="utf-8")
        assert read_result(path.parent) is None
    READERS["sweep"].read(sweep, np.random.default_rng(0))
    again = read_result(path.parent)
    assert {**again, "seconds": 1.0} == {**whole, "seconds": 1.0}


@pytest.mark.parametrize("options", [1.5, "x", [1], None])
def test_plans_of_a_sweep_that_are_no_plans(options, tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("ray")
    sweep = READERS["sweep"].seeds(tmp_path)[0]
    plan = json.loads((sweep / "sweep.json").read_text(encoding="utf-8"))
    (sweep / "sweep.json").write_text(json.dumps({**plan, "options": options}), encoding="utf-8")
    with pytest.raises(InputError, match=r"sweep-folder.*unreadable sweep\.json"):
        READERS["sweep"].read(sweep, np.random.default_rng(0))


@pytest.mark.parametrize(
    "content", [b"epoch,loss\n\x80,1\n", b"epoch\n" + b"9" * 6000, b'epoch\n"' + b"x" * 200_000]
)
def test_metrics_that_a_resumed_run_cannot_read(content, tmp_path):
    pytest.importorskip("torch")
    from lbi.train.session.metrics import Metrics

    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"metrics.*cannot be read.*remove it"):
        Metrics(path, None, 1)
    assert path.read_bytes() == content


def test_a_lock_that_is_a_folder(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("ray")
    sweep = READERS["sweep"].seeds(tmp_path)[0]
    (sweep / "sweep.lock").unlink(missing_ok=True)
    (sweep / "sweep.lock").mkdir()
    with pytest.raises(InputError, match=r"sweep-folder.*sweep\.lock: Is a directory"):
        READERS["sweep"].read(sweep, np.random.default_rng(0))
