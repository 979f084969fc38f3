"""Rules: every number that a chip cannot hold is named, all in one pass."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lbi import CsrMatrix, FixedCubaLif, FixedNetwork, FixedPopulation, FixedProjection, Readout, SignMode
from lbi.chip.load import load_profile
from lbi.chip.rules import check
from lbi.network.fixedpoint import IntFormat

LOIHI1 = load_profile("loihi1")


def network(delay: int = 0, weight_exp: int = 0, bits: int = 8, **neuron: int) -> FixedNetwork:
    parameters = {"du": 100, "dv": 100, "vth": 100, "bias_mant": np.full(3, 5, np.int32), **neuron}
    weights = CsrMatrix.from_dense(np.full((3, 2), 32, np.int16))
    return FixedNetwork(
        (2,),
        (FixedPopulation("a", (3,), FixedCubaLif(**parameters)),),
        (
            FixedProjection(
                "p", "input", "a", weights, SignMode.MIXED, weight_exp, num_weight_bits=bits, delay=delay
            ),
        ),
        Readout("a"),
        "loihi1",
    )


def narrow(**formats: IntFormat):
    return dataclasses.replace(LOIHI1, formats=dataclasses.replace(LOIHI1.formats, **formats))


def test_a_network_within_the_limits_breaks_none():
    assert check(network(), LOIHI1) == []


@pytest.mark.parametrize(
    ("fixed", "profile", "code"),
    [
        (network(du=11), narrow(decay=IntFormat(100, 4095)), "du-range"),
        (network(dv=11), narrow(decay=IntFormat(100, 4095)), "dv-range"),
        (network(vth=1001), narrow(threshold=IntFormat(0, 1000)), "vth-range"),
        (network(), narrow(bias_mantissa=IntFormat(-4, 4)), "bias-mant-range"),
        (network(bias_exp=3), narrow(bias_exponent=IntFormat(0, 2)), "bias-exp-range"),
        (network(weight_exp=-8), LOIHI1, "weight-exponent"),
        (network(), narrow(weight_mixed=IntFormat(-256, 192, 64)), "weight-mantissa"),
        (network(), narrow(weight_mixed=IntFormat(-30, 30, 2)), "weight-mantissa"),
        (network(delay=9), narrow(delay=IntFormat(0, 8)), "delay"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_each_number_out_of_range_is_named(fixed, profile, code):
    (problem,) = check(fixed, profile)
    assert problem.code == code
    assert problem.allowed
    assert problem.remedy


def test_all_in_one_pass():
    profile = narrow(threshold=IntFormat(0, 10), decay=IntFormat(0, 10))
    assert [problem.code for problem in check(network(weight_exp=-8), profile)] == [
        "du-range",
        "dv-range",
        "vth-range",
        "weight-exponent",
    ]


def test_weight_bits_beyond_the_layout():
    layout = LOIHI1.layout
    narrow_layout = dataclasses.replace(
        layout, weight_bits=dataclasses.replace(layout.weight_bits, value=(1.0, 2.0))
    )
    (problem,) = check(network(bits=4), dataclasses.replace(LOIHI1, memory=(narrow_layout,)))
    assert (problem.code, problem.found, problem.allowed) == ("weight-bits", "4", "up to 2")


def test_a_model_the_chip_does_not_have():
    other = dataclasses.replace(LOIHI1, models=dataclasses.replace(LOIHI1.models, value=("adaptive",)))
    (problem,) = check(network(), other)
    assert problem.code == "neuron-model"
    assert "adaptive" in problem.allowed
    anything = dataclasses.replace(LOIHI1, models=dataclasses.replace(LOIHI1.models, value=("*",)))
    assert check(network(), anything) == []
