"""The Python file of ``--arch`` and the arguments of ``from_torch``, as users write them and get them wrong."""

from __future__ import annotations

import re
import sys

import numpy as np
import pytest
import torch
from support import peers
from support.command import call
from torch import nn

import lbi
from lbi.cli.export import main as lbi_export
from lbi.errors import LbiError
from lbi.importers import from_torch

pytestmark = pytest.mark.filterwarnings("ignore")  # the frameworks' own

LAYERS = """
import snntorch
import torch


class Net(torch.nn.Module):
    def __init__(self, hidden, n_steps=20):
        super().__init__()
        self.fc1 = torch.nn.Linear(8, hidden)
        self.lif1 = snntorch.Leaky(beta=0.9, reset_mechanism="zero")

    def forward(self, x):
        mem, spikes = self.lif1.init_leaky(), []
        for step in range(x.size(0)):
            spike, mem = self.lif1(self.fc1(x[step]), mem)
            spikes.append(spike)
        return torch.stack(spikes)
"""

MODEL = """
import torch
from layers_beside import Net


def build():
    return Net(6)


def compiled():
    return torch.compile(Net(6))


def parallel():
    return torch.nn.DataParallel(Net(6))


def broken():
    return Net(6) / 0


def argument(hidden, *others, n_steps=20):
    return Net(hidden)


net = Net(6)
number = 6
"""


@pytest.fixture
def folder(tmp_path):
    """A model's file, one beside it that it imports, and the saved state."""
    peers.package("snntorch")
    (tmp_path / "layers_beside.py").write_text(LAYERS)
    (tmp_path / "model.py").write_text(MODEL)
    (tmp_path / "training.py").write_text("raise ValueError('no data')")
    names: dict = {}
    exec(LAYERS, names)
    torch.manual_seed(0)
    torch.save(names["Net"](6).state_dict(), tmp_path / "state.pt")
    yield tmp_path
    sys.modules.pop("layers_beside", None)


@pytest.mark.parametrize("function", ["build", "compiled", "parallel"])
def test_the_file_imports_what_lies_beside_it_and_wrappers_are_taken_off(function, folder):
    before = list(sys.path)
    network = lbi.load(folder / "state.pt", arch=f"{folder}/model.py:{function}")
    assert sys.path == before
    weights = torch.load(folder / "state.pt")["fc1.weight"].numpy()
    assert np.array_equal(network.projections[0].weights.to_dense(), weights.astype(float))


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("model.py:Net", r"needs 'hidden'; .*fix: .*def build\(\): return Net\(hidden=…\)$"),
        ("model.py:argument", r"needs 'hidden'; .*fix: .*return argument\(hidden=…\)$"),
        ("model.py:net", r"is a Net; .*fix: write it: def build\(\): return net$"),
        ("model.py:number", "is a int; allowed: a function without arguments"),
        ("model.py:broken", "fails with TypeError: .*fix: correct broken in .*model.py$"),
        ("training.py:build", "fails with ValueError: no data; .*fix: .*if __name__ == '__main__'"),
    ],
)
def test_a_function_that_makes_no_model_is_named_with_a_fix(arch, message, folder):
    done = call(lbi_export, folder / "state.pt", "--arch", f"{folder}/{arch}", "--target", "csr")
    assert (done.code, len(done.errors)) == (2, 1)
    assert re.search(message, done.errors[0]), done.errors


@pytest.mark.parametrize(
    ("make", "shape", "message"),
    [
        (nn.Identity, 0, r"input-shape: input_shape: \(0,\)"),
        (nn.Identity, 64.0, r"input-shape: input_shape: 64.0; .*fix: pass a tuple such as \(64,\)"),
        (nn.Identity, (), r"input-shape: input_shape: \(\)"),
        (nn.Identity, (64, 0), "input-shape: .*sizes of at least 1"),
        (nn.Identity, (64.0,), "input-shape"),
        (lambda: nn.Linear(64, 2).state_dict(), (64,), r"is a OrderedDict; .*fix: .*load_state_dict"),
        (lambda: "model.pt", (64,), r"is a str; .*fix: build the model"),
        (lambda: nn.Identity, (64,), "is a class, Identity; .*fix: call it"),
        (lambda: test_what_is_no_model_is_named, (64,), "is a function; .*fix: call it"),
        (lambda: [nn.Identity()], (64,), r"is a list; .*fix: wrap them: torch\.nn\.Sequential"),
    ],
)
def test_what_is_no_model_is_named(make, shape, message):
    with pytest.raises(LbiError, match=message):
        from_torch(make(), shape)
