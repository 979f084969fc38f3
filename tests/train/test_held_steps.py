"""Optimizer steps that are held to a support: the same numbers there, and none elsewhere."""

import pytest
import torch

from lbi.train import L1, AdaBreg, GroupL1, LinBreg


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    "make",
    [
        lambda groups: AdaBreg(groups, lr=0.01, weight_decay=0.1, fused=True),
        lambda groups: LinBreg(groups, lr=0.01, momentum=0.9, fused=True),
        lambda groups: LinBreg(groups, lr=0.01, fused=True),
    ],
)
@pytest.mark.parametrize("reg", [L1(0.01), GroupL1(0.0), None])
def test_held_weights_take_the_same_steps_and_all_others_none(make, reg, threads, dtype, monkeypatch):
    """In tensors of several chunks and of less than a vector; the last tensor is not held, nor any without a regularizer."""
    monkeypatch.setattr("lbi.train.optim.fused_cpu.n_threads", lambda n: threads)
    generator = torch.Generator().manual_seed(0)
    shapes = [(300, 410), (7, 3), (60, 50)]
    start = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    supports = [torch.rand(shape, generator=generator) < 0.2 for shape in shapes]
    runs = []
    for held in (True, False):
        params = [x.clone().requires_grad_() for x in start]
        optimizer = make([{"params": params, "reg": reg}])
        for step in range(4):
            grads = torch.Generator().manual_seed(step)
            for p in params:
                p.grad = torch.randn(p.shape, generator=grads).to(dtype)
            if held and step == 1:
                optimizer.hold(dict(zip(params[:2], supports[:2], strict=True)))
            before = [p.detach().clone() for p in params]
            optimizer.step()
            holds = held and step > 0 and reg is not None
            assert [optimizer.holds(p) for p in params] == [holds, holds, False]
            if holds:
                for p, old, support in zip(params[:2], before[:2], supports[:2], strict=True):
                    assert torch.equal(p[~support], old[~support])
                    assert not torch.equal(p[support], old[support])
        runs.append((optimizer, params))
    (one, found), (other, expected) = runs
    for p, q, support in zip(found, expected, supports, strict=True):
        assert torch.equal(p[support], q[support])
        for key, value in one.state[p].items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value[support], other.state[q][key][support])
