"""``network.h5`` returns what was saved, has reproducible bytes, and damage is a clear error."""

from dataclasses import fields, replace

import h5py
import numpy as np
import pytest
from scipy.sparse import csr_matrix
from support.networks import random_network

from lbi import CsrMatrix, quantize, save
from lbi.errors import InputError
from lbi.files import network_h5


def same(a, b) -> bool:
    if hasattr(a, "__dataclass_fields__") and not isinstance(a, CsrMatrix):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    if isinstance(a, tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(np.array_equal(a, b)) if isinstance(a, np.ndarray) else a == b


@pytest.fixture
def fixed(rng):
    network = quantize(random_network(rng, recurrent=True, bias=True))
    first = network.projections[0]
    delay = rng.integers(0, 62, first.weights.nnz).astype(np.uint8)
    return replace(
        network,
        projections=(replace(first, delay=delay), *network.projections[1:]),
        provenance={"dataset": {"name": "digits", "n_steps": 16}, "umlaut": "Größe"},
    )


def test_round_trip(fixed, tmp_path):
    save(fixed, tmp_path / "Netz größe.h5")
    assert same(network_h5.load(tmp_path / "Netz größe.h5"), fixed)
    assert [path.name for path in tmp_path.iterdir()] == ["Netz größe.h5"]


def test_same_bytes_each_time(fixed, tmp_path):
    save(fixed, tmp_path / "a.h5")
    save(network_h5.load(tmp_path / "a.h5"), tmp_path / "b.h5")
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_weights_are_read_by_one_line_of_scipy(fixed, tmp_path):
    save(fixed, tmp_path / "network.h5")
    with h5py.File(tmp_path / "network.h5") as file:
        w = file["projections/layer1_rec/weights"]
        matrix = csr_matrix((w["data"], w["indices"], w["indptr"]), shape=w.attrs["shape"])
    stored = {p.name: p.weights for p in fixed.projections}["layer1_rec"]
    assert np.array_equal(matrix.toarray(), stored.to_dense())


def test_missing_and_truncated_files(fixed, tmp_path):
    with pytest.raises(InputError, match="file-missing"):
        network_h5.load(tmp_path / "none.h5")
    save(fixed, tmp_path / "network.h5")
    whole = (tmp_path / "network.h5").read_bytes()
    for size in (0, 10, 500, len(whole) // 2):
        (tmp_path / "cut.h5").write_bytes(whole[:size])
        with pytest.raises(InputError, match="file-damaged"):
            network_h5.load(tmp_path / "cut.h5")


def test_a_flipped_bit_is_never_another_network(fixed, tmp_path, rng):
    save(fixed, tmp_path / "network.h5")
    whole, noticed = (tmp_path / "network.h5").read_bytes(), 0
    for place in rng.integers(0, 8 * len(whole), 150):
        flipped = bytearray(whole)
        flipped[place // 8] ^= 1 << int(place % 8)
        (tmp_path / "flipped.h5").write_bytes(flipped)
        try:
            assert same(network_h5.load(tmp_path / "flipped.h5"), fixed)
        except InputError:
            noticed += 1
    assert noticed > 15  # the rest of a small file is mostly space that HDF5 keeps free


def test_edited_values_need_their_sum_removed(fixed, tmp_path):
    save(fixed, tmp_path / "network.h5")
    with h5py.File(tmp_path / "network.h5", "a") as file:
        file["populations/layer2/vth"][()] += 1
    with pytest.raises(
        InputError, match=r"network\.h5: other values than .*fix: .*delete the attribute sha256"
    ):
        network_h5.load(tmp_path / "network.h5")
    with h5py.File(tmp_path / "network.h5", "a") as file:
        del file.attrs["sha256"]
    edited = network_h5.load(tmp_path / "network.h5")
    assert np.array_equal(edited.populations[1].neuron.vth, fixed.populations[1].neuron.vth + 1)


def test_another_format_or_version_is_refused(fixed, tmp_path):
    save(fixed, tmp_path / "network.h5")
    with h5py.File(tmp_path / "network.h5", "a") as file:
        file.attrs["version"] = 99
    with pytest.raises(InputError, match=r"file-format.*version 99; allowed: 'lbi.fixed_network' version 1"):
        network_h5.load(tmp_path / "network.h5")


def test_every_damaged_entry_is_named(fixed, tmp_path):
    save(fixed, tmp_path / "network.h5")
    with h5py.File(tmp_path / "network.h5", "a") as file:
        del file["populations/layer1/du"]
        file["populations/layer2/vth"][()] = -5
        file["projections/input_layer1/weights/indices"][0] = 99
        file["projections/layer1_rec"].attrs["sign_mode"] = "SIDEWAYS"
    with pytest.raises(InputError) as caught:
        network_h5.load(tmp_path / "network.h5")
    found = {(problem.code, problem.where.split(", ")[1]) for problem in caught.value.problems}
    assert found == {
        ("entry-damaged", "populations/layer1"),
        ("vth-range", "populations/layer2"),
        ("csr-index", "projections/input_layer1"),
        ("csr-order", "projections/input_layer1"),
        ("sign-mode", "projections/layer1_rec"),
    }
