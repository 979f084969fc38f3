"""``model.pt``: its content, and the errors for all other files in its place."""

from __future__ import annotations

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from lbi.cli import train as command  # noqa: E402
from lbi.errors import InputError  # noqa: E402
from lbi.train import ModelConfig, PopulationConfig, SpikingNetwork, load_model, save_model  # noqa: E402
from lbi.train.model_pt import fold, load_module  # noqa: E402

CONFIG = ModelConfig(
    (3, 2),
    (
        PopulationConfig("hidden", 5, (0.5,), (0.25,), (1.5,), recurrent=True),
        PopulationConfig("output", 2, (0.5,), (0.125,), (1.0,)),
    ),
)


@pytest.fixture
def model():
    return SpikingNetwork(CONFIG, seed=4)


@pytest.fixture
def path(tmp_path, model):
    save_model(model, tmp_path / "model.pt", {"dataset": {"name": "digits"}})
    return tmp_path / "model.pt"


def rewrite(path, change):
    """Change the file's content and write it with plain torch.save."""
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def test_a_model_comes_back_as_it_was(model, path):
    network = load_model(path)
    assert network.input_shape == (3, 2)
    assert [(p.name, p.source, p.target, p.delay) for p in network.projections] == [
        ("input_to_hidden", "input", "hidden", 0),
        ("hidden_to_hidden", "hidden", "hidden", 0),
        ("hidden_to_output", "hidden", "output", 0),
    ]
    for projection, weight in zip(network.projections, model.weights().values(), strict=True):
        np.testing.assert_array_equal(projection.weights.to_dense(), weight.detach().double().numpy())
    hidden, output = network.populations
    assert (hidden.neuron.current_decay, hidden.neuron.voltage_decay, hidden.neuron.threshold) == (
        0.5,
        0.25,
        1.5,
    )
    assert output.neuron.voltage_decay == 0.125
    assert network.meta == {"dataset": {"name": "digits"}}
    module, meta = load_module(path)
    assert meta == {"dataset": {"name": "digits"}}
    assert all(torch.equal(module.state_dict()[key], value) for key, value in model.state_dict().items())


@pytest.mark.parametrize("first", [0, 3])
def test_delays_of_recurrent_synapses_come_back(first, tmp_path):
    delays = {"recurrent_delay": first + 2, "recurrent_delay_from": first}
    hidden = PopulationConfig("hidden", 5, (0.5, 0.4), (0.25, 0.5), (1.5, 1.0), recurrent=True, **delays)
    model = SpikingNetwork(ModelConfig((6,), (hidden, CONFIG.populations[1])), seed=4)
    save_model(model, tmp_path / "model.pt")
    module, _ = load_module(tmp_path / "model.pt")
    assert module.config == model.config
    delays = {
        (projection.source, projection.target): np.unique(
            np.stack([projection.weights.indices, projection.delay - first]), axis=1
        ).T.tolist()
        for projection in load_model(tmp_path / "model.pt").projections
        if projection.source.startswith("hidden") and projection.target != "output"
    }
    # Neurons 0 to 2 and 3 to 4 have 0, 1, 2 and 0, 1; from the first part to the second, evaluated after it, one step more.
    assert delays == {
        ("hidden_1", "hidden_1"): [[0, 0], [1, 1], [2, 2]],
        ("hidden_2", "hidden_1"): [[0, 0], [1, 1]],
        ("hidden_1", "hidden_2"): [[0, 1], [1, 2], [2, 3]],
        ("hidden_2", "hidden_2"): [[0, 0], [1, 1]],
    }
    assert (
        "recurrent_delay" not in CONFIG.to_dict()["populations"][0]
    )  # files stay as earlier versions read them


@pytest.mark.parametrize("delay", [-1, 63, 10**12, 1.5])
def test_a_wrong_delay_is_one_clear_problem(path, delay):
    rewrite(path, lambda content: content["config"]["populations"][0].update(recurrent_delay=delay))
    with pytest.raises(InputError) as caught:
        load_model(path)
    assert len(caught.value.problems) == 1
    assert "recurrent" in str(caught.value)


def test_exact_zeros_become_absent_synapses(tmp_path, model):
    with torch.no_grad():
        model.layers["hidden"].weight[1] = 0.0
        model.layers["hidden"].weight[2, 3] = -0.0
        model.layers["output"].weight.zero_()
    save_model(model, tmp_path / "model.pt")
    network = load_model(tmp_path / "model.pt")
    assert [p.weights.nnz for p in network.projections] == [5 * 6 - 6 - 1, 25, 0]
    assert network.n_active == model.n_active() == 48


def test_the_same_model_gives_the_same_bytes_under_any_name(tmp_path, model):
    for name in ("a.pt", "another.name"):
        save_model(model, tmp_path / name)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "another.name").read_bytes()
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.pt", "another.name"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(path, model, monkeypatch):
    before = path.read_bytes()

    def full_disk(*_):
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr("lbi.system.atomic.os.replace", full_disk)
    with pytest.raises(InputError, match=r"not-written: .*model.pt: No space left"):
        save_model(model, path)
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["model.pt"]


def truncated(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def text(path):
    path.write_text("not a model\n")


def pickled_module(path):
    torch.save(torch.nn.Linear(2, 2), path)


def torchscript(path):
    class Doubling(torch.nn.Module):
        def forward(self, x):
            return 2 * x

    with pytest.warns((DeprecationWarning, FutureWarning), match="jit"):
        torch.jit.script(Doubling()).save(str(path))


def tensor_only(path):
    torch.save(torch.zeros(3), path)


def bare_state_dict(path):
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)


def foreign_dict(path):
    torch.save({"epoch": 3, "model_state_dict": {}}, path)


def newer(path):
    rewrite(path, lambda content: content.update(version=3))


def missing(path):
    path.unlink()


def folder(path):
    path.unlink()
    path.mkdir()


def nan_weights(path):
    rewrite(path, lambda content: content["state_dict"]["layers.output.weight"].fill_(math.nan))


def wrong_shape(path):
    rewrite(path, lambda c: c["state_dict"].update({"layers.output.weight": torch.zeros(2, 4)}))


def integers(path):
    rewrite(
        path, lambda c: c["state_dict"].update({"layers.output.weight": torch.zeros(2, 5, dtype=torch.int8)})
    )


def no_config(path):
    rewrite(path, lambda content: content.pop("config"))


def unknown_field(path):
    rewrite(path, lambda content: content["config"].update(surprise=1))


def older_config(path):
    """Before layers had parts, a decay was one number."""
    rewrite(path, lambda content: content["config"]["populations"][0].update(voltage_decay=0.1))


def missing_field(path):
    rewrite(path, lambda content: content["config"]["populations"][0].pop("n"))


def no_populations(path):
    rewrite(path, lambda content: content["config"].update(populations="two"))


def bad_decay(path):
    rewrite(path, lambda content: content["config"]["populations"][0].update(voltage_decay=[1.5]))


BROKEN = [
    (missing, "file-missing", "does not exist"),
    (folder, "file-missing", "is a folder"),
    (truncated, "file-broken", r"bytes that torch cannot read \(.*failed finding central directory\);"),
    (empty, "file-broken", "is empty"),
    (text, "file-broken", "torch cannot read"),
    (pickled_module, "model-pickled", r"torch\.nn\.modules\.linear\.Linear"),
    (torchscript, "model-torchscript", "TorchScript"),
    (tensor_only, "model-foreign", "holds a Tensor"),
    (bare_state_dict, "model-foreign", "a bare state_dict with keys 'weight', 'bias'"),
    (foreign_dict, "model-foreign", "'epoch', 'model_state_dict'"),
    (newer, "version", "version 2"),
    (nan_weights, "not-finite", r"layers\.output\.weight.*10 of 10 values"),
    (wrong_shape, "weights-shape", r"\(2, 4\)"),
    (integers, "weights-dtype", "int8"),
    (no_config, "model-incomplete", "'config' is NoneType"),
    (unknown_field, "config", "config: has 'surprise', which this version does not know"),
    (
        older_config,
        "config",
        "population 'hidden', voltage_decay: 0.1; allowed: a list of numbers.*train it again",
    ),
    (missing_field, "config", "population 'hidden': has no 'n'"),
    (no_populations, "config", "config, populations: 'two'"),
    (bad_decay, "decay-range", r"1\.5"),
]


@pytest.mark.parametrize(("damage", "code", "message"), BROKEN, ids=[entry[0].__name__ for entry in BROKEN])
def test_a_bad_file_is_one_clear_problem(path, damage, code, message):
    damage(path)
    with pytest.raises(InputError, match=message) as caught:
        load_model(path)
    assert [problem.code for problem in caught.value.problems] == [code]
    assert "\n" not in str(caught.value)


def test_a_flipped_bit_is_never_another_model(path, model):
    whole = path.read_bytes()
    values = model.layers.output.weight.detach().numpy().tobytes()
    first = whole.index(values)
    for place in (8 * first, 8 * first + 13, 8 * (first + len(values)) - 1):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(
            InputError, match=r"file-changed.*model.pt: entry '.*/data/\d+' differs from its CRC-32"
        ):
            load_model(path)


def test_all_bad_tensors_are_named_in_one_pass(path):
    def damage(content):
        state = content["state_dict"]
        state["layers.hidden.weight"][0, 0] = math.inf
        del state["layers.output.weight"]
        state["layers.third.weight"] = torch.zeros(1)

    rewrite(path, damage)
    with pytest.raises(InputError, match="not-finite") as caught:
        load_model(path)
    assert sorted(problem.code for problem in caught.value.problems) == [
        "not-finite",
        "tensor-missing",
        "tensor-unknown",
    ]


def test_pruned_weights_are_multiplied_out(path, model):
    from torch.nn.utils import prune

    prune.random_unstructured(model.layers["hidden"], "weight", amount=0.4)
    rewrite(path, lambda content: content.update(state_dict=model.state_dict()))
    np.testing.assert_array_equal(
        load_model(path).projections[0].weights.to_dense(),
        model.layers["hidden"].weight.detach().double().numpy(),
    )
    assert load_model(path).projections[0].weights.nnz == 18


def test_weight_norm_is_folded():
    from torch.nn.utils.parametrizations import weight_norm

    layer = weight_norm(torch.nn.Linear(4, 3).double())
    state = fold(layer.state_dict())
    assert sorted(state) == ["bias", "weight"]
    torch.testing.assert_close(state["weight"], layer.weight.detach(), rtol=1e-15, atol=0)
    v, g = torch.randn(3, 4, dtype=torch.float64), torch.rand(3, 1, dtype=torch.float64)
    old = fold({"weight_v": v, "weight_g": g})
    torch.testing.assert_close(old["weight"], g * v / v.norm(dim=1, keepdim=True), rtol=1e-14, atol=0)


def test_sparse_tensors_are_kept(path, model):
    def to_csr(content):
        weight = content["state_dict"]["layers.hidden.weight"]
        weight[0] = 0
        content["state_dict"]["layers.hidden.weight"] = weight.to_sparse_coo()

    rewrite(path, to_csr)
    assert load_model(path).projections[0].weights.nnz == 24


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--resume", "nowhere.ckpt"], 3, "file-missing"),
        (["--dataset", "nothing"], 2, "unknown-dataset"),
        (["--density", "0"], 2, "density"),
        (["--optimizer", "sgd", "--epochs", "-1"], 2, "optimizer"),
        (["--hidden", "a,b"], 2, "hidden: 'b'"),
        (["--set", "slope"], 2, "NAME=VALUE"),
        (["--set", "slopes=2"], 2, "slopes"),
        (["-o", "no/such/folder/model.pt"], 3, "folder-missing"),
        (["--dataset", "shd"], 3, "data-missing"),
    ],
)
def test_the_command_says_what_is_wrong(arguments, code, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit, match=f"^{code}$"):
        command.main(arguments)
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert all(line.startswith("error: ") for line in captured.err.splitlines())
    assert list(tmp_path.iterdir()) == []
