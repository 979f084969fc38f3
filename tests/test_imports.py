"""Imports run one way, and a light door stays light."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src" / "lbi"

# A module may import from its own layer and from those before it.
LAYERS = [
    {"errors", "fixedpoint", "formats", "hdf5", "interrupt", "sparse", "convolution", "profile", "profile_schema", "tomlfile", "hardware", "whole"},
    {"neurons", "network", "fixed", "activity"},
    {
        "quantize", "rules", "placement", "partition", "mesh", "memory", "costing", "simulate", "simulation", "reference", "estimate", "report",
        "store", "netx_reader", "datasets", "summary", "spikefile", "dequantize", "netx_weights", "netx_layers",
        "compiled",
    },
    {"train", "exporters", "importers", "job", "supervise", "child"},
    {"targets", "backends", "verify", "cli"},
]  # fmt: skip
HEAVY = {"torch", "lava", "h5py", "nir", "numba", "scipy", "sklearn", "matplotlib", "jinja2", "tonic", "rich"}


def modules() -> list[Path]:
    return [path for path in sorted(SRC.rglob("*.py")) if path != SRC / "__init__.py"]


def layer_of(module: str) -> int:
    for i, layer in enumerate(LAYERS):
        if module in layer:
            return i
    raise AssertionError(f"{module} stands in no layer: add it to LAYERS")


def own(path: Path) -> str:
    return path.relative_to(SRC).parts[0].removesuffix(".py")


def imports(path: Path, *, nested: bool) -> list[tuple[str, int]]:
    """Absolute module names imported by a file: at module level only, or also inside functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []
    stack: list[ast.AST] = [tree]
    while stack:
        node = stack.pop()
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test):
                continue
            if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) and not nested:
                continue
            if isinstance(child, ast.Import):
                found += [(alias.name, child.lineno) for alias in child.names]
            elif isinstance(child, ast.ImportFrom):
                assert child.level == 0, f"{path}:{child.lineno}: relative import"
                found.append((child.module or "", child.lineno))
                if child.module == "lbi":
                    found += [(f"lbi.{alias.name}", child.lineno) for alias in child.names]
            stack.append(child)
    return found


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SRC)))
def test_imports_run_one_way(path):
    mine = layer_of(own(path))
    public = set(dir(__import__("lbi")))
    for name, line in imports(path, nested=True):
        parts = name.split(".")
        if parts[0] == "lbi" and len(parts) > 1:
            if parts[1] in public and not (SRC / f"{parts[1]}.py").exists() and not (SRC / parts[1]).exists():
                continue  # `from lbi import __version__` and the like
            assert layer_of(parts[1]) <= mine, f"{path}:{line} imports {name} from a later layer"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SRC)))
def test_only_train_imports_torch(path):
    allowed = own(path) in {"train", "importers"}
    roots = {name.split(".")[0] for name, _ in imports(path, nested=True)}
    assert allowed or not roots & {"torch", "triton"}


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print('\\n'.join(m.split('.')[0] for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_import_lbi_is_light():
    assert not loaded_by("import lbi") & HEAVY


@pytest.mark.parametrize("command", ["train", "export", "run", "estimate"])
def test_help_is_light(command):
    statement = f"sys.argv = ['lbi-{command}', '--help']\ntry:\n    from lbi.cli.{command} import main; main()\nexcept SystemExit: pass\nsys"
    code = f"import sys\n{statement}.stderr.write('\\n'.join(m.split('.')[0] for m in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "Usage:" in done.stdout
    assert not set(done.stderr.split()) & HEAVY
