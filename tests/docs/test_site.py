"""The map of the site names every page, the links lead somewhere, and the README states true figures."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from choline_data.catalog.cards import packaged_cards

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
LINK = re.compile(r"\]\(([^)\s]+)\)")


def pages_of_map(entries: Any) -> Iterator[str]:
    """The files that the map names."""
    for entry in entries:
        for value in entry.values():
            yield from [value] if isinstance(value, str) else pages_of_map(value)


def anchors(page: Path) -> set[str]:
    """The anchor of each heading, as GitHub and mkdocs make it."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_the_map_names_every_page_once() -> None:
    named = list(pages_of_map(yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]))
    assert sorted(named) == sorted(page.name for page in DOCS.glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_to_a_file_and_a_heading(page: Path) -> None:
    for link in LINK.findall(page.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name) if name else page
        assert target.is_file(), link
        assert not anchor or anchor in anchors(target), link


def test_the_readme_states_the_number_of_cards_and_the_measured_speed() -> None:
    readme = re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", " ".join((ROOT / "README.md").read_text().split()))
    targets = (DOCS / "benchmarks.md").read_text()
    alone, served = (
        float(re.search(rf"^\| {name} to the fastest peer \| ≥ [\d.]+ \| ([\d.]+) \|", targets, re.MULTILINE)[1])
        for name in ("one by one", "one by one through the server")
    )
    assert f"cards of {len(packaged_cards())} public datasets" in readme
    assert f"{alone:.0f} times as fast as the fastest of six other loaders" in readme
    assert f"{served:.0f} times as fast through a server" in readme


def test_the_pages_that_the_commands_and_errors_name_exist() -> None:
    text = "".join(
        path.read_text()
        for folder in ("adapters", "catalog", "client", "service", "src/choline_data")
        for path in (ROOT / folder).rglob("*.py")
    )
    named = set(re.findall(r"docs/\w+\.md", text))
    assert named and all((ROOT / name).is_file() for name in named)


SCRIPTS = [
    path
    for folder in ("bench", "examples", "locks", "tests", "docs", "service")
    for path in (ROOT / folder).rglob("*.py")
]


def test_each_script_explains_itself_and_each_of_its_options() -> None:
    calls = [
        (path.name, node)
        for path in SCRIPTS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    ]
    for name, explained in {"add_argument": "help", "ArgumentParser": "description"}.items():
        found = [(script, call) for script, call in calls if call.func.attr == name]
        assert len(found) > 15
        silent = [(script, call.lineno) for script, call in found if explained not in {k.arg for k in call.keywords}]
        assert not silent
