"""Public functions name every parameter, what they return and what they raise, in sections that tools can parse."""

from __future__ import annotations

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path

import pytest

import lbi

ROOT = Path(__file__).parents[2]


def modules_below(folder, package):
    """The names of all modules of a package, without scripts that run when they are imported."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        parts = [part for part in path.relative_to(ROOT / folder).with_suffix("").parts if part != "__init__"]
        if parts[-1:] != ["__main__"]:
            yield ".".join([package, *parts])


MODULES = [*modules_below("src/lbi", "lbi"), *modules_below("exporters", "lbi.exporters")]
OPTIONAL = ("lava", "torch", "triton")
"""Packages without which the modules that import them are left out."""

COMPILED = {
    "lbi.simulation.kernels": "its docstring lists the arguments that its functions share",
    "lbi.simulation.rows": "the arguments are those of lbi.simulation.kernels",
    "lbi.train.neurons.atrlif_cuda": "lbi.train.layers.scan_cuda.CudaScan describes them for every model",
    "lbi.train.neurons.atrlif_kernels": "lbi.train.layers.scan.Kernels describes them for every model",
    "lbi.train.neurons.cuba_lif_cuda": "lbi.train.layers.scan_cuda.CudaScan describes them for every model",
    "lbi.train.neurons.cuba_lif_kernels": "lbi.train.layers.scan.Kernels describes them for every model",
    "lbi.train.neurons.integrator_cuda": "lbi.train.layers.scan_cuda.CudaScan describes them for every model",
    "lbi.train.neurons.integrator_kernels": "lbi.train.layers.scan.Kernels describes them for every model",
}
"""Modules whose compiled functions (not the others) share a description, and where it is."""

UNFINISHED: dict[str, tuple[str, ...]] = {
    "lbi.exporters.run_lava": (
        "read",
        "exact_in_conv",
        "unrolled",
        "named",
        "term",
        "neuron",
        "synapse",
        "clearing_steps",
        "run",
        "run_once",
        "run_samples",
        "classify",
        "stop",
    ),
    "lbi.importers.torch.operations": ("affine", "is_tracked"),
}
"""Functions that still lack something, by module: to be documented, and never to grow.

Their files have no lines left under the limit of test_sizes.py. Until a file is split, prose describes them; run_lava.py
stays one file, since users run it without this package.
"""


def uncompiled(value):
    """The Python function in a numba dispatcher, a numba intrinsic or a Triton kernel; any other value as it is."""
    value = getattr(value, "py_func", value)  # numba.njit
    value = value.fn if type(value).__name__ == "JITFunction" else value  # triton.jit
    return inspect.unwrap(value) if callable(value) else value


def public(holder, names, prefix, compiled=True):
    """(qualified name, function) of all public functions, and of the methods that a class defines first.

    Functions that a factory or a lambda made have no docstring, but a comment beside their name.
    """
    for name in names:
        value = getattr(holder, name)
        if inspect.isclass(value):
            for method, entry in vars(value).items():
                function = getattr(entry, "__func__", entry)  # of a static or class method
                inherited = any(hasattr(base, method) for base in value.__mro__[1:])
                named = inspect.isfunction(function) and function.__name__ == method
                if named and not method.startswith("_") and not inherited:
                    yield f"{prefix}.{name}.{method}", function
        elif compiled or inspect.isfunction(value):
            function = uncompiled(value)
            if inspect.isfunction(function) and function.__name__ == name:
                yield f"{prefix}.{name}", function


def functions_of(name):
    module = import_module(name)
    names = getattr(module, "__all__", None) or [
        key
        for key, value in vars(module).items()
        if not key.startswith("_") and getattr(uncompiled(value), "__module__", None) == name
    ]
    return public(module, names, name, compiled=name not in COMPILED)


def statements(function):
    """All nodes of a function's body, outside functions and classes inside it."""
    (node,) = ast.parse(inspect.cleandoc("\n" + inspect.getsource(function))).body
    left = list(node.body)
    while left:
        part = left.pop()
        yield part
        if not isinstance(part, (ast.FunctionDef, ast.Lambda, ast.ClassDef)):
            left += ast.iter_child_nodes(part)


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
    parts = list(statements(function))
    given = (ast.Return, ast.Yield, ast.YieldFrom)
    result = re.search(r"^(?:Returns|Yields):\n    (\S.*)", documented, re.M)
    if result is None and any(isinstance(part, given) and part.value is not None for part in parts):
        found.append(f"{name}: no Returns")
    if result is not None and re.fullmatch(r"Whether (it|they)( \w+){1,2}\.", result[1]):
        found.append(f"{name}: Returns says nothing: {result[1]}")
    raises = any(isinstance(part, ast.Raise) and isinstance(part.exc, ast.Call) for part in parts)
    if raises and not re.search(r"^Raises:\n    \S", documented, re.M):
        found.append(f"{name}: no Raises")
    return found


@pytest.mark.parametrize("module", MODULES)
def test_sections_name_every_parameter_and_the_result(module):
    try:
        functions = list(public(lbi, lbi.__all__, "lbi") if module == "lbi" else functions_of(module))
    except ModuleNotFoundError as missing:
        if str(missing.name).partition(".")[0] not in OPTIONAL:
            raise
        pytest.skip(f"without {missing.name}")
    left = {f"{module}.{name}" for name in UNFINISHED.get(module, ())}
    lacking = {name: faults(name, function) for name, function in functions}
    assert [fault for name, found in lacking.items() if name not in left for fault in found] == []
    done = sorted(name for name in left if not lacking.get(name))
    assert not done, "documented, or gone: take them from UNFINISHED"


def test_the_lists_name_modules():
    assert {*COMPILED, *UNFINISHED} <= {*MODULES}


def test_a_missing_section_is_found():
    def function(x, y):
        """Add.

        Args:
            x: a number.
            z: another.
        """
        if x is None:
            raise ValueError("x")
        return x + y

    def generator(x):
        """Count.

        Args:
            x: a number.
        """
        yield from range(x)

    def test(x):
        """Test for something.

        Args:
            x: a number.

        Returns:
            Whether it is so.
        """
        return bool(x)

    assert faults("f", function) == [
        "f: Args lacks y",
        "f: Args names z, which it does not take",
        "f: no Returns",
        "f: no Raises",
    ]
    assert faults("f", generator) == ["f: no Returns"]
    assert faults("f", test) == ["f: Returns says nothing: Whether it is so."]
