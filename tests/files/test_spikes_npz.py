"""Spike files as users write them are read, or refused with the line that fixes them."""

import numpy as np
import pytest
from support import cases, random_kernels
from support.command import call

import lbi
from lbi.cli.run import main as lbi_run
from lbi.errors import InputError, LbiWarning
from lbi.files.spikes_npz import load_spikes
from lbi.simulation import oracle

BASE = (np.random.default_rng(0).random((10, 6, 8)) < 0.2).astype(np.uint8)
LABELS = np.arange(10) % 4


@pytest.mark.parametrize(
    "as_written",
    [
        BASE.astype(bool),
        BASE.astype("f2"),
        BASE.astype("f8"),
        BASE.astype(">i4"),
        np.asfortranarray(BASE),
    ],
)
def test_any_type_of_zeros_and_ones_is_read(as_written, tmp_path):
    np.savez(tmp_path / "s.npz", spikes=as_written, labels=LABELS.astype(">i8"))
    spikes, labels = load_spikes(tmp_path / "s.npz", 8)
    assert spikes.dtype == np.uint8
    assert spikes.flags.c_contiguous
    assert np.array_equal(spikes, BASE)
    assert np.array_equal(labels, LABELS)


def test_labels_under_another_name_are_named(tmp_path):
    np.savez(tmp_path / "s.npz", spikes=BASE, targets=LABELS)
    with pytest.warns(
        LbiWarning, match=r"labels-missing: .*s\.npz: no array 'labels'; .*labels=a\['targets'\]\)"
    ):
        assert load_spikes(tmp_path / "s.npz", 8)[1] is None
    np.savez(tmp_path / "s.npz", spikes=BASE, predictions=LABELS)
    assert load_spikes(tmp_path / "s.npz", 8)[1] is None  # without a warning: as lbi-run writes it


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"spikes": BASE * 2}, "spikes-value: .*that are neither 0 nor 1.*fix: bin the events"),
        ({"spikes": BASE * 0.5}, "spikes-value"),
        ({"spikes": -BASE.astype("i1")}, "spikes-value"),
        ({"spikes": np.where(BASE > 0, np.nan, 0)}, "spikes-value"),
        (
            {"spikes": BASE.reshape(10, 6, 2, 4)},
            r"spikes-rank: .*fix: .*spikes\.reshape\(n_samples, n_steps, -1\)",
        ),
        (
            {"spikes": BASE.swapaxes(0, 1), "labels": LABELS},
            r"labels-shape: .*fix: .*spikes\.swapaxes\(0, 1\)",
        ),
        ({"spikes": BASE.swapaxes(1, 2)}, r"spikes-axes: .*for 8 channels.*fix: .*spikes\.swapaxes\(1, 2\)$"),
        ({"spikes": BASE[0]}, "spikes-rank"),
        (
            {"spikes": BASE, "labels": np.eye(10)[LABELS]},
            r"fix: one-hot rows are classes by labels\.argmax\(1\)",
        ),
        ({"spikes": BASE, "labels": LABELS[:, None]}, r"fix: one column is a row by labels\.reshape\(-1\)"),
        (
            {"spikes": BASE, "labels": LABELS.astype("f4")},
            r"fix: whole numbers are integers by labels\.astype",
        ),
        ({"data": BASE, "targets": LABELS}, r"spikes-missing: .*spikes=a\['data'\], labels=a\['targets'\]\)"),
        ({"x": BASE, "y": LABELS}, r"spikes=a\['x'\], labels=a\['y'\]\)"),
        ({"arr_0": BASE}, r"spikes=a\['arr_0'\]\)"),
        ({"counts": BASE}, r"fix: write it with numpy\.savez"),
        (
            {"spikes": np.array([BASE[0], BASE[1, :3]], dtype=object)},
            "Python objects.*fix: .*padded with zeros",
        ),
    ],
)
def test_what_is_refused_says_how_to_write_it(arrays, message, tmp_path):
    np.savez(tmp_path / "s.npz", **arrays)
    with pytest.raises(InputError, match=message) as caught:
        load_spikes(tmp_path / "s.npz", 8)
    assert len(caught.value.problems) == 1


def test_maps_are_read_in_the_order_of_the_networks_input(tmp_path):
    maps = np.random.default_rng(1).integers(0, 2, (10, 6, 2, 2, 3), np.uint8)
    np.savez(tmp_path / "s.npz", spikes=maps, labels=LABELS)
    spikes, _ = load_spikes(tmp_path / "s.npz", (2, 2, 3))
    assert np.array_equal(spikes, maps.reshape(10, 6, 12))
    with pytest.raises(InputError, match=r"spikes-rank"):  # 12 channels in which order?
        load_spikes(tmp_path / "s.npz", 12)


@pytest.mark.filterwarnings("ignore:.*saturated")
def test_commands_and_calls_take_maps_as_they_take_rows(tmp_path):
    fixed, rows = random_kernels.make(5, 1)
    maps = rows.reshape(*rows.shape[:2], *fixed.input_shape)
    expected = oracle.simulate(fixed, rows).output_spikes
    assert np.array_equal(lbi.simulate(fixed, maps).output_spikes, expected)
    assert np.array_equal(oracle.simulate(fixed, maps).output_spikes, expected)
    lbi.save(fixed, tmp_path / "net.h5")
    np.savez(tmp_path / "maps.npz", spikes=maps)
    out = tmp_path / "out.npz"
    done = call(
        lbi_run, tmp_path / "net.h5", "--backend", "sim", "--spikes", tmp_path / "maps.npz", "-o", out
    )
    assert done.code == 0, done.errors
    with np.load(out) as found:
        assert np.array_equal(found["spikes"], expected)
    assert lbi.estimate(fixed, spikes=maps).to_dict() == lbi.estimate(fixed, spikes=rows).to_dict()


@pytest.mark.parametrize(
    ("shape", "fix"),
    [
        ((2, 3, 2), r"numpy\.moveaxis\(spikes, -1, 2\)$"),  # channels last
        ((3, 2, 2), "use the encoding the network was trained with$"),
    ],
)
def test_maps_in_another_order_are_refused(shape, fix, tmp_path):
    np.savez(tmp_path / "s.npz", spikes=np.zeros((10, 6, *shape), np.uint8))
    allowed = r"spikes-shape: .*allowed: \(n_samples, n_steps, 2, 2, 3\), or \(n_samples, n_steps, 12\)"
    with pytest.raises(InputError, match=f"{allowed}.*fix: .*{fix}"):
        load_spikes(tmp_path / "s.npz", (2, 2, 3))


@pytest.mark.parametrize(("shift", "named"), [(-1, "-1"), (2, "")])
def test_labels_without_an_output_give_no_accuracy(shift, named, tmp_path):
    fixed, spikes = cases.make("recurrent")
    lbi.save(fixed, tmp_path / "net.h5")
    labels = np.arange(len(spikes)) % fixed.n_out
    wrong = labels - 1 if shift < 0 else labels + fixed.n_out
    np.savez(tmp_path / "s.npz", spikes=spikes, labels=wrong)
    done = call(lbi_run, tmp_path / "net.h5", "--backend", "sim", "--spikes", tmp_path / "s.npz", "--json")
    assert (done.code, len(done.errors), done.out) == (3, 1, "")
    n_outside = int(np.count_nonzero((wrong < 0) | (wrong >= fixed.n_out)))
    assert f"labels-value: s.npz, labels: {n_outside} of {labels.size} labels are {named}" in done.errors[0]
    assert f"allowed: 0 to {fixed.n_out - 1}" in done.errors[0]
