"""Registry of neuron classes: framework → module → class → its record.

A framework is one file and one row here. Modules are identified by their class, or by the known class that theirs derives from
without overriding anything but ``__init__``. Any other subclass, or a module with a replaced ``forward``, is traced like any
other code.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from lbi.importers.torch import norse, sinabs, snntorch, spikingjelly
from lbi.importers.torch.layer import Neurons

FRAMEWORKS: dict[str, Mapping[str, Mapping[str, Neurons]]] = {
    "snntorch": snntorch.MODULES,
    "norse": norse.MODULES,
    "spikingjelly": spikingjelly.MODULES,
    "sinabs": sinabs.MODULES,
}
"""Framework → module that users import from → class → its record."""


class _Plain:
    """A class that overrides nothing: what every Python writes into a class is in its own attributes."""

    some: int


HARMLESS = {*vars(_Plain), "__init__", "__repr__", "__str__", "extra_repr", "__slots__"}
"""Attributes that a subclass may override without changing what its neurons do; the proof runs the subclass itself."""


def rows() -> Iterator[tuple[str, str, str, Neurons]]:
    """All rows: framework, module, class, record."""
    for framework, modules in FRAMEWORKS.items():
        for module, classes in modules.items():
            for name, neurons in classes.items():
                yield framework, module, name, neurons


def neurons_of(module: Any) -> Neurons | None:
    """The record of a module's class; None for unknown classes, changed ones, and modules with a replaced ``forward``.

    Args:
        module: a torch module.

    Returns:
        The record.
    """
    if "forward" in vars(module):
        return None
    cls, _, neurons = _base(module)
    return None if cls is None or _overridden(module, cls) else neurons


def derived_from(module: Any) -> str:
    """The name of the known class from which a module's class derives, or an empty string.

    Args:
        module: a torch module.

    Returns:
        The name.
    """
    return _base(module)[1]


def changes(module: Any) -> str:
    """What makes a module another than the known class from which it derives, for errors.

    Args:
        module: a torch module of such a class.

    Returns:
        Such as "overrides neuronal_charge".
    """
    cls, name, _ = _base(module)
    if "forward" in vars(module):
        return "brings a forward of its own"
    names = [] if cls is None else _overridden(module, cls)
    return f"overrides {', '.join(names)} of {name}" if names else f"is not {name} itself"


def _base(module: Any) -> tuple[type | None, str, Neurons | None]:
    """The first known class among those that a module's class derives from, its name and its record."""
    loaded = {cls: (cls, name, neurons) for cls, name, neurons in _loaded()}
    return next((loaded[cls] for cls in type(module).__mro__ if cls in loaded), (None, "", None))


def _overridden(module: Any, known: type) -> list[str]:
    """Attributes of a known class that the class of a module overrides, in it or in its other bases."""
    added = [cls for cls in type(module).__mro__ if cls not in known.__mro__]
    names = dict.fromkeys(name for cls in added for name in vars(cls) if name not in HARMLESS)
    return [name for name in names if hasattr(known, name)]


def known() -> str:
    """All rows as text, for errors."""
    return " · ".join(
        f"{framework}: {', '.join(name for classes in modules.values() for name in classes)}"
        for framework, modules in FRAMEWORKS.items()
    )


def _loaded() -> list[tuple[type, str, Neurons]]:
    """Classes of the frameworks that the process has imported (a model's own are among them), with their names."""
    return [
        (cls, f"{module}.{name}", neurons)
        for _, module, name, neurons in rows()
        if isinstance(cls := getattr(sys.modules.get(module), name, None), type)
    ]
