"""The wheel holds the tree's files under one name, and works where only its declared dependencies are installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from importlib.metadata import distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from support import cases
from support.import_graph import imports, modules

from lbi.files import network_h5

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def output_of(*command: str | Path, **options) -> str:
    """What a program prints; it must end well."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def copy_of_tree(folder: Path) -> Path:
    """A copy: what an earlier build has left in the tree's build/ would go into the wheel."""
    ignored = shutil.ignore_patterns(".*", "build", "*.egg-info", "demo")
    return shutil.copytree(ROOT, folder / "tree", symlinks=True, ignore=ignored)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    tree = copy_of_tree(out)
    output_of(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, tree)
    (path,) = out.glob("*.whl")
    return path


def with_all_they_need(requirements: list[str]) -> set[str]:
    """Names of the distributions that pip would install here for these requirements."""
    found: set[str] = set()
    wanted = [Requirement(line) for line in requirements]
    while wanted:
        requirement = wanted.pop()
        name = canonicalize_name(requirement.name)
        if name not in found and (not requirement.marker or requirement.marker.evaluate({"extra": ""})):
            found.add(name)
            wanted += [Requirement(line) for line in distribution(name).requires or ()]
    return found


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The bin/ of a new environment after ``pip install .``; the packages of the declared dependencies are links to ours."""
    folder = tmp_path_factory.mktemp("installed")
    output_of(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    site = output_of(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip()
    for name in with_all_they_need(PROJECT["project"]["dependencies"]):
        for top in {path.parts[0] for path in distribution(name).files or ()} - {"..", "__pycache__"}:
            (Path(site) / top).symlink_to(distribution(name).locate_file(top))
    output_of(
        sys.executable,
        "-m",
        "pip",
        "--python",
        python,
        "install",
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--ignore-installed",
        copy_of_tree(folder),
        env={**os.environ, "PYTHONPATH": sysconfig.get_path("purelib")},
    )
    return python.parent


def packages_on_disk() -> dict[str, Path]:
    """Package → folder: each that has an __init__.py."""
    return {name: path.parent for name, path in modules().items() if path.name == "__init__.py"}


def test_packages_are_all_listed():
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(packages_on_disk())


def test_no_symbolic_link_is_committed():
    """A checkout without symbolic links (Windows, ``core.symlinks=false``) is whole."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    entries = output_of("git", "ls-files", "--stage", cwd=ROOT).splitlines()
    assert not [line for line in entries if line.startswith("120000")]


def test_wheel_holds_every_source_and_data_file_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    expected = set()
    for package, folder in packages_on_disk().items():
        for path in folder.iterdir():
            if path.is_file() and path.suffix not in {".pyc", ".nbi", ".nbc"}:
                expected.add("/".join([*package.split("."), path.name]))
    assert names == expected


def test_wheel_adds_one_name_to_site_packages(wheel):
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert tops == {"lbi", f"lbi_snn-{PROJECT['project']['version']}.dist-info"}


def test_wheel_works_from_another_folder(wheel, tmp_path):
    """Unpacked far from the tree, it quantizes and stores a network: chips and exporters are in it."""
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    code = (
        "import lbi, numpy as np; w = lbi.CsrMatrix.from_dense(np.eye(3));"
        "n = lbi.Network((3,), (lbi.Population('a', (3,), lbi.CubaLif(.5, .1, 1.)),),"
        "(lbi.Projection('p', 'input', 'a', w),), lbi.Readout('a'));"
        "lbi.save(lbi.quantize(n, 'loihi1'), 'network.h5');"
        "import lbi.exporters, lbi.hardware; print(lbi.__file__)"
    )
    file = output_of(sys.executable, "-c", code, cwd=tmp_path, env={"PYTHONPATH": str(site), "PATH": ""})
    assert Path(file.strip()).is_relative_to(site)
    assert (tmp_path / "network.h5").exists()


def test_installed_by_pip_the_commands_work_from_another_folder(installed, tmp_path):
    """With the packages of the declared dependencies alone."""
    network_h5.save(cases.make("recurrent_bias")[0], tmp_path / "network.h5")

    def call(name: str, *arguments: str) -> str:
        return output_of(installed / name, *arguments, cwd=tmp_path, env={"PATH": ""})

    file = call("python", "-c", "import lbi; print(lbi.__file__)")
    assert Path(file.strip()).is_relative_to(installed.parent)
    for script in PROJECT["project"]["scripts"]:
        assert call(script, "--version") == f"lbi {PROJECT['project']['version']}\n"
        assert "Usage:" in call(script, "--help")
    assert json.loads(call("lbi-export", "network.h5", "--target", "loihi", "--json"))["fits"]
    bill = json.loads(call("lbi-estimate", "network.loihi", "--json"))
    assert bill["sparse"]["synaptic_memory_bits"] < bill["dense"]["synaptic_memory_bits"]


DECLARED_AS = {
    "sklearn": "scikit-learn",
    "lava": "lava-nc",
    "markupsafe": "jinja2",
    "llvmlite": "numba",
    "triton": "torch",
    "annotated_types": "annotated-types",
    "pydantic_core": "pydantic",
    "typing_extensions": "pydantic",
}
"""Imported name → the requirement that brings it, where they differ."""


def test_every_package_imported_is_declared():
    groups = [PROJECT["project"]["dependencies"], *PROJECT["project"]["optional-dependencies"].values()]
    declared = {Requirement(line).name for lines in groups for line in lines}
    imported = {name.split(".")[0] for path in modules().values() for name, _ in imports(path)}
    foreign = imported - sys.stdlib_module_names - {"lbi", "tomllib"}
    assert {DECLARED_AS.get(name, name) for name in foreign} <= declared


def test_every_version_says_the_same():
    import lbi

    version = PROJECT["project"]["version"]
    assert lbi.__version__ == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_workflow_runs_the_checks_on_the_oldest_python():
    workflow = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
    assert "- run: .ci/run\n" in workflow
    oldest = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert f" {oldest}\n" in workflow
