"""Files and functions are short enough to be read at once."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXTS = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for folder in ("src", "exporters", "tests", "benchmarks")
    for path in sorted((ROOT / folder).rglob("*.py"))
}
MOST_FILE_LINES, MOST_FUNCTION_LINES = 500, 60


def lines_of_code(function) -> int:
    """Lines of a function without its docstring, and of a GPU kernel without its many parameters."""
    documented = ast.get_docstring(function) is not None
    docstring = function.body[0].end_lineno - function.body[0].lineno + 1 if documented else 0
    kernel = any(ast.unparse(decorator).startswith("triton.jit") for decorator in function.decorator_list)
    first = function.body[0].lineno if kernel else function.lineno
    return function.end_lineno - first + 1 - docstring


def test_a_file_holds_one_concept():
    long = {path: n for path, text in TEXTS.items() if (n := text.count("\n")) > MOST_FILE_LINES}
    assert not long, f"files of more than {MOST_FILE_LINES} lines: split them by concept"


def test_a_function_fits_a_screen():
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    long = [
        f"{path}:{node.lineno} {node.name}, {n_lines} lines"
        for path, text in TEXTS.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, functions) and (n_lines := lines_of_code(node)) > MOST_FUNCTION_LINES
    ]
    assert not long, f"functions of more than {MOST_FUNCTION_LINES} lines: name their parts"


def test_a_module_gives_a_name_to_one_thing():
    twice = []
    for path, text in TEXTS.items():
        names = [
            target.id
            for node in ast.parse(text).body
            if isinstance(node, ast.Assign)
            for target in node.targets
            if isinstance(target, ast.Name) and target.id.isupper()
        ]
        twice += [f"{path}: {name}" for name in sorted({name for name in names if names.count(name) > 1})]
    assert not twice, "constants assigned twice: the first value is lost"
