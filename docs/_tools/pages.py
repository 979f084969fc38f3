"""Pages of the site that are not in docs/: the README, the chips' numbers.

MkDocs calls the functions named ``on_*``. Links in the pages are those that work in the repository; here they are
rewritten to the pages made of those files.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import tomli
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
PAGES = {"README.md": "index.md", "CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md"}
"""Files outside docs/ → their pages; benchmarks/*.md become pages under their own names."""
LINK = re.compile(r'(\]\(|(?:src|srcset|href)=")([^)"#:\s]+)(?=[)"#])')


def on_files(files: Any, config: Any) -> Any:
    """Add the pages from outside docs/."""
    benchmarks = sorted(f"benchmarks/{path.name}" for path in ROOT.glob("benchmarks/*.md"))
    for path, uri in (PAGES | dict(zip(benchmarks, benchmarks, strict=True))).items():
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Rewrite links and insert generated parts."""
    if "<!-- chips -->" in markdown:
        markdown = markdown.replace("<!-- chips -->", "\n".join(chips()))
    here = posixpath.dirname(posixpath.relpath(page.file.abs_src_path, ROOT))

    def turn(match: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(here, match[2]))
        uri = PAGES.get(path, path.removeprefix("docs/"))
        if files.get_file_from_path(uri) is None and (ROOT / path).is_file():
            files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
        return match[1] + posixpath.relpath(uri, posixpath.dirname(page.file.src_uri) or ".")

    return LINK.sub(turn, markdown)


def chips() -> Iterator[str]:
    """Every number of every chip in hardware/, with its source and its confidence."""
    for path in sorted((ROOT / "hardware").glob("*.toml")):
        profile = tomli.loads(path.read_text(encoding="utf-8"))
        yield f"## {path.stem}: {profile['title']}\n\n| number | value | source | confidence |\n|---|---|---|---|"
        for name, quantity in quantities(profile):
            note = f"<br>*{quantity['note']}*" if "note" in quantity else ""
            yield f"| `{name}` | {value(quantity)} | {quantity['source']}{note} | {quantity['confidence']} |"
        yield "\nSources:\n"
        for key, reference in profile["sources"].items():
            yield f"- **{key}**: {reference}"
        yield ""


def quantities(table: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every number of a profile, with its dotted name."""
    for key, entry in table.items():
        if isinstance(entry, dict) and "confidence" in entry:
            yield prefix + key, entry
        elif isinstance(entry, dict):
            yield from quantities(entry, f"{prefix}{key}.")


def value(quantity: dict[str, Any]) -> str:
    """A number with its unit; a dash for one that is not published."""
    if "min" in quantity:
        step = f" in steps of {quantity['step']}" if "step" in quantity else ""
        text = f"{quantity['min']} to {quantity['max']}{step}"
    elif "value" in quantity:
        listed = quantity["value"] if isinstance(quantity["value"], list) else [quantity["value"]]
        text = ", ".join(f"{v:,}" if isinstance(v, int) else str(v) for v in listed)
    else:
        return "–"
    return f"{text} {'× ' if quantity['unit'][0].isdigit() else ''}{quantity['unit']}"


class Addresses(HTMLParser):
    """Collector of the addresses that a page loads or links to."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note the addresses of one tag."""
        self.found += [v for k, v in attrs if k in ("href", "src", "srcset") and v]


def on_post_build(config: Any) -> None:
    """Fail if a page loads or links to anything outside the site."""
    site = Path(config.site_dir)
    broken = []
    for page in site.rglob("*.html"):
        parser = Addresses()
        parser.feed(page.read_text(encoding="utf-8"))
        for address in parser.found:
            path = address.split("#")[0]
            if (
                page.name != "404.html"
                and not address.startswith("data:")
                and not (page.parent / path).exists()
            ):
                broken.append(f"{page.relative_to(site)}: {address}")
    if broken:
        raise PluginError("not in the site:\n  " + "\n  ".join(broken))
