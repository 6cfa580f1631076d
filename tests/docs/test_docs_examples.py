"""Every example of the README and of docs/ runs, in a home of its own, on small data that is made here."""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from tests.docs.fenced_blocks import Workplace, blocks_of

pytest.importorskip("torch", reason="the examples train")
trustme = pytest.importorskip("trustme", reason="an example serves with TLS")

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = {page: list(blocks_of(page)) for page in PAGES}
RUN = ("console", "python", "toml", "yaml")
EMPTY = ("README.md", "start.md")  # their first examples add the datasets
NOT_RUN = {
    "cards.md": ["it asks the hub"],
    "README.md": ["it installs a package"],
    "start.md": ["it installs packages"],
    "add.md": ["it downloads from the hub"],
    "benchmarks.md": ["it takes hours"],
    "engine.md": ["a bench takes minutes"] * 3,
    "extend.md": ["it installs a package"],
}
WORDS = ["river", "lake", "bridge", "boat", "water", "stone", "bank", "flood"]


def write_sources(folder: Path) -> None:
    """The files that the examples add."""
    drawn = random.Random(1)
    (folder / "my-corpus").mkdir()
    pages = [
        {"body": " ".join(drawn.choices(WORDS, k=60)), "url": f"https://e.org/{n}", "lang": "en"} for n in range(300)
    ]
    chats = [{"question": f"What is {n} plus {n}?", "answer": str(2 * n)} for n in range(80)]
    code = [{"text": f"def double_{n}(x):\n    return x + {n}\n" * 5, "repo": f"r{n % 7}"} for n in range(120)]
    for name, rows in {"my-corpus/pages": pages, "questions": chats, "functions": code}.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    authority = trustme.CA()
    server = authority.issue_cert("localhost", "127.0.0.1")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    server.private_key_pem.write_to_path(str(folder / "key.pem"))
    for part in server.cert_chain_pems:
        part.write_to_path(str(folder / "cert.pem"), append=True)


@pytest.fixture(scope="module")
def stocked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sources, and a home in which `web`, `code` and `chat` are added."""
    folder = tmp_path_factory.mktemp("stocked")
    (folder / "work").mkdir()
    write_sources(folder / "work")
    for source, name in {"my-corpus": "web", "functions.jsonl": "code", "questions.jsonl": "chat"}.items():
        command = [sys.executable, "-m", "choline_data", "add", source, "--name", name, "--yes", "--license", "MIT"]
        home = {"CHOLINE_DATA_HOME": str(folder / "home")}
        subprocess.run(command, cwd=folder / "work", env={**os.environ, **home}, check=True, capture_output=True)
    return folder


@pytest.fixture
def workplace(
    request: pytest.FixtureRequest, stocked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Workplace]:
    """A workplace for one page: empty for the pages that begin from nothing, else stocked."""
    shutil.copytree(stocked / "work", tmp_path / "work")
    if request.getfixturevalue("page").name not in EMPTY:
        shutil.copytree(stocked / "home", tmp_path / "home")
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("CHOLINE_DATA_HOME", str(tmp_path / "home"))
    place = Workplace(tmp_path / "work", tmp_path / "home")
    yield place
    place.close()
    gc.unfreeze()  # a page calls gc.freeze()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("page", [page for page in PAGES if BLOCKS[page]], ids=lambda page: page.name)
def test_every_example_of_the_page_runs(page: Path, workplace: Workplace) -> None:
    for block in BLOCKS[page]:
        if block.language in RUN and not block.reason:
            workplace.run(block)


def test_the_examples_that_are_not_run_are_these() -> None:
    found = {page.name: [block.reason for block in blocks if block.reason] for page, blocks in BLOCKS.items()}
    assert {name: reasons for name, reasons in found.items() if reasons} == NOT_RUN


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("```python\nx = 1\n```\n", [("python", "x = 1\n")]),
        ("- item\n\n  ```python title=a\n  x = 1\n  ``` \n", [("python", "x = 1\n")]),
        ("````text\n```\ninner\n```\n````\n", [("text", "```\ninner\n```\n")]),
        ("``` console\n```\n\n```yaml\na: 1\n```", [("console", ""), ("yaml", "a: 1\n")]),
    ],
)
def test_a_block_is_found_however_its_fence_is_written(tmp_path: Path, text: str, found: list[tuple[str, str]]) -> None:
    (tmp_path / "page.md").write_text(text)
    assert [(block.language, block.text) for block in blocks_of(tmp_path / "page.md")] == found


def test_each_block_states_its_language() -> None:
    stated = {block.language for blocks in BLOCKS.values() for block in blocks}
    assert stated <= {*RUN, "text"}, "text is for what a program prints, and for signatures"


def test_each_yaml_block_is_valid() -> None:
    blocks = [block for blocks in BLOCKS.values() for block in blocks if block.language == "yaml"]
    assert blocks and all(yaml.safe_load(block.text) for block in blocks)
