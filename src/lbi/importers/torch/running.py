"""Running a copy of a model: in float64, with every call of a neuron module handed to a session.

A session traces (``tracing``) or records (``proof``). Both see the model's own forward pass, hooks included.
"""

from __future__ import annotations

import functools
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from lbi.importers.torch import registry
from lbi.importers.torch.layer import Neurons

NARROW = (torch.float32, torch.float16, torch.bfloat16)
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
"""Packages whose frames are not the user's source."""


@dataclass(frozen=True)
class Site:
    """A neuron module of the running copy: its path, what its class is, and its own forward."""

    path: str
    module: Any
    neurons: Neurons
    forward: Callable[..., Any]

    @property
    def where(self) -> str:
        """For messages."""
        return f"module {self.path or type(self.module).__name__!r}"


class Session(Protocol):
    """Takes every call of a neuron module."""

    def call(self, site: Site, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run the module's own forward, or what stands for it, and give its result."""


def sites(model: nn.Module, extra: Callable[[Any], Neurons | None] = lambda module: None) -> list[Site]:
    """The neuron modules of a copy. ``extra``: further classes that count as such."""
    found: list[Site] = []
    for path, module in model.named_modules():
        neurons = registry.neurons_of(module) or extra(module)
        if neurons is not None and not any(path.startswith(f"{site.path}.") for site in found):
            found.append(Site(path, module, neurons, module.forward))
    return found


class Widened(TorchDispatchMode):
    """Every float is a float64 on the CPU, also where the model's code asks for another type or device.

    widen: False leaves the types as they are, for arithmetic that is exact in float32 alone
    """

    def __init__(self, *, widen: bool = True) -> None:
        super().__init__()
        self.widen = widen

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """False: the default would import torch's compiler, which takes seconds."""
        return False

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation of the model."""
        if not self.widen:
            return func(*args, **(kwargs or {}))
        return func(*widened(func, args), **widened_options(kwargs))


def widened_options(kwargs: dict[str, Any] | None) -> dict[str, Any]:
    """Keyword arguments of an operation that asks for float64 on the CPU instead."""
    found = dict(kwargs or {})
    if found.get("dtype") in NARROW:
        found["dtype"] = torch.float64
    if found.get("device") is not None:
        found["device"] = torch.device("cpu")
    return found


def widened(func: Any, args: Any) -> Any:
    """Arguments of an operation that returns new values: float constants of the code meet float64."""
    if func._schema.is_mutable:
        return args
    return tuple(
        arg.double()
        if isinstance(arg, Tensor) and arg.dtype in NARROW and arg.dim() and arg.layout is torch.strided
        else arg
        for arg in args
    )


@contextmanager
def session_of(places: Sequence[Site], session: Session, mode: Widened) -> Iterator[None]:
    """Hand the calls of these modules to a session, within ``mode``."""
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
            with mode, torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                yield
        finally:
            if compiled:
                stance.__exit__(None, None, None)
            torch.set_default_dtype(default)
            for site in places:
                del site.module.forward


def _called(session: Session, site: Site, *args: Any, **kwargs: Any) -> Any:
    return session.call(site, args, kwargs)


def forget(places: Sequence[Site], n_samples: int = 1) -> None:
    """Reset the state of every neuron module, as its framework does."""
    for site in places:
        site.neurons.reset(site.module)
        if site.neurons.time_axis(site.module) == -1:
            site.module.batch_size, site.module.num_timesteps = n_samples, -1


def run_model(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call the model's code; ``place`` looks no further out than this frame."""
    return function(*args, **kwargs)


@dataclass(frozen=True)
class Place:
    """Where the model's code stands.

    source: file:line of the user's own code, or an empty string · module: the innermost module, or None
    of_library: True if that module's class is a framework's, whose source says nothing to the user
    """

    source: str
    module: nn.Module | None
    of_library: bool


def place(frame: FrameType | None = None, trace: Any = None) -> Place:
    """The place at which the model's code stands now, or stood when an error was raised (``trace``)."""
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


def _package(name: str) -> str:
    return name.split(".")[0]
