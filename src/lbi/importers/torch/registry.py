"""Registry of neuron classes: framework → module → class → its record.

A framework is one file and one row here. Modules are identified by their exact class: a subclass, or a module with a
replaced ``forward``, is traced like any other code.
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


def rows() -> Iterator[tuple[str, str, str, Neurons]]:
    """All rows: framework, module, class, record."""
    for framework, modules in FRAMEWORKS.items():
        for module, classes in modules.items():
            for name, neurons in classes.items():
                yield framework, module, name, neurons


def neurons_of(module: Any) -> Neurons | None:
    """The record of a module's exact class; None for unknown classes and modules with a replaced ``forward``.

    Args:
        module: a torch module.

    Returns:
        The record.
    """
    if "forward" in vars(module):
        return None
    return next((neurons for cls, _, neurons in _loaded() if type(module) is cls), None)


def derived_from(module: Any) -> str:
    """The name of the known class from which a module's class derives, or an empty string.

    Args:
        module: a torch module.

    Returns:
        The name.
    """
    mro = type(module).__mro__
    return next((name for cls, name, _ in _loaded() if cls in mro), "")


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
