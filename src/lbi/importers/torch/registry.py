"""The neuron classes that are known: framework → where its classes are found → class → what it is.

A framework is one file and one row here. A module is known by its exact class: a subclass, or a module whose
``forward`` was replaced, is not that class, and is traced like any other code.
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
"""Framework → module that its users import from → class → what it is."""


def rows() -> Iterator[tuple[str, str, str, Neurons]]:
    """Every row: framework, module, class, what it is."""
    for framework, modules in FRAMEWORKS.items():
        for module, classes in modules.items():
            for name, neurons in classes.items():
                yield framework, module, name, neurons


def neurons_of(module: Any) -> Neurons | None:
    """What a module's exact class is, or None if it is no known neuron or brings a ``forward`` of its own."""
    if "forward" in vars(module):
        return None
    return next((neurons for cls, _, neurons in _loaded() if type(module) is cls), None)


def derived_from(module: Any) -> str:
    """The known class that a module's class derives from, as its users write it, or an empty string."""
    mro = type(module).__mro__
    return next((name for cls, name, _ in _loaded() if cls in mro), "")


def known() -> str:
    """All rows, for messages."""
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
