"""The fused training kernels against their definition in plain PyTorch with autograd in float64."""

from __future__ import annotations

import sys

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from support.interpreter import interpreted  # noqa: E402

from lbi.errors import InputError, UsageError  # noqa: E402
from lbi.simulation import oracle  # noqa: E402
from lbi.train import ModelConfig, PopulationConfig, SpikingNetwork, atrlif, cuba_lif, network_of  # noqa: E402
from lbi.train.layers.event_linear import event_linear, pack, recurrent_gradient  # noqa: E402
from lbi.train.layers.living import living_of  # noqa: E402
from lbi.train.layers.scan import scan  # noqa: E402
from lbi.train.layers.surrogate import SURROGATES, derivative  # noqa: E402
from lbi.train.neurons import ATRLIF, COMPILED, CUBA_LIF, INTEGRATOR, NEURONS  # noqa: E402

N_SAMPLES, N_STEPS, N = 5, 13, 9

SPIKING = [name for name, model in NEURONS.items() if model.spikes]
WITH_KERNELS = [model for model in COMPILED.values() if model.spikes]

# Both sides do the same additions in another order: a few hundred terms, each of relative error 2^-53.
FLOAT64 = {"rtol": 1e-10, "atol": 1e-12}


DELAYS = {"none": None, "some": torch.tensor([0, 3, 1, 0, 20, 2, 12, 5, 0])}
"""Steps that the spikes of each neuron take beyond one: some as many as there are, and more."""

WIRINGS = [(False, "none"), (True, "none"), (True, "some")]
"""Recurrent or not, and with which delays."""


def random_scan(
    model, seed: int, recurrent: bool, dtype=torch.float64, n: int = N, n_samples: int = N_SAMPLES
):
    """Input, recurrent weights, and the model's (n,) parameters: about a third of the steps fire."""
    g = torch.Generator().manual_seed(seed)

    def randn(*shape):
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    def rand(*shape):
        return torch.rand(*shape, generator=g, dtype=torch.float64).to(dtype)

    a = randn(n_samples, N_STEPS, n).requires_grad_()
    w = (randn(n, n) * 0.5).requires_grad_() if recurrent else None
    kept = [rand(n).requires_grad_() for _ in model.decays]
    levels = [(0.5 if name == "threshold" else 0.0) + rand(n) for name in model.levels]
    return a, w, [*kept, *levels, (randn(n) * 0.2).requires_grad_()]


def flat(a, w, neuron):
    return [x for x in (a, w, *neuron) if x is not None and x.requires_grad]


@pytest.mark.parametrize("model", WITH_KERNELS, ids=lambda model: model.name)
@pytest.mark.parametrize("surrogate", SURROGATES)
@pytest.mark.parametrize(("recurrent", "lags"), WIRINGS)
@pytest.mark.parametrize("outputs", ["spikes", "voltages", "both"])
def test_gradients_equal_autograd_through_the_plain_loop(model, surrogate, recurrent, lags, outputs):
    a, w, neuron = random_scan(model, 3, recurrent)
    wanted = flat(a, w, neuron)
    g = torch.Generator().manual_seed(9)
    weights = [torch.randn(N_SAMPLES, N_STEPS, N, generator=g, dtype=torch.float64) for _ in range(2)]
    chosen = {"spikes": (1.0, 0.0), "voltages": (0.0, 1.0), "both": (1.0, 1.0)}[outputs]
    results = []
    for run in (
        scan(model, a, w, neuron, surrogate, 2.5, delays=DELAYS[lags]),
        model.reference(a, w, neuron, surrogate, 2.5, DELAYS[lags]),
    ):
        loss = sum(share * (w * x).sum() for share, w, x in zip(chosen, weights, run, strict=True) if share)
        results.append((run, torch.autograd.grad(loss, wanted, allow_unused=True)))
    (fused, fused_grads), (plain, plain_grads) = results
    assert 0.1 < float(plain[0].detach().mean()) < 0.6
    torch.testing.assert_close(fused[0], plain[0], rtol=0, atol=0)
    torch.testing.assert_close(fused[1], plain[1], **FLOAT64)
    assert len(fused_grads) == 2 + recurrent + len(model.decays)
    for ours, theirs in zip(fused_grads, plain_grads, strict=True):
        if theirs is None:  # voltages that no reset and no recurrence ties to the spikes
            assert (model, outputs, recurrent) == (ATRLIF, "voltages", False)
            theirs = torch.zeros_like(ours)
        else:
            assert float(theirs.abs().max()) > 0
        torch.testing.assert_close(ours, theirs, **FLOAT64)


@pytest.mark.parametrize("model", WITH_KERNELS, ids=lambda model: model.name)
def test_delayed_spikes_of_many_neurons_arrive_as_in_the_plain_loop(model):
    n = 150  # more than two masks of 64
    a, w, neuron = random_scan(model, 4, True, n=n)
    delays = torch.randint(0, N_STEPS, (n,), generator=torch.Generator().manual_seed(5))
    wanted, results = flat(a, w, neuron), []
    for run in (
        scan(model, a, w, neuron, "arctan", 2.5, delays=delays),
        model.reference(a, w, neuron, "arctan", 2.5, delays),
    ):
        results.append((run, torch.autograd.grad(run[0].sum() + run[1].sum(), wanted)))
    (fused, fused_grads), (plain, plain_grads) = results
    torch.testing.assert_close(fused[0], plain[0], rtol=0, atol=0)
    torch.testing.assert_close(fused[1], plain[1], **FLOAT64)
    torch.testing.assert_close(fused_grads, plain_grads, **FLOAT64)


@pytest.fixture
def cuda_scan(monkeypatch):
    """``CudaScan`` in Triton's interpreter."""
    with interpreted(monkeypatch) as (scans, _):
        yield scans.CudaScan.apply


@pytest.mark.filterwarnings("ignore::RuntimeWarning")  # numpy's, on the lanes that a mask switches off
@pytest.mark.parametrize("model", WITH_KERNELS, ids=lambda model: model.name)
@pytest.mark.parametrize(
    ("surrogate", "recurrent", "lags", "outputs"),
    [
        ("fast_sigmoid", False, "none", "both"),
        ("arctan", True, "none", "spikes"),
        ("boxcar", True, "some", "both"),
    ],
)
def test_the_cuda_kernels_equal_autograd_through_the_plain_loop(
    model, surrogate, recurrent, lags, outputs, cuda_scan
):
    a, w, neuron = random_scan(model, 3, recurrent)
    g = torch.Generator().manual_seed(9)
    weights = [torch.randn(N_SAMPLES, N_STEPS, N, generator=g, dtype=torch.float64) for _ in range(2)]
    weights = weights[: 1 + (outputs == "both")]
    results = []
    for run in (
        cuda_scan(model, surrogate, 2.5, DELAYS[lags], a, w, *neuron),
        model.reference(a, w, neuron, surrogate, 2.5, DELAYS[lags]),
    ):
        loss = sum((weight * x).sum() for weight, x in zip(weights, run, strict=False))
        results.append((*run, *torch.autograd.grad(loss, flat(a, w, neuron))))
    assert torch.equal(results[0][0], results[1][0])
    for ours, theirs in zip(*results, strict=True):
        assert float(theirs.detach().abs().max()) > 0
        torch.testing.assert_close(ours, theirs, **FLOAT64)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("model", WITH_KERNELS, ids=lambda model: model.name)
@pytest.mark.parametrize("shortest", [0, 2, 3])
def test_the_cuda_kernels_take_neurons_weights_and_steps_block_by_block(
    model, shortest, cuda_scan, monkeypatch
):
    scans = sys.modules["lbi.train.layers.scan_cuda"]
    for name, size in (
        ("_BLOCK", 16),
        ("_TILE", 16),
        ("_STEPS", 3),
        ("_CHUNK", 16),
        ("_GROUP", 2),
        ("_FED", 2),
    ):
        monkeypatch.setattr(scans, name, size)
    n = 37 if shortest == 2 else 21  # three blocks, or two: the kernels are interpreted
    a, w, neuron = random_scan(model, 5, True, n=n, n_samples=3)  # two programs of _FED, one of them not full
    lags = shortest + torch.arange(n) % 5
    results = []
    for run in (
        cuda_scan(model, "fast_sigmoid", 2.5, lags, a, w, *neuron),
        model.reference(a, w, neuron, "fast_sigmoid", 2.5, lags),
    ):
        results.append((*run, *torch.autograd.grad(run[0].sum() + run[1].sum(), flat(a, w, neuron))))
    assert torch.equal(results[0][0], results[1][0])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, **FLOAT64)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_an_integrators_gradients_equal_autograd(dtype):
    a, _, neuron = random_scan(INTEGRATOR, 4, False, dtype)
    upstream = torch.randn(N_SAMPLES, N_STEPS, N, generator=torch.Generator().manual_seed(1)).to(dtype)
    results = []
    for run in (
        scan(INTEGRATOR, a, None, neuron, "boxcar", 1.0),
        INTEGRATOR.reference(a, None, neuron, "boxcar", 1.0),
    ):
        assert not run[0].any()
        results.append((run[1], *torch.autograd.grad((upstream * run[1]).sum(), flat(a, None, neuron))))
    # float32: 13 steps of a few additions of values up to ~30, each with relative error 2^-24
    tolerance = FLOAT64 if dtype == torch.float64 else {"rtol": 1e-4, "atol": 5 * 13 * 30 * 2**-24}
    for ours, theirs in zip(*results, strict=True):
        assert float(theirs.detach().abs().max()) > 0
        torch.testing.assert_close(ours, theirs, **tolerance)


def test_integrators_are_read_and_nothing_else():
    def config(readout, *populations):
        return ModelConfig((4,), populations, readout)

    integrator = PopulationConfig("output", 3, (0.5,), (0.25,), (), neuron="integrator")
    spiking = PopulationConfig("hidden", 3, (0.5,), (0.25,))
    config("membrane_max", spiking, integrator)
    hidden = PopulationConfig("hidden", 3, (0.5,), (0.25,), (), neuron="integrator")
    for readout, *populations in (
        ("spike_count", spiking, integrator),
        ("membrane_mean", spiking),
        ("membrane_mean", hidden, integrator),
    ):
        with pytest.raises(InputError, match="readout-kind"):
            config(readout, *populations)
    with pytest.raises(InputError, match="recurrence"):
        config("membrane_max", PopulationConfig("o", 3, (0.5,), (0.25,), (), True, neuron="integrator"))


def test_a_single_step_by_hand():
    # u = 0.5·0 + a; v = a; fires above 1 only: at 1 exactly it does not.
    a = torch.tensor([[[1.0, 1.5], [0.5, 1.0]]], dtype=torch.float64)
    spikes = cuba_lif(a, current_decay=0.5, voltage_decay=0.25, threshold=1.0)
    # neuron 0: v = 1, then u = 0.5 + 0.5 = 1, v = 0.75 + 1 = 1.75: fires
    # neuron 1: v = 1.5 fires and resets; then u = 0.75 + 1 = 1.75, v = 1.75: fires
    assert spikes.tolist() == [[[0.0, 1.0], [1.0, 1.0]]]


def test_adaptive_steps_by_hand():
    a = torch.tensor([[[1.0], [0.0], [3.0], [0.0]]], dtype=torch.float64)
    decays = {"current_decay": 1.0, "voltage_decay": 0.0, "threshold_decay": 0.5, "refractory_decay": 0.5}
    spikes = atrlif(a, **decays, threshold=1.0, threshold_step=0.5)
    # t 0: v = 1 is at the threshold and fires: r = 2, θ = 0.5
    # t 1: v = 1, r = 1, θ = 0.25: 1 − 1 < 1.25
    # t 2: v = 4, r = 0.5, θ = 0.125: 3.5 ≥ 1.125 fires: r = 0.5 + 2.25, θ = 0.625
    # t 3: v = 4, r = 1.375, θ = 0.3125: 2.625 ≥ 1.3125 fires
    assert spikes.flatten().tolist() == [1.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("surrogate", "x", "expected"),
    [
        ("fast_sigmoid", 0.0, 1.0),
        ("fast_sigmoid", 1.0, 0.25),
        ("fast_sigmoid", -3.0, 1 / 16),
        ("arctan", 0.0, 1.0),
        ("arctan", 2.0, 0.2),
        ("boxcar", 0.5, 1.0),
        ("boxcar", -1.5, 0.0),
    ],
)
def test_surrogates_by_hand(surrogate, x, expected):
    threshold, slope = 2.0, 4.0
    v = torch.tensor([threshold * (1 + x / slope)], dtype=torch.float64)
    assert derivative(v, threshold, surrogate, slope).item() == expected / threshold


@pytest.mark.parametrize("model", WITH_KERNELS, ids=lambda model: model.name)
@pytest.mark.parametrize("recurrent", [False, True])
def test_float32_keeps_to_float64(model, recurrent):
    a, w, neuron = random_scan(model, 5, recurrent, torch.float32)
    spikes, voltages = scan(model, a, w, neuron, "arctan", 2.0)
    wide_a, wide_w, *wide = [None if x is None else x.detach().double() for x in (a, w, *neuron)]
    wide_spikes, wide_voltages = model.reference(wide_a, wide_w, wide, "arctan", 2.0)
    assert spikes.dtype == voltages.dtype == torch.float32
    assert torch.equal(spikes.double(), wide_spikes)
    # 13 steps of at most ~20 additions of values up to ~8, each with relative error 2^-24
    torch.testing.assert_close(voltages.double(), wide_voltages, rtol=0, atol=13 * 20 * 8 * 2**-24)


@pytest.mark.parametrize("n_threads", [1, 2])
def test_results_do_not_depend_on_threads(n_threads):
    before = torch.get_num_threads()
    grads = []
    try:
        for threads in (1, n_threads):
            torch.set_num_threads(threads)
            a, w, neuron = random_scan(CUBA_LIF, 7, recurrent=False, dtype=torch.float32)
            weight = torch.linspace(-1, 1, 40 * N).reshape(40, N).requires_grad_()
            spikes, _ = scan(CUBA_LIF, a, w, neuron, "fast_sigmoid", 5.0)
            (event_linear(spikes, weight) ** 2).sum().backward()
            grads.append((weight.grad, a.grad))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(grads[0][0], grads[1][0])
    assert torch.equal(grads[0][1], grads[1][1])


@pytest.mark.parametrize("rate", [0.0, 0.05, 0.6, 1.0])
@pytest.mark.parametrize("n_out", [3, 32, 130])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64])
def test_event_products_equal_dense_ones(rate, n_out, dtype):
    g = torch.Generator().manual_seed(1)
    spikes = (torch.rand(4, 6, 50, generator=g) < rate).to(dtype)
    weight = torch.randn(n_out, 50, generator=g, dtype=torch.float64).requires_grad_()
    upstream = torch.randn(4, 6, n_out, generator=g, dtype=torch.float64)
    if dtype.is_floating_point:
        spikes.requires_grad_()
    out = event_linear(spikes, weight)
    out.backward(upstream)
    dense = spikes.detach().double()
    torch.testing.assert_close(out, dense @ weight.detach().T, **FLOAT64)
    torch.testing.assert_close(weight.grad, torch.einsum("bto,bti->oi", upstream, dense), **FLOAT64)
    if dtype.is_floating_point:
        torch.testing.assert_close(spikes.grad, upstream @ weight.detach(), **FLOAT64)


def test_packing_lists_every_spike_once():
    rows = torch.tensor([[0, 1, 0, 0, 0, 0, 0, 1], [0] * 8, [0, 0, 0, 0, 1, 0, 0, 0]], dtype=torch.uint8)
    indptr, indices = pack(rows, 64)
    assert indptr.tolist() == [0, 2, 2, 3]
    assert indices.tolist() == [1, 7, 4]
    assert pack(torch.ones(3, 8), 64) is None


@pytest.mark.parametrize(("n", "rate"), [(9, 0.2), (9, 0.9), (70, 0.2), (160, 0.05)])
@pytest.mark.parametrize("density", [1.0, 0.1, 0.01])
@pytest.mark.parametrize("most_rows", [7168, 50])
def test_recurrent_gradients_pair_spikes_with_the_next_step(n, rate, density, most_rows, monkeypatch):
    """Over all three paths (events, living weights, dense rows), also where blocks of rows end inside a sample."""
    monkeypatch.setattr("lbi.train.layers.event_linear.MOST_ROWS", most_rows)
    generator = torch.Generator().manual_seed(n)
    spikes = (torch.rand(37, 11, n, generator=generator) < rate).double()
    grad = torch.randint(-4, 5, (37, 11, n), generator=generator).double()  # sums of integers are exact
    weight = torch.rand(n, n, generator=generator).double() * (
        torch.rand(n, n, generator=generator) < density
    )
    expected = torch.zeros(n, n, dtype=torch.float64)
    for t in range(10):
        expected += grad[:, t + 1].T @ spikes[:, t]
    living = living_of(weight)
    assert torch.equal(recurrent_gradient(spikes, grad), expected)
    if living is not None:
        assert torch.equal(recurrent_gradient(spikes, grad, living), expected * (weight != 0))


@pytest.mark.parametrize("shape", [(5, 1), (0, 3)])
@pytest.mark.parametrize("n", [4, 70])
def test_recurrent_weights_of_a_single_step_have_no_gradient(shape, n):
    """No spike arrives: the gradient is 0, not what the memory held before."""
    torch.full((n, n), torch.nan)  # freed memory, which the gradient is likely to be written to
    assert torch.equal(recurrent_gradient(torch.ones(*shape, n), torch.ones(*shape, n)), torch.zeros(n, n))


def test_bad_arguments_are_named_together():
    with pytest.raises(UsageError, match="unknown-surrogate") as caught:
        cuba_lif(torch.zeros(1, 2, 3), 0.5, 0.5, recurrent=torch.zeros(2, 2), surrogate="step", slope=0)
    assert [problem.code for problem in caught.value.problems] == [
        "recurrent-shape",
        "unknown-surrogate",
        "slope",
    ]


def adaptation(parts):
    """The fields of a PopulationConfig that make its neurons adaptive."""
    values = {"threshold_decay": 0.1, "refractory_decay": 0.3, "threshold_step": 0.2}
    return {"neuron": "atrlif", **{name: (value,) * parts for name, value in values.items()}}


def of_model(neuron, parts):
    """The fields of a PopulationConfig that give its neurons a model, with that model's own options."""
    if neuron == "atrlif":
        return adaptation(parts)
    options = NEURONS[neuron].record.options
    return {"neuron": neuron, "options": {name: (value,) * parts for name, value in options.items()}}


@pytest.mark.parametrize("neuron", SPIKING)
@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("recurrent", [False, True])
def test_a_trained_network_is_the_extracted_network(neuron, parts, recurrent):
    """Every spike and voltage of the module equals the plain simulation of what is extracted from it."""
    decays = tuple(0.3 + 0.2 * i for i in range(parts)), tuple(0.02 + 0.1 * i for i in range(parts))
    config = ModelConfig(
        (12,),
        (
            PopulationConfig(
                "hidden",
                16,
                *decays,
                (2.0,) * parts,
                recurrent=recurrent,
                bias=True,
                **of_model(neuron, parts),
            ),
            PopulationConfig("output", 4, (0.5,), (0.1,), (1.0,)),
        ),
    )
    model = SpikingNetwork(config, seed=2).double()
    torch.nn.init.normal_(model.layers["hidden"].bias, std=0.05, generator=torch.Generator().manual_seed(0))
    x = (np.random.default_rng(0).random((6, 25, 12)) < 0.3).astype(np.uint8)
    run = model(torch.from_numpy(x))
    network = network_of(model)
    activity = oracle.simulate(network, x)
    np.testing.assert_array_equal(activity.output_spikes, run[-1][0].detach().numpy())
    assert 0 < activity.output_spikes.mean() < 0.9
    assert sum(population.n for population in network.populations) == 20
    assert {population.neuron.model for population in network.populations} == {neuron, "cuba_lif"}
    assert network.n_active == model.n_active()


@pytest.mark.parametrize("neuron", SPIKING)
def test_trained_decays_stay_on_the_chips_grid(neuron):
    more = of_model(neuron, 1)
    population = PopulationConfig("output", 3, (0.5,), (0.25,), (1.0,), train_decays=True, **more)
    model = SpikingNetwork(ModelConfig((4,), (population,)))
    x = (torch.rand(8, 20, 4, generator=torch.Generator().manual_seed(0)) < 0.5).to(torch.uint8)
    before = network_of(model).populations[0].neuron
    optimizer = torch.optim.Adam(model.parameters(), lr=3.3)
    for _ in range(3):
        optimizer.zero_grad()
        model(x)[-1][0].sum().backward()
        optimizer.step()
    after = network_of(model).populations[0].neuron
    for name in NEURONS[neuron].decays:
        assert getattr(after, name) != getattr(before, name)
        assert getattr(after, name) * 4096 == round(getattr(after, name) * 4096)
    with torch.no_grad():
        model.layers["output"].voltage_decay.fill_(-5.0)
        model.layers["output"].current_decay.fill_(1e9)
    after = network_of(model).populations[0].neuron
    assert (after.current_decay, after.voltage_decay) == (1.0, 0.0)


def test_a_population_takes_its_models_parameters_and_no_others():
    for changed in ({"neuron": "cuba_lif"}, {"threshold_step": ()}, {"refractory_decay": (0.1, 0.2)}):
        population = PopulationConfig("output", 3, (0.5,), (0.25,), (1.0,), **{**adaptation(1), **changed})
        with pytest.raises(InputError, match="parts"):
            ModelConfig((4,), (population,))
    with pytest.raises(InputError, match="neuron-model"):
        ModelConfig((4,), (PopulationConfig("output", 3, (0.5,), (0.25,), neuron="izhikevich"),))
    outside = {"threshold_decay": (1.0,), "threshold_step": (-1.0,)}
    with pytest.raises(InputError, match="decay-range") as caught:
        ModelConfig((4,), (PopulationConfig("output", 3, (0.5,), (0.25,), **{**adaptation(1), **outside}),))
    assert [problem.code for problem in caught.value.problems] == ["decay-range", "threshold-step-range"]
