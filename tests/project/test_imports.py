"""Imports run one way, without circles, and light modules load nothing heavy."""

from __future__ import annotations

import subprocess
import sys
from graphlib import TopologicalSorter

import pytest
from support.import_graph import edges, imports, modules

LAYERS = (
    ("errors", "limits", "records", "tables", "hardware", "_version"),
    ("system",),
    ("network",),
    ("chip",),
    ("quantization", "simulation"),
    ("costing", "files"),
    ("datasets",),
    ("importers", "train", "exporters"),
    ("deploy",),
    ("", "neurons", "reference"),
    ("cli",),
)
"""Folders (and files) of the package, the ground first; a module imports from its own layer and from those below."""

HEAVY = {
    "torch",
    "lava",
    "h5py",
    "nir",
    "numba",
    "scipy",
    "sklearn",
    "matplotlib",
    "jinja2",
    "tonic",
    "rich",
    "pydantic",
}


def layer_of(module: str) -> int:
    place = [*module.split("."), ""][1]
    for number, layer in enumerate(LAYERS):
        if place in layer:
            return number
    raise AssertionError(f"{place} stands in no layer: add it to LAYERS")


@pytest.mark.parametrize("module", modules())
def test_imports_run_down(module):
    for name in sorted(edges()[module]):
        assert layer_of(name) <= layer_of(module), f"{module} imports {name} from a higher layer"


@pytest.mark.parametrize("for_types", [False, True], ids=["at run time", "for types too"])
def test_there_is_no_circle(for_types):
    TopologicalSorter(edges(for_types=for_types)).prepare()  # raises CycleError, naming the circle


def test_folders_form_no_circle():
    folders: dict[str, set[str]] = {}
    for module, others in edges(for_types=True).items():
        place = module.split(".")[1:2] or ["(face)"]
        folders.setdefault(place[0], set()).update([*name.split("."), "(face)"][1] for name in others)
    TopologicalSorter({name: others - {name} for name, others in folders.items()}).prepare()


@pytest.mark.parametrize("module", modules())
def test_only_train_and_importers_torch_import_torch(module):
    allowed = module.startswith(("lbi.train", "lbi.importers.torch"))
    roots = {name.split(".")[0] for name, _ in imports(modules()[module])}
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
