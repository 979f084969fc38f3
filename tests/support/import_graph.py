"""The import graph of the package, read from the source."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = {
    "lbi": ROOT / "src" / "lbi",
    "lbi.exporters": ROOT / "exporters",
    "lbi.hardware": ROOT / "hardware",
}
"""Package → the folder it is installed from."""


@cache
def modules() -> dict[str, Path]:
    """Dotted name → file, for every module of the package."""
    found = {}
    for package, folder in FOLDERS.items():
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            found[".".join((package, *parts))] = path
    return found


@cache
def imports(path: Path, *, for_types: bool = False) -> list[tuple[str, int]]:
    """(dotted name, line) of everything a file imports, inside functions too.

    ``from lbi.a import b`` counts as ``lbi.a.b`` where that is a module. for_types: with what only the type checker sees.
    """
    known = modules()
    found: list[tuple[str, int]] = []
    stack: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while stack:
        for node in ast.iter_child_nodes(stack.pop()):
            if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not for_types:
                continue
            if isinstance(node, ast.Import):
                found += [(alias.name, node.lineno) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{path}:{node.lineno}: relative import"
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                found += [(name if name in known else str(node.module), node.lineno) for name in names]
            stack.append(node)
    return found


@cache
def edges(*, for_types: bool = False) -> dict[str, set[str]]:
    """Module → the modules of the package that it imports."""
    known = modules()
    return {
        name: {other for other, _ in imports(path, for_types=for_types) if other in known and other != name}
        for name, path in known.items()
    }
