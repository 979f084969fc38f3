"""A NIR graph without nesting, and an order in which its neurons are evaluated within a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lbi.errors import InputError, Problem, Problems

NEURON_KINDS = ("CubaLIF", "LIF", "IF", "CubaLI", "LI", "I")


@dataclass(frozen=True)
class Graph:
    """Nodes by name (subgraphs resolved, as ``outer.inner``), edges between them, and the two ends."""

    nodes: dict[str, Any]
    edges: tuple[tuple[str, str], ...]
    input: str
    output: str

    def before(self, name: str) -> list[str]:
        """Nodes with an edge to ``name``."""
        return [start for start, end in self.edges if end == name]

    def after(self, name: str) -> list[str]:
        """Nodes that ``name`` has an edge to."""
        return [end for start, end in self.edges if start == name]

    def neurons(self) -> list[tuple[str, Any]]:
        """Neuron nodes with their names."""
        return [(name, node) for name, node in self.nodes.items() if type(node).__name__ in NEURON_KINDS]

    def order(self, given: tuple[str, ...] = ()) -> list[str]:
        """Neuron names so that, but for feedback, every source comes before its target.

        ``given`` is taken if it names exactly these neurons. Else an edge is feedback if it leads to a node
        from which the walk from the input has come.
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
    """Resolve subgraphs; raises InputError unless there is one input, one output, and no cycle without neurons."""
    nodes, edges = _resolve(graph, "")
    inputs = [name for name, node in nodes.items() if type(node).__name__ == "Input"]
    outputs = [name for name, node in nodes.items() if type(node).__name__ == "Output"]
    problems = Problems()
    for found, what in ((inputs, "input"), (outputs, "output")):
        problems.check(
            len(found) == 1, f"one-{what}", where, f"{len(found)} {what} nodes", "one", "join them into one"
        )
    problems.raise_as(InputError)
    for name in sorted({end for edge in edges for end in edge} - set(nodes)):
        problems.add(
            "nir-edge", where, f"an edge to or from {name!r}, which is no node", ", ".join(map(repr, nodes))
        )
    problems.raise_as(InputError)
    flat = Graph(nodes, tuple(dict.fromkeys(edges)), inputs[0], outputs[0])
    _check_cycles(flat, where)
    return flat


def _resolve(graph: Any, prefix: str) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """All nodes and edges with full names; an inner Input or Output is replaced by what stands before it."""
    nodes: dict[str, Any] = {}
    edges = [(f"{prefix}{start}", f"{prefix}{end}") for start, end in graph.edges]
    for key, node in graph.nodes.items():
        name = f"{prefix}{key}"
        if type(node).__name__ != "NIRGraph":
            nodes[name] = node
            continue
        inner, inner_edges = _resolve(node, f"{name}.")
        inputs, outputs = (
            [f"{name}.{part}" for part, child in node.nodes.items() if type(child).__name__ == kind]
            for kind in ("Input", "Output")
        )
        nodes |= {inside: part for inside, part in inner.items() if inside not in (*inputs, *outputs)}
        edges = _spliced(edges + inner_edges, name, inputs, outputs)
    return nodes, edges


def _spliced(
    edges: list[tuple[str, str]], name: str, inputs: list[str], outputs: list[str]
) -> list[tuple[str, str]]:
    """Edges into and out of subgraph ``name`` joined to those inside."""
    heads = [end for start, end in edges if start in inputs]
    tails = [start for start, end in edges if end in outputs]
    joined = [(start, end) for start, end in edges if start not in inputs and end not in outputs]
    joined = [(start, head) for start, end in joined for head in (heads if end == name else [end])]
    return [(tail, end) for start, end in joined for tail in (tails if start == name else [start])]


def _check_cycles(graph: Graph, where: str) -> None:
    """A cycle that no neuron breaks has no meaning in steps."""
    neurons = {name for name, _ in graph.neurons()}
    done: set[str] = set()
    for start in graph.nodes:
        path: list[str] = []
        stack = [(start, 0)]
        while stack:
            name, depth = stack.pop()
            del path[depth:]
            if name in path:
                raise InputError(
                    Problem(
                        "cycle",
                        f"{where}, node {name!r}",
                        "flows into itself without a neuron between",
                        "a neuron in every cycle",
                    )
                )
            if name in done or name in neurons:
                continue
            done.add(name)
            path.append(name)
            stack += [(end, len(path)) for end in graph.after(name)]
