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


@pytest.mark.parametrize("edge", [("lif", "input"), ("b", "input"), ("output", "a"), ("output", "input")])
def test_an_edge_into_the_input_or_out_of_the_output_is_refused(edge):
    with pytest.raises(InputError, match=rf"nir-edge: x\.nir: an edge from '{edge[0]}' to '{edge[1]}'"):
        flatten(graph(edge), "x.nir")


def within(edges, **more):
    """A graph whose node ``blk`` is a graph of two Linear layers with these edges."""
    nodes = {
        "input": nir.Input({"input": np.array([2])}),
        "p": nir.Linear(np.eye(2)),
        "q": nir.Linear(np.eye(2)),
        "output": nir.Output({"output": np.array([2])}),
        **more,
    }
    outer = graph()
    outer.nodes["blk"] = nir.NIRGraph(nodes, edges, type_check=False)
    outer.edges[:] = [("input", "a"), ("a", "blk"), ("blk", "lif"), ("lif", "output")]
    del outer.nodes["b"]
    return outer


THROUGH = [("input", "p"), ("p", "q"), ("q", "output")]


def test_a_subgraph_with_a_way_around_its_nodes():
    flat = flatten(within([*THROUGH, ("input", "output")]), "x.nir")
    assert sorted(flat.before("lif")) == ["a", "blk.q"]
    assert flat.before("blk.p") == ["a"]


def test_a_subgraph_with_several_ends_is_refused():
    two = {"other": nir.Input({"input": np.array([2])})}
    with pytest.raises(InputError, match=r"nir-subgraph: x\.nir, subgraph 'blk': 2 input nodes"):
        flatten(within([*THROUGH, ("other", "q")], **two), "x.nir")


def test_two_nodes_of_one_name_are_refused():
    outer = within(THROUGH)
    outer.nodes["blk.p"] = nir.Linear(2 * np.eye(2))
    with pytest.raises(InputError, match=r"nir-names: x\.nir: two nodes 'blk\.p'"):
        flatten(outer, "x.nir")
