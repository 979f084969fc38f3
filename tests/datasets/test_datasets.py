"""Data sets: encodings by hand, and loaders on small files in the real formats."""

from __future__ import annotations

import gzip
import json
import struct

import h5py
import numpy as np
import pytest
from support.spoken import shd_file

from lbi import datasets
from lbi.datasets.base import DataWarning, SpikeData, stratified_split
from lbi.datasets.encodings import IMAGE_CODES, latency, on_off, population, rate, thermometer
from lbi.datasets.shapes import SHAPES
from lbi.errors import InputError, UsageError


def test_latency_by_hand():
    spikes = latency(np.array([[1.0, 0.5, 0.0, 0.1]]), 5)[0]
    assert spikes.T.tolist() == [[1, 0, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]]


def test_rate_spreads_floor_of_x_times_n_spikes_evenly():
    for k in range(17):
        train = rate(np.array([[k / 16]]), 16)[0, :, 0]
        assert train.sum() == k
        # at every step within one spike of the straight line
        np.testing.assert_array_less(np.abs(np.cumsum(train) - k / 16 * np.arange(1, 17)), 1)


def test_thermometer_population_and_on_off_by_hand():
    x = np.array([0.0, 0.3, 0.5, 1.0])
    assert thermometer(x, 4).tolist() == [[0, 0, 0, 0], [1, 0, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1]]
    assert population(x, 5).argmax(-1).tolist() == [0, 1, 2, 4]
    assert population(x, 5).sum(-1).tolist() == [1] * 4
    assert on_off(x, 4).tolist() == [[0, 0, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 0, 0]]


def test_split_takes_its_share_of_every_class_and_nothing_twice():
    labels = np.repeat([0, 1, 2], [40, 20, 8])
    train, test = stratified_split(labels, 0.25, np.random.default_rng(0))
    assert np.bincount(labels[test]).tolist() == [10, 5, 2]
    assert sorted([*train, *test]) == list(range(68))


@pytest.mark.parametrize(
    ("name", "options", "shape"),
    [
        ("digits", {}, (16, 64)),
        ("digits", {"code": "latency", "n_steps": 8}, (8, 64)),
        ("psdigits", {"code": "thermometer", "n_levels": 4}, (64, 4)),
        ("psdigits", {"code": "population"}, (64, 16)),
        ("psdigits", {"code": "on_off", "order_seed": 3}, (64, 16)),
    ],
)
def test_digits_are_all_there_and_made_again_from_their_encoding(name, options, shape):
    pytest.importorskip("sklearn")
    data = datasets.load(name, **options)
    assert data.train.spikes.shape == (1347, *shape)
    assert data.test.spikes.shape == (450, *shape)
    assert (data.n_steps, data.n_in, data.n_classes, data.validation) == (*shape, 10, None)
    assert np.bincount(data.test.labels).min() >= 43
    again = datasets.load(name, **json.loads(json.dumps(data.encoding)))
    np.testing.assert_array_equal(again.test.spikes, data.test.spikes)
    np.testing.assert_array_equal(again.train.labels, data.train.labels)


def test_psdigits_shows_the_pixels_of_digits_in_one_fixed_order():
    sklearn = pytest.importorskip("sklearn.datasets")
    data = datasets.load("psdigits", code="thermometer", n_levels=16)
    images, _ = sklearn.load_digits(return_X_y=True)
    grey = data.test.spikes.sum(axis=2)  # 16 levels: the count is the grey value
    found = {tuple(row) for row in grey}
    order = np.random.default_rng(0).permutation(64)
    assert found <= {tuple(row) for row in images[:, order].astype(int)}


SAMPLES = [
    ([0.0, 0.011, 0.011, 0.25, 5.0], [0, 699, 698, 350, 1], 3),
    ([], [], 0),
    ([0.125], [10], 19),
]


@pytest.fixture
def shd(tmp_path):
    for name in ("shd_train.h5", "shd_test.h5"):
        shd_file(tmp_path / name, SAMPLES)
    return tmp_path


def test_shd_events_are_binned(shd):
    data = datasets.load("shd", shd, n_steps=50, step_ms=10.0)
    assert data.n_classes == 20
    assert data.step_s == 0.01
    assert data.train.labels.tolist() == [3, 0, 19]
    assert np.argwhere(data.train.spikes[0]).tolist() == [[0, 0], [1, 698], [1, 699], [25, 350]]
    assert np.argwhere(data.test.spikes[2]).tolist() == [[12, 10]]
    assert data.train.spikes[1].sum() == 0


def test_shd_channels_are_merged_with_their_neighbours(shd):
    data = datasets.load("shd", shd, n_steps=50, step_ms=10.0, n_channels=70)
    assert np.argwhere(data.train.spikes[0]).tolist() == [[0, 0], [1, 69], [25, 35]]


def test_ssc_has_its_own_validation_set(tmp_path):
    folder = tmp_path / "SSC"
    folder.mkdir()
    for i, name in enumerate(("train", "valid", "test")):
        shd_file(folder / f"ssc_{name}.h5", SAMPLES[: i + 1])
    data = datasets.load("ssc", tmp_path)
    assert [len(data.train), len(data.validation), len(data.test)] == [1, 2, 3]
    assert data.n_classes == 35


def test_files_are_read_once_and_only_when_used(shd, monkeypatch):
    from lbi.datasets import heidelberg

    read, calls = heidelberg.read, []
    monkeypatch.setattr(heidelberg, "read", lambda path, *rest: calls.append(path.name) or read(path, *rest))
    data = datasets.load("shd", shd)
    assert calls == []
    assert data.test is data.test
    assert calls == ["shd_test.h5"]


SHAPED = {
    "digits": {},
    "psdigits": {"n_levels": 6},
    "mnist": {},
    "psmnist": {"n_levels": 4, "side": 14},
    "shd": {"n_channels": 70},
    "ssc": {},
}


@pytest.mark.parametrize("name", SHAPED)
@pytest.mark.parametrize("default", [False, True])
def test_the_shape_is_known_without_the_files(name, default, shd, mnist):
    for part in ("train", "valid", "test"):
        shd_file(shd / f"ssc_{part}.h5", SAMPLES)
    options = {} if default else SHAPED[name]
    data = datasets.load(name, shd, **options)
    assert datasets.known_shape(name, **options) == data.input_shape
    assert datasets.known_shape(name, **data.encoding) == data.input_shape


@pytest.mark.parametrize(
    ("name", "fix"),
    [
        ("data/shd_train.h5", "--dataset shd --data FOLDER$"),
        (".", "--dataset NAME --data FOLDER$"),
        ("shd2", r"choose one, or .*\.npz"),
    ],
)
def test_files_in_place_of_a_name_are_answered_with_their_options(name, fix):
    with pytest.raises(UsageError, match=f"unknown-dataset: .*fix: .*{fix}"):
        datasets.load(name)


def test_every_built_in_data_set_has_a_known_shape():
    assert set(SHAPES) == set(datasets.DATASETS)
    assert datasets.known_shape("own.npz") is None
    assert datasets.known_shape("shd", n_channels="70") is None
    with pytest.raises(UsageError, match="unknown-dataset"):
        datasets.known_shape("shd2")


@pytest.mark.parametrize("name", ["shd", "ssc", "psmnist"])
def test_missing_data_says_where_to_get_it_and_where_to_put_it(name, tmp_path):
    with pytest.raises(InputError, match="get ") as caught:
        datasets.load(name, tmp_path)
    assert all(str(tmp_path) in problem.where for problem in caught.value.problems)
    assert len(caught.value.problems) == {"shd": 2, "ssc": 3, "psmnist": 4}[name]
    with pytest.raises(InputError, match="--data"):
        datasets.load(name)


def test_broken_shd_files_are_told_apart(shd):
    whole = (shd / "shd_train.h5").read_bytes()
    (shd / "shd_train.h5").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match="truncated"):
        _ = datasets.load("shd", shd).train
    with h5py.File(shd / "shd_train.h5", "w") as file:
        file["labels"] = np.zeros(3)
    with pytest.raises(InputError, match="lacks spikes/times, spikes/units"):
        _ = datasets.load("shd", shd).train
    shd_file(
        shd / "shd_train.h5", [([0.1, np.inf], [1, 2], 0), ([0.1], [700], 0), ([0.1], [1, 2], 0), SAMPLES[0]]
    )
    with pytest.raises(
        InputError,
        match=r"sample 0: 2 times of float16 from 0.0999756 to inf; 2 units of uint16 from 1 to 2;",
    ) as caught:
        _ = datasets.load("shd", shd).train
    assert [problem.where.split()[-1] for problem in caught.value.problems] == ["0", "1", "2"]
    shd_file(shd / "shd_train.h5", [([0.1], [1], 20)])
    with pytest.raises(InputError, match="1 of 1 labels are 20; allowed: 0 to 19"):
        _ = datasets.load("shd", shd).train


def test_a_file_of_wrong_events_is_three_lines_and_a_count(shd):
    shd_file(shd / "shd_train.h5", [([0.1], [700], 0)] * 40)
    with pytest.raises(InputError) as caught:
        _ = datasets.load("shd", shd).train
    places = [problem.where.removeprefix(str(shd / "shd_train.h5")) for problem in caught.value.problems]
    assert places == [", sample 0", ", sample 1", ", sample 2", ""]
    assert caught.value.problems[-1].found == "37 more samples of this kind"


def test_labels_below_zero_are_named_with_their_file(shd):
    with h5py.File(shd / "shd_test.h5", "r+") as file:
        n = len(file["labels"])
        del file["labels"]
        file["labels"] = np.full(n, -1)
    with pytest.raises(InputError, match=r"labels-value: .*shd_test\.h5, labels: .* below 0"):
        _ = datasets.load("shd", shd).test


def events_file(path, seconds, n_samples=20):
    """Samples of 50 events over ``seconds``."""
    rng = np.random.default_rng(0)
    shd_file(
        path, [(np.linspace(0, seconds, 50), rng.integers(0, 700, 50), i % 20) for i in range(n_samples)]
    )


def in_other_units(path, factor, dtype):
    with h5py.File(path, "r+") as file:
        old = file["spikes/times"][()]
        del file["spikes/times"]
        new = file.create_dataset("spikes/times", (len(old),), dtype=h5py.vlen_dtype(dtype))
        for i, sample in enumerate(old):
            new[i] = (sample.astype(float) * factor).astype(dtype)


@pytest.mark.parametrize(("factor", "dtype", "named"), [(1e3, "f4", r"ms / 1e3"), (1e6, "i8", r"µs / 1e6")])
def test_times_that_are_not_seconds_are_refused_with_counts(factor, dtype, named, shd):
    events_file(shd / "shd_train.h5", 1.0)
    assert datasets.load("shd", shd).train.spikes.any()
    in_other_units(shd / "shd_train.h5", factor, dtype)
    with pytest.raises(
        InputError, match=rf"data-times: .*9\d\d of 1000 events are behind.*seconds \({named}\)"
    ):
        _ = datasets.load("shd", shd).train


def test_most_events_cut_is_a_warning_with_counts(shd):
    events_file(shd / "shd_train.h5", 1.0)
    with pytest.warns(DataWarning, match=r"8\d\d of 1000 events are behind the last step.*10 steps of 12 ms"):
        data = datasets.load("shd", shd, n_steps=10).train
    assert data.spikes.any()


@pytest.mark.parametrize("seconds", [0.0, 1e-3, 1 / 60])
def test_events_that_are_all_at_the_start_are_a_warning_with_counts(seconds, shd):
    """Times in kiloseconds, in minutes, or lost: one step of 100 would hold them all without a word."""
    events_file(shd / "shd_train.h5", seconds)
    with pytest.warns(
        DataWarning, match=r"all 1000 events are in the first .* s of 1\.2 s.*write times in sec"
    ):
        data = datasets.load("shd", shd).train
    assert not data.spikes[:, 2:].any()


def test_a_split_without_a_sample_has_no_times_to_warn_of(shd):
    shd_file(shd / "shd_train.h5", [])
    assert datasets.load("shd", shd).train.spikes.shape[0] == 0


def test_a_split_without_an_event_is_refused(shd):
    shd_file(shd / "shd_train.h5", [([], [], 0), ([], [], 1)])
    with pytest.raises(InputError, match=r"data-empty: .*2 samples, no event"):
        _ = datasets.load("shd", shd).train


def test_test_classes_that_training_lacks_are_an_error_before_training(tmp_path):
    spikes = np.ones((6, 3, 4), np.uint8)
    np.savez(
        tmp_path / "own.npz",
        spikes=spikes,
        labels=np.arange(6) % 3,
        test_spikes=spikes,
        test_labels=np.array([0, 1, 3, 3, 4, 2]),
    )
    data = datasets.load(str(tmp_path / "own.npz"))
    with pytest.raises(
        InputError, match=r"labels-untrained: .*test: 3 of 6 samples are of classes 3, 4, which"
    ):
        data.check_classes(data.train)
    data.check_classes(data.test)


def idx(array, magic=b"\x00\x00\x08"):
    return magic + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def mnist(tmp_path, rng):
    images = rng.integers(0, 256, (3, 28, 28), dtype=np.uint8)
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for split in ("train", "t10k"):
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(idx(np.array([5, 0, 9], np.uint8)))
    (raw / "train-images-idx3-ubyte").write_bytes(idx(images))
    (raw / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(images)))
    return tmp_path, images


def test_data_sets_name_all_files_that_they_read(mnist, shd):
    folder, _ = mnist
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    images, events = ([f for f in files if (f.suffix == ".h5") == is_hdf5] for is_hdf5 in (False, True))
    (folder / "notes.txt").write_text("read by nobody")
    for name, expected in (("mnist", images), ("psmnist", images), ("shd", events), ("digits", [])):
        assert sorted(datasets.load(name, folder).files) == expected


def test_psmnist_reads_idx_files_plain_and_compressed(mnist):
    folder, images = mnist
    data = datasets.load("psmnist", folder, n_levels=4, order_seed=7, max_samples=2)
    order = np.random.default_rng(7).permutation(784)
    expected = (
        images[:2].reshape(2, -1)[:, order, None] / 255 > np.array([0.125, 0.375, 0.625, 0.875])
    ).astype(int)
    for part in (data.train, data.test):
        np.testing.assert_array_equal(part.spikes, expected)
        assert part.labels.tolist() == [5, 0]


def test_psmnist_of_14_by_14_pixels_shows_means_of_2_by_2(mnist):
    folder, images = mnist
    data = datasets.load("psmnist", folder, n_levels=4, side=14)
    means = np.zeros((3, 14, 14), int)
    for i, r, c in np.ndindex(means.shape):
        means[i, r, c] = (sum(map(int, images[i, 2 * r : 2 * r + 2, 2 * c : 2 * c + 2].ravel())) + 2) // 4
    order = np.random.default_rng(0).permutation(196)
    expected = means.reshape(3, -1)[:, order, None] / 255 > np.array([0.125, 0.375, 0.625, 0.875])
    np.testing.assert_array_equal(data.train.spikes, expected.astype(int))
    assert data.n_steps == 196
    assert datasets.load("psmnist", folder, **data.encoding).encoding == data.encoding
    with pytest.raises(UsageError, match="28 or 14"):
        datasets.load("psmnist", folder, side=7)


@pytest.mark.parametrize("code", ["rate", "latency"])
def test_mnist_is_the_encoding_of_its_grey_values(code, mnist):
    folder, images = mnist
    data = datasets.load("mnist", folder, code=code, n_steps=5, n_train=2)
    expected = IMAGE_CODES[code](images.reshape(3, -1) / 255.0, 5)
    np.testing.assert_array_equal(data.train.spikes, expected[:2])
    np.testing.assert_array_equal(data.test.spikes, expected)
    assert data.input_shape == (1, 28, 28)
    assert data.train.labels.tolist() == [5, 0]


def test_npz_of_images_keeps_their_shape(tmp_path, rng):
    spikes = rng.integers(0, 2, (6, 4, 2, 3, 5)).astype(np.uint8)
    labels = np.array([0, 1, 0, 1, 0, 1])
    np.savez(tmp_path / "a.npz", spikes=spikes, labels=labels, test_spikes=spikes[:2], test_labels=labels[:2])
    data = datasets.load(str(tmp_path / "a.npz"))
    assert data.input_shape == (2, 3, 5)
    np.testing.assert_array_equal(data.train.spikes, spikes.reshape(6, 4, 30))
    np.savez(
        tmp_path / "b.npz",
        spikes=spikes,
        labels=labels,
        test_spikes=spikes.reshape(6, 4, 30),
        test_labels=labels,
    )
    with pytest.raises(InputError, match=r"test_spikes: \(30,\); allowed: samples of shape \(2, 3, 5\)"):
        datasets.load(str(tmp_path / "b.npz"))
    np.savez(tmp_path / "c.npz", spikes=spikes.reshape(6, 4, 6, 5), labels=labels)
    with pytest.raises(InputError, match="spikes-shape"):
        datasets.load(str(tmp_path / "c.npz"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda whole: whole[:-1], "truncated"),
        (lambda whole: b"\x00\x00\x0d" + whole[3:], "magic number"),
        (lambda _: b"", "magic number"),
        (lambda _: idx(np.zeros((3, 27, 28), np.uint8)), r"\(3, 27, 28\)"),
    ],
)
def test_broken_idx_files(mnist, content, message):
    folder, _ = mnist
    path = folder / "MNIST" / "raw" / "train-images-idx3-ubyte"
    path.write_bytes(content(path.read_bytes()))
    with pytest.raises(InputError, match=message):
        _ = datasets.load("psmnist", folder).train


def test_broken_gzip(mnist):
    folder, _ = mnist
    path = folder / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match="not readable"):
        _ = datasets.load("psmnist", folder).test


@pytest.mark.parametrize("name", ["shd", "psmnist", ".npz"])
def test_a_path_too_long_for_the_system_is_a_missing_file(name, tmp_path):
    too_long = tmp_path / ("x" * 300)
    arguments = (f"{too_long}.npz",) if name == ".npz" else (name, too_long)
    with pytest.raises(InputError, match="does not exist"):
        _ = datasets.load(*arguments).train


def test_unknown_names_and_options():
    with pytest.raises(
        UsageError, match="digits, psdigits, mnist, nmnist, dvsgesture, cifar10dvs, psmnist, shd, ssc"
    ):
        datasets.load("mnist2")
    with pytest.raises(UsageError, match="code, n_steps") as caught:
        datasets.load("digits", steps=3, codes=1)
    assert len(caught.value.problems) == 2
    with pytest.raises(UsageError, match="latency, rate") as caught:
        datasets.load("digits", code="phase", n_steps=1)
    assert len(caught.value.problems) == 2


def test_spike_data_checks_itself():
    with pytest.raises(InputError, match="int64") as caught:
        SpikeData(np.zeros((2, 3), int), np.zeros(3))
    assert [problem.code for problem in caught.value.problems] == ["spikes-shape", "labels-shape"]
    with pytest.raises(InputError, match=r"whole-numbers: labels: 1 of 2 values, such as 1\.7"):
        SpikeData(np.zeros((2, 3, 4), np.uint8), [1.7, 0])


@pytest.mark.parametrize("shape", [(6, 0, 5), (6, 4, 0)])
def test_samples_without_steps_or_channels_are_refused(shape, tmp_path):
    spikes, labels = np.zeros(shape, np.uint8), np.arange(6) % 2
    np.savez(tmp_path / "a.npz", spikes=spikes, labels=labels, test_spikes=spikes, test_labels=labels)
    with pytest.raises(InputError, match="spikes-"):
        datasets.load(str(tmp_path / "a.npz")).train  # noqa: B018
