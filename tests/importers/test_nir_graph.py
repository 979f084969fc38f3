"""Cycles of NIR graphs: through a neuron they are feedback, through weights alone they are refused."""

from __future__ import annotations

import numpy as np
import pytest

from lbi.errors import InputError
from lbi.importers.nir_graph import flatten

nir = pytest.importorskip("nir")

EDGES = [("input", "a"), ("a", "b"), ("b", "lif"), ("lif", "output")]


def graph(*more: tuple[str, str]):
    ones = np.ones(2)
    nodes = {
        "input": nir.Input({"input": np.array([2])}),
        "a": nir.Linear(np.eye(2)),
        "b": nir.Linear(np.eye(2)),
        "lif": nir.LIF(tau=ones, r=ones, v_leak=0 * ones, v_threshold=ones),
        "output": nir.Output({"output": np.array([2])}),
    }
    return nir.NIRGraph(nodes, [*EDGES, *more], type_check=False)


def test_feedback_through_a_neuron_is_read():
    assert flatten(graph(("lif", "a")), "x.nir").order() == ["lif"]


@pytest.mark.parametrize("edge", [("b", "a"), ("a", "a")])
def test_a_cycle_without_a_neuron_is_refused(edge):
    with pytest.raises(InputError, match=r"cycle: x\.nir, node '[ab]': flows into itself without a neuron"):
        flatten(graph(edge), "x.nir")
