"""Docstrings, as they are written in the source, made into Markdown."""

from __future__ import annotations

import re
from typing import Any

import griffe

NAMES = r"[a-z_]\w*(?:, [a-z_]\w*)*"
ENTRY = re.compile(rf"({NAMES})((?: \([^)]*\))?: .*)")
"""``name: …`` or ``name, name (…): …``."""
APART = re.compile(rf"(?: · |(?<=\.) )(?={NAMES}: )")
"""Between two entries on one line."""
SENTENCE = re.compile(r"(Raises|Returns|Warns|Needs|Call)\b")


class Markdown(griffe.Extension):
    """Rewrites every docstring when it has been read."""

    def on_instance(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """One object of the package."""
        if obj.docstring is not None:
            obj.docstring.value = markdown(obj.docstring.value)


def markdown(text: str) -> str:
    """Entries become the items of a list; what introduces code with ``::`` does it with a colon."""
    lines: list[str] = []
    in_list = False
    for line in text.split("\n"):
        if not line.startswith(" ") and ENTRY.match(line):
            for part in APART.split(line):
                name = ENTRY.match(part)
                lines += [] if in_list else [""]
                lines.append(f"- `{name[1]}`{name[2]}" if name else f"- {part}")
                in_list = True
        elif in_list and line and not SENTENCE.match(line):
            lines.append(f"    {line.strip()}")
        else:
            lines += (
                ["", line]
                if in_list or SENTENCE.match(line)
                else [re.sub(r":?:$", ":", line) if line != "::" else ""]
            )
            in_list = False
    return "\n".join(lines)
