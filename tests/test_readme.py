"""The README's Python runs, its commands exist with those options, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(code, capsys):
    if "import torch" in code:
        pytest.importorskip("torch")
    exec(compile(code, "README.md", "exec"), {})
    if "print(" in code:
        assert capsys.readouterr().out


def commands() -> list[str]:
    lines = "\n".join(blocks("console")).replace("\\\n", " ").splitlines()
    return [line[2:].split("#")[0].strip() for line in lines if line.startswith("$ ")]


@pytest.mark.parametrize("line", [line for line in commands() if line.startswith("lbi-")])
def test_commands_exist_with_these_options(line):
    name, *arguments = shlex.split(line)
    command = import_module(f"lbi.cli.{name.removeprefix('lbi-')}").main
    known = {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }
    for argument in arguments:
        if argument.startswith("-"):
            assert argument.split("=")[0] in known, f"{name} has no {argument}"


def test_make_targets_exist():
    targets = re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    used = [line.split()[1] for line in commands() if line.startswith("make ")]
    assert used
    assert set(used) <= set(targets)


def test_links_lead_somewhere():
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", TEXT) if "://" not in link]
    assert links
    missing = [link for link in links if not (ROOT / link).exists()]
    assert not missing
