"""The output of ``--json`` has exactly the keys of docs/schema."""

from __future__ import annotations

import copy
import json
import re
from importlib import import_module
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest
from support import cases
from support.command import call

from lbi.cli import json_schema
from lbi.deploy import backends
from lbi.files import network_h5
from lbi.simulation import oracle

jsonschema = pytest.importorskip("jsonschema")

FOLDER = Path(__file__).parents[2] / "docs" / "schema"
NAMES = ("train", "export", "run", "estimate")


def schema(name: str) -> dict[str, Any]:
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_made_from_the_types(name):
    assert schema(name) == json_schema.schema(name), "run `make schemas`"


def parts(node: Any) -> list[dict[str, Any]]:
    """Every dictionary in a schema."""
    if isinstance(node, list):
        return [part for item in node for part in parts(item)]
    if isinstance(node, dict):
        return [node, *(part for item in node.values() for part in parts(item))]
    return []


def check(name: str, record: dict[str, Any]) -> dict[str, Any]:
    """The record obeys the schema, and has no key that the schema does not name."""
    strict = copy.deepcopy(schema(name))
    for part in parts(strict):
        if part.get("type") == "object" and "properties" in part:
            part.setdefault("additionalProperties", False)
    jsonschema.Draft202012Validator(strict).validate(record)
    return record


def main(name: str) -> click.Command:
    return import_module(f"lbi.cli.{name}").main


@pytest.mark.parametrize("name", NAMES)
def test_schemas_are_valid_and_describe_every_key(name):
    jsonschema.Draft202012Validator.check_schema(schema(name))
    described = [
        part["properties"]
        for part in parts(schema(name))
        if part.get("type") == "object" and "properties" in part
    ]
    missing = [
        key for properties in described for key, value in properties.items() if not value.get("description")
    ]
    assert described
    assert missing == []


@pytest.fixture
def folder(tmp_path, monkeypatch):
    fixed, spikes = cases.make("recurrent_bias")
    network_h5.save(fixed, tmp_path / "network.h5")
    np.savez(tmp_path / "spikes.npz", spikes=spikes)
    np.savez(tmp_path / "labelled.npz", spikes=spikes, labels=np.zeros(len(spikes), int))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("more", [(), ("--validation", "0.2")])
def test_train(more, folder, rng):
    pytest.importorskip("torch")
    np.savez("data.npz", spikes=rng.integers(0, 2, (40, 5, 6), dtype=np.uint8), labels=np.arange(40) % 2)
    done = call(
        main("train"), "--dataset", "data.npz", "--epochs", 1, "--hidden", 4, "--json", "-o", "m.pt", *more
    )
    assert ("validation" in check("train", done.json)["accuracy"]) == bool(more)


@pytest.mark.parametrize("target", ["loihi", "csr", "nir"])
def test_export(target, folder):
    if target == "nir":
        pytest.importorskip("nir")
    record = check("export", call(main("export"), "network.h5", "--target", target, "--json").json)
    assert record["fits"]
    assert record["files"]


@pytest.mark.parametrize("case", sorted(cases.CASES))
def test_export_of_every_kind_of_network(case, folder):
    network_h5.save(cases.make(case)[0], folder / "other.h5")
    check("export", call(main("export"), "other.h5", "--target", "loihi", "--check", "--json").json)


def test_export_of_floats_and_of_what_does_not_fit(folder, rng):
    pytest.importorskip("nir")
    assert call(main("export"), "network.h5", "--target", "nir", "-o", "model.nir").code == 0
    record = check("export", call(main("export"), "model.nir", "--target", "csr", "--json").json)
    assert record["account"]
    done = call(main("export"), "network.h5", "--target", "netx", "--check", "--json")
    record = check("export", done.json)
    assert (done.code, record["fits"], record["files"]) == (3, False, [])
    chip = (files("lbi.hardware") / "loihi2.toml").read_text(encoding="utf-8")
    Path("tiny.toml").write_text(re.sub(r"(core_memory = { value = )\d+", r"\g<1>64", chip), encoding="utf-8")
    done = call(main("export"), "network.h5", "--chip", "tiny.toml", "--target", "csr", "--check", "--json")
    record = check("export", done.json)
    assert (done.code, record["fits"], record["n_cores"]) == (6, False, None), done.errors


def test_run(folder, monkeypatch):
    plain = ["network.h5", "--backend", "sim", "--json", "--spikes"]
    record = check("run", call(main("run"), *plain, "spikes.npz").json)
    assert (record["accuracy"], record["verified"], record["first_divergence"]) == (None, None, None)
    assert check("run", call(main("run"), *plain, "labelled.npz").json)["accuracy"] is not None

    def other(export: Any, spikes: Any, _options: Any) -> Any:
        output = oracle.simulate(export.fixed, spikes).output_spikes.copy()
        output[0, 0, 0] ^= flip
        return output

    monkeypatch.setitem(backends.BACKENDS, "lava", other)
    for flip in (0, 1):
        record = check("run", call(main("run"), *plain, "spikes.npz", "--verify").json)
        assert record["verified"] == (not flip)
        assert (record["first_divergence"] is not None) == bool(flip)


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
@pytest.mark.parametrize("more", [(), ("--spikes", "spikes.npz"), ("network.h5", "--spikes", "spikes.npz")])
def test_estimate(more, chip, folder):
    record = check("estimate", call(main("estimate"), "network.h5", "--chip", chip, "--json", *more).json)
    assert record["measured"] == bool(more)
    assert (record["neurobench"] is None) == (not more)
    assert ("comparison" in record) == (len(more) == 3)


@pytest.mark.parametrize("name", NAMES)
def test_every_option_has_a_help_text(name):
    command = main(name)
    assert command.help
    bare = [option.name for option in command.params if isinstance(option, click.Option) and not option.help]
    assert bare == []
