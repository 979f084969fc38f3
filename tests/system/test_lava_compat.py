"""Lava runs on newer Pythons and NumPys, and every patch is needed."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import pytest
from lbi.exporters import lava as exporter

from lbi.system import lava_compat
from lbi.system.lava_compat import PATCHES

ROOT = Path(__file__).parents[2]

lava = pytest.mark.skipif(not find_spec("lava"), reason="lava-nc is not installed")

RESHAPE = """
from lava.magma.core.process.ports.ports import ReshapePort
port = ReshapePort(new_shape=(2, 3), old_shape=(6,))
there = port.get_transform_func_fwd()(np.arange(6))
print(there.tolist(), port.get_transform_func_bwd()(there).tolist())
"""

CONVOLUTION = """
from lava.proc.conv.utils import output_shape
kernel_size, stride, padding, dilation = (np.array([n, n], dtype=np.int8) for n in (5, 2, 1, 1))
print(*output_shape((200, 66, 3), 24, kernel_size, stride, padding, dilation))
"""

NETX_INPUT = """
from lava.lib.dl.netx.hdf5 import Network
neuron = {"type": "CUBA", "iDecay": 4096, "vDecay": 4096, "vThMant": 1, "refDelay": 1, "gradedSpike": 0}
layer = {"shape": np.array([4]), "neuron": neuron, "weight": np.array([3]), "bias": np.array([5])}
block, _ = Network.create_input(layer)
print(block.transform["weight"], block.transform["bias"])
"""

SHOWN_BY = {
    "byte-encoder-default": (
        "from lava.magma.compiler.var_model import CoreEncoder\nprint(CoreEncoder().x.base)",
        "0",
        "mutable default",
    ),
    "reshape-port-keyword": (RESHAPE, "[[0, 1, 2], [3, 4, 5]] [0, 1, 2, 3, 4, 5]", "newshape"),
    # 200 pixels, one more at each side, 5 wide, every second: (200 + 2 - 5) // 2 + 1
    "convolution-shape-int8": (CONVOLUTION, "99 32 24", "out of bounds for int8"),
    "netx-input-scalar": (NETX_INPUT, "3 5", "only 0-dimensional arrays can be converted"),
}
"""Patch → a piece of Lava that needs it, what that prints, and what it says without the patch."""


def python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh interpreter where a deprecated call of Lava's is an error."""
    return subprocess.run(
        [sys.executable, "-W", "error:.*newshape:DeprecationWarning", "-c", code, *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


@lava
@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.name)
def test_lava_works_with_the_patch_and_fails_without_it(patch):
    """In one process, as importing all that such a module needs takes seconds; the module itself is imported again."""
    code, expected, failure = SHOWN_BY[patch.name]
    done = python(
        "import sys\nimport numpy as np\nfrom lbi.system import lava_compat\n"
        f"lava_compat.install()\n{code}\nprint('without')\n"
        f"lava_compat.PATCHES = tuple(p for p in lava_compat.PATCHES if p.name != {patch.name!r})\n"
        f"del sys.modules[{patch.module!r}]\n{code}\n"
    )
    shown, _, afterwards = done.stdout.partition("without\n")
    assert shown.splitlines()[-1:] == [expected], done.stderr
    if not patch.is_needed():
        pytest.skip("not needed here but since {} {}.{}".format(*patch.since))
    assert (done.returncode, afterwards) == (1, "")
    assert failure in done.stderr


@lava
@pytest.mark.parametrize("patch", PATCHES, ids=lambda patch: patch.name)
def test_the_text_to_replace_is_in_lava(patch):
    """Also where the patch is not needed; as many lines replace it."""
    folder = Path(find_spec("lava.magma").submodule_search_locations[0]).parent
    path = folder.joinpath(*patch.module.split(".")[1:]).with_suffix(".py")
    assert path.read_text(encoding="utf-8").count(patch.old) >= 1
    assert patch.old.count("\n") == patch.new.count("\n")


@lava
def test_other_modules_of_lava_are_pythons_own_business():
    finder = lava_compat.PatchingFinder()
    assert finder.find_spec("lava.proc.lif.process") is None
    assert finder.find_spec("no_such_module") is None


def test_the_exported_script_holds_the_patches(tmp_path, monkeypatch):
    """``run_lava.py`` runs alone, so it cannot import them."""
    exporter.write_script(tmp_path / "run_lava.py")
    text = (tmp_path / "run_lava.py").read_text(encoding="utf-8")
    begin, end = "# Lava on newer Pythons, begin", "# Lava on newer Pythons, end."
    assert (text.count(begin), text.count(end)) == (1, 1)
    patches = ModuleType("patches")
    monkeypatch.setitem(sys.modules, "patches", patches)
    exec("from __future__ import annotations\n" + text[text.index(begin) : text.index(end)], patches.__dict__)
    assert [patch.name for patch in patches.PATCHES] == [patch.name for patch in lava_compat.PATCHES]
    assert "import lbi" not in text
    assert "from lbi" not in text


@lava
@pytest.mark.parametrize("folder", ["", "exporters"])
def test_the_template_runs_from_any_folder(folder):
    """Also from its own, in which ``lava.py`` is the exporter."""
    script = Path("exporters", "run_lava.py").relative_to(folder or ".")
    done = subprocess.run(
        [sys.executable, str(script), "--help"],
        cwd=ROOT / folder,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "Run an exported network in Lava" in done.stdout


FORKING = """
import multiprocessing, sys
from lava.magma.compiler.var_model import CoreEncoder
import beside

def child(queue):
    import lava.proc.conv.utils
    queue.put(CoreEncoder().x.base)

if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    process.join()
    print(sys.argv, beside.HERE, queue.get())
"""


@lava
def test_a_users_script_runs_unchanged_and_so_do_its_forks(tmp_path):
    (tmp_path / "mine.py").write_text(FORKING)
    (tmp_path / "beside.py").write_text("HERE = 'beside'\n")
    command = [sys.executable, "-m", "lbi.system.lava_compat", str(tmp_path / "mine.py"), "a", "b c"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.stdout.strip() == f"{[str(tmp_path / 'mine.py'), 'a', 'b c']} beside 0", done.stderr


@pytest.mark.parametrize("arguments", [[], ["no_such.py"]])
def test_a_script_that_is_not_there_is_named(arguments, tmp_path):
    command = [sys.executable, "-m", "lbi.system.lava_compat", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "error: no_such.py: no such script"
        if arguments
        else "usage: python -m lbi.system.lava_compat SCRIPT [ARGUMENT ...]"
    )


FRESH = """
import multiprocessing, sys
from lbi.system import lava_compat
lava_compat.install()
from lava.magma.compiler.var_model import CoreEncoder

def child(queue):
    queue.put(CoreEncoder().x.base)

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    queue = context.SimpleQueue()
    process = context.Process(target=child, args=(queue,))
    process.start()
    process.join()
    print(process.exitcode, queue.get())
"""


@lava
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_fresh_interpreters_install_the_patches_by_the_script(tmp_path, method):
    """Python 3.14 starts processes by a fork server unless told otherwise (Lava tells it: fork)."""
    (tmp_path / "mine.py").write_text(FRESH)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "mine.py"), method],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.stdout.split() == ["0", "0"], done.stderr
