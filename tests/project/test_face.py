"""``import lbi`` is lazy: it loads and installs nothing, and every public name arrives on first use."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

import lbi


def in_a_new_process(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_import_installs_and_loads_nothing():
    """Also in a process that looks like one of the commands."""
    code = (
        "import signal, sys; sys.orig_argv = ['python', '-m', 'lbi.cli.run']; sys.argv = ['lbi-run']\n"
        "handlers = [signal.getsignal(n) for n in signal.valid_signals()]\n"
        "import lbi\n"
        "assert handlers == [signal.getsignal(n) for n in signal.valid_signals()]\n"
        "print(*sorted(m for m in sys.modules if m.split('.')[0] in ('lbi', 'numpy')))"
    )
    assert in_a_new_process(code).split() == ["lbi", "lbi._version"]


def test_a_star_import_needs_no_torch():
    code = "import sys; sys.modules['torch'] = None\nfrom lbi import *\nprint(quantize.__module__, load.__module__)"
    assert in_a_new_process(code).split() == ["lbi.quantization.to_integers", "lbi.deploy.targets"]


@pytest.mark.parametrize("name", sorted({*lbi.__all__, *lbi.MODULES} - {"train"}))
def test_every_name_arrives_in_a_new_process(name):
    """Each alone: nothing relies on what another name has loaded."""
    in_a_new_process(f"import lbi; assert {name!r} in dir(lbi); lbi.{name}; from lbi import {name}")


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'lbi' has no attribute 'quantise'"):
        _ = lbi.quantise
    with pytest.raises(ImportError, match="cannot import name 'quantise' from 'lbi'"):
        exec("from lbi import quantise")


def test_no_function_is_shadowed_by_a_module():
    """``import lbi.simulate as s`` is an error that says so, rather than a function in a module's place."""
    assert not [name for name in lbi.__all__ if find_spec(f"lbi.{name}")]
    with pytest.raises(ModuleNotFoundError, match=r"No module named 'lbi\.simulate'"):
        exec("import lbi.simulate as s")


def test_type_checkers_see_what_is_there_at_run_time():
    """The imports for type checkers say the same as ORIGINS and MODULES; each origin defines the name itself."""
    tree = ast.parse(Path(lbi.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If) and isinstance(node.test, ast.Name))
    declared = {
        alias.name: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert declared == {**lbi.ORIGINS, **dict.fromkeys(lbi.MODULES, "lbi")}
    assert set(lbi.__all__) == {*lbi.ORIGINS, "__version__"}
    for name in lbi.ORIGINS:
        assert getattr(lbi, name).__module__.startswith(lbi.ORIGINS[name])


def test_the_aliases_are_the_modules_they_stand_for():
    import lbi.network.neurons
    import lbi.neurons
    import lbi.reference
    import lbi.simulation.oracle

    for alias, module in ((lbi.neurons, lbi.network.neurons), (lbi.reference, lbi.simulation.oracle)):
        assert all(getattr(alias, name) is getattr(module, name) for name in alias.__all__)
