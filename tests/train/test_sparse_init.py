import math

import pytest
import torch
from torch import nn

from lbi.errors import UsageError
from lbi.train import L1, AdaBreg, sparse_init_


def net_of():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 40, 5), nn.Sequential(nn.Linear(300, 200), nn.BatchNorm1d(200)), nn.Linear(200, 50)
    )


@pytest.mark.parametrize("density", [0.02, 0.1, 0.5])
@pytest.mark.parametrize("shape", [(400, 500), (40, 50, 10, 10), (200_000,)])
def test_entries_are_bernoulli_and_keep_their_variance(density, shape):
    n = math.prod(shape)
    dense = torch.empty(shape).uniform_(-0.3, 0.3, generator=torch.Generator().manual_seed(0))
    sparse = sparse_init_(dense.clone(), density, torch.Generator().manual_seed(1))
    alive = sparse != 0
    # Five standard deviations of a binomial count.
    assert abs(int(alive.sum()) - n * density) < 5 * math.sqrt(n * density * (1 - density))
    assert torch.equal(sparse[alive], (dense * density**-0.5)[alive])
    # E θ² = σ² = 0.3²/3, E θ⁴ = 0.3⁴/5/density: five standard deviations of the mean of n squares.
    variance = 0.3**2 / 3
    deviation = math.sqrt((0.3**4 / 5 / density - variance**2) / n)
    assert float(sparse.double().square().mean()) == pytest.approx(variance, abs=5 * deviation)
    # A neuron's input keeps its variance too: its weights' squares sum to about n_in·σ².
    assert abs(float(sparse.double().mean())) < 5 * math.sqrt(variance / n)


def test_biases_and_normalizations_are_left_alone():
    net, before = net_of(), net_of()
    assert sparse_init_(net, 0.1, torch.Generator().manual_seed(0)) is net
    for (name, p), q in zip(net.named_parameters(), before.parameters(), strict=True):
        if p.ndim >= 2:
            assert 0.05 < float((p != 0).float().mean()) < 0.15, name
        else:
            assert torch.equal(p, q), name


def test_layers_may_differ_and_unnamed_ones_stay_dense():
    net = sparse_init_(net_of(), {"0.weight": 0.5, "1": 0.05}, torch.Generator().manual_seed(0))
    densities = {name: float((p != 0).float().mean()) for name, p in net.named_parameters() if p.ndim >= 2}
    assert densities["0.weight"] == pytest.approx(0.5, rel=0.1)
    assert densities["1.0.weight"] == pytest.approx(0.05, rel=0.1)
    assert densities["2.weight"] == 1.0
    assert torch.equal(net[2].weight, net_of()[2].weight)


def test_masks_follow_the_generator_alone():
    masks = []
    for dtype in (torch.float32, torch.float64, torch.bfloat16):
        torch.manual_seed(len(masks))  # must not matter
        net = sparse_init_(net_of().to(dtype), 0.3, torch.Generator().manual_seed(5))
        masks.append(torch.cat([(p != 0).ravel() for p in net.parameters() if p.ndim >= 2]))
    assert torch.equal(masks[0], masks[1])
    assert torch.equal(masks[0], masks[2])
    other = sparse_init_(net_of(), 0.3, torch.Generator().manual_seed(6))
    assert not torch.equal(masks[0], torch.cat([(p != 0).ravel() for p in other.parameters() if p.ndim >= 2]))


def test_full_density_changes_nothing_and_no_graph_is_kept():
    net = net_of()
    sparse_init_(net, 1.0)
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), net_of().parameters(), strict=True))
    assert all(p.requires_grad and p.grad_fn is None for p in net.parameters())


def test_bregman_dual_starts_on_the_sparse_weights():
    weight = sparse_init_(torch.randn(50, 40, requires_grad=True), 0.1, torch.Generator().manual_seed(0))
    start = weight.detach().clone()
    optimizer = AdaBreg([weight], lr=0.0, reg=L1(0.5), delta=2.0)
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    # θ = δ·((θ/δ + λ·sign θ) − λ·sign θ): two roundings of numbers below 16.
    torch.testing.assert_close(weight.detach(), start, rtol=0, atol=2 * 16 * 2.0**-24)
    assert torch.equal(weight == 0, start == 0)


def test_errors_name_everything_and_change_nothing():
    net = net_of()
    with pytest.raises(
        UsageError, match=r"(?s)density\['2'\]: 1\.5;.*density\['3\.weight'\]: no such weight; allowed: 0"
    ):
        sparse_init_(net, {"0": 0.1, "2": 1.5, "3.weight": 0.1})
    with pytest.raises(UsageError, match=r"density: 0\.0; allowed: a number > 0 and ≤ 1"):
        sparse_init_(net, 0)
    with pytest.raises(UsageError, match=r"density\['0\.bias'\]: no such weight"):
        sparse_init_(net, {"0.bias": 0.5})
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), net_of().parameters(), strict=True))
