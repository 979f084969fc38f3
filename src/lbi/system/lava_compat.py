"""Import patches for Lava 0.10.0 on Python 3.11 to 3.14 and on NumPy 2; its files are not changed.

lava-nc and lava-dl are archived and declare ``python < 3.11`` and ``numpy < 2``. Four places in them fail there;
each has a ``Patch`` here, applied to the text of the module while it is imported. On Python 3.10 with NumPy 1 none is
needed. Other scripts run unchanged with

    python -m lbi.system.lava_compat my_script.py [ARGUMENT ...]

or calls ``install()`` before its first import of Lava. Processes that Lava starts are forks and inherit the patches;
a script that starts fresh interpreters (``spawn``, ``forkserver``) has to call ``install()`` itself. Standard library
only: the supervised child loads this file by its path, and the exporter copies the part between the marks into every
exported ``run_lava.py``.
"""

from __future__ import annotations

# Lava on newer Pythons, begin: exporters/lava.py copies this part.
import sys
from dataclasses import dataclass
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from importlib.util import decode_source
from typing import Any


@dataclass(frozen=True)
class Patch:
    """A text in a module of Lava's and its replacement (of as many lines), applied while the module is imported."""

    name: str
    module: str
    old: str
    new: str
    cause: str
    since: tuple[str, int, int]
    """``python`` or ``numpy``, and the first version of it that needs the patch"""

    def is_needed(self) -> bool:
        """True if this Python or NumPy needs the patch."""
        if self.since[0] == "python":
            return sys.version_info[:2] >= self.since[1:]
        import numpy

        return tuple(int(part) for part in numpy.__version__.split(".")[:2]) >= self.since[1:]


PATCHES = (
    Patch(
        "byte-encoder-default",
        "lava.magma.compiler.var_model",
        old="@dataclass\nclass ByteEncoder:",
        new="@dataclass(unsafe_hash=True)\nclass ByteEncoder:",
        cause="dataclasses refuse a default that cannot be hashed: ValueError on import",
        since=("python", 3, 11),
    ),
    Patch(
        "reshape-port-keyword",
        "lava.magma.core.process.ports.ports",
        old="ft.partial(np.reshape, newshape=",
        new="ft.partial(lambda data, new_shape: np.reshape(data, new_shape), new_shape=",
        cause="numpy.reshape has lost newshape (deprecated in 2.1, gone in 2.4): TypeError behind a reshaped port",
        since=("numpy", 2, 1),
    ),
    Patch(
        "convolution-shape-int8",
        "lava.proc.conv.utils",
        old="    x_out = np.floor(\n",
        new="    kernel_size, stride, padding, dilation = ([int(n) for n in pair] for pair in"
        " (kernel_size, stride, padding, dilation)); x_out = np.floor(\n",
        cause="int8 parameters keep their type beside a Python int: OverflowError for pictures wider than 127",
        since=("numpy", 2, 0),
    ),
    Patch(
        "netx-input-scalar",
        "lava.lib.dl.netx.hdf5",
        old=" = int(layer_config[",
        new=" = (lambda array: int(array.item()))(layer_config[",
        cause="int() refuses an array of one element: TypeError for an input layer with weight and bias",
        since=("numpy", 2, 4),
    ),
)


class PatchingLoader(SourceFileLoader):
    """Loads a module from its patched text, without bytecode files, which would outlive the patch."""

    def get_code(self, fullname: str) -> Any:
        """The module's code, compiled from the patched text."""
        text = decode_source(self.get_data(self.path))
        for patch in PATCHES:
            if patch.module == fullname and patch.is_needed():
                text = text.replace(patch.old, patch.new)
        return compile(text, self.path, "exec", dont_inherit=True)


class PatchingFinder:
    """An entry of ``sys.meta_path`` that finds Lava's patched modules where Python would, and changes their loader."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """The spec of a module that needs a patch, with a loader that applies it.

        Args:
            name: full name of the module.
            path: search path of the package that holds it; None for top-level modules.
            target: module that is being reloaded; None otherwise.

        Returns:
            The spec; None for all other modules, which the next finder is asked for.
        """
        needed = any(patch.module == name and patch.is_needed() for patch in PATCHES)
        spec = PathFinder.find_spec(name, path, target) if needed else None
        if spec is None or type(spec.loader) is not SourceFileLoader:
            return None
        spec.loader = PatchingLoader(name, spec.loader.path)
        return spec


def install() -> None:
    """Patch Lava's modules as they are imported, in this process and in its forks; call it before importing Lava."""
    if not any(type(finder).__name__ == PatchingFinder.__name__ for finder in sys.meta_path):
        sys.meta_path.insert(0, PatchingFinder())


# Lava on newer Pythons, end.


def main() -> None:
    """Run the script that the command line names as ``__main__``, with the patches installed.

    Raises:
        SystemExit: if the command line names no script, or one that is missing.
    """
    import os
    import runpy

    if len(sys.argv) < 2:
        raise SystemExit("usage: python -m lbi.system.lava_compat SCRIPT [ARGUMENT ...]")
    script = sys.argv[1]
    if not os.path.isfile(script):
        raise SystemExit(f"error: {script}: no such script")
    del sys.argv[0]
    sys.path[0] = os.path.dirname(os.path.abspath(script))
    install()
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
