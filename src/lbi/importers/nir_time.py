"""The time step of a NIR file, the conventions of its writer, and the properties that the format cannot hold.

NIR has no time step. It follows from a file only if R = τ/dt for neurons with several different τ, or if the file
identifies its writer by metadata or by a constant. A single τ is not enough, since R may be a resistance.
Sources: snntorch 1.0.0 ``export_nir.py``, norse 1.1.0 ``torch/utils/export_nir.py``, sinabs 3.1.3 ``nir.py``,
spikingjelly 2.0.0 ``activation_based/nir_exchange``, rockpool 3.1.0 ``nn/modules/torch/nir.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lbi.errors import InputError, LbiWarning, Rule, UsageError
from lbi.importers.nir_graph import SPIKING, Graph

USUAL_DT = 1e-4
"""Seconds per step that snnTorch hard-codes and spikingjelly has as default."""


class Writer(NamedTuple):
    """The conventions of a framework's NIR files.

    Attributes:
        dt: seconds per step; None if it follows from the file.
        decay: fraction lost per step, as a function of (dt, τ).
        full_current: input enters the current without the factor dt/τ_syn.
        full_voltage: the current enters the voltage without the factor dt/τ_mem.
        share: factor of the current that enters the voltage, as a function of (dt, τ), if it is not the decay.
        at_threshold: a neuron fires at v ≥ threshold, not only above it.
        loses: properties of the model that the file does not contain; may be empty.
    """

    dt: float | None
    decay: Callable[[float, Any], Any]
    full_current: bool = False
    full_voltage: bool = False
    share: Callable[[float, Any], Any] | None = None
    at_threshold: bool = False
    loses: str = ""


def _euler(dt: float, tau: Any) -> Any:
    return dt / tau


def _exponential(dt: float, tau: Any) -> Any:
    return -np.expm1(-dt / tau)


WRITERS = {
    "nir": Writer(None, _euler),  # the specification
    "snntorch": Writer(
        USUAL_DT,
        _euler,
        loses="reset by subtraction (reset_mechanism='subtract', its default), a reset one step late"
        " (reset_delay=True, its default), graded_spikes_factor, inhibition",
    ),
    # norse writes τ = dt / tau_inv where tau_inv = 1/τ, that is dt·τ; input enters its current at full weight,
    # before the current decays.
    "norse": Writer(
        1e-3,
        lambda dt, tau: dt * dt / tau,
        full_current=True,
        loses="v_reset other than 0, and reset methods other than to a value",
    ),
    # sinabs counts τ in steps and decays by exp(−1/τ); its input enters at full weight.
    "sinabs": Writer(
        1.0,
        _exponential,
        full_current=True,
        full_voltage=True,
        at_threshold=True,
        loses="norm_input (its default for LIF and ExpLeak), several spikes a step (MultiSpike, its default),"
        " reset by subtraction (MembraneSubtract, its default), min_v_mem, recurrence, tau_syn",
    ),
    "spikingjelly": Writer(USUAL_DT, _euler, at_threshold=True),
    # rockpool writes R = (τ/dt)·exp(−dt/τ): its synapse decays in the step in which input arrives.
    "rockpool": Writer(
        None,
        _exponential,
        share=_euler,
        loses="reset by subtraction, several spikes a step, biases, recurrent weights, noise",
    ),
}
"""``writer`` → its conventions."""

WRITER = Rule("unknown-writer", ", ".join(WRITERS), "name the framework that wrote the file, or leave it out")
TIME_STEP = Rule("time-step", "seconds above 0", "give the seconds that a step of the trained model took")
NO_STEP = Rule(
    "no-time-step",
    "a step that the file decides: R = τ/dt for several different τ",
    "give dt in seconds (--dt), or the framework that wrote the file (--writer): " + ", ".join(WRITERS),
)
ROCKPOOL = Rule(
    "rockpool-neuron",
    "neurons that reset to 0 and spike once a step",
    "train with a reset to 0, or read it as the specification has it: --writer nir --dt S",
)


class NirWarning(LbiWarning):
    """Warning that a NIR file may not describe its writer's model completely."""


class TimeStep(NamedTuple):
    """Seconds per step, their origin in words, and the key in ``WRITERS`` by which the file is read."""

    seconds: float
    source: str
    writer: str


def time_step(
    graph: Graph, where: str, given: float | None, own: float | None, writer: str | None
) -> TimeStep:
    """The time step of a file.

    Args:
        graph: the file, flat.
        where: the file, for messages.
        given: seconds given by the user.
        own: seconds in the file's metadata.
        writer: key of ``WRITERS`` given by the user.

    Returns:
        The step and the conventions by which the file is read.

    Raises:
        UsageError: for a step that is not above 0, or an unknown writer.
        InputError: if the step is neither given nor implied.
    """
    if writer is not None and writer not in WRITERS:
        raise UsageError(WRITER.broken("writer", repr(writer)))
    name = writer or "nir"
    if given is not None:
        if not (np.isfinite(given) and given > 0):
            raise UsageError(TIME_STEP.broken("dt", given))
        return TimeStep(float(given), "given", name)
    if own is not None:
        return TimeStep(float(own), "file", name)
    if (usual := WRITERS[name].dt) is not None:
        return TimeStep(usual, f"{name}'s default", name)
    euler = _euler_steps(graph)
    if name == "nir" and (step := _common(euler)) is not None and step < 1:
        taus = _taus(graph)
        if _differ(taus):
            return TimeStep(step, f"R = τ/dt for τ from {taus.min():g} to {taus.max():g}", name)
        if np.isclose(step, USUAL_DT, rtol=1e-4) and _resistances_tell(graph):
            return TimeStep(step, "R = τ/dt with the 0.0001 s of snnTorch and spikingjelly", name)
    elif name == "nir" and not euler.size and _all(graph, "IF", "r", 1 / USUAL_DT):
        return TimeStep(USUAL_DT, "R = 1/dt with the 0.0001 s of spikingjelly", name)
    step = _common(_rockpool_steps(graph))
    if step is not None and name == "rockpool":
        return TimeStep(step, "R = τ/dt · exp(−dt/τ), as rockpool writes it", "rockpool")
    if step is not None and writer is None and _differ(_membrane_taus(graph)):
        return TimeStep(step, "R = τ/dt · exp(−dt/τ), as rockpool writes it", "rockpool")
    raise InputError(NO_STEP.broken(where, _undecided(graph)))


def _undecided(graph: Graph) -> str:
    found = "no time step in the file, and its time constants have no agreed unit"
    steps, taus = _euler_steps(graph), _taus(graph)
    if not taus.size:
        return f"{found}; no neuron leaks"
    if _common(steps) is not None:
        return f"{found}; R = τ/dt would be {steps[0]:g} s, which the one τ of {taus[0]:g} does not show"
    return f"{found}; τ/R is {steps.min():g} to {steps.max():g}"


def losses(graph: Graph, step: TimeStep) -> list[str]:
    """Properties of the original model that a file may not contain: one line per writer that it resembles.

    Args:
        graph: the file, flat; not one of this package's own.
        step: time step and conventions by which the file is read.

    Returns:
        The lines.
    """
    found = [step.writer] if step.writer != "nir" else []
    if not found and _looks_like_snntorch(graph):
        found.append("snntorch")
    if not found and _looks_like_sinabs(graph):
        found.append("sinabs")
    rockpools = _common(_euler_steps(graph)) is None and _common(_rockpool_steps(graph)) is not None
    if not found and rockpools and _differ(_membrane_taus(graph)):
        found.append("rockpool")
    notes = []
    for name in found:
        if WRITERS[name].loses:
            known = step.writer == name
            notes.append(
                f"the file {'is read as' if known else 'looks like'} {name}'s, and NIR does not hold: "
                f"{WRITERS[name].loses}. A model with any of these spikes differently: import the model itself"
                f" (--arch, lbi.importers.from_torch){'' if known else f', or say --writer {name}'}"
            )
    return notes


def check_rockpool(graph: Graph, where: str, step: TimeStep) -> None:
    """Raise InputError naming every spiking neuron of a rockpool file: they subtract their threshold.

    Args:
        graph: the file, flat.
        where: the file, for messages.
        step: time step and conventions.

    Raises:
        InputError: naming the neurons.
    """
    if step.writer != "rockpool":
        return
    found = [
        ROCKPOOL.broken(
            f"{where}, node {name!r}",
            f"a rockpool {type(node).__name__}, which subtracts its threshold, spikes several times a step,"
            " and loses its bias and recurrent weights in NIR",
        )
        for name, node in graph.neurons()
        if type(node).__name__ in SPIKING
    ]
    if found:
        raise InputError(*found)


def _looks_like_snntorch(graph: Graph) -> bool:
    """True if R = τ/0.0001 everywhere and there is no leak potential."""
    steps = _euler_steps(graph)
    alike = steps.size > 0 and bool(np.allclose(steps, USUAL_DT, rtol=1e-4, atol=0))
    return alike and _resistances_tell(graph) and not _spread(graph, "v_leak").any()


def _looks_like_sinabs(graph: Graph) -> bool:
    """True if R = 1 everywhere, without leak potentials and currents, and τ counts steps."""
    kinds = {type(node).__name__ for _, node in graph.neurons()}
    resistances, taus = _spread(graph, "r"), _taus(graph)
    return (
        bool(kinds)
        and kinds <= {"LIF", "LI", "IF"}
        and bool(np.all(resistances == 1))
        and not _spread(graph, "v_leak").any()
        and (taus.size == 0 or taus.min() >= 1)
    )


def _resistances_tell(graph: Graph) -> bool:
    """False if every R is 1, as in files of writers without R."""
    return bool(np.any(_spread(graph, "r") != 1))


def _all(graph: Graph, kind: str, key: str, value: float) -> bool:
    nodes = [node for _, node in graph.neurons() if type(node).__name__ == kind]
    return bool(nodes) and all(np.allclose(getattr(node, key), value, rtol=1e-4, atol=0) for node in nodes)


def _spread(graph: Graph, key: str) -> NDArray[np.float64]:
    """A parameter of all neurons that have it, as one flat array."""
    return _joined([getattr(node, key) for _, node in graph.neurons() if hasattr(node, key)])


def _taus(graph: Graph) -> NDArray[np.float64]:
    return np.concatenate([_spread(graph, key) for key in ("tau", "tau_mem", "tau_syn")])


def _membrane_taus(graph: Graph) -> NDArray[np.float64]:
    """The time constants that belong to a resistance: one alone agrees with any step."""
    return np.concatenate([_spread(graph, key) for key in ("tau", "tau_mem")])


def _euler_steps(graph: Graph) -> NDArray[np.float64]:
    """The time step τ/R of every neuron, and of every current with an input weight."""
    leaky = [(node, "tau_mem" if hasattr(node, "tau_mem") else "tau") for _, node in graph.neurons()]
    steps = [_ratio(getattr(node, key), node.r) for node, key in leaky if hasattr(node, key)]
    return _joined(steps + [_ratio(node.tau_syn, node.w_in) for node, _ in leaky if hasattr(node, "w_in")])


def _rockpool_steps(graph: Graph) -> NDArray[np.float64]:
    """The time step dt of every neuron from R = (τ/dt)·exp(−dt/τ), solved for x = dt/τ by Newton's method on x·eˣ = 1/R."""
    found = []
    for _, node in graph.neurons():
        tau = getattr(node, "tau_mem", getattr(node, "tau", None))
        resistance = np.asarray(node.r, dtype=np.float64)
        if tau is None or not np.all(np.isfinite(resistance) & (resistance > 0)):
            return np.zeros(0)
        x = np.log1p(1 / resistance)
        for _ in range(20):
            x = x - (x * np.exp(x) - 1 / resistance) / (np.exp(x) * (1 + x))
        found.append(x * np.asarray(tau, dtype=np.float64))
    return _joined(found)


def _ratio(above: Any, below: Any) -> NDArray[np.float64]:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(above, dtype=np.float64) / np.asarray(below, dtype=np.float64)


def _joined(parts: list[Any]) -> NDArray[np.float64]:
    flat = [np.asarray(part, dtype=np.float64).reshape(-1) for part in parts]
    return np.concatenate(flat) if flat else np.zeros(0)


def _common(steps: NDArray[np.float64]) -> float | None:
    """The step on which all values agree, or None."""
    if not steps.size or not np.all(np.isfinite(steps)) or not np.all(steps > 0):
        return None
    return float(np.median(steps)) if np.ptp(steps) <= 1e-4 * steps.max() else None


def _differ(taus: NDArray[np.float64]) -> bool:
    return bool(taus.size) and bool(taus.max() > 1.01 * taus.min())
