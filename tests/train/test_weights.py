"""The weights found in common models: trained to the requested density, or refused."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune, spectral_norm, weight_norm

from lbi.errors import UsageError
from lbi.train import L1, AdaBreg, DensityController, param_groups, sparse_init_
from lbi.train.optim.weights import split_parameters

OLD_HOOK = pytest.mark.filterwarnings("ignore:`torch.nn.utils.(weight|spectral)_norm`:FutureWarning")


def net_of(wrap=lambda layer: layer):
    torch.manual_seed(0)
    return nn.Sequential(wrap(nn.Linear(20, 64)), nn.BatchNorm1d(64), nn.ReLU(), wrap(nn.Linear(64, 5)))


def train(net, density, steps=100):
    """AdaBreg with density control; (share of the weights that is not 0, last loss)."""
    sparse_init_(net, density, torch.Generator().manual_seed(0))
    optimizer = AdaBreg(param_groups(net, L1(0.1)), lr=1e-2)
    controller = DensityController(optimizer, density)
    x = torch.randn(256, 20, generator=torch.Generator().manual_seed(1))
    classes = (x @ torch.randn(20, 5, generator=torch.Generator().manual_seed(2))).argmax(1)
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), classes)
        loss.backward()
        optimizer.step()
        controller.step()
    net(x)  # hooks derive the weights here
    weights = [layer.weight for layer in net if isinstance(layer, nn.Linear)]
    n_active = sum(int(weight.count_nonzero()) for weight in weights)
    return n_active / sum(weight.numel() for weight in weights), float(loss.detach())


@pytest.mark.parametrize(
    "wrap",
    [
        lambda layer: layer,
        pytest.param(spectral_norm, marks=OLD_HOOK),
        parametrizations.spectral_norm,
    ],
)
def test_spectral_norm_trains_at_the_density_of_the_weights_it_derives(wrap):
    share, loss = train(net_of(wrap), 0.2)
    assert share == pytest.approx(0.2, rel=0.1)
    assert loss < 1.2  # five classes: 1.6 by chance


def pruned(layer):
    return prune.l1_unstructured(layer, "weight", 0.5)


class Symmetric(nn.Module):
    def forward(self, x):
        return x.triu() + x.triu(1).transpose(-1, -2)


@pytest.mark.parametrize(
    ("wrap", "undo"),
    [
        pytest.param(weight_norm, r"remove_weight_norm\(module, 'weight'\)", marks=OLD_HOOK),
        (parametrizations.weight_norm, r"parametrize\.remove_parametrizations\(module, 'weight'\)"),
        (parametrizations.orthogonal, r"parametrize\.remove_parametrizations\(module, 'weight'\)"),
        (pruned, r"prune\.remove\(module, 'weight'\)"),
    ],
)
@pytest.mark.parametrize("use", [lambda net: param_groups(net, L1(0.1)), lambda net: sparse_init_(net, 0.2)])
def test_weights_that_do_not_keep_zeros_are_refused_before_anything_changes(wrap, undo, use):
    net = net_of(wrap)
    before = [p.clone() for p in net.parameters()]
    with pytest.raises(UsageError, match=rf"(?s)weight-derived: 0\.weight: .*{undo}.*: 3\.weight: "):
        use(net)
    for p, old in zip(net.parameters(), before, strict=True):
        assert torch.equal(p, old)


def test_a_weight_norm_that_is_taken_off_as_the_error_says_trains():
    net = net_of(parametrizations.weight_norm)
    for layer in (net[0], net[3]):
        parametrize.remove_parametrizations(layer, "weight")
    assert train(net, 0.2, steps=50)[0] == pytest.approx(0.2, rel=0.1)


def test_a_parametrization_is_judged_by_what_it_does():
    net = nn.Sequential(nn.Linear(6, 6))
    parametrize.register_parametrization(net[0], "weight", Symmetric())
    with pytest.raises(UsageError, match=r"0\.weight: Symmetric; allowed: a parametrization that gives 0"):
        split_parameters(net)
    net = nn.Sequential(nn.Linear(6, 6))
    parametrize.register_parametrization(net[0], "weight", nn.Hardtanh())  # 0 stays 0
    assert [name for name, _ in split_parameters(net)[0]] == ["0.parametrizations.weight.original"]


def test_norms_and_neurons_parameters_are_no_weights_in_any_shape():
    class Neuron(nn.Module):
        def __init__(self):
            super().__init__()
            self.tau_mem = nn.Parameter(torch.ones(8, 1, 1))
            self.threshold = nn.Parameter(torch.ones(8, 4, 4))
            self.recurrent_weights = nn.Parameter(torch.ones(8, 8))

    net = nn.Sequential(
        nn.Conv2d(2, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.LayerNorm([8, 4, 4]),
        nn.GroupNorm(2, 8),
        Neuron(),
    )
    weights, rest = split_parameters(net)
    assert [name for name, _ in weights] == ["0.weight", "4.recurrent_weights"]
    assert len(weights) + len(rest) == len(list(net.parameters()))


def test_an_embedding_is_a_weight_unless_its_options_forbid():
    assert [name for name, _ in split_parameters(nn.Embedding(9, 4))[0]] == ["weight"]
    net = nn.Sequential(nn.Embedding(9, 4, sparse=True), nn.Embedding(9, 4, max_norm=1.0))
    with pytest.raises(UsageError, match=r"(?s)0: sparse=True; allowed: False.*1: max_norm=1\.0"):
        param_groups(net, L1(0.1))


def test_parameters_without_a_shape_are_refused():
    with pytest.raises(UsageError, match=r"weight-uninitialized: 0\.weight: no shape yet"):
        split_parameters(nn.Sequential(nn.LazyLinear(3)))


def test_a_tensor_that_torch_computes_is_refused():
    layer = parametrizations.weight_norm(nn.Linear(3, 4))
    with pytest.raises(UsageError, match="a tensor computed from others; allowed: a parameter"):
        sparse_init_(layer.weight, 0.5)
