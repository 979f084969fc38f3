"""README and tutorial are true: Python runs, commands print what is shown, options and links exist."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import click
import pytest
from support.command import call

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
FORMATS = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
PAGES = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md")))


def blocks(language: str, text: str = TEXT) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_blocks_run(code, capsys):
    if "import torch" in code:
        pytest.importorskip("torch")
    exec(compile(code, "README.md", "exec"), {})
    if "print(" in code:
        assert capsys.readouterr().out


def transcript(text: str) -> list[tuple[str, str]]:
    """Every command with what is shown below it."""
    parts = "\n".join(blocks("console", text)).replace("\\\n", " ").split("$ ")[1:]
    return [
        (line.split("#")[0].strip(), shown) for line, _, shown in (part.partition("\n") for part in parts)
    ]


def of_commands() -> list[str]:
    lines = (line for page in PAGES for line, _ in transcript(page.read_text(encoding="utf-8")))
    return sorted({line for line in lines if line.startswith("lbi-")})


def command(line: str):
    name, *arguments = shlex.split(line)
    return import_module(f"lbi.cli.{name.removeprefix('lbi-')}").main, arguments


@pytest.mark.parametrize("line", of_commands())
def test_commands_exist_with_these_options(line):
    main, arguments = command(line)
    known = {option for parameter in main.params for option in (*parameter.opts, *parameter.secondary_opts)}
    for argument in arguments:
        if argument.startswith("-"):
            assert argument.split("=")[0] in known, f"{main.name} has no {argument}"


@pytest.mark.parametrize("name", ["train", "export", "run", "estimate", "sweep"])
def test_every_option_is_described(name):
    main = import_module(f"lbi.cli.{name}").main
    assert not [option.name for option in main.params if isinstance(option, click.Option) and not option.help]


def without_numbers(text: str) -> list[str]:
    """Words with figures as #: trained weights differ in their last bits from processor to processor.

    Words, not lines: a sentence breaks elsewhere where a figure has one digit more.
    """
    return re.sub(r"\d[\d.,]*", "#", text).split()


@pytest.mark.lava
def test_tutorial_prints_what_it_shows(tmp_path, monkeypatch, capsys):
    for package in ("torch", "lava", "sklearn", "jinja2", "matplotlib"):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    for line, shown in transcript(TUTORIAL):
        main, arguments = command(line)
        done = call(main, *arguments)
        assert done.code == 0, done.errors
        assert without_numbers(done.out) == without_numbers(shown), line
    (code,) = blocks("python", TUTORIAL)
    exec(compile(code, "tutorial.md", "exec"), {})
    assert without_numbers(capsys.readouterr().out) == without_numbers("\n".join(blocks("text", TUTORIAL)))
    (code,) = blocks("python", FORMATS)  # weights of this export, without the package
    found: dict = {}
    exec(compile(code, "formats.md", "exec"), found)
    assert found["matrix"].shape[0] == 10
    assert found["matrix"].nnz


def test_readme_shows_what_the_tutorial_shows():
    there = dict(transcript(TUTORIAL))
    shown = {line: output for line, output in transcript(TEXT) if output.strip()}
    assert len(shown) == 4
    for line, output in shown.items():
        assert set(output.replace("…", "").splitlines()) <= {"", *there[line].splitlines()}, line


def test_readme_fits_a_screen_or_two():
    assert len(TEXT.splitlines()) <= 110


def table(text: str, head: str) -> list[list[str]]:
    """The rows of a Markdown table that begins with ``head``, as cells."""
    _, _, rest = text.partition(f"| {head} |")
    lines = rest.partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_readme_lists_every_neuron_model_with_what_it_can_do():
    pytest.importorskip("torch")
    from lbi.network.neurons import MODELS
    from lbi.train.neurons import NEURONS

    shown = {row[0].split("`")[1]: [cell == "yes" for cell in row[1:]] for row in table(TEXT, "neuron model")}
    assert shown == {
        name: [True, model.lava is not None, bool(model.netx), bool(model.nir), name in NEURONS]
        for name, model in MODELS.items()
    }, "the README's table of neuron models needs a row per model, with what it can do"


def test_architecture_shows_the_layers_that_the_imports_keep():
    from project.test_imports import LAYERS

    rows = table((ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"), "layer")
    shown = [{name.strip("/") for name in re.findall(r"`([a-z_/]+)`", row[0])} for row in rows]
    kept = [
        {name for name in layer if name not in ("", "_version", "neurons", "reference")} for layer in LAYERS
    ]
    assert [names - {"lbi"} for names in shown] == kept


def test_the_note_on_a_missing_netx_file_is_explained():
    from lbi.exporters import loihi

    assert f"`{loihi.NO_NETX}`" in (ROOT / "docs" / "howto" / "frameworks.md").read_text(encoding="utf-8")


def test_make_targets_exist():
    targets = re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    used = [line.split()[1] for line, _ in transcript(TEXT) if line.startswith("make ")]
    assert used
    assert set(used) <= set(targets)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#\s]+)", text) + re.findall(r'src="([^"]+)"', text)
    assert not [link for link in links if "://" in link or not (page.parent / link).exists()]
