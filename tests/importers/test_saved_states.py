"""Saved states from which the weights cannot be told: refused, with the way to a state that says them."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from support import peers
from torch import nn

import lbi
from lbi.errors import InputError, UsageError

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers' own

ARCH = """
import snntorch
from torch import nn

def build():
    def leaky():
        return snntorch.Leaky(beta=0.9, init_hidden=True, reset_mechanism="zero")
    return nn.Sequential(nn.Linear(64, 16), leaky(), nn.Linear(16, 10), leaky())
"""


@pytest.fixture
def saved(tmp_path):
    """A saved state, and the file that builds its model."""
    leaky = peers.package("snntorch").Leaky
    options = {"beta": 0.9, "init_hidden": True, "reset_mechanism": "zero"}
    torch.manual_seed(1)
    model = nn.Sequential(
        peers.linear(64, 16, 2.0, bias=True),
        leaky(**options),
        peers.linear(16, 10, 3.0, bias=True),
        leaky(**options),
    )
    torch.save(model.state_dict(), tmp_path / "state.pt")
    (tmp_path / "arch.py").write_text(ARCH)
    return tmp_path, model


class Product(nn.Module):
    def forward(self, a, b):
        return a * b

    def right_inverse(self, weight):
        return weight.abs(), weight.sign()


class LowRank(nn.Module):
    def forward(self, a, b):
        return a @ b

    def right_inverse(self, weight):
        return torch.eye(len(weight)), weight


@pytest.mark.parametrize("parametrization", [Product(), LowRank()])
def test_two_tensors_of_a_parametrization_of_ones_own_are_no_weight_norm(parametrization, saved):
    folder, _ = saved
    model = nn.Sequential(peers.linear(16, 16, 2.0), nn.Linear(16, 10))
    nn.utils.parametrize.register_parametrization(model[0], "weight", parametrization)
    torch.save(model.state_dict(), folder / "state.pt")
    with pytest.raises(InputError, match=r"weights-shape: .*original1.*remove_parametrizations"):
        lbi.load(folder / "state.pt", arch=f"{folder / 'arch.py'}:build")


class Gain(nn.Module):
    """A gain per row, whose two tensors have the shapes and names of weight norm's."""

    def forward(self, gain, weight):
        return gain * weight

    def right_inverse(self, weight):
        return torch.full((len(weight), 1), 2.0), weight / 2.0


def test_a_gain_per_row_cannot_be_told_from_weight_norm_without_a_note(saved):
    """torch saves no more than names and tensors, so the reading for a plain --arch is said; a registered one is exact."""
    folder, model = saved
    nn.utils.parametrize.register_parametrization(model[0], "weight", Gain())
    torch.save(model.state_dict(), folder / "gain.pt")
    arch = (folder / "arch.py").read_text()
    network = lbi.load(folder / "gain.pt", arch=f"{folder / 'arch.py'}:build")
    (note,) = network.meta["notes"]
    assert note.startswith("'0.weight': read as torch's weight norm")
    assert "register" in note
    norm = model[0].parametrizations.weight.original0 * nn.functional.normalize(
        model[0].parametrizations.weight.original1, dim=1
    )
    assert np.allclose(network.projections[0].weights.to_dense(), norm.detach().numpy(), rtol=1e-6)
    arch += "\nimport torch\nfrom torch.nn.utils import parametrize\n\n" + inspect.getsource(Gain) + GAINED
    (folder / "gained.py").write_text(arch)
    network = lbi.load(folder / "gain.pt", arch=f"{folder / 'gained.py'}:gained")
    assert (network.projections[0].weights.to_dense() == model[0].weight.double().detach().numpy()).all()
    assert "notes" not in network.meta


GAINED = """

def gained():
    model = build()
    parametrize.register_parametrization(model[0], "weight", Gain())
    return model
"""


@pytest.mark.parametrize("other", ["model", "model_ema", "ema_state_dict"])
def test_a_checkpoint_of_two_models_is_refused_with_the_way_to_one(other, saved):
    folder, model = saved
    state = torch.load(folder / "state.pt", weights_only=True)
    changed = {name: value * 0.5 if value.is_floating_point() else value for name, value in state.items()}
    optimizer = torch.optim.Adam(model.parameters())
    content = {"net": state, other: changed, "optimizer_state_dict": optimizer.state_dict(), "epoch": 3}
    torch.save(content, folder / "two.pt")
    with pytest.raises(
        InputError,
        match=rf"state-several: .*'net' and '{other}'.*torch.save\(torch.load\(PATH\)\['{other}'\]",
    ):
        lbi.load(folder / "two.pt", arch=f"{folder / 'arch.py'}:build")
    del content[other]
    torch.save(content, folder / "one.pt")
    lbi.load(folder / "one.pt", arch=f"{folder / 'arch.py'}:build")


@pytest.mark.parametrize("dtype", [torch.int8, torch.bool])
def test_weights_without_their_scale_are_refused(dtype, saved):
    folder, _ = saved
    state = torch.load(folder / "state.pt", weights_only=True)
    state["2.weight"] = (state["2.weight"] * 20).to(dtype)
    torch.save(state, folder / "whole.pt")
    with pytest.raises(InputError, match=rf"state-type: .*2.weight: {dtype}; allowed: floats"):
        lbi.load(folder / "whole.pt", arch=f"{folder / 'arch.py'}:build")


def test_lazy_layers_are_named(saved):
    folder, _ = saved
    (folder / "lazy.py").write_text(ARCH.replace("nn.Linear(64, 16)", "nn.LazyLinear(16)"))
    with pytest.raises(InputError, match=r"no-values: the model of --arch, 0\.weight: has no shape yet"):
        lbi.load(folder / "state.pt", arch=f"{folder / 'lazy.py'}:build", input_shape=(64,))


@pytest.mark.parametrize("entry", [None, "optimizer_state_dict"])
def test_an_optimizers_state_is_no_models(entry, saved):
    folder, model = saved
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.ones(1, 64)).sum().backward()
    optimizer.step()
    state = optimizer.state_dict()
    torch.save({entry: state, "epoch": 3} if entry else state, folder / "optimizer.pt")
    with pytest.raises(InputError) as caught:
        lbi.load(folder / "optimizer.pt", arch=f"{folder / 'arch.py'}:build")
    found = f"no-state: {folder / 'optimizer.pt'}: holds the state of an optimizer, and no model's"
    assert str(caught.value) == f"{found}; allowed: a state_dict; fix: torch.save(model.state_dict(), path)"


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
            "a Git LFS pointer.*git lfs pull",
        ),
        (b"\n<!DOCTYPE html><html><body>404</body></html>", "a web page; .*download the file itself"),
    ],
)
def test_texts_in_the_place_of_a_file_are_named(content, found, saved):
    folder, _ = saved
    (folder / "text.pt").write_bytes(content)
    with pytest.raises(InputError, match=f"file-broken: .*: is {found}"):
        lbi.load(folder / "text.pt", arch=f"{folder / 'arch.py'}:build")


def test_the_state_of_an_exported_program(saved):
    """The fix of the refusal, tried: what torch.export saved holds the state that --arch takes."""
    folder, _ = saved
    linear = nn.Sequential(nn.Linear(4, 3))
    program, path = torch.export.export(linear, (torch.ones(1, 4),)), folder / "program.pt"
    with path.open("wb") as file:
        torch.export.save(program, file)
    with pytest.raises(
        InputError, match=r"model-exported: .*: is an archive of torch.export; .*fix: take its"
    ) as caught:
        lbi.load(path, arch=f"{folder / 'arch.py'}:build")
    (problem,) = caught.value.problems
    assert "torch.save(dict(torch.export.load(path).state_dict), 'state.pt')" in problem.remedy
    state = dict(torch.export.load(path).state_dict)
    assert all(torch.equal(state[name], value) for name, value in linear.state_dict().items())


def named(state, old, new):
    return {
        name.replace(old, new, 1) if name.startswith(old) else name: value for name, value in state.items()
    }


@pytest.mark.parametrize(
    ("old", "new", "before"),
    [("0.", "0._orig_mod.", ""), ("2.", "2.module.", ""), ("0.", "0._orig_mod.", "model.")],
)
def test_wrappers_of_parts_have_a_place_within_names(old, new, before, saved):
    folder, model = saved
    state = {before + name: value for name, value in named(model.state_dict(), old, new).items()}
    torch.save(state, folder / "parts.pt")
    found, wanted = (
        lbi.load(folder / name, arch=f"{folder / 'arch.py'}:build") for name in ("parts.pt", "state.pt")
    )
    for one, other in zip(found.projections, wanted.projections, strict=True):
        np.testing.assert_array_equal(one.weights.to_scipy().toarray(), other.weights.to_scipy().toarray())


def test_a_part_that_arch_wraps(saved):
    folder, _ = saved
    wrapped = ARCH.replace("nn.Linear(64, 16)", "nn.DataParallel(nn.Linear(64, 16))")
    (folder / "wrapped.py").write_text(wrapped)
    found = lbi.load(folder / "state.pt", arch=f"{folder / 'wrapped.py'}:build", input_shape=(64,))
    wanted = lbi.load(folder / "state.pt", arch=f"{folder / 'arch.py'}:build")
    for one, other in zip(found.projections, wanted.projections, strict=True):
        np.testing.assert_array_equal(one.weights.to_scipy().toarray(), other.weights.to_scipy().toarray())


def test_what_a_checkpoint_holds_beside_its_model_is_noted(saved):
    folder, model = saved
    state = {f"model.{name}": value for name, value in model.state_dict().items()}
    torch.save(
        {"state_dict": {**state, "criterion.weight": torch.ones(10)}, "epoch": 3}, folder / "light.ckpt"
    )
    network = lbi.load(folder / "light.ckpt", arch=f"{folder / 'arch.py'}:build")
    assert any("'criterion.weight', which are no part of the model" in note for note in network.meta["notes"])


def test_the_shape_of_sequences_is_asked_for(tmp_path):
    peers.package("snntorch")
    neurons = "snntorch.Leaky(beta=0.9, init_hidden=True)"
    layers = f"nn.Conv1d(2, 4, 3), {neurons}, nn.Flatten(), nn.Linear(24, 5), {neurons}"
    code = f"import snntorch\nfrom torch import nn\n\ndef build():\n    return nn.Sequential({layers})\n"
    (tmp_path / "arch.py").write_text(code)
    names: dict = {}
    exec(code, names)
    torch.save(names["build"]().state_dict(), tmp_path / "state.pt")
    with pytest.raises(UsageError, match="the shape of its input cannot be determined"):
        lbi.load(tmp_path / "state.pt", arch=f"{tmp_path / 'arch.py'}:build")
