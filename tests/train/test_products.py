"""The layers' products and gradients over events and living weights, against torch's dense ones."""

from __future__ import annotations

import pytest
import torch

from lbi.train import cuba_lif
from lbi.train.layers import event_linear as module
from lbi.train.layers.event_linear import event_linear, row_product
from lbi.train.layers.living import WORTHWHILE, living_of
from lbi.train.layers.numba_bridge import n_threads

TYPES = [torch.float32, torch.float64]


def sparse(shape: tuple[int, int], density: float, dtype: torch.dtype, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(shape, generator=generator, dtype=dtype)
    return weight * (torch.rand(shape, generator=generator) < density)


def bound(n: int, dtype: torch.dtype, *factors: torch.Tensor) -> float:
    """A sum of n products in any order is off by at most n rounding errors of the sum of their magnitudes."""
    magnitude = factors[0].abs() @ factors[1].abs()
    return float(magnitude.max()) * (n + 2) * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("n_rows", "n_k", "n"),
    [(1, 1, 1), (3, 5, 7), (64, 16, 32), (65, 130, 33), (200, 129, 257), (131, 256, 20)],
)
@pytest.mark.parametrize("density", [1.0, 0.15])
def test_products_of_rows_equal_torch(n_rows, n_k, n, dtype, density):
    rows, matrix = torch.randn(n_rows, n_k, dtype=dtype), sparse((n_k, n), density, dtype)
    given = living_of(matrix)
    assert (given is not None) == (density < 1 and matrix.numel() >= WORTHWHILE)
    error = (row_product(rows, matrix, given) - rows @ matrix).abs().max()
    assert error <= bound(n_k, dtype, rows, matrix)


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize(
    ("rate", "density"),
    [(0.05, 1.0), (0.05, 0.1), (0.05, 0.02), (0.6, 1.0), (0.6, 0.1), (0.6, 0.01), (0.0, 0.1), (0.3, 0.0)],
)
@pytest.mark.parametrize("only_living", [False, True])
@pytest.mark.parametrize("shape", [(131, 151), (20, 900)])
def test_a_layer_and_its_gradients_equal_autograd(rate, density, only_living, shape, dtype):
    generator = torch.Generator().manual_seed(1)
    spikes = (torch.rand(5, 37, shape[1], generator=generator) < rate).to(dtype).requires_grad_()
    weight = sparse(shape, density, dtype).requires_grad_()
    sent = torch.randn(5, 37, shape[0], dtype=dtype, generator=generator)
    out = event_linear(spikes, weight, only_living=only_living)
    found = torch.autograd.grad(out, (spikes, weight), sent)
    expected = spikes @ weight.T
    dense = torch.autograd.grad(expected, (spikes, weight), sent)
    rows, grads = spikes.detach().reshape(-1, shape[1]), sent.reshape(-1, shape[0])
    assert (out - expected).abs().max() <= bound(shape[1], dtype, rows, weight.detach().T)
    assert (found[0] - dense[0]).abs().max() <= bound(shape[0], dtype, grads, weight.detach())
    listed = only_living and 0 <= density <= 0.1
    kept = (weight != 0) if listed else torch.ones(shape, dtype=torch.bool)
    if kept.any():
        assert (found[1] - dense[1])[kept].abs().max() <= bound(len(rows), dtype, grads.T, rows)
    assert torch.equal(found[1][~kept], torch.zeros_like(found[1][~kept]))


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("most_rows", [7168, 64, 50])
@pytest.mark.parametrize("shape", [(131, 151), (20, 900), (160, 130)])
def test_spikes_at_living_weights_give_the_bits_of_the_dense_product(shape, most_rows, dtype, monkeypatch):
    """In one block of rows and in several, the last of them shorter; sums of whole numbers make the gradients exact."""
    monkeypatch.setattr(module, "MOST_ROWS", most_rows)
    generator = torch.Generator().manual_seed(3)
    weight, rows = (
        sparse(shape, 0.05, dtype),
        (torch.rand(185, shape[1], generator=generator) < 0.1).to(dtype),
    )
    living, events = living_of(weight), module.pack(rows, shape[0])
    assert living is not None
    assert events is not None
    listed = module.by_source(events, shape[1])
    assert listed[0].shape[0] == -(-185 // most_rows)
    found = module.living_product(listed, 185, living)
    assert torch.equal(found, module.product(None, events, weight))
    grad = torch.randint(-4, 5, (185, shape[0]), generator=generator).to(dtype)
    assert module.few(living, module.GRADIENT_COST) is living
    of_living = module.gradient(None, events, grad, shape[1], living)
    assert torch.equal(of_living, module.gradient(None, events, grad, shape[1], None) * (weight != 0))


@pytest.mark.parametrize("density", [1.0, 0.1])
@pytest.mark.parametrize("n", [130, 160])
def test_a_sparse_recurrent_layer_equals_the_dense_one(density, n, monkeypatch):
    """The gradient fed back over living weights, in samples that fill no vector, equals the dense tiles' one."""
    recurrent = (0.1 * sparse((n, n), density, torch.float64)).requires_grad_()
    a = (torch.randn(19, 12, n, dtype=torch.float64) + 0.3).requires_grad_()
    gradients = []
    for limit in (2.0, 0.2):
        monkeypatch.setattr("lbi.train.layers.living.MAX_DENSITY", limit if density < 1 else 0.2)
        spikes = cuba_lif(a, 0.4, 0.2, 1.0, recurrent=recurrent)
        gradients.append(torch.autograd.grad(spikes.sum(), (a, recurrent)))
    for one, other in zip(*gradients, strict=True):
        assert torch.allclose(one, other, rtol=1e-12, atol=1e-12)


def test_one_and_many_threads_give_the_same_bits(monkeypatch):
    monkeypatch.setattr(
        "lbi.train.layers.numba_bridge._own", None
    )  # a training in this process takes torch's
    monkeypatch.setattr("lbi.train.layers.numba_bridge.VALUES_PER_THREAD", 1)
    monkeypatch.setattr("lbi.train.layers.numba_bridge.available_cores", lambda: 3)
    results = []
    before = torch.get_num_threads()
    try:
        for count in (1, 3):
            torch.set_num_threads(count)
            assert n_threads(100) == count
            for density, rate in ((1.0, 0.05), (1.0, 0.6), (0.1, 0.05), (0.1, 0.6), (0.05, 0.05)):
                weight = sparse((150, 170), density, torch.float32).requires_grad_()
                spikes = (torch.rand(9, 40, 170, generator=torch.Generator().manual_seed(2)) < rate).float()
                out = event_linear(spikes.requires_grad_(), weight, only_living=True)
                (out * torch.linspace(-1, 1, 150)).sum().backward()
                results.append((count, out, spikes.grad, weight.grad))
    finally:
        torch.set_num_threads(before)
    half = len(results) // 2
    for (_, *one), (_, *other) in zip(results[:half], results[half:], strict=True):
        assert all(torch.equal(x, y) for x, y in zip(one, other, strict=True))


def test_few_spikes_are_packed_for_dense_weights_and_more_of_them_for_few_weights():
    rows = (torch.rand(50, 400, generator=torch.Generator().manual_seed(0)) < 0.45).float()
    few = living_of(sparse((100, 400), 0.02, torch.float32))
    assert module.pack(rows, 100) is None
    assert few is not None
    assert module.pack(rows, 100, few) is not None
