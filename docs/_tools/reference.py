"""Write the tables in docs/reference that are made from the code, between their markers: ``make schemas``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from html import escape
from importlib import import_module
from inspect import cleandoc
from pathlib import Path
from typing import Any

import click

FOLDER = Path(__file__).parents[1] / "reference"
COMMANDS = ("train", "export", "run", "estimate", "sweep")


def main() -> None:
    """Write every page."""
    for name in PARTS:
        (FOLDER / f"{name}.md").write_text(page(name), encoding="utf-8")


def page(name: str) -> str:
    """A page with its generated part up to date.

    Args:
        name: the page's name, a key of ``PARTS``.

    Returns:
        Its text.
    """
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    made = f"<!-- {name}: make schemas -->\n\n" + "\n".join(PARTS[name]()) + f"\n\n<!-- end of {name} -->"
    pattern = rf"<!-- {name}: make schemas -->\n.*?<!-- end of {name} -->"
    new, n = re.subn(pattern, lambda _: made, text, flags=re.DOTALL)
    if n != 1:
        raise ValueError(f"{name}.md: {n} generated parts instead of 1")
    return new


def commands() -> Iterator[str]:
    """The commands' own help, as tables."""
    for name in COMMANDS:
        command = import_module(f"lbi.cli.{name}").main
        context = click.Context(
            command,
            info_name=command.name,
            **{**command.context_settings, "max_content_width": 10_000, "terminal_width": 10_000},
        )
        yield f"## {command.name}\n\n```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```\n"
        yield f"{cleandoc(command.help)}\n\n| option | |\n|---|---|"
        for parameter in command.get_params(context):
            record = parameter.get_help_record(context)
            if record is not None:
                option, text = (escape(part).replace("|", "&#124;") for part in record)
                yield f"| <code>{option}</code> | {text} |"
        yield ""


def presets() -> Iterator[str]:
    """The options that the preset of each data set and optimizer changes, after their defaults."""
    from lbi.train.session.config import TrainConfig
    from lbi.train.session.presets import FEW, PRESETS

    changed = {name for rows in PRESETS.values() for options in rows.values() for name in options}
    default = TrainConfig()
    first = {"density": default.density}
    rest = {
        name: getattr(default, name) for name in sorted(changed) if name not in ("encoding", "neuron_options")
    }
    yield "| data set | optimizer | options |\n|---|---|---|"
    yield f"| every other, and what is not listed | all | {_options({**first, **rest})} |"
    for dataset, rows in PRESETS.items():
        for optimizer, options in rows.items():
            if options:
                label = optimizer.replace(", few", f", density ≤ {FEW:g}") or "all"
                yield f"| `{dataset}` | {label} | {_options(options)} |"


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"`{name}={_value(value)}`" for name, value in options.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_value(part)}" for key, part in value.items()) + "}"
    if isinstance(value, tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


PARTS = {"commands": commands, "presets": presets}
"""Page → its generated lines."""

if __name__ == "__main__":
    main()
