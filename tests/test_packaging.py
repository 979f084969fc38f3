"""The wheel holds what the tree holds, installs nothing under generic names, and works from elsewhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    tree = out / "tree"  # a copy: what an earlier build has left in the tree's build/ would go into the wheel
    shutil.copytree(
        ROOT, tree, symlinks=True, ignore=shutil.ignore_patterns(".*", "build", "*.egg-info", "demo")
    )
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(tree)]
    done = subprocess.run(build, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = out.glob("*.whl")
    return path


def packages_on_disk() -> dict[str, Path]:
    """Every folder with an __init__.py under src/lbi, through the two links."""
    src = ROOT / "src"
    found = {}
    folders = [src / "lbi"]
    while folders:
        folder = folders.pop()
        if (folder / "__init__.py").exists():
            found[".".join(folder.relative_to(src).parts)] = folder
            folders += [child for child in folder.iterdir() if child.is_dir()]
    return found


def test_packages_are_all_listed():
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(packages_on_disk())


def test_links_lead_to_the_top_level_folders():
    for name in ("exporters", "hardware"):
        assert (ROOT / "src" / "lbi" / name).resolve() == ROOT / name


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
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True, text=True, cwd=tmp_path, env={"PYTHONPATH": str(site), "PATH": ""}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert Path(done.stdout.strip()).is_relative_to(site)
    assert (tmp_path / "network.h5").exists()


def test_every_version_says_the_same():
    import lbi

    version = PROJECT["project"]["version"]
    assert lbi.__version__ == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"version: {version}" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")
