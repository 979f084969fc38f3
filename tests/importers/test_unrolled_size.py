"""Convolutions of small files that have more synapses than memory are refused before any is made."""

from __future__ import annotations

import os

import nir
import numpy as np
import pytest
import torch
from support import peers
from torch import nn

from lbi.errors import InputError
from lbi.importers import from_torch, signal
from lbi.importers.nir import load
from lbi.network.convolution_weights import MOST_SYNAPSES
from lbi.system import memory

pytestmark = pytest.mark.filterwarnings("ignore")  # snnTorch's own

SYNAPSES = 8 * 8 * sum(min(28, at + 6) - max(0, at - 5) for at in range(28)) ** 2
"""64 kernels of 11 × 11 on 28 × 28 places: the taps that lie inside, along both axes."""

TOO_MANY = rf"unrolled-size: .*{SYNAPSES:,} synapses.*allowed: up to 1,000.*fix: use fewer channels"


@pytest.fixture(autouse=True)
def small_limit(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("unrolled")

    monkeypatch.setattr(signal.memory, "available", lambda: 1000 * signal.BYTES_PER_SYNAPSE)
    monkeypatch.setattr(signal, "expand", refuse)


def test_nir(tmp_path):
    shape = np.array([8, 28, 28])
    kernel = np.ones((8, 8, 11, 11), np.float32)
    ones = np.ones(tuple(shape))
    nodes = {
        "input": nir.Input({"input": shape}),
        "conv": nir.Conv2d((28, 28), kernel, 1, 5, 1, 1, np.zeros(8, np.float32)),
        "lif": nir.LIF(tau=ones * 0.01, r=ones, v_leak=ones * 0, v_threshold=ones),
        "output": nir.Output({"output": shape}),
    }
    edges = [("input", "conv"), ("conv", "lif"), ("lif", "output")]
    nir.write(tmp_path / "wide.nir", nir.NIRGraph(nodes, edges))
    with pytest.raises(InputError, match=TOO_MANY):
        load(tmp_path / "wide.nir", dt=0.001)


def test_torch():
    leaky = peers.package("snntorch").Leaky
    conv = nn.Conv2d(8, 8, 11, padding=5, bias=False)
    nn.init.constant_(conv.weight, 0.01)
    model = nn.Sequential(conv, leaky(beta=0.5, init_hidden=True, output=True, reset_mechanism="zero"))
    with torch.no_grad(), pytest.raises(InputError, match=TOO_MANY) as caught:
        from_torch(model.eval(), (8, 28, 28))
    assert [problem.where for problem in caught.value.problems] == ["module '0', a convolution"]


def test_the_limit_is_the_free_memory(monkeypatch):
    monkeypatch.setattr(signal.memory, "available", lambda: 10**15)
    assert signal.most_unrolled() == MOST_SYNAPSES
    monkeypatch.setattr(signal.memory, "available", lambda: None)
    assert signal.most_unrolled() == MOST_SYNAPSES


def test_free_memory_is_less_than_all():
    free = memory.available()
    assert free is not None
    assert 0 < free <= os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
