"""A chip's number without a value: a limit is not checked, a price counts as 0, everything else is needed.

The upper barrier is needed where the lower one has a value: with 0 for it, a range of times would begin at its upper end.
"""

from __future__ import annotations

import json
import re
from importlib.resources import files

import numpy as np
import pytest
from support.networks import random_network, random_spikes

from lbi import estimate, quantize, simulate
from lbi.chip.load import load_profile, parse_profile
from lbi.errors import InputError

NOT_CHECKED = {
    "limits.chips_per_system",
    "limits.compartments_per_core",
    "limits.input_axons_per_core",
    "limits.output_axons_per_core",
    "limits.core_memory",
    "limits.axon_entry",
    "limits.neuron_profiles_per_core",
    "limits.delay_of_full_core",
}
NOT_COUNTED = re.compile(
    r"costs\.\w+\.(energy|time)\.(spike|message_\w+|hop_\w+|barrier_low|step_floor)|memory\.\w+\.(block|shared)"
)


def without_values(chip):
    """The chip's file with one quantity after the other unpublished, by the quantity's dotted name."""
    text = (files("lbi.hardware") / f"{chip}.toml").read_text(encoding="utf-8")
    lines, section = text.splitlines(), ""
    for number, line in enumerate(lines):
        if line.startswith("["):
            section = line.strip("[]")
        entry = re.match(r"(\w+) = \{ (?:value|min) = .*?(unit = .*)", line)
        if entry:
            unknown = re.sub(r'confidence = "[^"]*"', 'confidence = "not published"', entry[2])
            changed = [*lines[:number], f"{entry[1]} = {{ {unknown}", *lines[number + 1 :]]
            yield f"{section}.{entry[1]}", "\n".join(changed)


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_every_number_may_be_unknown_or_is_asked_for(chip, rng):
    network = random_network(rng, recurrent=True, bias=True)
    spikes = random_spikes(rng, 1, 8, int(np.prod(network.input_shape)))
    fixed = quantize(network, load_profile(chip))
    activity = simulate(fixed, spikes, record=("spikes", "active"))
    asked = set()
    for name, text in without_values(chip):
        try:
            profile = parse_profile(text, "mine.toml")
        except InputError as refusal:
            (problem,) = refusal.problems
            assert (problem.code, problem.found) == ("missing-value", "not published"), name
            assert problem.where == f"mine.toml, {name}"
            asked.add(name)
            continue
        if name != "neurons.models":
            found = estimate(fixed, activity, profile, spikes=spikes)
            json.dumps(found.to_dict(), allow_nan=False)
    every = {name for name, _ in without_values(chip)}
    unknown = {name for name in every if name in NOT_CHECKED or NOT_COUNTED.fullmatch(name)}
    assert every - asked == unknown | {"neurons.models"}
