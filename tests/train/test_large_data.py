"""Training on spikes held as bits: the same model bit for bit, and data sets larger than the memory."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from support.command import call
from support.spoken import random_samples, shd_file

pytest.importorskip("torch")

from lbi.cli.export import main as export
from lbi.cli.run import main as run
from lbi.cli.train import main as train
from lbi.datasets import cached, packed

SMALL = ["--hidden", "16", "--epochs", "2", "--set", "encoding.n_steps=20", "--quiet"]


@pytest.mark.parametrize(
    "options",
    [
        ["--density", "0.3", "--set", "validation=0.2"],
        ["--set", "channel_jitter=2", "--set", "time_shift=2"],
        ["--budget", "synops=100", "--chip", "loihi2"],
    ],
)
def test_the_model_is_the_same_byte_for_byte(options, tmp_path, rng, monkeypatch):
    monkeypatch.setattr(cached, "cache_folder", lambda: tmp_path / "cache")
    for split, n in (("train", 90), ("test", 30)):
        shd_file(tmp_path / f"shd_{split}.h5", random_samples(rng, n, last_s=0.2))
    models = []
    for most in (1 << 40, 0):
        monkeypatch.setattr(packed, "PACKED_ABOVE", most)
        arguments = ["--dataset", "shd", "--data", tmp_path, *SMALL, *options, "-o", tmp_path / "model.pt"]
        assert call(train, *arguments).code in (0, 6)  # 6: the budget is not met
        models.append((tmp_path / "model.pt").read_bytes())
    assert models[0] == models[1]
    assert len(list((tmp_path / "cache" / "datasets").iterdir())) == 2
    assert call(export, tmp_path / "model.pt", "--target", "loihi", "-o", tmp_path / "out").code == 0
    tested = ["--backend", "sim", "--dataset", "shd", "--data", tmp_path, "--samples", "7"]
    outputs = []
    for most in (1 << 40, 0):
        monkeypatch.setattr(packed, "PACKED_ABOVE", most)
        done = call(run, tmp_path / "out", *tested, "-o", tmp_path / "out.npz")
        assert done.code == 0, done.errors
        with np.load(tmp_path / "out.npz") as file:
            outputs.append({key: file[key].tobytes() for key in file})
    assert outputs[0] == outputs[1]


LIMITED = """
import resource, sys
from pathlib import Path
from lbi import datasets
from lbi.datasets import cached, packed
from lbi.train.session.config import make_config
from lbi.train.session.loop import Trainer

folder, room = Path(sys.argv[1]), int(sys.argv[2])
cached.cache_folder = lambda: folder / "cache"
options = {"encoding": {"n_steps": 2000, "step_ms": 1.0}, "hidden": (4,), "epochs": 1, "batch_size": 8}
config = make_config("shd", None, {**options, "density": 1.0, "optimizer": "adam", "seed": 0})

def load(name):
    return datasets.load("shd", folder / name, **config.encoding)

Trainer(config, load("small")).run()  # libraries take their own memory on first use
(used,) = (int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmData"))
resource.setrlimit(resource.RLIMIT_DATA, (1024 * used + room, -1))
most, packed.PACKED_ABOVE = packed.PACKED_ABOVE, 1 << 40
try:
    print(load("large").train)
except MemoryError:
    print("bytes: no memory")
packed.PACKED_ABOVE = most
trainer = Trainer(config, load("large"))
trainer.run()
print(type(trainer.train.spikes).__name__, len(trainer.train), len(trainer.progress.history), "epoch")
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits the memory as Linux does")
def test_a_data_set_larger_than_the_memory_trains(tmp_path, rng):
    n_samples, n_steps, n_in = 200, 2000, 700
    for name, n in (("small", 20), ("large", n_samples)):
        (tmp_path / name).mkdir()
        shd_file(tmp_path / name / "shd_train.h5", random_samples(rng, n))
        shd_file(tmp_path / name / "shd_test.h5", random_samples(rng, 20))
    n_bytes = n_samples * n_steps * n_in
    assert n_bytes > packed.PACKED_ABOVE
    arguments = [sys.executable, "-c", LIMITED, tmp_path, str(2 * n_bytes // 3)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False)
    expected = ["bytes: no memory", f"PackedSpikes {n_samples} 1 epoch"]
    assert (done.returncode, done.stdout.splitlines()) == (0, expected), done.stderr
    assert sum(path.stat().st_size for path in (tmp_path / "cache" / "datasets").iterdir()) < n_bytes / 7
