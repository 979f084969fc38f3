"""Models whose code is not what the names of their classes say: equal to their own forward."""

from __future__ import annotations

from copy import deepcopy

import fuzz_models
import numpy as np
import pytest
import torch
from support import peers
from torch import nn
from torch.nn import functional
from torch.nn.utils import prune
from torch.nn.utils.parametrizations import weight_norm

from lbi.errors import InputError
from lbi.importers import from_torch
from lbi.importers.torch import saved
from lbi.simulation import oracle

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers' own


@pytest.fixture
def lif():
    snn = peers.package("snntorch")
    return lambda **options: snn.Leaky(beta=0.9, reset_mechanism="zero", init_hidden=True, **options)


class Masked(nn.Linear):
    def forward(self, x):
        mask = (torch.arange(self.weight.numel()) % 3 == 0).reshape(self.weight.shape)
        return functional.linear(x, self.weight * mask, self.bias)


class Residual(nn.Sequential):
    def forward(self, x):
        return x + super().forward(x)


def pruned():
    layer = peers.linear(16, 16, 2.0, bias=True)
    prune.l1_unstructured(layer, "bias", amount=0.5)
    with torch.no_grad():
        layer.bias_orig.add_(0.2)  # the attribute is stale until the next forward pass
    return layer


class Sparse(nn.Linear):
    """Weights that torch multiplies as a sparse matrix."""

    def forward(self, x):
        weights = (self.weight * (self.weight > 0.2)).to_sparse()
        return torch.sparse.mm(weights, x.t()).t() + self.bias


class Views(nn.Linear):
    """A layer that changes shapes in place."""

    def forward(self, x):
        x = super().forward(x).unsqueeze_(1)
        return x.transpose_(0, 1).squeeze_(0)


def graph_module(lif):
    """The model as torch.fx writes it, whose class is one of its own."""
    inner = nn.Sequential(peers.linear(16, 16, 2.0), lif(), peers.linear(16, 5, 3.0), lif())

    class Tracer(torch.fx.Tracer):
        def is_leaf_module(self, module, path):
            return True

    written = torch.fx.GraphModule(inner, Tracer().trace(inner))
    return nn.Sequential(written)


MODELS = {
    "mask in a subclass": lambda lif: nn.Sequential(Masked(16, 16), lif(), peers.linear(16, 5, 4.0), lif()),
    "residual": lambda lif: nn.Sequential(
        peers.linear(16, 16, 2.0),
        lif(),
        Residual(peers.linear(16, 16, 2.0), lif()),
        peers.linear(16, 5, 3.0),
        lif(),
    ),
    "sparse matrix": lambda lif: nn.Sequential(Sparse(16, 16), lif(), peers.linear(16, 5, 4.0), lif()),
    "views in place": lambda lif: nn.Sequential(Views(16, 16), lif(), peers.linear(16, 5, 4.0), lif()),
    "torch.fx": graph_module,
    "pruned bias": lambda lif: nn.Sequential(pruned(), lif(), peers.linear(16, 5, 3.0), lif()),
    "layer used twice": lambda lif: (
        lambda shared: nn.Sequential(shared, lif(), shared, lif(), peers.linear(16, 5, 3.0), lif())
    )(peers.linear(16, 16, 3.0)),
}


@pytest.mark.parametrize("name", MODELS)
def test_equal_to_the_models_own_forward(name, lif, rng):
    torch.manual_seed(1)
    model = MODELS[name](lif)
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, Masked | Sparse | Views):
                module.weight.normal_(0.3, 0.5)
    network = from_torch(model, (16,))
    spikes = (rng.random((3, 40, 16)) < 0.3).astype(np.uint8)
    with torch.no_grad():
        theirs = peers.run_snntorch(model, torch.from_numpy(spikes).float()).numpy()
    ours = oracle.simulate(network, spikes).output_spikes
    assert 0.01 < ours.mean() < 0.95
    assert np.array_equal(ours, theirs)


WRAPPED = {
    "compiled": lambda state: {f"_orig_mod.{key}": value for key, value in state.items()},
    "compiled in parallel": lambda state: {f"module._orig_mod.{key}": value for key, value in state.items()},
    "averaged": lambda state: {"n_averaged": torch.tensor(3), **{f"module.{k}": v for k, v in state.items()}},
    "lightning": lambda state: {"state_dict": {f"model.{key}": value for key, value in state.items()}},
    "in a module": lambda state: {f"student.backbone.{key}": value for key, value in state.items()},
    "weights": lambda state: {"epoch": 1, "weights": state},
    "with states": lambda state: {**state, "1.mem": torch.zeros(0)},
    "older": lambda state: {k: v for k, v in state.items() if "graded" not in k and "reset_mech" not in k},
    "bfloat16": lambda state: {k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()},
}


@pytest.mark.parametrize("name", WRAPPED)
def test_wrapped_states_fit_the_model(name, lif):
    torch.manual_seed(1)
    model = nn.Sequential(peers.linear(16, 5, 2.0), lif())
    expected = {key: value.clone() for key, value in model.state_dict().items()}
    content = WRAPPED[name](expected)
    nn.init.zeros_(model[0].weight)
    saved._fill(model, saved._state(content, "state.pt"), "state.pt")
    tolerance = 2.0**-7 if name == "bfloat16" else 0.0
    assert torch.allclose(model[0].weight, expected["0.weight"], rtol=tolerance, atol=0.0)


@pytest.mark.parametrize("fold", [prune.identity, lambda layer, name: weight_norm(layer)])
@pytest.mark.parametrize("prefix", ["", "student."])
def test_states_of_which_every_name_is_pruned_or_normalized(prefix, fold):
    """Without biases no name is the model's own, and all begin with that of its container."""
    layers = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Sequential(), nn.Linear(3, 2, bias=False))
    model, found = nn.ModuleDict({"layers": layers}), nn.ModuleDict({"layers": deepcopy(layers)})
    for layer in found["layers"][::2]:
        layer.weight.data += 1
        fold(layer, "weight")
    saved._fill(model, {prefix + key: value for key, value in found.state_dict().items()}, "state.pt")
    torch.testing.assert_close(layers[2].weight, found["layers"][2].weight)


def test_names_of_another_model_are_reported_as_they_are_in_the_file(lif):
    with pytest.raises(InputError, match=r"state-unknown: state\.pt: has 'fc\.bias', 'fc\.weight'"):
        saved._fill(
            nn.Sequential(nn.Linear(4, 3), lif()),
            nn.ModuleDict({"fc": nn.Linear(4, 3)}).state_dict(),
            "state.pt",
        )


def test_what_a_wrapper_adds_to_a_state_is_left_out_with_a_note(lif):
    model = nn.Sequential(peers.linear(16, 5, 2.0), lif())
    state = {f"model.{key}": value for key, value in model.state_dict().items()} | {
        "loss.weight": torch.ones(5)
    }
    assert saved._fill(model, state, "state.pt") == [saved.OTHERS.format(names="'loss.weight'")]


def test_a_state_of_two_models_is_refused_with_the_way_to_one(lif):
    model = nn.Sequential(peers.linear(16, 5, 2.0), lif())
    state = {f"{who}.{key}": v for who in ("student", "teacher") for key, v in model.state_dict().items()}
    with pytest.raises(InputError, match=r"state-several: .*under 'student\.' and 'teacher\.'") as caught:
        saved._fill(model, state, "state.pt")
    found = {"state": state, "torch": torch, "PATH": None}
    exec(caught.value.problems[0].remedy.removeprefix("choose one: ").partition("; torch.save")[0], found)
    saved._fill(model, found["state"], "state.pt")


def test_a_state_of_an_older_torch_lacks_the_count_of_batches(lif):
    model = nn.Sequential(peers.linear(16, 5, 2.0), nn.BatchNorm1d(5), lif())
    state = {key: value for key, value in model.state_dict().items() if "num_batches" not in key}
    state["1.running_mean"] = torch.ones(5)
    saved._fill(model, state, "state.pt")
    assert torch.equal(model[1].running_mean, torch.ones(5))


TYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float64": torch.float64}


@pytest.mark.parametrize("name", TYPES)
def test_types_of_floats_are_read_exactly(name, lif, rng):
    """A model in another type equals the same values in float32 or wider."""
    torch.manual_seed(1)
    model = nn.Sequential(peers.linear(16, 16, 3.0), lif(), peers.linear(16, 5, 4.0), lif()).to(TYPES[name])
    network = from_torch(model, (16,))
    assert {parameter.dtype for parameter in model.parameters()} == {TYPES[name]}
    spikes = (rng.random((3, 30, 16)) < 0.3).astype(np.uint8)
    with torch.no_grad():
        wide = model.float() if name != "float64" else model
        for module in wide:
            if isinstance(module, nn.Linear):
                module.register_forward_pre_hook(lambda layer, args: (args[0].to(layer.weight.dtype),))
        theirs = peers.run_snntorch(wide, torch.from_numpy(spikes)).numpy()
    ours = oracle.simulate(network, spikes).output_spikes
    assert 0.01 < ours.mean() < 0.95
    assert np.array_equal(ours, theirs)


def test_models_without_values_are_refused(lif):
    model = nn.Sequential(nn.Linear(16, 5), lif()).to("meta")
    with pytest.raises(InputError, match="no-values: module '0', weight: is on the meta device"):
        from_torch(model, (16,))


class Returned(nn.Module):
    """A model whose output is not its last layer's spikes alone."""

    def __init__(self, inner, output):
        super().__init__()
        self.inner, self.output = inner, output

    def forward(self, x):
        return self.output(self.inner(x))


OTHER_OUTPUTS = {
    "negated": lambda spikes: -spikes,
    "weighted": lambda spikes: spikes * torch.linspace(0.5, 2, spikes.shape[-1]),
    "reversed": lambda spikes: spikes.flip(-1),
    "half": lambda spikes: spikes[..., :2],
}


@pytest.mark.parametrize("name", OTHER_OUTPUTS)
def test_outputs_with_another_order_of_classes_are_added_up(name, lif, rng):
    inner = nn.Sequential(peers.linear(16, 4, 3.0), lif())
    network = from_torch(Returned(inner, OTHER_OUTPUTS[name]), (16,))
    spikes = (rng.random((3, 30, 16)) < 0.3).astype(np.uint8)
    counts = oracle.simulate(from_torch(inner, (16,)), spikes).output_spikes.sum(axis=1)
    expected = OTHER_OUTPUTS[name](torch.from_numpy(counts).double()).numpy()
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(oracle.simulate(network, spikes).output[:, -1], expected, rtol=0, atol=1e-5)


def test_an_output_times_a_positive_number_is_read(lif):
    inner = nn.Sequential(peers.linear(16, 4, 3.0), lif())
    network = from_torch(Returned(inner, lambda spikes: spikes * 0.5), (16,))
    assert network.readout.population == network.populations[-1].name


class OverTime(nn.Module):
    """A model that gives later spikes another weight."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, x):
        return sum(self.inner(current) * (1.0 + step) for step, current in enumerate(x))


def test_an_output_that_weights_steps_is_refused(lif):
    with pytest.raises(InputError, match="readout: the model's output"):
        from_torch(OverTime(nn.Sequential(peers.linear(16, 4, 3.0), lif())), (16,))


@pytest.mark.parametrize("number", range(10))
def test_random_models_are_equal_or_refused(number):
    """The first models of ``tests/fuzz_models.py``."""
    for name in ("snntorch", "norse", "spikingjelly", "sinabs"):
        peers.package(name)
    said, text, _ = fuzz_models.outcome(1, number)
    assert said.startswith(("equal", "refused")), text


@pytest.mark.parametrize(
    "output",
    ["last", "first", "last 6", "every second", "running sum"],
)
@pytest.mark.parametrize("hidden", [False, True])
def test_an_output_without_some_steps_is_refused(output, hidden):
    """A trace of 6 steps cannot tell the last 6 from all: the comparison over more steps does.

    If the neurons hold their state, samples of one step, one after another, are no way out.
    """
    of_steps = {
        "last": lambda spikes: spikes[-1],
        "first": lambda spikes: spikes[0],
        "last 6": lambda spikes: torch.stack(spikes[-6:]).sum(0),
        "every second": lambda spikes: torch.stack(spikes[::2]),
        "running sum": lambda spikes: torch.stack(
            [torch.stack(spikes[: k + 1]).sum(0) for k in range(len(spikes))]
        ),
    }
    with pytest.raises(InputError, match="every step once, by step, summed or averaged"):
        from_torch(_OverTime(of_steps[output], hidden), (16,))


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("output", [list, lambda s: torch.stack(s).sum(0), lambda s: torch.stack(s).mean(0)])
def test_an_output_of_all_steps_is_read(output, hidden):
    assert from_torch(_OverTime(output, hidden), (16,)).readout.kind == "spike_count"


class _OverTime(torch.nn.Module):
    """A loop over time; ``hidden``: the neurons hold their state, which is reset outside."""

    def __init__(self, output, hidden):
        super().__init__()
        snn = pytest.importorskip("snntorch")
        torch.manual_seed(0)
        self.fc, self.output, self.hidden = torch.nn.Linear(16, 5), output, hidden
        self.lif = snn.Leaky(0.9, reset_mechanism="zero", init_hidden=hidden)
        self.fc.weight.data *= 3

    def forward(self, x):
        mem, spikes = None if self.hidden else self.lif.init_leaky(), []
        for current in x:
            if self.hidden:
                spike = self.lif(self.fc(current))
            else:
                spike, mem = self.lif(self.fc(current), mem)
            spikes.append(spike)
        return self.output(spikes)


@pytest.mark.parametrize("bias", [False, True])
def test_a_model_of_single_samples_without_a_batch(bias, rng):
    class Single(nn.Module):
        def __init__(self):
            super().__init__()
            snn = peers.package("snntorch")
            torch.manual_seed(0)
            self.fc, self.lif = peers.linear(16, 5, 4.0, bias), snn.Leaky(beta=0.9, reset_mechanism="zero")

        def forward(self, x):  # (steps, 16)
            mem, spikes = self.lif.init_leaky(), []
            for current in x:
                spike, mem = self.lif(self.fc(current), mem)
                spikes.append(spike)
            return torch.stack(spikes)

    spikes = (rng.random((3, 30, 16)) < 0.3).astype(np.uint8)
    ours = oracle.simulate(from_torch(Single(), (16,)), spikes).output_spikes
    with torch.no_grad():
        theirs = np.stack([Single()(sample).numpy() for sample in torch.from_numpy(spikes).float()])
    assert 0.01 < ours.mean() < 0.95
    assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Sequential(nn.LazyLinear(5)), "no-values: module '0', weight: has no shape yet"),
        (lambda: torch.jit.trace(nn.Linear(16, 5), torch.zeros(1, 16)), "model-torchscript"),
        (lambda: torch.jit.script(nn.Sequential(nn.Linear(16, 5))), "model-torchscript"),
    ],
    ids=["lazy", "traced", "scripted"],
)
def test_modules_that_torch_has_not_built_or_has_compiled_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        from_torch(make(), (16,))
