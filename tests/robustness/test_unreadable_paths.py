"""Every reader of a path says what is wrong with one that is no file: a folder, an empty file, a broken link, nothing."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path

import pytest
from support.command import call

import lbi
from lbi import datasets
from lbi.chip.load import load_profile
from lbi.errors import InputError, UsageError
from lbi.files.network_h5 import load as load_h5
from lbi.files.netx.reader import load as load_netx
from lbi.files.spikes_npz import load_spikes


def train_config(path: Path) -> object:
    from lbi.train.session.config import make_config

    return make_config("digits", path, {})


def model(path: Path) -> object:
    from lbi.train.model_pt import load_module

    return load_module(path)


def checkpoint(path: Path) -> object:
    from lbi.train.session.run import read_checkpoint

    return read_checkpoint(path)


def arch(path: Path) -> object:
    from lbi.importers.torch.saved import _build

    return _build(f"{path}:make")


def nir(path: Path) -> object:
    pytest.importorskip("nir")
    from lbi.importers.nir import load

    return load(path)


READERS = {
    "spikes.npz": lambda path: load_spikes(path, 3),
    "data.npz": lambda path: datasets.load(str(path)),
    "network.h5": load_h5,
    "network.net": load_netx,
    "graph.nir": nir,
    "chip.toml": load_profile,
    "config.toml": train_config,
    "model.pt": model,
    "model.ckpt": checkpoint,
    "model.py": arch,
}
"""A name of the kind that is read → the function that reads it."""

VALID_EMPTY = ("config.toml", "model.py", "chip.toml")
"""Texts: an empty one is read, and refused for what it lacks if at all."""


@pytest.mark.parametrize("name", READERS)
def test_a_path_that_is_no_file(tmp_path, name):
    read, path = READERS[name], tmp_path / name
    path.mkdir()
    refuses(read, path, "is a folder")
    path.rmdir()
    refuses(read, path, "does not exist")
    path.symlink_to(tmp_path / "gone")
    refuses(read, path, "is a symbolic link to .*gone, which does not exist")


@pytest.mark.parametrize("name", [name for name in READERS if name not in VALID_EMPTY])
def test_an_empty_file(tmp_path, name):
    path = tmp_path / name
    path.touch()
    refuses(READERS[name], path, "is empty")


@pytest.mark.parametrize("name", READERS)
def test_a_file_without_permission(tmp_path, name, monkeypatch):
    (tmp_path / name).write_bytes(b"x")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read any file
    refuses(READERS[name], tmp_path / name, r"cannot be read \(Permission denied\)")


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("run", ["network.h5"]),
        ("estimate", ["network.h5"]),
        ("export", ["network.h5", "--target", "netx"]),
        ("train", ["--config", "network.h5"]),
        ("train", ["--resume", "network.h5"]),
    ],
)
def test_a_command_whose_file_it_may_not_read_ends_with_3(command, arguments, tmp_path, monkeypatch):
    if command == "train":
        pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    Path("network.h5").write_bytes(b"x")
    monkeypatch.setattr(os, "access", lambda *_: False)
    done = call(import_module(f"lbi.cli.{command}").main, *arguments)
    assert done.code == 3
    assert [
        line for line in done.errors if "network.h5: cannot be read (Permission denied)" in line
    ] == done.errors


@pytest.mark.parametrize("suffix", [".pt", ".h5", ".net", ".nir"])
def test_a_folder_with_the_name_of_a_network(tmp_path, suffix):
    path = tmp_path / f"model{suffix}"
    path.mkdir()
    refuses(lbi.load, path, r"is a folder without network\.h5; allowed: .*, or a file \(.*\.pt.*fix: check")
    path.rmdir()
    path.symlink_to(tmp_path / "gone")
    refuses(lbi.load, path, "is a symbolic link to .*gone, which does not exist")


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("stem", ["x" * 300, "a\0b"], ids=["too long", "null character"])
def test_a_name_that_no_file_can_have(name, stem, tmp_path):
    refuses(READERS[name], tmp_path / f"{stem}{Path(name).suffix}", "does not exist")
    refuses(lbi.load, tmp_path / f"{stem}.pt", "does not exist")


def test_a_chip_whose_name_no_file_can_have():
    with pytest.raises(UsageError, match=r"unknown-chip: --chip: 'x{300}'"):
        load_profile("x" * 300)


@pytest.mark.parametrize("name", ["mnist", "shd", "nmnist"])
def test_a_file_in_place_of_a_data_sets_folder(tmp_path, name):
    path = tmp_path / "data.tar"
    path.touch()
    with pytest.raises(
        InputError, match=f"data.tar: is a file; allowed: the folder with the files of {name}"
    ):
        datasets.load(name, path)


@pytest.mark.parametrize(("name", "file"), [("mnist", "train-images-idx3-ubyte"), ("shd", "shd_train.h5")])
def test_a_folder_in_place_of_a_data_sets_file(tmp_path, name, file):
    (tmp_path / file).mkdir()
    with pytest.raises(InputError, match=f"{file}: is a folder"):
        datasets.load(name, tmp_path)


def refuses(read, path, message):
    """``read`` refuses ``path`` in one problem that names it."""
    with pytest.raises((InputError, UsageError), match=message) as caught:
        read(path)
    (problem,) = caught.value.problems
    assert path.name.replace("\0", r"\x00") in str(problem)
