"""Lower ends of a chip's number formats: obeyed by the integers, or refused with the parameter and the chip."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lbi import CsrMatrix, CubaLif, Network, Population, Projection, Readout
from lbi.chip import rules
from lbi.chip.load import load_profile
from lbi.chip.profile import HardwareProfile
from lbi.errors import InputError
from lbi.network.fixedpoint import IntFormat
from lbi.quantization.to_integers import quantize

WEIGHTS = np.array([[0.5, -0.3, 0.2], [0.1, 0.0, 0.9]])


def network(bias: tuple[float, float] | None = None, delay: int = 0) -> Network:
    neuron = CubaLif(0.1, 0.1, 1.0, None if bias is None else np.array(bias))
    projection = Projection("w", "input", "o", CsrMatrix.from_dense(WEIGHTS), delay)
    return Network((3,), (Population("o", (2,), neuron),), (projection,), Readout("o"))


def chip(**formats: IntFormat) -> HardwareProfile:
    profile = load_profile("loihi1")
    return replace(profile, name="mine", formats=replace(profile.formats, **formats))


@pytest.mark.parametrize(("low", "high", "first"), [(2, 7, 2), (-7, -1, -1), (-7, 7, 0), (3, 3, 3)])
def test_weight_exponents_start_at_the_one_nearest_to_0(low, high, first):
    """Mantissa · 2^exponent / vth is each weight / threshold, off by at most half a step of 2 and vth's rounding."""
    profile = chip(weight_exponent=IntFormat(low, high))
    for exponents in ("zero", "free"):
        fixed = quantize(network(), profile, exponents=exponents)
        (found,), vth = fixed.projections, fixed.populations[0].neuron.vth
        assert found.weight_exp >= first
        assert rules.check(fixed, profile) == []
        step = 2.0**found.weight_exp
        assert np.abs(found.weights.to_dense() * step / vth - WEIGHTS).max() <= (step + 0.5) / vth
    assert quantize(network(), profile).projections[0].weight_exp == first


@pytest.mark.parametrize(
    ("formats", "parameters", "words"),
    [
        ({"threshold": IntFormat(1000, 131071)}, {}, r"threshold-range: .*'o'.*allowed: 1000 to 131071 on mine"),
        ({"delay": IntFormat(1, 62)}, {}, r"delay-range: projection 'w': a delay of 0 .*allowed: 1 to 62 on mine"),
        (
            {"bias_mantissa": IntFormat(0, 4095)},
            {"bias": (0.1, -0.2)},
            r"bias-range: population 'o': bias -0.2 needs mantissa -\d+; allowed: 0 to 4095",
        ),
        ({"bias_mantissa": IntFormat(5, 4095)}, {}, r"bias 0 needs mantissa 0; allowed: 5 to 4095"),
    ],
)  # fmt: skip
def test_a_parameter_below_the_chips_range_is_refused(formats, parameters, words):
    with pytest.raises(InputError, match=words) as caught:
        quantize(network(**parameters), chip(**formats))
    assert len(caught.value.problems) == 1


def test_the_least_exponent_of_a_bias_is_the_chips():
    """With and without biases; −0.2 of threshold 1 is −0.2 · vth · 64 / 2^3 mantissas."""
    profile = chip(bias_exponent=IntFormat(3, 7))
    for bias in (None, (0.1, -0.2)):
        fixed = quantize(network(bias), profile)
        neuron = fixed.populations[0].neuron
        assert neuron.bias_exp == 3
        assert rules.check(fixed, profile) == []
        if bias:
            expected = [round(b * fixed.populations[0].scale * 64 / 8) for b in bias]
            assert neuron.bias_mant.tolist() == expected


def test_a_range_of_biases_below_0_takes_the_exponent_that_holds_the_lowest():
    """−0.2 · vth · 64 state units fit −100 to 4095 at the smallest exponent e with 0.2 · vth · 64 / 2^e ≤ 100."""
    profile = chip(bias_mantissa=IntFormat(-100, 4095))
    fixed = quantize(network((0.1, -0.2)), profile)
    neuron, scale = fixed.populations[0].neuron, fixed.populations[0].scale
    expected = next(e for e in range(8) if round(0.2 * scale * 64 / 2**e) <= 100)
    assert (neuron.bias_exp, neuron.bias_mant[1]) == (expected, -round(0.2 * scale * 64 / 2**expected))
    with pytest.raises(
        InputError, match=r"bias-range: .*bias -0.2 needs mantissa .*allowed: -1 to 4095 at exponent 7"
    ):
        quantize(network((0.1, -0.2)), chip(bias_mantissa=IntFormat(-1, 4095)))


def test_shorter_delays_than_the_chips_are_a_violation():
    fixed = quantize(network(delay=1), chip(delay=IntFormat(1, 62)))
    assert rules.check(fixed, chip(delay=IntFormat(1, 62))) == []
    (problem,) = rules.check(fixed, chip(delay=IntFormat(2, 62)))
    assert str(problem).startswith("delay: projection 'w': 1 steps; allowed: 2 to 62")
