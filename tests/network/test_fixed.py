"""A FixedNetwork refuses integers that Lava would change on loading."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from support.cases import chain

from lbi import SignMode
from lbi.errors import InputError
from lbi.files import network_h5
from lbi.network.fixed import num_weight_bits

MODES = [SignMode.MIXED, SignMode.EXCITATORY, SignMode.INHIBITORY]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bits", range(1, 9))
def test_mantissas_that_the_stored_bits_do_not_hold_are_refused(mode, bits):
    """Each mantissa alone: accepted exactly if Lava's truncation leaves it as it is."""
    lavas = pytest.importorskip("lava.utils.weightutils")
    grid = mode.lava_format
    values = np.arange(grid.minimum, grid.maximum + 1, grid.step)
    values = values[values != 0]
    kept = lavas.truncate_weights(values, lavas.SignMode(int(mode)), bits) == values
    assert kept.any()
    assert kept.all() == (bits == 8)
    for value, held in zip(values.tolist(), kept.tolist(), strict=True):
        if held:
            chain([np.array([[value]])], [mode], bits=bits)
            assert num_weight_bits(np.array([value]), mode) <= bits
        else:
            with pytest.raises(InputError, match=f"weight-bits: .*need more than {bits} bits"):
                chain([np.array([[value]])], [mode], bits=bits)


def test_the_refusal_names_what_is_allowed_and_the_bits_needed():
    with pytest.raises(
        InputError,
        match=r"weight-bits: projection 'w0': 2 of 3 mantissas need more than 3 bits; "
        r"allowed: multiples of 64, .* mode MIXED.*; fix: store 8 bits",
    ):
        chain([np.array([[2, 4, 64]])], [SignMode.MIXED], bits=3)


def test_a_file_with_too_few_bits_is_refused(tmp_path):
    path = tmp_path / "network.h5"
    network_h5.save(chain([np.array([[2, 4]])], [SignMode.MIXED]), path)
    with h5py.File(path, "r+") as file:
        file["projections/w0"].attrs["num_weight_bits"] = 3
    with pytest.raises(InputError, match=r"weight-bits: .*network\.h5, projection 'w0': 2 of 2 mantissas"):
        network_h5.load(path)
