"""Public functions name every parameter, and what they return, in sections that tools can parse."""

from __future__ import annotations

import ast
import inspect
import re
from importlib import import_module

import pytest

import lbi

MODULES = (
    "lbi.chip.load",
    "lbi.chip.memory",
    "lbi.chip.placement",
    "lbi.chip.rules",
    "lbi.costing.costs",
    "lbi.costing.estimation",
    "lbi.datasets",
    "lbi.datasets.cached",
    "lbi.datasets.digits",
    "lbi.datasets.encodings",
    "lbi.datasets.heidelberg",
    "lbi.datasets.mnist",
    "lbi.datasets.npz",
    "lbi.datasets.packed",
    "lbi.deploy.backends",
    "lbi.deploy.targets",
    "lbi.errors",
    "lbi.exporters.lava",
    "lbi.exporters.netx",
    "lbi.exporters.nir",
    "lbi.files.netx.reader",
    "lbi.files.network_h5",
    "lbi.files.spikes_npz",
    "lbi.importers",
    "lbi.importers.nir",
    "lbi.importers.signal",
    "lbi.network.csr",
    "lbi.network.fixedpoint",
    "lbi.network.graph",
    "lbi.network.neurons",
    "lbi.network.neurons.parameters",
    "lbi.quantization.to_floats",
    "lbi.quantization.to_integers",
    "lbi.records",
    "lbi.simulation.oracle",
    "lbi.simulation.run",
)
WITH_TORCH = (
    "lbi.importers.torch.model",
    "lbi.importers.torch.saved",
    "lbi.train",
    "lbi.train.model_pt",
    "lbi.train.optim.regularizers",
    "lbi.train.session.config",
    "lbi.train.session.loop",
    "lbi.train.session.readout",
    "lbi.train.session.run",
    "lbi.train.session.start",
)


def public(holder, names, prefix):
    """(qualified name, function) of all public functions, and of the methods that a class defines first."""
    for name in names:
        value = getattr(holder, name)
        if inspect.isclass(value):
            for method, entry in vars(value).items():
                function = getattr(entry, "__func__", entry)  # of a static or class method
                inherited = any(hasattr(base, method) for base in value.__mro__[1:])
                if inspect.isfunction(function) and not method.startswith("_") and not inherited:
                    yield f"{prefix}.{name}.{method}", function
        elif inspect.isfunction(value):
            yield f"{prefix}.{name}", value


def functions_of(name):
    module = import_module(name)
    names = getattr(module, "__all__", None) or [
        key
        for key, value in vars(module).items()
        if not key.startswith("_") and getattr(value, "__module__", None) == name
    ]
    return public(module, names, name)


def returns_a_value(function) -> bool:
    """True if the function has a ``return`` with a value, outside functions inside it."""
    (node,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(function))).body
    left = list(node.body)
    while left:
        part = left.pop()
        if isinstance(part, ast.Return) and part.value is not None:
            return True
        if not isinstance(part, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
            left += ast.iter_child_nodes(part)
    return False


def faults(name, function):
    """What the docstring of a function with parameters lacks."""
    documented = inspect.getdoc(function) or ""
    parameters = [
        parameter.name
        for parameter in inspect.signature(function).parameters.values()
        if parameter.name not in ("self", "cls") and not parameter.name.startswith("_")
    ]
    if not parameters:
        return []
    section = re.search(r"^Args:\n((?:    .*\n?|\n)+)", documented, re.M)
    named = re.findall(r"^    \*{0,2}(\w+):", section[1], re.M) if section else []
    missing = [parameter for parameter in parameters if parameter not in named]
    found = [f"{name}: Args lacks {', '.join(missing)}"] if missing else []
    unknown = [entry for entry in named if entry not in parameters]
    found += [f"{name}: Args names {', '.join(unknown)}, which it does not take"] if unknown else []
    if returns_a_value(function) and not re.search(r"^(Returns|Yields):\n    \S", documented, re.M):
        found.append(f"{name}: no Returns")
    return found


@pytest.mark.parametrize("module", ["lbi", *MODULES, *WITH_TORCH])
def test_sections_name_every_parameter_and_the_result(module):
    if module in WITH_TORCH:
        pytest.importorskip("torch")
    functions = public(lbi, lbi.__all__, "lbi") if module == "lbi" else functions_of(module)
    assert [fault for name, function in functions for fault in faults(name, function)] == []


def test_a_missing_section_is_found():
    def function(x, y):
        """Add.

        Args:
            x: a number.
            z: another.
        """
        return x + y

    assert faults("f", function) == [
        "f: Args lacks y",
        "f: Args names z, which it does not take",
        "f: no Returns",
    ]
