"""Models of other frameworks give the spikes of their own forward pass, or a refusal that names the module."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from support import peers
from support.command import call
from torch import nn
from torch.nn.utils import prune

import lbi
from lbi import datasets, quantize
from lbi.cli.export import main as lbi_export
from lbi.errors import InputError
from lbi.importers import from_torch
from lbi.network import Readout
from lbi.simulation import oracle
from lbi.simulation.run import simulate

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers' own

N_IN, N_HIDDEN, N_OUT = 64, 32, 10


def spikes_of(rng, n_samples=3, n_steps=100, rate=0.15):
    return (rng.random((n_samples, n_steps, N_IN)) < rate).astype(np.uint8)


def assert_same_spikes(peer, model, spikes):
    """Over all steps, the framework's forward pass against the plain simulation of the imported network."""
    with torch.no_grad():
        theirs = peer.run(model, torch.from_numpy(spikes).float()).numpy()
    ours = oracle.simulate(from_torch(model, (N_IN,)), spikes).output_spikes
    assert 0.005 < ours.mean() < 0.9, "the model must be active for the comparison to say something"
    assert np.abs(theirs - ours).max() <= 1e-5


@pytest.mark.parametrize("name", sorted(peers.PEERS))
def test_same_spikes_over_100_steps(name, rng):
    peer = peers.PEERS[name]()
    torch.manual_seed(1)
    assert_same_spikes(peer, peer.make(N_IN, N_HIDDEN, N_OUT), spikes_of(rng))


@pytest.mark.parametrize("name", sorted(peers.READ_BY_VOLTAGE))
def test_same_voltages_over_100_steps(name, rng):
    peer = peers.READ_BY_VOLTAGE[name]()
    torch.manual_seed(1)
    assert_same_voltages(peer, peer.make(N_IN, N_HIDDEN, N_OUT), spikes_of(rng))


def assert_same_voltages(peer, model, spikes):
    with torch.no_grad():
        theirs = peer.run(model, torch.from_numpy(spikes).float()).numpy()
    network = from_torch(model, (N_IN,))
    ours = oracle.simulate(network, spikes).output
    assert network.readout.kind == "membrane_mean"
    assert np.ptp(ours) > 0.1, "the model must be active for the comparison to say something"
    assert np.abs(theirs - ours).max() <= 1e-5 * max(1, np.abs(ours).max())


@pytest.fixture(scope="module")
def digits():
    pytest.importorskip("sklearn")
    return datasets.load("digits", n_steps=12)


def train(peer, model, data, n_epochs=15):
    """Adam on the summed output spikes, through the framework's own surrogate gradient."""
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    spikes, labels = torch.from_numpy(data.spikes).float(), torch.from_numpy(data.labels)
    for epoch in range(n_epochs):
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(epoch))
        for batch in order.split(128):
            counts = peer.run(model, spikes[batch]).sum(dim=1)
            loss = nn.functional.cross_entropy(counts, labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


VOLTAGE_TRAINED = ("norse LICell", "snntorch Leaky, voltage")
"""The class is the output with the largest voltage."""


@pytest.mark.parametrize("name", [*peers.TRAINED, *VOLTAGE_TRAINED])
def test_trained_on_digits_and_exported(name, digits, rng):
    """Trained in the framework: equal output as floats, and integer accuracy within a point."""
    by_voltage = name in VOLTAGE_TRAINED
    peer = (peers.READ_BY_VOLTAGE if by_voltage else peers.PEERS)[name]()
    torch.manual_seed(2)
    model = peer.make(N_IN, N_HIDDEN, N_OUT)
    train(peer, model, digits.train)
    (assert_same_voltages if by_voltage else assert_same_spikes)(peer, model, spikes_of(rng))
    with torch.no_grad():
        sums = peer.run(model, torch.from_numpy(digits.test.spikes).float()).sum(dim=1)
    theirs = (sums.argmax(dim=1).numpy() == digits.test.labels).mean()
    assert theirs > 0.6, "training must have taught it something"
    fixed = quantize(from_torch(model, (N_IN,)))
    classes = fixed.readout.classify(simulate(fixed, digits.test.spikes).output)
    assert abs((classes == digits.test.labels).mean() - theirs) <= 0.01 + 1e-9


@pytest.fixture
def leaky():
    snn = peers.package("snntorch")
    return lambda **options: snn.Leaky(
        **{"beta": 0.9, "reset_mechanism": "zero", "init_hidden": True} | options
    )


def test_pruned_weights_stay_absent(leaky, rng):
    model = nn.Sequential(peers.linear(N_IN, N_OUT, 2.0), leaky())
    prune.l1_unstructured(model[0], "weight", amount=0.9)
    with torch.no_grad():
        model[0].weight_orig.mul_(1.5)  # the attribute is stale until the next forward pass
    network = from_torch(model, (N_IN,))
    assert network.n_active == round(0.1 * N_IN * N_OUT)
    expected = (model[0].weight_orig * model[0].weight_mask).detach().numpy()
    assert np.array_equal(network.projections[0].weights.to_dense(), expected.astype(np.float64))


@pytest.mark.parametrize("norm", [nn.utils.weight_norm, nn.utils.parametrizations.weight_norm])
def test_weight_norm_is_folded(norm, leaky):
    model = nn.Sequential(norm(peers.linear(N_IN, N_OUT, 2.0)), leaky())
    with torch.no_grad():
        expected = model[0](torch.eye(N_IN)).numpy().T
    found = from_torch(model, (N_IN,)).projections[0].weights.to_dense()
    assert np.allclose(found, expected, rtol=0, atol=1e-6)


def test_sparse_tensors_are_read(leaky):
    model = nn.Sequential(peers.linear(N_IN, N_OUT, 2.0), leaky())
    dense = model[0].weight.detach() * (torch.rand(N_OUT, N_IN) < 0.2)
    model[0].weight = nn.Parameter(dense.to_sparse_csr(), requires_grad=False)
    assert np.array_equal(
        from_torch(model, (N_IN,)).projections[0].weights.to_dense(), dense.double().numpy()
    )


def test_convolutions_pooling_and_batch_norm(rng):
    """A small image network: convolution with groups and stride, batch norm, pooling, flatten, linear."""
    neuron = peers.package("spikingjelly.activation_based.neuron")
    functional = peers.package("spikingjelly.activation_based.functional")
    torch.manual_seed(3)
    model = nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1, groups=2),
        nn.BatchNorm2d(4),
        neuron.LIFNode(tau=2.0, v_threshold=0.3),
        nn.AvgPool2d(2),
        nn.Conv2d(4, 3, 3, stride=2, dilation=1, bias=False),
        neuron.IFNode(v_threshold=0.3),
        nn.Flatten(),
        nn.Dropout(0.5),
        nn.Linear(3 * 2 * 2, 5),
        neuron.LIFNode(tau=2.0, v_threshold=0.3),
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(3.0)
        model[1].running_mean.uniform_(-0.3, 0.3)
        model[1].running_var.uniform_(0.5, 2.0)
        model[1].bias.uniform_(-0.2, 0.4)
    spikes = (rng.random((2, 40, 2, 10, 10)) < 0.3).astype(np.uint8)
    functional.reset_net(model)
    with torch.no_grad():
        theirs = torch.stack(
            [model(torch.from_numpy(spikes[:, t]).float()) for t in range(40)], dim=1
        ).numpy()
    network = from_torch(model, (2, 10, 10))
    ours = oracle.simulate(network, spikes.reshape(2, 40, -1)).output_spikes
    assert [population.shape for population in network.populations] == [(4, 10, 10), (3, 2, 2), (5,)]
    assert 0.02 < ours.mean() < 0.9
    assert np.array_equal(theirs, ours)


def refused(model) -> list[tuple[str, str]]:
    with pytest.raises(InputError) as caught:
        from_torch(model, (N_IN,))
    assert all(problem.remedy or problem.allowed for problem in caught.value.problems)
    return sorted(((problem.code, problem.where) for problem in caught.value.problems), key=lambda p: p[1])


def test_every_reason_is_named_in_one_pass(leaky):
    model = nn.Sequential(
        peers.linear(N_IN, 8, 1.0),
        peers.package("snntorch").Synaptic(alpha=0.5, beta=0.9, init_hidden=True),
        nn.LayerNorm(8),
        peers.linear(8, 8, 1.0),
        leaky(inhibition=True, state_quant=lambda x: x),
    )
    assert refused(model) == [
        ("soft-reset", "module '1'"),
        ("unknown-module", "module '2'"),
        ("inhibition", "module '4'"),
        ("state-quant", "module '4'"),
    ]


def test_paths_lead_into_nested_models(leaky):
    model = nn.Sequential()
    model.add_module("body", nn.Sequential(peers.linear(N_IN, 8, 1.0), leaky(reset_mechanism="none")))
    assert refused(model) == [("no-reset", "module 'body.1'")]


def test_spikingjelly_integrators_rest_at_0():
    neuron = peers.package("spikingjelly.activation_based.neuron")
    model = nn.Sequential(peers.linear(N_IN, 8, 1.0), neuron.LIFNode(v_threshold=float("inf"), v_reset=-0.5))
    assert refused(model) == [("rest-value", "module '1'")]


def test_norse_rest():
    module = peers.package("norse.torch")
    p = peers.package("norse.torch.functional.lif").LIFParameters(
        v_leak=torch.tensor(-0.1), v_reset=torch.tensor(-0.2)
    )
    model = module.SequentialState(peers.linear(N_IN, 8, 1.0), module.LIFCell(p))
    assert refused(model) == [("rest-value", "module '1'")] * 2


def test_sinabs_defaults_spike_several_times():
    layers = peers.package("sinabs.layers")
    model = nn.Sequential(peers.linear(N_IN, 8, 1.0), layers.IAF(min_v_mem=-1.0))
    assert refused(model) == [
        ("several-spikes", "module '1'"),
        ("voltage-floor", "module '1'"),
    ]


def test_a_neuron_that_does_not_do_what_it_says(leaky):
    """A subclass with a reset of its own is not the class that it is derived from."""
    snn = peers.package("snntorch")

    class Odd(snn.Leaky):
        def _base_zero(self, input_):
            return self._base_state_function(input_) - self.reset * 0.5

    model = nn.Sequential(peers.linear(N_IN, 8, 1.0), Odd(beta=0.9, reset_mechanism="zero", init_hidden=True))
    assert refused(model) == [("unknown-module", "module '1'")]


def test_decays_per_neuron_make_parts(leaky):
    """Neurons of one decay are a population; ``meta`` says which neuron is where, and the output stays in order."""
    betas = torch.tensor([0.5, 0.9, 0.5, 0.7, 0.9, 0.5])
    model = nn.Sequential(peers.linear(N_IN, 6, 1.0), leaky(beta=betas), peers.linear(6, 4, 1.0), leaky())
    network = from_torch(model, (N_IN,))
    assert [(p.name, p.n) for p in network.populations] == [
        ("layer1_1", 3),
        ("layer1_2", 2),
        ("layer1_3", 1),
        ("layer3", 4),
    ]
    assert network.meta["parts"] == {"layer1": [1, 2, 1, 3, 2, 1]}
    weights = {p.name: p.weights.to_dense() for p in network.projections}
    expected = model[0].weight.detach().double().numpy()
    assert np.array_equal(weights["input_to_layer1_2"], expected[[1, 4]])
    assert np.array_equal(
        weights["layer1_1_to_layer3"], model[2].weight.detach().double().numpy()[:, [0, 2, 5]]
    )


def test_decays_that_make_too_many_parts(leaky):
    many, last = leaky(beta=torch.linspace(0.5, 0.9, 17)), leaky(beta=torch.linspace(0.5, 0.9, 4))
    assert refused(nn.Sequential(peers.linear(N_IN, 17, 1.0), many, peers.linear(17, 4, 1.0), last)) == [
        ("mixed-decays", "module '1'"),
    ]
    model = nn.Sequential(peers.linear(N_IN, 4, 1.0), last)
    assert refused(model) == [("mixed-decays", "layer 'layer1'")]


def test_voltages_that_flow_on_are_refused():
    module = peers.package("norse.torch")
    model = nn.Sequential(
        peers.linear(N_IN, 8, 1.0), module.LICell(), peers.linear(8, 4, 1.0), module.LIFCell()
    )
    assert refused(model) == [("no-spikes", "layer 'layer3'")]


def test_thresholds_may_differ_within_a_layer(rng):
    snn = peers.package("snntorch")
    torch.manual_seed(1)
    leaky = snn.Leaky(
        beta=0.9, threshold=torch.linspace(0.3, 1.2, N_OUT), reset_mechanism="zero", init_hidden=True
    )
    peer = peers.Peer(None, peers.run_snntorch)
    assert_same_spikes(peer, nn.Sequential(peers.linear(N_IN, N_OUT, 1.0, bias=True), leaky), spikes_of(rng))


def test_a_model_that_ends_without_neurons(leaky):
    model = nn.Sequential(peers.linear(N_IN, 8, 1.0), leaky(), peers.linear(8, 4, 1.0))
    assert from_torch(model, (N_IN,)).readout == Readout("readout", "membrane_last")


def test_not_finite_weights(leaky):
    model = nn.Sequential(peers.linear(N_IN, 8, 1.0), leaky())
    with torch.no_grad():
        model[0].weight[0, 0] = float("nan")
    assert refused(model) == [("not-finite", "module '0', weight")]


def test_shapes_that_do_not_meet(leaky):
    model = nn.Sequential(peers.linear(N_IN + 1, 8, 1.0), leaky())
    with pytest.raises(InputError, match=r"model-fails: module '0': RuntimeError: .*\(64,\) per sample"):
        from_torch(model, (N_IN,))


def test_a_class_is_read_from_its_execution_not_from_the_order_of_its_layers(leaky, rng):
    """Layers are taken in the order of the signal, which is not that of their making; neurons may follow neurons."""

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.fc2, self.lif2, self.lif1 = peers.linear(8, 4, 3.0), leaky(), leaky()
            self.fc1 = peers.linear(N_IN, 8, 2.0)

        def forward(self, x):
            return self.lif2(self.fc2(self.lif1(self.fc1(x))))

    def run(net, spikes):
        net.lif1.reset_mem(), net.lif2.reset_mem()
        return torch.stack([net(spikes[:, t]) for t in range(spikes.shape[1])], dim=1)

    assert_same_spikes(peers.Peer(None, run), Net(), spikes_of(rng))
    twice = nn.Sequential(peers.linear(N_IN, 8, 2.0), leaky(), nn.Dropout(0.5), leaky(threshold=0.5))
    assert_same_spikes(peers.Peer(None, peers.run_snntorch), twice.eval(), spikes_of(rng))


def test_a_state_of_another_reset_than_it_was_built_with(leaky):
    model = nn.Sequential(peers.linear(N_IN, 8, 1.0), leaky(reset_mechanism="subtract"))
    model.load_state_dict(nn.Sequential(peers.linear(N_IN, 8, 1.0), leaky()).state_dict())
    assert refused(model) == [("reset-mechanism", "module '1'")]


ARCH = """
import snntorch as snn
from torch import nn

def build():
    neuron = lambda: snn.Leaky(beta=0.9, reset_mechanism="zero", init_hidden=True)
    return nn.Sequential(nn.Linear(64, 16), neuron(), nn.Linear(16, 10), neuron())

def leaving():
    raise SystemExit(0)


def talking():
    print("built")
    return build()


def broken():
    raise RuntimeError("no weights")
"""


@pytest.fixture
def saved(tmp_path, leaky):
    """A saved state, pruned in its first layer, and the file that builds its model."""
    torch.manual_seed(1)
    model = nn.Sequential(
        peers.linear(64, 16, 2.0, bias=True), leaky(), peers.linear(16, 10, 3.0, bias=True), leaky()
    )
    prune.l1_unstructured(model[0], "weight", amount=0.8)
    torch.save(model.state_dict(), tmp_path / "state.pt")
    torch.save({"epoch": 3, "model_state_dict": model.state_dict()}, tmp_path / "checkpoint.pt")
    (tmp_path / "arch.py").write_text(ARCH)
    return tmp_path, model


@pytest.mark.parametrize("name", ["state.pt", "checkpoint.pt"])
def test_saved_states_with_an_architecture(name, saved):
    folder, model = saved
    done = call(
        lbi_export, folder / name, "--arch", f"{folder / 'arch.py'}:build", "--target", "csr", "--json"
    )
    assert done.code == 0, done.errors
    assert done.json["projections"][0]["nnz"] == round(0.2 * 64 * 16)
    network = lbi.load(folder / name, arch=f"{folder / 'arch.py'}:build")
    expected = from_torch(model, (64,))
    assert [p.weights for p in network.projections] == [p.weights for p in expected.projections]


@pytest.mark.parametrize(
    ("arch", "code", "message"),
    [
        (None, 3, "model-foreign.*--arch"),
        ("arch.py", 2, "allowed: FILE.py:FUNCTION"),
        ("arch.py:broken", 2, "fails with RuntimeError: no weights"),
        ("arch.py:leaving", 2, "fails with SystemExit: 0"),
        ("arch.py:nothing", 2, "has no 'nothing'; allowed: build, leaving, talking, broken"),
        ("nowhere.py:build", 2, "does not exist"),
        ("other.py:build", 3, "state-"),
    ],
)
def test_saved_states_that_do_not_fit(arch, code, message, saved):
    folder, _ = saved
    (folder / "other.py").write_text(ARCH.replace("16", "24"))
    before = sorted(folder.iterdir())
    arguments = [] if arch is None else ["--arch", f"{folder}/{arch}"]
    done = call(lbi_export, folder / "state.pt", "--target", "csr", *arguments)
    assert done.code == code
    assert all(re.search(message, line) for line in done.errors), done.errors
    assert [path for path in sorted(folder.iterdir()) if path.name != "__pycache__"] == before


def test_what_the_architectures_file_prints_leaves_json_alone(saved):
    folder, _ = saved
    done = call(
        lbi_export,
        folder / "state.pt",
        "--arch",
        f"{folder / 'arch.py'}:talking",
        "--target",
        "csr",
        "--json",
    )
    assert done.code == 0, done.errors
    assert done.json["target"] == "csr"


class _Limited(nn.Module):
    """A model that fails on more samples or steps than it is written for."""

    def __init__(self, n_samples, n_steps):
        super().__init__()
        snn = peers.package("snntorch")
        self.limits = n_samples, n_steps
        self.fc, self.lif = nn.Linear(16, 5), snn.Leaky(0.9, reset_mechanism="zero")

    def forward(self, x):
        mem, spikes = self.lif.init_leaky(), []
        for step, current in enumerate(x):
            if len(current) > self.limits[0] or step >= self.limits[1]:
                raise ZeroDivisionError("written for small input")
            spike, mem = self.lif(self.fc(current), mem)
            spikes.append(spike)
        return torch.stack(spikes)


def test_a_model_that_fails_while_it_is_compared_is_refused_with_its_place():
    """The trace has few steps, the comparison more."""
    with pytest.raises(InputError, match=r"ZeroDivisionError: written for small input, at .*test_torch\.py"):
        from_torch(_Limited(100, 10), (16,))


def test_a_model_for_single_samples_is_compared_one_by_one():
    assert [population.n for population in from_torch(_Limited(1, 1000), (16,)).populations] == [5]
