"""A layer that cannot be imported is refused with the layers that can stand in its place, not with neurons."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from support import peers
from torch import nn

from lbi.errors import InputError
from lbi.importers import from_torch
from lbi.importers.torch import layers, saved
from lbi.network.graph import Readout

pytestmark = pytest.mark.filterwarnings("ignore")  # snnTorch's own

IMAGE, ROW, FLAT = (2, 4, 4), (2, 8), (32,)

ALLOWED = {
    "Linear": (nn.Linear(32, 8), FLAT),
    "Conv1d": (nn.Conv1d(2, 3, 3), ROW),
    "Conv2d": (nn.Conv2d(2, 3, 3), IMAGE),
    "ConvTranspose1d": (nn.ConvTranspose1d(2, 3, 3), ROW),
    "ConvTranspose2d": (nn.ConvTranspose2d(2, 3, 3), IMAGE),
    "AvgPool1d": (nn.AvgPool1d(2), ROW),
    "AvgPool2d": (nn.AvgPool2d(2), IMAGE),
    "AdaptiveAvgPool2d": (nn.AdaptiveAvgPool2d(2), IMAGE),
    "MaxPool1d of spikes": (nn.MaxPool1d(2), ROW),
    "MaxPool2d of spikes": (nn.MaxPool2d(2), IMAGE),
    "LPPool2d(1, …)": (nn.LPPool2d(1, 2), IMAGE),
    "BatchNorm1d": (nn.BatchNorm1d(32), FLAT),
    "BatchNorm2d": (nn.BatchNorm2d(2), IMAGE),
    "Dropout": (nn.Dropout(), FLAT),
    "Flatten": (nn.Flatten(), IMAGE),
    "Upsample": (nn.Upsample(scale_factor=2), IMAGE),
}


def model_with(layer: nn.Module) -> nn.Module:
    leaky = peers.package("snntorch").Leaky
    return nn.Sequential(layer, leaky(beta=0.5, init_hidden=True, output=True, reset_mechanism="zero")).eval()


def test_the_allowed_layers_are_those_tried_here():
    assert tuple(ALLOWED) == layers.KNOWN


@pytest.mark.parametrize("name", ALLOWED)
def test_a_layer_that_is_called_allowed_is_imported(name):
    layer, shape = ALLOWED[name]
    torch.manual_seed(0)
    from_torch(model_with(layer), shape)


@pytest.mark.parametrize(
    ("layer", "shape", "fix"),
    [
        (
            nn.Sequential(nn.Conv2d(2, 2, 1), nn.MaxPool2d(2)),
            IMAGE,
            "pool with an average (torch.nn.AvgPool2d",
        ),
        (nn.MaxPool3d(2), (1, 2, 4, 4), "pool with MaxPool1d or MaxPool2d"),
        (nn.Conv3d(1, 2, 2), (1, 2, 4, 4), "use Conv1d or Conv2d, or their transposed forms"),
        (nn.GroupNorm(1, 2), IMAGE, "train with BatchNorm"),
        (nn.Sequential(nn.Linear(32, 8), nn.ReLU()), FLAT, "take the activation out"),
        (nn.Softmax(-1), FLAT, "replace it, and train again"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_refused_layer_names_layers(layer, shape, fix):
    with pytest.raises(InputError, match="cannot be taken over") as caught:
        from_torch(model_with(layer), shape)
    (problem,) = caught.value.problems
    assert problem.allowed == f"torch.nn's {', '.join(layers.KNOWN)}"
    assert fix in problem.remedy


def test_refused_neurons_name_neurons():
    alpha = peers.package("snntorch").Alpha(alpha=0.9, beta=0.8, init_hidden=True)
    with pytest.raises(InputError, match=r"Alpha cannot be taken over.*allowed: snntorch: Leaky, "):
        from_torch(model_with(alpha), FLAT)


class _Maximum(nn.Module):
    """norse's voltages, read by their maximum over time in the model's own forward."""

    def __init__(self, maximum):
        super().__init__()
        self.fc, self.cell, self.maximum = nn.Linear(4, 3), peers.package("norse.torch").LICell(), maximum

    def forward(self, x):
        state, voltages = None, []
        for current in x:
            voltage, state = self.cell(self.fc(current), state)
            voltages.append(voltage)
        voltages = torch.stack(voltages)
        return voltages.max(0).values if self.maximum else voltages


def test_a_maximum_over_time_is_a_readout():
    assert from_torch(_Maximum(True), (4,)).readout.kind == "membrane_max"
    network = from_torch(_Maximum(False), (4,))
    readout = Readout(network.readout.population, "membrane_max")
    assert replace(network, readout=readout).readout.of_membrane


def test_a_quantized_layer_is_refused_by_name():
    snn = peers.package("snntorch")
    neuron = snn.Leaky(beta=0.5, init_hidden=True, output=True, reset_mechanism="zero")
    model = torch.ao.quantization.quantize_dynamic(nn.Sequential(nn.Linear(32, 8), neuron), {nn.Linear})
    with pytest.raises(
        InputError, match=r"model-quantized: module '0'.*fix: give the model as it was before"
    ):
        from_torch(model.eval(), FLAT)


def leaky():
    return peers.package("snntorch").Leaky(beta=0.5, init_hidden=True, output=True, reset_mechanism="zero")


def prepared(how: str) -> nn.Module:
    """A model in the middle of torch's own quantization, by its three ways."""
    quantization = torch.ao.quantization
    torch.manual_seed(0)
    model = nn.Sequential(peers.linear(32, 8, 3.0), leaky()).train()
    if how == "fx":
        from torch.ao.quantization import quantize_fx

        model[0] = quantize_fx.prepare_qat_fx(
            nn.Sequential(model[0]),
            quantization.get_default_qat_qconfig_mapping("fbgemm"),
            (torch.zeros(1, 32),),
        )
        return model
    if how == "prepare":
        model.eval().qconfig = quantization.get_default_qconfig("fbgemm")
        return quantization.prepare(model)
    model.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    return quantization.prepare_qat(model)


@pytest.mark.parametrize("how", ["fx", "prepare", "prepare_qat"])
def test_a_model_that_torch_prepared_for_quantization(how):
    model = prepared(how)
    model(torch.ones(1, 32))
    with pytest.raises(
        InputError, match="model-prepared: model: was prepared for torch's quantization"
    ) as caught:
        from_torch(model.eval(), FLAT)
    (problem,) = caught.value.problems
    assert "prepare_qat" in str(problem)


def test_the_fix_for_a_prepared_model(tmp_path):
    """As the errors say it: the trained weights in the model as it was built, live and from a file."""
    model, path, arch = prepared("prepare_qat"), tmp_path / "state.pt", tmp_path / "net.py"
    model(torch.ones(1, 32))
    plain, state = nn.Sequential(nn.Linear(32, 8, bias=False), leaky()).eval(), model.state_dict()
    plain.load_state_dict({name: state[name] for name in plain.state_dict()})
    network = from_torch(plain, FLAT)
    assert (network.projections[0].weights.to_dense() == model[0].weight.double().detach().numpy()).all()
    arch.write_text(
        "import snntorch, torch\ndef build():\n    neuron = snntorch.Leaky(beta=0.5, init_hidden=True, output=True, "
        "reset_mechanism='zero')\n    return torch.nn.Sequential(torch.nn.Linear(32, 8, bias=False), neuron)\n"
    )
    torch.save(state, path)
    with pytest.raises(InputError, match=r"state-prepared.*weight_fake_quant") as caught:
        saved.load(path, f"{arch}:build")
    code = str(caught.value).partition("take these out: ")[2].replace("PATH", "path")
    exec(code, {"torch": torch, "path": path})  # the error's own words
    assert saved.load(path, f"{arch}:build").projections == network.projections


def test_a_module_that_is_ready_to_be_quantized_is_imported():
    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.other = nn.Linear(32, 8), nn.Linear(32, 8)
            self.sum, self.stub = torch.ao.nn.quantized.FloatFunctional(), torch.ao.quantization.QuantStub()

        def forward(self, x):
            x = self.stub(x)
            return self.sum.add(self.one(x), self.other(x))

    neuron = peers.package("snntorch").Leaky(beta=0.5, init_hidden=True, output=True, reset_mechanism="zero")
    layer = Sum()
    network = from_torch(nn.Sequential(layer, neuron).eval(), FLAT)
    whole = (layer.one.weight.double() + layer.other.weight.double()).detach().numpy()
    assert (network.projections[0].weights.to_dense() == whole).all()


def test_a_neuron_is_named_instead_of_its_surrogate_gradient():
    neuron = peers.package("spikingjelly.activation_based.neuron")
    model = nn.Sequential(nn.Linear(32, 8), neuron.EIFNode(), nn.Linear(8, 4), neuron.IFNode())
    with pytest.raises(
        InputError, match=r"unknown-module: module '1': spikingjelly\.EIFNode cannot be taken"
    ):
        from_torch(model.eval(), FLAT)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("SLSTM", lambda snn: snn.SLSTM(32, 8, init_hidden=True)),
        ("LeakyParallel", lambda snn: snn.LeakyParallel(32, 8)),
    ],
)
def test_a_neuron_is_named_instead_of_the_layer_inside_it(name, make):
    model = nn.Sequential(make(peers.package("snntorch")), nn.Linear(8, 4))
    with pytest.raises(
        InputError,
        match=rf"module '0': snntorch\.{name} cannot.*allowed: snntorch: Leaky, .*fix: replace it, and train",
    ):
        from_torch(model.eval(), FLAT)


def test_statistics_of_the_batch_are_refused():
    layer = nn.BatchNorm1d(32, track_running_stats=False)
    with pytest.raises(
        InputError,
        match=r"batch-statistics: module '0': BatchNorm1d.*fix: train with track_running_stats=True",
    ):
        from_torch(model_with(layer), FLAT)


def test_complex_weights_are_refused_with_the_way_out():
    with pytest.raises(InputError, match=r"model-fails: module '0': .*fix: take real weights"):
        from_torch(model_with(nn.Linear(32, 8, dtype=torch.complex64)), FLAT)


class _Looked(nn.Module):
    """A table, looked up by what the input says."""

    def __init__(self, whole):
        super().__init__()
        self.table, self.whole = nn.Embedding(4, 8), whole

    def forward(self, x):
        return self.table(x.long() if self.whole else x).sum(1)


@pytest.mark.parametrize("whole", [False, True])
def test_an_embedding_is_refused_with_the_way_out(whole):
    with pytest.raises(InputError, match=r"fix: .*give a Linear .*one-hot spikes"):
        from_torch(model_with(_Looked(whole)), FLAT)
