import math

import numpy as np
import pytest
import torch
from support.interpreter import interpreted
from torch import nn

from lbi.errors import UsageError
from lbi.train import L1, AdaBreg, GroupL1, LinBreg, ProxSGD

SHAPES = [(5, 7), (4, 3, 2, 2), (6,), (1, 9), ()]
PATHS = [pytest.param(False, id="foreach"), pytest.param(True, id="fused")]


def make_params(dtype=torch.float64, seed=0):
    """Tensors of all SHAPES, about half of whose entries are 0, and a generator for their gradients."""
    generator = torch.Generator().manual_seed(seed)
    params = []
    for shape in SHAPES:
        p = torch.randn(shape, generator=generator, dtype=dtype)
        p *= torch.rand(shape, generator=generator, dtype=dtype) < 0.5
        params.append(p.requires_grad_())
    return params, generator


def gradient(p, generator):
    """Noise around a pull that differs per entry, so that duals drift and supports change both ways."""
    pull = torch.linspace(-0.6, 0.6, max(p.numel(), 1), dtype=p.dtype)[: p.numel()].reshape(p.shape)
    return 0.2 * p.detach() + pull + 0.5 * torch.randn(p.shape, generator=generator, dtype=p.dtype)


def soft(x, threshold):
    return np.sign(x) * np.maximum(np.abs(x) - threshold, 0)


def published_adabreg(theta, grads_of, lr, lamda, delta, beta1=0.9, beta2=0.999, eps=1e-8, decay=0.0):
    """Bungert et al. (2022), Algorithm 3, line by line; ``grads_of(θ)`` yields each step's gradient."""
    m, s = np.zeros_like(theta), np.zeros_like(theta)
    v = theta / delta + lamda * np.sign(theta)
    for k in range(1, 201):
        g = grads_of(theta)
        m = beta1 * m + (1 - beta1) * g
        s = beta2 * s + (1 - beta2) * g * g
        m_hat, s_hat = m / (1 - beta1**k), s / (1 - beta2**k)
        v = v - lr * m_hat / (np.sqrt(s_hat) + eps) - lr * decay * theta
        theta = soft(delta * v, delta * lamda)
    return theta


def published_linbreg(theta, grads_of, tau, lamda, delta, beta=0.0, decay=0.0):
    """Bungert et al. (2022), Algorithms 1 and 2: m ← βm + (1−β)τg, v ← v − m, θ ← prox_δJ(δv)."""
    m = np.zeros_like(theta)
    v = theta / delta + lamda * np.sign(theta)
    for _ in range(200):
        m = beta * m + (1 - beta) * tau * grads_of(theta)
        v = v - m - (1 - beta) * tau * decay * theta
        theta = soft(delta * v, delta * lamda)
    return theta


def published_ista(theta, grads_of, lr, lamda):
    for _ in range(200):
        theta = soft(theta - lr * grads_of(theta), lr * lamda)
    return theta


def run_against(optimizer_of, published, groups_of):
    """200 steps of the optimizer and of the published equations, on the same gradients."""
    params, generator = make_params()
    start = [p.detach().clone() for p in params]
    optimizer = optimizer_of(groups_of(params))
    settings = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    sequence = [
        [torch.randn(p.shape, generator=generator, dtype=p.dtype) for p in params] for _ in range(200)
    ]

    def pull(theta, noise):
        ramp = np.linspace(-0.6, 0.6, max(theta.size, 1))[: theta.size].reshape(theta.shape)
        return 0.2 * theta + ramp + 0.5 * noise

    for noises in sequence:
        for p, noise in zip(params, noises, strict=True):
            p.grad = torch.as_tensor(pull(p.detach().numpy(), noise.numpy()))
        optimizer.step()
    for i, (p, theta) in enumerate(zip(params, start, strict=True)):
        noise = iter(noises[i].numpy() for noises in sequence)
        expected = published(theta.numpy(), lambda t, noise=noise: pull(t, next(noise)), settings[id(p)])
        # 200 steps of some 15 roundings of 2^-53 each, on numbers below 10, with a contraction of 1.
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=0, atol=200 * 15 * 10 * 2.0**-53)
        assert np.array_equal(p.detach().numpy() == 0, expected == 0)
    return params


def several_groups(params):
    return [
        {"params": params[:2], "reg": L1(0.3), "delta": 2.0},
        {"params": params[2:4], "reg": L1(0.1), "lr": 0.02},
        {"params": params[4:]},
    ]


def lamda_of(group):
    return group["reg"].lamda if group["reg"] else 0.0


@pytest.mark.parametrize("fused", PATHS)
@pytest.mark.parametrize("decay", [0.0, 0.1])
def test_adabreg_is_the_published_equations(fused, decay):
    params = run_against(
        lambda groups: AdaBreg(groups, lr=0.01, weight_decay=decay, fused=fused),
        lambda theta, grads, group: published_adabreg(
            theta, grads, group["lr"], lamda_of(group), group["delta"], decay=decay
        ),
        several_groups,
    )
    support = torch.cat([p.detach().ravel() != 0 for p in params[:4]])
    assert 0 < support.sum() < support.numel()


@pytest.mark.parametrize("fused", PATHS)
@pytest.mark.parametrize(("momentum", "decay"), [(0.0, 0.0), (0.9, 0.0), (0.5, 0.1)])
def test_linbreg_is_the_published_equations(fused, momentum, decay):
    # The paper's (1 − β)τ is our lr, for the step of the gradient and of the decay alike.
    run_against(
        lambda groups: LinBreg(groups, lr=0.01, momentum=momentum, weight_decay=decay, fused=fused),
        lambda theta, grads, group: published_linbreg(
            theta, grads, group["lr"] / (1 - momentum), lamda_of(group), group["delta"], momentum, decay
        ),
        several_groups,
    )


def test_proxsgd_is_iterative_soft_thresholding():
    run_against(
        lambda groups: ProxSGD([{k: v for k, v in g.items() if k != "delta"} for g in groups], lr=0.01),
        lambda theta, grads, group: published_ista(theta, grads, group["lr"], lamda_of(group)),
        several_groups,
    )


def twin_runs(ours_of, theirs_of, steps=200, dtype=torch.float64):
    """Largest difference after the same steps of two optimizers on equal parameters."""
    runs = []
    for optimizer_of in (ours_of, theirs_of):
        params, generator = make_params(dtype)
        optimizer = optimizer_of(params)
        for _ in range(steps):
            for p in params:
                p.grad = gradient(p, generator)
            optimizer.step()
        runs.append([p.detach().clone() for p in params])
    return max(float((a - b).abs().max()) for a, b in zip(*runs, strict=True)), runs[0]


@pytest.mark.parametrize("fused", PATHS)
@pytest.mark.parametrize("delta", [1.0, 0.5, 3.0])
def test_equals_the_reference_package(fused, delta):
    bregman = pytest.importorskip("bregman")
    for ours, theirs in (
        (
            lambda p: AdaBreg(p, lr=0.01, reg=L1(0.2), delta=delta, betas=(0.8, 0.99), fused=fused),
            lambda p: bregman.AdaBreg(p, lr=0.01, reg=bregman.L1(0.2), delta=delta, betas=(0.8, 0.99)),
        ),
        (
            lambda p: LinBreg(p, lr=0.01, reg=L1(0.2), delta=delta, fused=fused),
            lambda p: bregman.LinBreg(p, lr=0.01, reg=bregman.L1(0.2), delta=delta),
        ),
        (
            lambda p: LinBreg(p, lr=0.001, reg=L1(0.2), delta=delta, momentum=0.9, fused=fused),
            lambda p: bregman.LinBreg(p, lr=0.01, reg=bregman.L1(0.2), delta=delta, momentum=0.9),
        ),
    ):
        difference, weights = twin_runs(ours, theirs)
        assert difference < 200 * 15 * 10 * 2.0**-53  # roundings as above
        assert any((w == 0).any() for w in weights)


@pytest.mark.parametrize("fused", PATHS)
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (lambda p, f: LinBreg(p, lr=0.05, fused=f), lambda p: torch.optim.SGD(p, lr=0.05)),
        (
            lambda p, f: LinBreg(p, lr=0.05, momentum=0.9, fused=f),
            lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9),
        ),
        (lambda p, f: ProxSGD(p, lr=0.05, momentum=0.9), lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9)),
        (
            lambda p, f: AdaBreg(p, lr=0.05, betas=(0.8, 0.99), fused=f),
            lambda p: torch.optim.Adam(p, lr=0.05, betas=(0.8, 0.99)),
        ),
        # δ belongs to the regularizer: without one it changes nothing.
        (lambda p, f: AdaBreg(p, lr=0.05, delta=7.0, fused=f), lambda p: torch.optim.Adam(p, lr=0.05)),
        (
            lambda p, f: AdaBreg(p, lr=0.05, weight_decay=0.1, fused=f),
            lambda p: torch.optim.AdamW(p, lr=0.05, weight_decay=0.1),
        ),
        # A regularizer of weight 0 is none: the dual is θ/δ.
        (lambda p, f: AdaBreg(p, lr=0.05, reg=L1(0.0), fused=f), lambda p: torch.optim.Adam(p, lr=0.05)),
        (
            lambda p, f: LinBreg(p, lr=0.02, reg=GroupL1(0.0), delta=2.5, fused=f),
            lambda p: torch.optim.SGD(p, lr=0.05),
        ),
    ],
)
def test_without_regularizer_equals_torch(ours, theirs, fused):
    difference, _ = twin_runs(lambda p: ours(p, fused), theirs)
    assert difference < 200 * 15 * 10 * 2.0**-53  # roundings as above


@pytest.mark.parametrize("fused", PATHS)
def test_an_unregularized_group_is_untouched_by_its_neighbours(fused):
    def mixed(params):
        return AdaBreg([{"params": params[:2], "reg": L1(0.2)}, {"params": params[2:]}], lr=0.05, fused=fused)

    _, ours = twin_runs(mixed, mixed)
    _, adam = twin_runs(lambda p: torch.optim.Adam(p, lr=0.05), lambda p: torch.optim.Adam(p, lr=0.05))
    for a, b in zip(ours[2:], adam[2:], strict=True):
        assert float((a - b).abs().max()) < 200 * 15 * 10 * 2.0**-53
    assert not torch.equal(ours[0], adam[0])


REGS = [None, L1(0.2), L1(0.1, elastic=0.5), L1(0.1, nonneg=True), GroupL1(0.05), GroupL1(0.05, over=(2, 2))]


MAKERS = [
    pytest.param(lambda p, **o: AdaBreg(p, lr=0.01, delta=1.5, weight_decay=0.03, **o), id="AdaBreg-decay"),
    pytest.param(lambda p, **o: AdaBreg(p, lr=0.01, **o), id="AdaBreg"),
    pytest.param(lambda p, **o: LinBreg(p, lr=0.01, delta=1.5, weight_decay=0.03, **o), id="LinBreg-decay"),
    pytest.param(lambda p, **o: LinBreg(p, lr=0.01, momentum=0.9, **o), id="LinBreg-momentum"),
]


@pytest.mark.parametrize("reg", REGS, ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("make", MAKERS)
def test_fused_and_foreach_give_the_same_bits(make, reg, dtype):
    difference, weights = twin_runs(
        lambda p: make(p, reg=reg, fused=True), lambda p: make(p, reg=reg, fused=False), 50, dtype
    )
    assert difference == 0
    assert all(w.isfinite().all() for w in weights)


@pytest.mark.parametrize("reg", [L1(0.2), L1(0.1, elastic=0.5), L1(0.1, nonneg=True)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("decay", [0.0, 0.03])
def test_weights_written_past_the_caches_have_the_same_bits(monkeypatch, reg, dtype, decay):
    fused_cpu = pytest.importorskip("lbi.train.optim.fused_cpu")
    kernel, modes = fused_cpu._KERNELS["adabreg"], set()
    monkeypatch.setattr(fused_cpu, "_CACHED", 0)
    monkeypatch.setitem(
        fused_cpu._KERNELS, "adabreg", lambda *args: (modes.update(args[5].tolist()), kernel(*args))
    )
    make = MAKERS[1].values[0]
    difference, _ = twin_runs(
        lambda p: make(p, reg=reg, delta=1.5, weight_decay=decay, fused=True),
        lambda p: make(p, reg=reg, delta=1.5, weight_decay=decay, fused=False),
        50,
        dtype,
    )
    assert difference == 0
    assert modes == {fused_cpu._STREAM if decay == 0 else fused_cpu.SHRINK}


@pytest.fixture
def triton_in_place_of_numba(monkeypatch):
    """The CUDA kernels, run by Triton's interpreter on the CPU where the CPU's kernels would run."""
    with interpreted(monkeypatch) as (_, fused_cuda):
        monkeypatch.setattr("lbi.train.optim.fused_cpu", fused_cuda, raising=False)
        calls = []
        run = fused_cuda.run
        monkeypatch.setattr(fused_cuda, "run", lambda *args: (calls.append(args[0]), run(*args)))
        yield calls


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, on the lanes that a mask switches off
@pytest.mark.parametrize("reg", REGS, ids=str)
@pytest.mark.parametrize("make", MAKERS)
def test_triton_and_foreach_give_the_same_bits(triton_in_place_of_numba, make, reg):
    difference, weights = twin_runs(
        lambda p: make(p, reg=reg, fused=True), lambda p: make(p, reg=reg, fused=False), 4, torch.float32
    )
    assert difference == 0
    assert all(w.isfinite().all() for w in weights)
    assert len(triton_in_place_of_numba) == 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("reg", REGS, ids=str)
@pytest.mark.parametrize("make", MAKERS)
def test_cuda_gives_the_cpu_s_numbers(make, reg):
    def on(device, fused):
        params, generator = make_params(torch.float32)
        moved = [p.detach().clone().to(device).requires_grad_() for p in params]
        optimizer = make(moved, reg=reg, fused=fused)
        for _ in range(50):
            for p, q in zip(params, moved, strict=True):
                q.grad = gradient(p, generator).to(device)
            optimizer.step()
        return [q.detach().cpu() for q in moved]

    for fused in (False, True):
        for a, b in zip(on("cuda", fused), on("cpu", False), strict=True):
            # Sums over groups, contractions and divisions by scalars may round otherwise on a GPU.
            torch.testing.assert_close(a, b, rtol=0, atol=50 * 15 * 10 * 2.0**-24)


def test_fused_falls_back_per_tensor_on_strides_it_cannot_walk():
    def run(fused):
        generator = torch.Generator().manual_seed(0)
        params = [
            torch.randn(6, 4, generator=generator).t().requires_grad_(),
            torch.ones(3, requires_grad=True),
        ]
        optimizer = AdaBreg(params, lr=0.01, reg=L1(0.1), fused=fused)
        for _ in range(5):
            for p in params:
                p.grad = torch.randn(p.shape, generator=generator)
            optimizer.step()
        return params

    assert all(torch.equal(a, b) for a, b in zip(run(True), run(False), strict=True))


def test_large_tensors_take_the_same_steps_on_several_threads():
    def run(fused, threads):
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        try:
            generator = torch.Generator().manual_seed(0)
            p = torch.randn(700, 300, generator=generator, requires_grad=True)
            optimizer = AdaBreg([p], lr=0.01, reg=L1(0.1), fused=fused)
            for _ in range(3):
                p.grad = torch.randn(p.shape, generator=generator)
                optimizer.step()
            return p.detach().clone()
        finally:
            torch.set_num_threads(before)

    assert torch.equal(run(True, 1), run(False, 1))
    assert torch.equal(run(True, 2), run(False, 1))


# --- theory -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("optimizer_of", "batch"),
    [
        # Gradient steps below 2/(δ‖A‖²); in the limit x minimizes λ‖x‖₁ + ‖x‖²/2δ among the solutions of
        # Ax = b, which is the basis pursuit solution once λ is large (Cai, Osher, Shen, 2009).
        pytest.param(lambda x, norm: LinBreg([x], lr=norm**-2, reg=L1(10.0)), None, id="LinBreg"),
        pytest.param(
            lambda x, norm: LinBreg([x], lr=0.2 * norm**-2, reg=L1(10.0), momentum=0.9),
            None,
            id="LinBreg-momentum",
        ),
        # Adam normalizes each entry's gradient by its size; with one equation at a time that size is
        # noise, alike in all entries, and the direction keeps the gradient's proportions.
        pytest.param(lambda x, norm: AdaBreg([x], lr=0.1, reg=L1(20.0)), 1, id="AdaBreg"),
    ],
)
@pytest.mark.parametrize("seed", [3, 4])
def test_compressed_sensing_recovers_the_sparse_solution(optimizer_of, batch, seed):
    generator = torch.Generator().manual_seed(seed)
    n, m, k, steps = 100, 80, 4, 5000
    a = torch.randn(m, n, generator=generator, dtype=torch.float64) / math.sqrt(m)
    truth = torch.zeros(n, dtype=torch.float64)
    places = torch.randperm(n, generator=generator)[:k]
    signs = 2.0 * torch.randint(0, 2, (k,), generator=generator) - 1
    truth[places] = signs * (1 + torch.rand(k, generator=generator, dtype=torch.float64))
    b = a @ truth
    x = torch.zeros(n, dtype=torch.float64, requires_grad=True)
    optimizer = optimizer_of(x, float(torch.linalg.matrix_norm(a, 2)))
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps) if batch else None
    with torch.no_grad():
        for _ in range(steps):
            rows = torch.randint(0, m, (batch,), generator=generator) if batch else slice(None)
            x.grad = a[rows].T @ (a[rows] @ x - b[rows])
            optimizer.step()
            if scheduler:
                scheduler.step()
    assert torch.equal(x != 0, truth != 0)  # support F1 = 1: the same places, exact zeros elsewhere
    assert float((x.detach() - truth).norm() / truth.norm()) < 1e-6


# --- the user's hand --------------------------------------------------------------------------------


def test_duals_win_over_hand_written_weights_until_reset():
    p = torch.zeros(4, requires_grad=True)
    optimizer = AdaBreg([p], lr=0.0, reg=L1(0.5))
    p.grad = torch.ones(4)
    optimizer.step()
    with torch.no_grad():
        p.copy_(torch.tensor([1.0, 0.0, -2.0, 0.0]))
    optimizer.step()
    assert (p == 0).all()
    with torch.no_grad():
        p.copy_(torch.tensor([1.0, 0.0, -2.0, 0.0]))
    optimizer.reset_duals()
    optimizer.step()
    assert torch.equal(p, torch.tensor([1.0, 0.0, -2.0, 0.0]))
    assert torch.equal(optimizer.state[p]["dual"], torch.tensor([1.5, 0.0, -2.5, 0.0]))


def test_a_regularizer_may_come_and_go():
    p = torch.tensor([1.0, 0.0], requires_grad=True)
    optimizer = AdaBreg([p], lr=0.01)
    p.grad = torch.ones(2)
    optimizer.step()
    assert "dual" not in optimizer.state[p]
    optimizer.param_groups[0]["reg"] = L1(0.5)
    held = p.detach().clone()
    optimizer.param_groups[0]["lr"] = 0.0
    optimizer.step()
    # θ = (θ + λ·sign θ) − λ·sign θ but for one rounding of a number below 2.
    torch.testing.assert_close(p.detach(), held, rtol=0, atol=2.0**-23)
    assert torch.equal(optimizer.state[p]["dual"], held + 0.5 * held.sign())
    optimizer.param_groups[0]["reg"] = None
    optimizer.step()
    assert "dual" not in optimizer.state[p]


def test_parameters_without_gradient_are_left_alone():
    p, q = torch.ones(3, requires_grad=True), torch.ones(3, requires_grad=True)
    optimizer = AdaBreg([p, q], reg=L1(5.0))
    p.grad = torch.ones(3)
    optimizer.step()
    assert torch.equal(q, torch.ones(3))
    assert q not in optimizer.state


def test_regularization_is_the_sum_over_groups():
    p, q = torch.tensor([[3.0, -4.0]], requires_grad=True), torch.ones(2, requires_grad=True)
    optimizer = AdaBreg([{"params": [p], "reg": L1(0.5)}, {"params": [q]}])
    assert optimizer.regularization() == 3.5
    optimizer.param_groups[0]["reg"] = GroupL1(1.0)
    assert optimizer.regularization() == pytest.approx(math.sqrt(2) * 5)


def test_errors_name_every_option():
    p = torch.ones(2, requires_grad=True)
    with pytest.raises(
        UsageError, match=r"(?s)param_groups\[0\]\.lr: -1.*delta: 0.*betas\[1\]: 1\.0.*reg: float"
    ):
        AdaBreg([p], lr=-1, delta=0, betas=(0.9, 1.0), reg=0.1)
    with pytest.raises(UsageError, match=r"param_groups\[1\]\.momentum: 1\.0; allowed: a number ≥ 0 and < 1"):
        LinBreg([{"params": [p]}, {"params": [torch.ones(1, requires_grad=True)], "momentum": 1.0}])
    with pytest.raises(UsageError, match=r"param_groups\[0\]\.weight_decay: nan"):
        ProxSGD([p], weight_decay=math.nan)
    embedding = nn.Embedding(4, 2, sparse=True)
    optimizer = AdaBreg([*embedding.parameters(), p], reg=L1(0.1))
    embedding(torch.tensor([1])).sum().backward()
    p.grad = torch.ones(2)
    with pytest.raises(UsageError, match=r"gradient-unsupported: .*shape \(4, 2\): a sparse gradient"):
        optimizer.step()
    assert torch.equal(p, torch.ones(2))


def test_weights_of_a_type_in_which_eps_is_zero_are_refused_before_they_become_infinite():
    p = nn.Parameter(torch.ones(3, dtype=torch.float16))
    optimizer = AdaBreg([p], reg=L1(0.1))
    p.grad = torch.full_like(p, 1e-4)  # its square is 0 in float16
    with pytest.raises(UsageError, match=r"param_groups\[0\]\.eps: 1e-08, 0 in torch\.float16; .*autocast"):
        optimizer.step()
    assert torch.equal(p, torch.ones_like(p))
    assert not optimizer.state
    for dtype, eps in ((torch.float16, 1e-4), (torch.float16, 6e-8), (torch.bfloat16, 1e-8)):
        p = nn.Parameter(torch.ones(3, dtype=dtype))
        optimizer = AdaBreg([p], reg=L1(0.1), eps=eps)
        p.grad = torch.full_like(p, 0.5)
        optimizer.step()
        assert torch.isfinite(p).all()
        assert torch.tensor(eps, dtype=dtype) > 0
    assert torch.tensor(2.9e-8, dtype=torch.float16) == 0  # half of its smallest number is 2.98e-8
