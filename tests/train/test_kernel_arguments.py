"""What reaches compiled code by its address is checked: wrong sizes and types are errors, and never read other memory."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lbi.errors import UsageError  # noqa: E402
from lbi.train import ModelConfig, PopulationConfig, SpikingNetwork  # noqa: E402
from lbi.train.layers.chip_exact import set_scales  # noqa: E402
from lbi.train.layers.event_linear import event_linear  # noqa: E402
from lbi.train.neurons import atrlif, cuba_lif  # noqa: E402

N_IN, N = 20, 32


def network(neuron: str = "cuba_lif") -> SpikingNetwork:
    options = {"refractory_period": (1,)} if neuron == "lif_refractory" else {}
    hidden = PopulationConfig("hidden", N, (0.5,), (0.3,), neuron=neuron, options=options)
    return SpikingNetwork(ModelConfig((N_IN,), (hidden, PopulationConfig("output", 10, (0.5,), (0.3,)))))


@pytest.mark.parametrize(
    "shape", [(2, 3, N_IN - 1), (2, 3, N_IN + 1), (2, 3, 40 * N_IN), (3, N_IN), (2, 3, 1, N_IN)]
)
@pytest.mark.parametrize("rate", [0.05, 1.0])  # by events, and as a dense product
def test_spikes_of_other_sources_are_refused(shape, rate):
    spikes = (torch.rand(shape) < rate).to(torch.uint8)
    with pytest.raises(UsageError, match=rf"input-shape: .*\(n_samples, n_steps, {N_IN}\)"):
        event_linear(spikes, torch.zeros(N, N_IN))
    with pytest.raises(UsageError, match="input-shape"):
        network()(spikes)


@pytest.mark.parametrize("values", [0.5, 2.0, -1.0, float("nan"), float("inf"), 3])
def test_the_network_takes_spikes_only(values):
    spikes = torch.zeros(2, 3, N_IN, dtype=torch.int64 if isinstance(values, int) else torch.float32)
    network()(spikes)
    network()(spikes.index_fill(2, torch.tensor([4]), 1))
    spikes[1, 2, 3] = values
    with pytest.raises(UsageError, match="input-values"):
        network()(spikes)


def test_an_empty_batch_has_an_empty_answer():
    assert network()(torch.zeros(0, 3, N_IN))[-1][0].shape == (0, 3, 10)


@pytest.mark.parametrize("dtypes", [(torch.float32, torch.float64), (torch.float64, torch.float32)])
@pytest.mark.parametrize("scan", [cuba_lif, atrlif])
def test_recurrent_weights_of_another_type_are_refused(scan, dtypes):
    a, recurrent = torch.zeros(2, 3, N, dtype=dtypes[0]), torch.zeros(N, N, dtype=dtypes[1])
    decays = (0.5, 0.3) if scan is cuba_lif else (0.5, 0.3, 0.1, 0.2)
    levels = (1.0,) if scan is cuba_lif else (1.0, 0.1)
    scan(a, *decays, *levels, recurrent=recurrent.to(a.dtype))
    with pytest.raises(UsageError, match=f"recurrent-shape: recurrent: {dtypes[1]}.*{dtypes[0]}"):
        scan(a, *decays, *levels, recurrent=recurrent)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"current_decay": 1.5}, "decay-range: current_decay: 1.5"),
        ({"voltage_decay": torch.full((N,), -0.1)}, "decay-range: voltage_decay"),
        ({"voltage_decay": torch.full((N + 1,), 0.1)}, "parameter-shape: voltage_decay"),
        ({"threshold": 0.0}, "level-range: threshold: 0"),
        ({"bias": torch.zeros(N - 1)}, "parameter-shape: bias"),
    ],
)
def test_parameters_of_neurons_are_checked(changed, code):
    given = {"current_decay": 0.5, "voltage_decay": 0.3, "threshold": 1.0, **changed}
    with pytest.raises(UsageError, match=code):
        cuba_lif(torch.zeros(2, 3, N), **given)


def test_second_derivatives_are_refused_instead_of_left_out():
    """Kernels compute a first derivative; one of their result would silently lack the kernel's part."""
    weight, spikes = torch.randn(N, N_IN, requires_grad=True), (torch.rand(4, 6, N_IN) < 0.2).float()
    for out in (event_linear(spikes, weight), cuba_lif(spikes @ weight.T, 0.5, 0.3, 1.0)):
        (gradient,) = torch.autograd.grad((out**2).sum() + out.sum(), weight, create_graph=True)
        with pytest.raises(RuntimeError, match="once_differentiable"):
            gradient.pow(2).sum().backward()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_would_move_decays_off_the_grid(dtype):
    model = network()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(UsageError, match=f"dtype: SpikingNetwork: {dtype}"):
        model.to(dtype)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.double()
    spikes = (torch.rand(2, 5, N_IN) < 0.3).to(torch.uint8)
    assert model(spikes)[-1][0].dtype == torch.float64


def test_chip_exact_training_needs_kernels():
    with pytest.raises(UsageError, match="no-chip-kernels: neuron: 'lif_refractory'"):
        set_scales(network("lif_refractory"))


def test_events_and_dense_products_agree():
    rng = np.random.default_rng(0)
    weight = torch.from_numpy(rng.normal(size=(N, N_IN)))
    for rate in (0.0, 0.05, 0.39, 0.41, 1.0):
        spikes = torch.from_numpy(rng.random((3, 7, N_IN)) < rate)
        expected = spikes.double() @ weight.T
        assert torch.allclose(event_linear(spikes, weight), expected, rtol=1e-12, atol=1e-12)
