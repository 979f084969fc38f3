"""The backends that run an export: lava-nc processes, unmodified Lava-DL, or the simulator, with equal results.

Lava and Lava-DL run in a supervised child process (``lbi.system.supervisor``), in the interpreter named by
``LBI_LAVA_PYTHON`` or, without that variable, in the current one.
"""

from __future__ import annotations

import os
import shutil
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lbi.deploy import targets
from lbi.errors import BackendError, InputError, LbiWarning, MissingPackageError, Problems, Rule, require
from lbi.network.fixed import FixedNetwork
from lbi.system.atomic import scratch_folder

LAVA_PYTHON = "LBI_LAVA_PYTHON"
"""Environment variable that names the interpreter with lava-nc (and lava-dl)."""

LAVA_MISSING = Rule(
    "package-missing",
    fix="install it (docs/howto/lava.md gives pip's two lines), "
    f"set {LAVA_PYTHON} to a Python that has lava-nc, or use --backend sim",
)

IN_INTEGERS = Rule(
    "not-an-export",
    "a folder made by lbi-export, its network.h5, or a .net",
    "lbi-export {path} --target loihi",
)
OTHER_NET = Rule(
    "netx-differs",
    "the network of the export",
    "export the model again, or give the .net itself to run it alone",
)
OTHER_SCRIPT = Rule(
    "script-differs",
    "the script of this version, which is what runs here",
    "export the model again with --force, or run the other itself: python {path} --spikes FILE.npz -o OUT.npz",
)
OUTPUT_SHAPE = Rule("output-shape", "{expected}", "report this")
HAS_OUTPUT = Rule("no-output", fix="run again with --debug to see its output")


@dataclass(frozen=True)
class Export:
    """An export on disk.

    Attributes:
        where: the path as given, for errors.
        fixed: its network in integers.
        network_file: its ``network.h5``, or None.
        net_file: its netx ``.net``, or None.
    """

    where: str
    fixed: FixedNetwork
    network_file: Path | None
    net_file: Path | None


@dataclass(frozen=True)
class Divergence:
    """The first output value on which two backends disagree, by sample, then step, then neuron."""

    sample: int
    step: int
    population: str
    neuron: int
    n_different: int


@dataclass(frozen=True)
class RunOptions:
    """Options of a run.

    Attributes:
        timeout_s: time limit of the child process in seconds.
        echo: repeat the child's output on stderr.
        on_done: called with the number of samples completed since the last call.
        watch: warn where currents wrapped or voltages saturated, whichever backend runs.
    """

    timeout_s: float = 600.0
    echo: bool = False
    on_done: Callable[[int], None] | None = None
    watch: bool = True


def open_export(path: str | Path) -> Export:
    """An export folder, its ``network.h5`` or a ``.net``, opened for a run.

    Args:
        path: the folder or file.

    Returns:
        The network, with the paths of the files that backends read.

    Raises:
        InputError: for anything else, naming everything that is wrong with the file.
    """
    path = Path(path)
    network = targets.load(path)
    if not isinstance(network, FixedNetwork):
        raise InputError(IN_INTEGERS.broken(str(path), "is a float model", path=path))
    folder = path if os.path.isdir(path) else None
    if folder is not None:
        net = folder / "network.net"
        return Export(str(path), network, folder / targets.NETWORK_FILE, net if net.is_file() else None)
    if path.suffix == ".net":
        return Export(str(path), network, None, path)
    return Export(str(path), network, path, None)


def run(export: Export, spikes: NDArray[np.uint8], backend: str, options: RunOptions) -> NDArray[Any]:
    """The output of an export for given input spikes, computed by one backend.

    Args:
        export: the opened export.
        spikes: (n_samples, n_steps, n_in), 0 and 1.
        backend: a key of ``BACKENDS``.
        options: time limit, echo and progress.

    Returns:
        The output as ``Activity.output``, aligned to the input: (n_samples, n_steps, n_out), spikes as uint8
        or, for a membrane readout, voltages as int32.

    Raises:
        InputError: if the backend cannot hold the network.
        BackendError: if it fails, is absent or exceeds the time limit.

    Warns:
        SaturationWarning: where currents wrapped or voltages saturated.
    """
    output = BACKENDS[backend](export, spikes, options)
    expected = (*spikes.shape[:2], export.fixed.n_out)
    if output.shape != expected:
        raise BackendError(OUTPUT_SHAPE.broken(f"backend {backend}", output.shape, expected=expected))
    if options.watch and backend != "sim":
        _warn_of_saturation(export.fixed, spikes)
    return output


def _warn_of_saturation(fixed: FixedNetwork, spikes: NDArray[np.uint8]) -> None:
    """Warn as the simulator does of states that left their range; Lava keeps no count of them.

    The simulator's states equal Lava's, so its counts on the same samples are Lava's. It runs only where the weights
    do not rule out every wrap and saturation, and takes a small part of Lava's time.
    """
    from lbi.simulation.bounds import state_bounds
    from lbi.simulation.run import simulate

    bounds = state_bounds(fixed, spikes.shape[1]).values()
    if any(bound.may_wrap.any() or bound.may_clip.any() for bound in bounds):
        simulate(fixed, spikes)


def other_backend(backend: str) -> str:
    """The backend that ``--verify`` compares with.

    Args:
        backend: ``lava``, ``netx`` or ``sim``.

    Returns:
        The other backend's name.
    """
    return "lava" if backend == "sim" else "sim"


def first_divergence(one: NDArray[Any], other: NDArray[Any], population: str) -> Divergence | None:
    """Where two outputs (n_samples, n_steps, n_out) first differ, or None if they are equal.

    Args:
        one: an output.
        other: another of the same shape.
        population: name of the output, for the message.

    Returns:
        Sample, step, population and neuron.
    """
    different = one != other
    n_different = int(np.count_nonzero(different))
    if not n_different:
        return None
    sample, step, neuron = (int(index) for index in np.unravel_index(different.argmax(), different.shape))
    return Divergence(sample, step, population, neuron, n_different)


def _run_sim(export: Export, spikes: NDArray[np.uint8], options: RunOptions) -> NDArray[Any]:
    from lbi.simulation.run import simulate

    return simulate(export.fixed, spikes, on_done=options.on_done).output


def _run_lava(export: Export, spikes: NDArray[np.uint8], options: RunOptions) -> NDArray[Any]:
    from lbi.exporters import lava
    from lbi.files import network_h5

    Problems(lava.check_network(export.fixed)).raise_as(InputError)
    _warn_of_other_script(export)

    def prepare(folder: Path) -> Path:
        if export.network_file is not None:
            return export.network_file.resolve()
        network_h5.save(export.fixed, folder / "network.h5")
        return folder / "network.h5"

    return _in_child("lava", lava.SCRIPT, lava.write_script, prepare, spikes, options)


def _run_netx(export: Export, spikes: NDArray[np.uint8], options: RunOptions) -> NDArray[Any]:
    from lbi.exporters import netx

    _warn_of_other_net(export)

    def prepare(folder: Path) -> Path:
        if export.net_file is not None and not _has_input_neurons(export.net_file):
            return export.net_file.resolve()
        netx.write(export.fixed, folder / "network.net")
        return folder / "network.net"

    def write_script(path: Path) -> None:
        shutil.copyfile(str(files("lbi.exporters") / path.name), path)

    return _in_child("netx", "run_netx.py", write_script, prepare, spikes, options)


def _warn_of_other_net(export: Export) -> None:
    """Warn if an export's ``network.net``, which runs, is another network than its ``network.h5``."""
    from lbi.exporters import netx
    from lbi.files import network_h5
    from lbi.files.netx import reader

    if export.network_file is None or export.net_file is None or _has_input_neurons(export.net_file):
        return
    same = False
    with scratch_folder() as folder:
        own = folder / export.net_file.name
        if not netx.check_network(export.fixed):
            netx.write(export.fixed, own)
            for i, path in enumerate((own, export.net_file)):
                network_h5.save(reader.load(path), folder / f"{i}.h5")
            same = (folder / "0.h5").read_bytes() == (folder / "1.h5").read_bytes()
    if not same:
        found = f"another network than {export.network_file.name}"
        warnings.warn(str(OTHER_NET.broken(str(export.net_file), found)), LbiWarning, stacklevel=2)


def _warn_of_other_script(export: Export) -> None:
    """Warn if an export's ``run_lava.py`` is another one than this version's, which runs: a stranger's code never does."""
    from lbi.exporters import lava

    script = None if export.network_file is None else export.network_file.with_name(lava.SCRIPT)
    if script is None or not script.is_file():
        return
    with scratch_folder() as folder:
        lava.write_script(folder / lava.SCRIPT)
        same = (folder / lava.SCRIPT).read_bytes() == script.read_bytes()
    if not same:
        problem = OTHER_SCRIPT.broken(str(script), "another script", path=script)
        warnings.warn(str(problem), LbiWarning, stacklevel=2)


def _has_input_neurons(path: Path) -> bool:
    """True if a netx file feeds its input into neurons as a bias, so that it cannot take spikes as it is."""
    import h5py

    with h5py.File(path, "r") as file:
        return "neuron" in file["layer/0"]


def _in_child(
    backend: str,
    script: str,
    write_script: Callable[[Path], None],
    prepare: Callable[[Path], Path],
    spikes: NDArray[np.uint8],
    options: RunOptions,
) -> NDArray[Any]:
    """Run an exporter's script in a supervised child, with input and output in a scratch folder."""
    from lbi.system.supervisor import run_script

    python = os.environ.get(LAVA_PYTHON) or None
    if python is None:
        _require_lava(backend)
    with scratch_folder() as folder:
        network = prepare(folder)
        write_script(folder / script)
        np.savez(folder / "input.npz", spikes=spikes)
        arguments = [str(network), "--spikes", str(folder / "input.npz"), "-o", str(folder / "output.npz")]
        while_running = None
        if options.on_done is not None:
            arguments += ["--progress", str(folder / "progress")]
            while_running = _reader(folder / "progress", options.on_done)
        run_script(
            folder / script,
            arguments,
            where=f"backend {backend}",
            timeout_s=options.timeout_s,
            python=python,
            echo=options.echo,
            while_running=while_running,
        )
        if not (folder / "output.npz").is_file():
            raise BackendError(HAS_OUTPUT.broken(f"backend {backend}", "ended without writing its output"))
        with np.load(folder / "output.npz", allow_pickle=False) as file:
            output: NDArray[Any] = file["membrane" if "membrane" in file else "spikes"]
        return output


def _reader(path: Path, on_done: Callable[[int], None]) -> Callable[[], None]:
    """A function that passes on the numbers appended to a file since its last call."""
    n_read = 0

    def read() -> None:
        nonlocal n_read
        lines = path.read_text().split("\n")[:-1] if path.is_file() else []
        for line in lines[n_read:]:
            on_done(int(line))
        n_read = len(lines)

    return read


def _require_lava(backend: str) -> None:
    package = {"lava": "lava.magma", "netx": "lava.lib.dl"}[backend]
    try:
        require(package, "lava")
    except MissingPackageError as error:
        raise MissingPackageError(
            LAVA_MISSING.broken(f"backend {backend}", f"{package} is not installed here")
        ) from error


BACKENDS: dict[str, Callable[[Export, NDArray[np.uint8], RunOptions], NDArray[Any]]] = {
    "lava": _run_lava,
    "netx": _run_netx,
    "sim": _run_sim,
}
"""``--backend`` → function that runs an export."""
