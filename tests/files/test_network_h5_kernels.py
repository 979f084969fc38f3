"""Convolutions come back from ``network.h5`` as kernels, and hostile ones are refused."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.random_convolutions import convolutions

from lbi import FixedCubaLif, FixedNetwork, FixedPopulation, FixedProjection, Readout, SignMode, save
from lbi.errors import InputError
from lbi.files.network_h5 import load
from lbi.network.convolution import Convolution
from lbi.network.convolution_weights import ConvolutionWeights


@given(
    convolutions(), st.integers(0, 3), st.sampled_from(["int16", "int8"]), st.sampled_from([None, 0.0, 0.5])
)
def test_kernels_come_back_as_kernels(case, delay, kind, added):
    conv, shape = case
    pattern = None
    if added is not None:  # ones at the weights, and at a part of the other places
        places = (conv.kernel != 0) | (np.random.default_rng(0).random(conv.kernel.shape) < added)
        pattern = ConvolutionWeights(conv._replace(kernel=places.astype(np.int8)), shape)
    weights = ConvolutionWeights(conv._replace(kernel=(2 * conv.kernel).astype(kind)), shape)
    neuron = FixedCubaLif(0, 0, 1, np.zeros(weights.shape[0], dtype=np.int32))
    network = FixedNetwork(
        shape,
        (FixedPopulation("maps", weights.output_shape, neuron),),
        (FixedProjection("w", "input", "maps", weights, SignMode.MIXED, delay=delay, pattern=pattern),),
        Readout("maps"),
        "loihi2",
    )
    with TemporaryDirectory() as folder:
        path = Path(folder) / "network.h5"
        save(network, path)
        (projection,) = load(path).projections
        with h5py.File(path) as file:
            assert file.attrs["version"] == 2
            own = pattern is None or bool(np.all(pattern.kernel))
            assert ("pattern" not in file["projections/w"]) == own
    assert projection.weights == weights
    assert projection.pattern == (weights.pattern() if pattern is None else pattern)
    assert projection.delay == delay


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("stride", [1, 1, 1], "not two numbers"),
        ("stride", [0, 1], "strides"),
        ("padding", [1 << 40, 1 << 40], "convolution"),
        ("input_shape", [1, 1 << 20, 1 << 20], "convolution-kernel"),
        ("groups", 2, "convolution-kernel"),
        ("shape", [9, 25], "as the kernels give"),
    ],
)
def test_hostile_kernels_are_refused(tmp_path, name, value, message):
    weights = ConvolutionWeights(Convolution(np.full((1, 1, 3, 3), 2), (1, 1), (1, 1)), (1, 5, 5))
    neuron = FixedCubaLif(0, 0, 1, np.zeros(25, dtype=np.int32))
    path = tmp_path / "network.h5"
    save(
        FixedNetwork(
            (1, 5, 5),
            (FixedPopulation("maps", (1, 5, 5), neuron),),
            (FixedProjection("w", "input", "maps", weights, SignMode.EXCITATORY),),
            Readout("maps"),
            "loihi2",
        ),
        path,
    )
    with h5py.File(path, "r+") as file:
        file["projections/w/weights"].attrs[name] = value
    with pytest.raises(InputError, match=message):
        load(path)
