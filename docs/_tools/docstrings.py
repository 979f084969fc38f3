"""Literal blocks of docstrings (``text::`` and indented lines) as Markdown; mkdocstrings does the rest."""

from __future__ import annotations

import re
from typing import Any

import griffe


class Markdown(griffe.Extension):
    """Rewrites every docstring when it has been read."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """One object of the package."""
        if obj.docstring is not None:
            obj.docstring.value = re.sub(
                r"(?m)^(\s*)::$|::$", lambda match: ":" if match[1] is None else "", obj.docstring.value
            )
