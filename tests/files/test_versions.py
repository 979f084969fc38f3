"""docs/formats.md lists exactly the names that the writers write."""

import re
from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
from support.networks import random_network

from lbi import quantize, save
from lbi.network.kept import Kept
from lbi.network.neurons import MODELS, FixedCubaLif
from lbi.network.pattern import GEOMETRY

TEXT = (Path(__file__).parents[2] / "docs" / "formats.md").read_text(encoding="utf-8")


def documented(heading: str) -> set[str]:
    section = TEXT.split(heading, 1)[1].split("\n\n", 2)[1]
    cells = [line.split("|")[1] for line in section.splitlines()[2:]]
    return {
        name.strip()
        for cell in cells
        for group in re.findall(r"`([^`]+)`", cell)
        for name in group.split(",")
    }


def test_names_are_the_documented_ones(rng, tmp_path):
    fixed = quantize(random_network(rng, recurrent=True))
    first = fixed.populations[0]
    first = replace(first, kept=Kept(first.shape, np.arange(first.n)))
    save(replace(fixed, populations=(first, *fixed.populations[1:])), tmp_path / "network.h5")
    with h5py.File(tmp_path / "network.h5") as file:
        assert set(file.attrs) == documented("Root attributes")
        population = file["populations/layer1"]
        assert set(population) - {"kept"} == {field.name for field in fields(FixedCubaLif)}
        parameters = {field.name for model in MODELS.values() for field in fields(model.integers)}
        assert set(population.attrs) | {"kept"} | parameters == documented("`populations/<name>`")
        projection = file["projections/layer1_rec"]
        weights = projection["weights"]
        found = {*projection.attrs, "delay", *weights.attrs, "weights"}
        found |= {"indices", "indptr", "weights/data"}
        assert set(weights) == {"data", "indices", "indptr"}
        assert found == documented("`projections/<name>`")
    assert {*GEOMETRY, "indices", "indptr"} == documented("`projections/<name>/pattern`")
