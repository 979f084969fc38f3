"""JSON Schemas of what the commands print with ``--json``, made from the types in ``lbi.cli.json_records``."""

from __future__ import annotations

from typing import Any, get_args

from lbi.cli.json_records import RECORDS


def schema(command: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of what a command prints with ``--json``.

    Args:
        command: its name without ``lbi-``.

    Returns:
        The schema.
    """
    from pydantic import TypeAdapter

    for kind in _records(RECORDS[command]):
        kind.__pydantic_config__ = {"use_attribute_docstrings": True}
    made = _without_titles(TypeAdapter(RECORDS[command]).json_schema())
    title = f"What lbi-{command} --json prints"
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": title, **made}


def _records(hint: Any, known: tuple[Any, ...] = ()) -> list[Any]:
    """The record types in an annotation, and recursively in their fields."""
    from typing_extensions import get_type_hints, is_typeddict

    if hint in known:
        return []
    if not is_typeddict(hint):
        return [kind for argument in get_args(hint) for kind in _records(argument, known)]
    hints = [*get_type_hints(hint, include_extras=True).values(), getattr(hint, "__extra_items__", None)]
    return [hint, *(kind for inner in hints for kind in _records(inner, (*known, hint)))]


def _without_titles(part: Any) -> Any:
    """A schema without the titles that pydantic makes from names."""
    if isinstance(part, list):
        return [_without_titles(item) for item in part]
    if not isinstance(part, dict):
        return part
    named = {"properties", "$defs"}
    return {
        key: {name: _without_titles(inner) for name, inner in value.items()}
        if key in named
        else _without_titles(value)
        for key, value in part.items()
        if not (key == "title" and isinstance(value, str))
    }
