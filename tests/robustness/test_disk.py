"""Full disks, missing rights and missing folders give one line each, and existing files stay unchanged."""

from __future__ import annotations

import resource
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from support import cases
from support.command import call

from lbi.files import network_h5

ROOM = 200
"""Bytes that a file may have on the full disk: less than any output has."""


@contextmanager
def full_disk():
    """Every write beyond ``ROOM`` fails, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (ROOM, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def folder(tmp_path, monkeypatch, rng):
    """Input for every command, in the working folder."""
    fixed, spikes = cases.make("recurrent_bias")
    network_h5.save(fixed, tmp_path / "network.h5")
    np.savez(tmp_path / "spikes.npz", spikes=spikes)
    np.savez(
        tmp_path / "data.npz", spikes=np.tile(spikes, (10, 1, 1)), labels=np.arange(10 * len(spikes)) % 2
    )
    monkeypatch.chdir(tmp_path)
    return tmp_path


TRAIN = ["--dataset", "data.npz", "--epochs", "1", "--hidden", "8", "--quiet"]
ESTIMATE = ["network.h5", "--spikes", "spikes.npz"]
# name: command, arguments before the output, the output
OUTPUTS = {
    "train": ("train", [*TRAIN, "-o"], "model.pt"),
    "metrics": ("train", [*TRAIN, "-o", "any.pt", "--metrics"], "metrics.csv"),
    "loihi": ("export", ["network.h5", "--target", "loihi", "--force", "-o"], "out.loihi"),
    "lava": ("export", ["network.h5", "--target", "lava", "--force", "-o"], "out.lava"),
    "csr": ("export", ["network.h5", "--target", "csr", "--force", "-o"], "out.csr"),
    "nir": ("export", ["network.h5", "--target", "nir", "--force", "-o"], "out.nir"),
    "netx": ("export", ["plain.h5", "--target", "netx", "--force", "-o"], "out.net"),
    "run": ("run", ["network.h5", "--backend", "sim", "--spikes", "spikes.npz", "-o"], "out.npz"),
    "trace": ("estimate", [*ESTIMATE, "--trace"], "trace.csv"),
    "html": ("estimate", [*ESTIMATE, "--html"], "report.html"),
}
NEEDS = {"train": ["torch"], "metrics": ["torch"], "nir": ["nir"], "html": ["jinja2", "matplotlib"]}


def make_input(name: str, folder: Path) -> None:
    for package in NEEDS.get(name, []):
        pytest.importorskip(package)
    if name == "netx":
        network_h5.save(cases.make("feed_forward")[0], folder / "plain.h5")


def run(name: str, output: object):
    command, arguments, _ = OUTPUTS[name]
    return call(import_module(f"lbi.cli.{command}").main, *arguments, output)


def content(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


@pytest.mark.parametrize("name", [name for name in OUTPUTS if name != "metrics"])
def test_a_full_disk(name, folder):
    make_input(name, folder)
    output = folder / OUTPUTS[name][2]
    if output.suffix in (".loihi", ".lava", ".csr"):
        output.mkdir()
        (output / "network.h5").write_text("the old one")
    else:
        output.write_text("the old one")
    before = content(folder)
    with full_disk():
        done = run(name, output.name)
    assert (done.code, len(done.errors)) == (3, 1), done.errors
    assert done.errors[0].startswith(f"error: not-written: {output.name}: File too large; fix: "), done.errors
    assert content(folder) == before
    done = run(name, output.name)
    assert done.code == 0, done.errors
    assert content(folder)[str(output)] != before[str(output)] or output.is_dir()


def test_a_disk_that_fills_up_while_metrics_are_written(tmp_path):
    """A resumed run keeps the rows of the one before."""
    pytest.importorskip("torch")
    from lbi.errors import InputError
    from lbi.train.session.metrics import COLUMNS, Metrics

    path = tmp_path / "metrics.csv"
    rows = [dict.fromkeys(COLUMNS, 1 / 3) | {"epoch": epoch} for epoch in range(1, 10)]
    with Metrics(path, None) as metrics:
        metrics.write(rows[0])
    before = path.read_text()
    with full_disk(), pytest.raises(InputError, match=r"not-written: .*metrics.csv: File too large"):
        resume(path, rows[1:])
    assert path.read_text().startswith(before)


def resume(path, rows):
    from lbi.train.session.metrics import Metrics

    with Metrics(path, None, 1) as metrics:
        for row in rows:
            metrics.write(row)


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize(
    ("output", "line"),
    [
        ("no folder/out", "folder-missing: no folder/out: "),
        ("network.h5/out", "folder-missing: network.h5/out: "),
        ("/sys/out", "not-written: /sys/out: "),
        ("/dev/null", "not-a-file: /dev/null: a device or a pipe; allowed: a file's name"),
        ("z" * 256, f"not-written: {'z' * 256}: File name too long"),
        ("sub", None),
    ],
    ids=["no folder", "a file", "no right", "a device", "too long", "a folder"],
)
def test_a_place_that_cannot_be_written(name, output, line, folder):
    make_input(name, folder)
    (folder / "sub").mkdir()
    (folder / "sub" / "kept").write_text("")
    before = content(folder)
    done = run(name, output)
    assert (done.code, done.out) == (3, ""), done.errors
    if line is None:
        line = "not-an-export: sub" if OUTPUTS[name][0] == "export" else "is-a-folder: sub"
    assert done.errors[0].startswith(f"error: {line}")
    assert len(done.errors) == 1 or (name == "train" and ".ckpt" in done.errors[1]), done.errors
    assert content(folder) == before
