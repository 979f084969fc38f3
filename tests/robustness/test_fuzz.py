"""Damaged and malicious files: a first part of ``tests/fuzz.py``, and its earlier findings."""

from __future__ import annotations

import shutil
import struct
import tempfile
import zipfile
from importlib.util import find_spec
from pathlib import Path

import fuzz
import h5py
import numpy as np
import pytest
from support import cases
from support.fuzz.data import bad_header, npy_bytes
from support.fuzz.readers import READERS

import lbi
from lbi import datasets
from lbi.errors import InputError, Problem, UsageError
from lbi.files.spikes_npz import load_spikes

pytestmark = pytest.mark.filterwarnings("ignore")  # of other packages, on damaged input

INPUTS = 24
"""Of each reader, beside the whole files."""


@pytest.mark.parametrize("reader", [name for name in READERS if READERS[name].available])
def test_changed_files_are_read_or_refused(reader, tmp_path):
    seeds = fuzz.make_seeds(reader, tmp_path)
    found = {}
    for index in range(INPUTS):
        path, rng = fuzz.make_input(reader, index, 1, seeds, tmp_path / "used")
        found[index] = fuzz.outcome(reader, path, rng)
    assert {index: what for index, what in found.items() if what[0] == "failed"} == {}
    can_be_made_again = reader == "cache"
    assert can_be_made_again or "refused" in {what for what, _ in found.values()}


def codes(error) -> set[str]:
    return {problem.code for problem in error.value.problems}


@pytest.fixture
def network(tmp_path):
    path = tmp_path / "network.h5"
    lbi.save(cases.make("recurrent_bias")[0], path)
    return path


def huge(file, name):
    del file[name]
    file.create_dataset(name, (2**20, 2**20), "f4", chunks=(64, 64))


def to_itself(file, name):
    del file[name]
    file[name] = h5py.SoftLink("/" + name)


def elsewhere(file, name):
    del file[name]
    file[name] = h5py.ExternalLink("/etc/passwd", "/")


def twice(file, name):
    file[name + "x"] = file[name]


def cycle(file, name):
    file["populations/again"] = file["populations"]


def outside(file, name):
    del file[name]
    file.create_dataset(name, (4,), "u1", external=[("/etc/hostname", 0, 4)])


def named_type(file, name):
    del file[name]
    file[name] = np.dtype("f8")


def words(file, name):
    del file[name]
    file[name] = "x"


def nothing(file, name):
    del file[name]
    file[name] = h5py.Empty("f4")


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (huge, "hdf5-size"),
        (to_itself, "hdf5-link"),
        (elsewhere, "hdf5-link"),
        (outside, "hdf5-link"),
        (twice, "hdf5-link"),
        (cycle, "hdf5-link"),
        (named_type, "entry-damaged"),
        (words, "entry-damaged"),
        (nothing, "entry-damaged"),
    ],
)
def test_objects_that_are_no_data(change, code, network):
    with h5py.File(network, "r+") as file:
        change(file, "populations/layer1/bias_mant")
    with pytest.raises(InputError) as error:
        lbi.load(network)
    assert codes(error) == {code}


def test_a_heap_on_which_libhdf5_never_ends(network):
    """Its free space counts for nothing: libhdf5 2.0 reads the same place again and again."""
    content = bytearray(network.read_bytes())
    start = content.index(b"GCOL")
    at = start + 16
    while struct.unpack_from("<H", content, at)[0]:
        at += 16 + (struct.unpack_from("<Q", content, at + 8)[0] + 7) // 8 * 8
    struct.pack_into("<Q", content, at + 8, 0)
    network.write_bytes(content)
    with pytest.raises(InputError, match=r"file-damaged.*damaged heap"):
        lbi.load(network)


def test_a_line_that_a_terminal_shows_as_it_is():
    line = str(Problem("code", "a\nb", "\x1b[31m \udcff", "x" * 5000))
    assert line.isprintable()
    assert line.startswith(r"code: a b: \x1b[31m \udcff; allowed: xxx")
    assert len(line) < 1100


def spikes_file(path, content, name="spikes.npy"):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(name, content)
    return path


@pytest.mark.parametrize("seed", range(40))
def test_array_headers_that_lie(seed, tmp_path):
    """Claimed shapes of terabytes, pickled objects, headers that are no Python: refused without making room."""
    content = bad_header(np.zeros((2, 3, 8), np.uint8), np.random.default_rng(seed))
    path = spikes_file(tmp_path / "spikes.npz", content)
    with pytest.raises(InputError, match="file-damaged"):
        load_spikes(path, 8)
    with pytest.raises(InputError, match="data-broken"):
        datasets.load(str(path))


def test_pickled_objects_and_members_that_are_no_arrays(tmp_path):
    for content in (npy_bytes(np.array([None, "x"], dtype=object)), b"", b"no array at all"):
        with pytest.raises(InputError, match="file-damaged"):
            load_spikes(spikes_file(tmp_path / "spikes.npz", content), 8)


def test_an_archive_that_unfolds_to_too_much(tmp_path, monkeypatch):
    from lbi.files import untrusted_npz

    path = tmp_path / "spikes.npz"
    np.savez_compressed(path, spikes=np.zeros((200, 50, 8), np.uint8))
    assert load_spikes(path, 8)[0].shape == (200, 50, 8)
    monkeypatch.setattr(untrusted_npz, "FREE_BYTES", 1000)
    with pytest.raises(InputError, match="unfolds to 80128 bytes"):
        load_spikes(path, 8)


@pytest.mark.parametrize("text", ["a = " + "[" * 5000, "a = " + "9" * 6000, "a = 0x" + "f" * 6000])
def test_toml_that_its_reader_breaks_on(text, tmp_path):
    path = tmp_path / "chip.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError):
        lbi.load_profile(path)
    if find_spec("torch"):
        from lbi.train.session.config import make_config

        with pytest.raises(lbi.LbiError):
            make_config(None, path, {})


def test_numbers_beyond_floats_in_a_configuration(tmp_path):
    pytest.importorskip("torch")
    from lbi.train.session.config import make_config

    path = tmp_path / "train.toml"
    path.write_text(f"lr = {10**400}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"toml-syntax.*64 bits"):
        make_config(None, path, {})
    with pytest.raises(lbi.LbiError, match="option-type"):
        make_config(None, None, {"lr": 10**400})
    for value, kind in ((10**30, float), (10, int)):
        assert type(make_config(None, None, {"activity": value}).activity) is kind


def test_a_chip_without_times(tmp_path):
    """Energy may be unpublished, and its table empty; an estimate without times would say nothing."""
    path = READERS["chip"].seeds(tmp_path)[0]
    whole = path.read_text(encoding="utf-8")
    lines = [line for line in whole.splitlines() if not line.startswith("[costs.sanafe.time]")]
    start = whole.splitlines().index("[costs.sanafe.time]")
    end = next(i for i in range(start, len(lines)) if not lines[i].strip())
    path.write_text("\n".join(lines[:start] + lines[end:]), encoding="utf-8")
    with pytest.raises(InputError, match=r"missing-key.*costs\.sanafe\.time"):
        lbi.load_profile(path)


@pytest.mark.parametrize("entry", [b"[" * 5000, b"[1]", b'{"dt": "x", "order": 5, "meta": [], "readout": 3}'])
def test_our_own_notes_in_a_nir_file_that_are_no_notes(entry, tmp_path):
    pytest.importorskip("nir")
    path = READERS["nir"].seeds(tmp_path)[0]
    whole = lbi.load(path)
    with h5py.File(path, "r+") as file:
        del file["node/metadata/lbi"]
        file["node/metadata/lbi"] = np.bytes_(entry)
    assert [p.weights for p in lbi.load(path, dt=whole.meta["nir"]["dt"]).projections] == [
        p.weights for p in whole.projections
    ]


def test_exponents_that_no_chip_has(tmp_path):
    path = READERS["chip"].seeds(tmp_path)[0]
    whole = path.read_text(encoding="utf-8")
    changed = whole.replace(
        "bias_exponent = { min = 0, max = 7", f"bias_exponent = {{ min = 0, max = {2**62}"
    )
    assert changed != whole
    path.write_text(changed, encoding="utf-8")
    with pytest.raises(InputError, match=r"impossible-value.*bias_exponent"):
        lbi.load_profile(path)


@pytest.fixture
def model():
    """The content of a ``model.pt``, and what reads it after it was changed."""
    torch = pytest.importorskip("torch")
    folder = Path(tempfile.mkdtemp())
    path = READERS["model"].seeds(folder)[0]
    content = torch.load(path, weights_only=True)

    def load():
        torch.save(content, path)
        return lbi.load(path)

    return content, load


@pytest.mark.parametrize("name", ["dataset", "data", "teacher", "chip"])
def test_paths_with_null_characters(name):
    from lbi.train.session.config import make_config

    with pytest.raises(
        UsageError, match=rf"option: {name}: 'a\\x00b.npz'; allowed: a name or path without null"
    ):
        make_config(None, None, {"budget": ["cores=1"], "chip": "loihi1", name: "a\0b.npz"})


def test_a_configuration_of_terabytes(model):
    content, load = model
    content["config"]["populations"][0]["n"] = 2**31
    content["config"]["input_shape"] = [2**31]
    with pytest.raises(InputError) as error:
        load()
    assert codes(error) == {"weights-shape"}


def odd_tensors():
    torch = pytest.importorskip("torch")
    return {
        "expanded": (torch.ones(1).expand(2**20, 2**20), "tensor-size"),
        "sparse": (
            torch.sparse_coo_tensor([[0], [0]], [1.0], (2**20, 2**20), check_invariants=True),
            "tensor-size",
        ),
        "meta": (torch.empty((6, 8), device="meta"), "tensor-kind"),
        "complex": (torch.ones((6, 8), dtype=torch.complex64), "tensor-kind"),
        "list": ([1.0], "tensor-missing"),
    }


@pytest.mark.parametrize("kind", ["expanded", "sparse", "meta", "complex", "list"])
def test_tensors_that_are_no_weights(kind, model):
    content, load = model
    content["state_dict"]["layers.hidden.weight"], code = odd_tensors()[kind]
    with pytest.raises(InputError) as error:
        load()
    assert codes(error) == {code}


def test_an_archive_of_weights_that_unfolds_to_too_much(tmp_path, monkeypatch):
    pytest.importorskip("torch")
    from lbi.train import untrusted_torch

    path = READERS["model"].seeds(tmp_path)[0]
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(1 << 20))
    monkeypatch.setattr(untrusted_torch, "UNFOLDED", 1 << 16)
    with pytest.raises(InputError, match="file-unfolds"):
        lbi.load(path)


def test_masks_and_meta_that_do_not_fit(model):
    content, load = model
    content["meta"]["when"] = {1: ()}
    with pytest.raises(InputError, match="'meta'"):
        load()
    del content["meta"]["when"]
    state = content["state_dict"]
    state["layers.hidden.weight_orig"] = state.pop("layers.hidden.weight")
    state["layers.hidden.weight_mask"] = state["layers.output.weight"]
    with pytest.raises(InputError, match=r"weights-shape.*mask"):
        load()


def test_the_shapes_of_a_state_without_building_it():
    pytest.importorskip("torch")
    from lbi.train.layers.model import SpikingNetwork
    from lbi.train.session.config import TrainConfig

    decays = {"current_decay": (0.3, 0.5), "voltage_decay": (0.1, 0.2)}
    for options in ({}, {"hidden": (7, 5), "recurrent": True, "bias": True, "train_decays": True, **decays}):
        config = TrainConfig(**options).model((2, 4), 3)
        state = SpikingNetwork(config).state_dict()
        assert {name: tuple(value.shape) for name, value in state.items()} == SpikingNetwork.state_shapes(
            config
        )


def wrong_shape(state):
    state["model"]["layers.hidden.weight"] = state["model"]["layers.hidden.weight"].T


def too_large(state):
    state["network"]["populations"][0] |= {"n": 65536, "recurrent": True}


def without_eps(state):
    del state["optimizer"]["param_groups"][0]["eps"]


def on_a_gpu_only(state):
    state["optimizer"]["param_groups"][0]["capturable"] = True


def half_a_state(state):
    del state["optimizer"]["state"][0]["exp_avg"]


def sparse_weights(state):
    state["model"]["layers.hidden.weight"] = state["model"]["layers.hidden.weight"].to_sparse()


def overlapping_moments(state):
    moments = state["optimizer"]["state"][0]
    moments["exp_avg"] = moments["exp_avg"][:1, :1].expand(moments["exp_avg"].shape)


def no_float(state):
    state["optimizer"]["param_groups"][0]["lr"] = 1e300


def a_tensor_for_a_format(state):
    state["format"] = state["model"]["layers.hidden.weight"]


def no_history(state):
    state["progress"]["history"] = [[]]


def no_dataset(state):
    state["config"] = []


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory):
    """A folder with the checkpoints of some runs and the data set that they name, to copy from."""
    pytest.importorskip("torch")
    folder = tmp_path_factory.mktemp("checkpoints")
    READERS["checkpoint"].seeds(folder)
    return folder


@pytest.mark.parametrize(
    "change",
    [
        wrong_shape,
        too_large,
        without_eps,
        on_a_gpu_only,
        half_a_state,
        sparse_weights,
        overlapping_moments,
        no_float,
        a_tensor_for_a_format,
        no_history,
        no_dataset,
    ],
)
def test_checkpoints_that_do_not_fit(change, checkpoints, tmp_path):
    torch = pytest.importorskip("torch")
    shutil.copytree(checkpoints, tmp_path, dirs_exist_ok=True)
    path = tmp_path / "adam.ckpt"
    state = torch.load(path, weights_only=True)
    READERS["checkpoint"].read(path, np.random.default_rng(0))
    change(state)
    torch.save(state, path)
    with pytest.raises(InputError):
        READERS["checkpoint"].read(path, np.random.default_rng(0))


def test_spoken_data_that_claim_more_than_is_there(tmp_path):
    whole = READERS["heidelberg"].seeds(tmp_path)[0]
    n = 1 << 20
    with h5py.File(whole / "shd_train.h5", "r+") as file:
        for name, dtype in (("spikes/times", np.float16), ("spikes/units", np.uint16)):
            del file[name]
            file.create_dataset(name, (n,), h5py.vlen_dtype(dtype), chunks=(64,))
        del file["labels"]
        file.create_dataset("labels", (n,), "u2", chunks=(64,))
    with pytest.raises(InputError, match=r"data-broken.*samples claimed"):
        datasets.load("shd", whole).train  # noqa: B018


@pytest.mark.parametrize("shape", [[2**50], [2**23], [-3, 1], [0]])
def test_netx_layers_of_no_size(shape, tmp_path):
    path = READERS["netx"].seeds(tmp_path)[-1]
    with h5py.File(path, "r+") as file:
        del file["layer/0/shape"]
        file["layer/0/shape"] = shape
    with pytest.raises(InputError, match=r"netx-key.*shape"):
        lbi.load(path)


@pytest.mark.parametrize("edge", [(b"input", b"nowhere"), (b"nowhere", b"output")])
def test_nir_edges_to_nodes_that_are_not_there(edge, tmp_path):
    pytest.importorskip("nir")
    path = READERS["nir"].seeds(tmp_path)[2]
    with h5py.File(path, "r+") as file:
        edges = [tuple(pair) for pair in file["node/edges"][()]]
        del file["node/edges"]
        file["node/edges"] = [*edges, edge]
    with pytest.raises(InputError, match=r"nir-edge.*'nowhere'"):
        lbi.load(path)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("affine/bias", np.ones(7), "shape-mismatch"),
        ("scale/scale", np.ones(9), "shape-mismatch"),
        ("cuba/tau_mem", b"CUBA", "nir-file"),
        ("affine/weight", b"CUBA", "nir-file"),
        ("cuba/tau_mem", np.array([np.nan] * 3), "nir-parameter"),
        ("pool/kernel_size", np.array([2, 2, 2]), "shape-mismatch"),
        ("pool/kernel_size", np.array([2**40, 1]), "shape-mismatch"),
        ("affine/weight", np.ones((3, 18, 1)), "shape-mismatch"),
        ("conv/groups", np.ones(2, int), "nir-parameter"),
        ("conv/padding", b"round", "nir-file"),
        ("pool/padding", b"same", "nir-parameter"),
        ("flatten/end_dim", b"x", "nir-file"),
        ("pool/stride", np.array([0, 0]), "nir-file"),
        ("conv/groups", 0, "shape-mismatch"),
        ("input/shape", np.array([2**40, 2**40]), "input-shape"),
        ("input/shape", np.array([2, -6, 5]), "input-shape"),
    ],
)
def test_nir_parameters_that_do_not_fit(name, value, code, tmp_path):
    pytest.importorskip("nir")
    path = READERS["nir"].seeds(tmp_path)[2]
    with h5py.File(path, "r+") as file:
        del file["node/nodes/" + name]
        file["node/nodes/" + name] = value
    with pytest.raises(InputError) as error:
        lbi.load(path, dt=1e-4)
    assert code in codes(error)
