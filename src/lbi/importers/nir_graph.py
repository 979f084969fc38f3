"""NIR graphs without nesting, and the order of evaluation of their neurons within a step."""

from __future__ import annotations

from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from lbi.errors import InputError, Problems, Rule

SPIKING = ("CubaLIF", "LIF", "IF")
NEURON_KINDS = (*SPIKING, "CubaLI", "LI", "I")

ONE_END = {what: Rule(f"one-{what}", "one", "join them into one") for what in ("input", "output")}
DIRECTION = Rule(
    "nir-edge", "edges out of the input node and into the output node only", "leave that edge out"
)
ONE_WAY = Rule(
    "nir-subgraph",
    "one input and one output node in a subgraph",
    "write it without the subgraph: its edges do not say which",
)
UNIQUE = Rule("nir-names", "names that differ, those in subgraphs by their whole path", "rename one of them")
EDGE = Rule("nir-edge", "{nodes}", "write the file with edges between its own nodes only")
CYCLE = Rule("cycle", "a neuron in every cycle", "put neurons into the loop, or take the edge out")


@dataclass(frozen=True)
class Graph:
    """A NIR graph without nesting: nodes by name (inner ones as ``outer.inner``), edges, and the two ends."""

    nodes: dict[str, Any]
    edges: tuple[tuple[str, str], ...]
    input: str
    output: str

    def before(self, name: str) -> list[str]:
        """Nodes with an edge to ``name``.

        Args:
            name: a node.

        Returns:
            Names of nodes.
        """
        return [start for start, end in self.edges if end == name]

    def after(self, name: str) -> list[str]:
        """Nodes that ``name`` has an edge to.

        Args:
            name: a node.

        Returns:
            Names of nodes.
        """
        return [end for start, end in self.edges if start == name]

    def neurons(self) -> list[tuple[str, Any]]:
        """Neuron nodes by name."""
        return [(name, node) for name, node in self.nodes.items() if type(node).__name__ in NEURON_KINDS]

    def order(self, given: tuple[str, ...] = ()) -> list[str]:
        """Neuron names, every source before its target except for feedback.

        Args:
            given: an order that is used if it names exactly these neurons. Otherwise, edges to a node on the current
                path of a depth-first search from the input are feedback.

        Returns:
            The names.
        """
        neurons = {name for name, _ in self.neurons()}
        if set(given) == neurons:
            return list(given)
        finished: list[str] = []
        seen: set[str] = set()
        for start in (self.input, *sorted(neurons)):
            if start in seen:
                continue
            seen.add(start)
            stack = [(start, iter(self.after(start)))]
            while stack:
                name, following = stack[-1]
                step = next((end for end in following if end not in seen), None)
                if step is None:
                    finished.append(name)
                    stack.pop()
                else:
                    seen.add(step)
                    stack.append((step, iter(self.after(step))))
        return [name for name in reversed(finished) if name in neurons]


def flatten(graph: Any, where: str) -> Graph:
    """The graph with its subgraphs resolved.

    Args:
        graph: a ``nir.NIRGraph``, which may hold others.
        where: the file, for messages.

    Returns:
        The flat graph.

    Raises:
        InputError: unless there is one input, one output, and a neuron in every cycle.
    """
    nodes, edges = _resolve(graph, "", where)
    inputs = [name for name, node in nodes.items() if type(node).__name__ == "Input"]
    outputs = [name for name, node in nodes.items() if type(node).__name__ == "Output"]
    problems = Problems()
    for found, what in ((inputs, "input"), (outputs, "output")):
        ONE_END[what].check(problems, len(found) == 1, where, f"{len(found)} {what} nodes")
    problems.raise_as(InputError)
    for name in sorted({end for edge in edges for end in edge} - set(nodes)):
        known = ", ".join(map(repr, nodes))
        problems.note(EDGE.broken(where, f"an edge to or from {name!r}, which is no node", nodes=known))
    for start, end in edges:
        text = f"an edge from {start!r} to {end!r}"
        DIRECTION.check(problems, end != inputs[0] and start != outputs[0], where, text)
    problems.raise_as(InputError)
    flat = Graph(nodes, tuple(dict.fromkeys(edges)), inputs[0], outputs[0])
    _check_cycles(flat, where)
    return flat


def _resolve(graph: Any, prefix: str, where: str) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """All nodes and edges with full names; inner Input and Output nodes are replaced by their predecessors."""
    nodes: dict[str, Any] = {}
    edges = [(f"{prefix}{start}", f"{prefix}{end}") for start, end in graph.edges]
    for key, node in graph.nodes.items():
        name = f"{prefix}{key}"
        if type(node).__name__ != "NIRGraph":
            _add(nodes, {name: node}, where)
            continue
        inner, inner_edges = _resolve(node, f"{name}.", where)
        inputs, outputs = (
            [f"{name}.{part}" for part, child in node.nodes.items() if type(child).__name__ == kind]
            for kind in ("Input", "Output")
        )
        problems = Problems()
        for ends, what in ((inputs, "input"), (outputs, "output")):
            found = f"{len(ends)} {what} nodes: {', '.join(map(repr, ends))}"
            ONE_WAY.check(problems, len(ends) <= 1, f"{where}, subgraph {name!r}", found)
        problems.raise_as(InputError)
        _add(nodes, {n: part for n, part in inner.items() if n not in (*inputs, *outputs)}, where)
        edges = _spliced(edges + inner_edges, name, inputs, outputs)
    return nodes, edges


def _add(nodes: dict[str, Any], more: dict[str, Any], where: str) -> None:
    """Add nodes whose names are new."""
    problems = Problems()
    for name in sorted(nodes.keys() & more.keys()):
        problems.note(UNIQUE.broken(where, f"two nodes {name!r}, one of them in a subgraph"))
    problems.raise_as(InputError)
    nodes |= more


def _spliced(
    edges: list[tuple[str, str]], name: str, inputs: list[str], outputs: list[str]
) -> list[tuple[str, str]]:
    """Edges into and out of subgraph ``name`` joined to those inside."""
    heads = [end for start, end in edges if start in inputs and end not in outputs]
    tails = [start for start, end in edges if end in outputs and start not in inputs]
    through = any(start in inputs and end in outputs for start, end in edges)
    around = [
        (start, after) for start, end in edges if end == name for before, after in edges if before == name
    ]
    joined = [(start, end) for start, end in edges if start not in inputs and end not in outputs]
    joined = [(start, head) for start, end in joined for head in (heads if end == name else [end])]
    joined = [(tail, end) for start, end in joined for tail in (tails if start == name else [start])]
    return joined + (around if through else [])


def _check_cycles(graph: Graph, where: str) -> None:
    """Note cycles without a neuron, which have no meaning in steps."""
    neurons = {name for name, _ in graph.neurons()}
    plain = [name for name in graph.nodes if name not in neurons]
    try:
        TopologicalSorter({name: set(graph.after(name)) - neurons for name in plain}).prepare()
    except CycleError as error:
        found = "flows into itself without a neuron between"
        raise InputError(CYCLE.broken(f"{where}, node {error.args[1][0]!r}", found)) from error
