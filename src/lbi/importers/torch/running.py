"""Execution of a model's copy in float64, with every call of a neuron module passed to a session.

A session traces (``tracing``) or records (``proof``). Both see the model's own forward pass, including hooks.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lbi.importers.torch import registry
from lbi.importers.torch.initial import InitialState
from lbi.importers.torch.layer import Neurons

HALVES = (torch.float16, torch.bfloat16)
"""Types of floats whose rounding is visible: 1/2048 and 1/256 of a number."""

NARROW = (torch.float32, *HALVES)
"""Types of floats that become float64."""

LIBRARIES = {
    "torch",
    "snntorch",
    "norse",
    "spikingjelly",
    "sinabs",
    "lava",
    "lbi",
    "functools",
    "contextlib",
    "copy",
}
"""Packages whose stack frames are not user code."""


@dataclass(frozen=True)
class Site:
    """A neuron module of the running copy: its path, the record of its class, and its own forward."""

    path: str
    module: Any
    neurons: Neurons
    forward: Callable[..., Any]

    called = True

    @property
    def where(self) -> str:
        """Its place, for errors."""
        return f"module {self.path or type(self.module).__name__!r}"


@dataclass(frozen=True)
class Written(Site):
    """The place of neurons that the model's own code computes: no module of theirs is called.

    Attributes:
        source: file:line of the comparison with their threshold.
    """

    source: str = ""

    called = False

    @property
    def where(self) -> str:
        """Its place, for errors."""
        return f"the neurons at {self.source}"


class Sites(list[Site]):
    """The neuron modules of a copy, and the state that its other modules had before the first run.

    Args:
        found: the neuron modules.
        initial: the state of all other modules.
    """

    def __init__(self, found: Sequence[Site], initial: InitialState) -> None:
        super().__init__(found)
        self.initial = initial


class Session(Protocol):
    """Receiver of all calls of neuron modules."""

    def call(self, site: Site, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the module's own forward or a substitute, and return its result.

        Args:
            site: the neuron module.
            args: positional arguments.
            kwargs: keyword arguments.

        Returns:
            The result that the module's call returns.
        """


def sites(model: nn.Module, extra: Callable[[Any], Neurons | None] = lambda module: None) -> Sites:
    """The neuron modules of a copy; ``extra`` lists further classes to include.

    Args:
        model: the copy.
        extra: the record of a class that is not registered, or None.

    Returns:
        The sites, with the state in which the copy's other modules are now.
    """
    found: list[Site] = []
    for path, module in model.named_modules():
        neurons = registry.neurons_of(module) or extra(module)
        if neurons is not None and not any(path.startswith(f"{site.path}.") for site in found):
            found.append(Site(path, module, neurons, module.forward))
    return Sites(found, InitialState(model, [site.module for site in found]))


class Widened(TorchDispatchMode):
    """Mode in which every float is a float64 on the CPU, even if the model's code requests another type or device.

    Args:
        widen: False keeps all types, for arithmetic that is exact only in float32.

    Attributes:
        halves: type → where the model's code first requested it, an empty string outside of user code.
    """

    def __init__(self, *, widen: bool = True) -> None:
        super().__init__()
        self.widen = widen
        self.halves: dict[torch.dtype, str] = {}

    def watched(self) -> AbstractContextManager[None]:
        """A context for the model's code, besides the mode."""
        return nullcontext()

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: the default would import torch's compiler, which takes seconds."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation of the model."""
        args, kwargs = self.widened(func, args, kwargs or {})
        return func(*args, **kwargs)

    def widened(self, func: Any, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """Arguments of an operation, with float64 and the CPU in place of others; half precision is noted.

        Args:
            func: the operation.
            args: positional arguments.
            kwargs: keyword arguments.

        Returns:
            Both kinds of arguments; those given if ``widen`` is False.
        """
        if not self.widen:
            return args, kwargs
        self.note_half(kwargs.get("dtype"))
        return widened(func, args), widened_options(kwargs)

    def note_half(self, dtype: torch.dtype | None) -> None:
        """Note where the model's code first requests half precision.

        Args:
            dtype: the type that it requests.
        """
        if dtype in HALVES and dtype not in self.halves:
            self.halves[dtype] = place().source


def widened_options(kwargs: dict[str, Any]) -> dict[str, Any]:
    """Keyword arguments of an operation, with float64 and CPU in place of others.

    Args:
        kwargs: keyword arguments.

    Returns:
        The arguments.
    """
    found = dict(kwargs)
    if found.get("dtype") in NARROW:
        found["dtype"] = torch.float64
    if found.get("device") is not None:
        found["device"] = torch.device("cpu")
    return found


def widened(func: Any, args: Any) -> Any:
    """Arguments of an operation that returns new values: float constants of the code meet float64.

    Args:
        func: the operation.
        args: its arguments.

    Returns:
        The arguments.
    """
    if func._schema.is_mutable:
        return args
    return tuple(
        arg.double()
        if isinstance(arg, Tensor) and arg.dtype in NARROW and arg.dim() and arg.layout is torch.strided
        else arg
        for arg in args
    )


@contextmanager
def _autocast_noted(mode: Widened) -> Iterator[None]:
    """Note the types of autocast, which leaves the float64 of a copy alone, so that no operation shows them."""
    enter = torch.autocast.__enter__

    def noted(context: torch.autocast) -> Any:
        if context._enabled:
            mode.note_half(context.fast_dtype)
        return enter(context)

    torch.autocast.__enter__ = noted  # type: ignore[method-assign]
    try:
        yield
    finally:
        torch.autocast.__enter__ = enter  # type: ignore[method-assign]


@contextmanager
def session_of(places: Sequence[Site], session: Session, mode: Widened, seed: int = 0) -> Iterator[None]:
    """A context in which the calls of neuron modules go to a session, and the model's operations run within a mode.

    Inside it, gradients are off, warnings are ignored, compiled models run eagerly, and the default type of floats is
    float64 if the mode widens. At the end all of this is restored, and so is torch's random number generator on the CPU.

    Args:
        places: the neuron modules, whose ``forward`` is replaced.
        session: receives their calls.
        mode: the mode; it also notes the types of autocast.
        seed: seed of torch's random numbers.
    """
    default, compiled = torch.get_default_dtype(), "torch._dynamo" in sys.modules
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # the model's own
        for site in places:
            site.module.forward = functools.wraps(site.forward)(functools.partial(_called, session, site))
        if mode.widen:
            torch.set_default_dtype(torch.float64)
        if compiled:
            stance = torch.compiler.set_stance("force_eager")
            stance.__enter__()
        try:
            with (
                mode,
                mode.watched(),
                _autocast_noted(mode),
                _registered(places),
                torch.random.fork_rng(devices=[]),
            ):
                torch.manual_seed(seed)
                yield
        finally:
            if compiled:
                stance.__exit__(None, None, None)
            torch.set_default_dtype(default)
            for site in places:
                del site.module.forward


@contextmanager
def _registered(places: Sequence[Site]) -> Iterator[None]:
    """Put the copy's neurons in the place of all others in their framework's lists.

    snnTorch's ``utils.reset`` and ``reset_hidden`` reset the modules of such a list, to which a copy does not belong.
    """
    lists: dict[int, tuple[list[Any], list[Any]]] = {}
    for site in places:
        found = site.neurons.instances(site.module)
        if found is not None:
            lists.setdefault(id(found), (found, []))[1].append(site.module)
    before = [(found, list(found)) for found, _ in lists.values()]
    for found, own in lists.values():
        found[:] = own
    try:
        yield
    finally:
        for found, content in before:
            found[:] = content


def _called(session: Session, site: Site, *args: Any, **kwargs: Any) -> Any:
    return session.call(site, args, kwargs)


def forget(places: Sites, n_samples: int = 1) -> None:
    """Reset the state of all neuron modules as their framework does, and restore that of all other modules.

    Args:
        places: the neuron modules.
        n_samples: samples of the next batch.
    """
    places.initial.restore()
    for site in places:
        site.neurons.reset(site.module)
        if site.neurons.time_axis(site.module) == -1:
            site.module.batch_size, site.module.num_timesteps = n_samples, -1


def run_model(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call the model's code; ``place`` searches the stack up to this frame.

    Args:
        function: the model, or one of its modules.
        *args: positional arguments.
        **kwargs: keyword arguments.

    Returns:
        What the function returns.
    """
    return function(*args, **kwargs)


@dataclass(frozen=True)
class Place:
    """A place in the model's code.

    Attributes:
        source: file:line of the user's own code, or an empty string.
        module: the innermost module, or None.
        of_library: True if the module's class belongs to a framework.
    """

    source: str
    module: nn.Module | None
    of_library: bool


def place(frame: FrameType | None = None, trace: Any = None) -> Place:
    """The current place in the model's code, or the one at which an error was raised (``trace``).

    Args:
        frame: the innermost frame of the search; None for the caller's, or for the frames of ``trace`` alone.
        trace: traceback of an error, whose frames are searched first; None for no error.

    Returns:
        The innermost line of the user's own code, and the innermost module, up to the frame of ``run_model``.
    """
    frames: list[tuple[FrameType, int]] = []
    while trace is not None:
        frames.insert(0, (trace.tb_frame, trace.tb_lineno))
        trace = trace.tb_next
    frame = frame or (None if frames else sys._getframe(1))
    while frame is not None:
        frames.append((frame, frame.f_lineno))
        frame = frame.f_back
    source, module, inner = "", None, ""
    for at, line in frames:
        if at.f_code is run_model.__code__:
            break
        owner = at.f_locals.get("self")
        if module is None and isinstance(owner, nn.Module) and not isinstance(owner, TorchDispatchMode):
            module, inner = owner, _package(type(owner).__module__)
        if not source and _package(at.f_globals.get("__name__", "")) not in LIBRARIES:
            source = f"{at.f_code.co_filename}:{line}"
    return Place(source, module, inner in LIBRARIES)


def calls() -> tuple[tuple[str, int, int], ...]:
    """The places in the user's own code that lead here, the innermost first, up to the frame of ``run_model``.

    Returns:
        File, line and instruction of each.
    """
    found = []
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code is not run_model.__code__:
        if _package(frame.f_globals.get("__name__", "")) not in LIBRARIES:
            found.append((frame.f_code.co_filename, frame.f_lineno, frame.f_lasti))
        frame = frame.f_back
    return tuple(found)


def _package(name: str) -> str:
    return name.split(".")[0]
