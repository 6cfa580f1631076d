"""The adapter of docs/extend.md becomes an installed package as the page prints it, and `add` reads files with it."""

from __future__ import annotations

import gzip
import io
import json
import os
import subprocess
import sys
import wave
import zipfile
from pathlib import Path

import pytest
from tests.docs.fenced_blocks import NAMED, blocks_of

PAGE = Path(__file__).resolve().parents[2] / "docs" / "extend.md"
QUOTES = "Ann|Rivers run.\nBob|Lakes lie.\nCy|Café is a word with an accent.\n"


def printed_files() -> dict[str, str]:
    """The files that the page shows, by the name in their first line."""
    named = ((NAMED.match(block.text), block.text) for block in blocks_of(PAGE))
    return {name[1]: text for name, text in named if name}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the package of the page."""
    project, site = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("site")
    for name, text in printed_files().items():
        (project / name).write_text(text)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "-q", "--target", str(site)]
    command = [sys.executable, "-m", "pip", "install", *options, str(project)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(site.glob("choline_data_quotes-1.0.dist-info/entry_points.txt"))
    return site


def run(site: Path, folder: Path, *words: str) -> str:
    """What a command prints, where the package is installed."""
    paths = os.pathsep.join(filter(None, [str(site), os.environ.get("PYTHONPATH", "")]))
    env = {**os.environ, "PYTHONPATH": paths, "CHOLINE_DATA_HOME": str(folder / "home"), "COLUMNS": "120"}
    done = subprocess.run(
        [sys.executable, "-m", "choline_data", *words], cwd=folder, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_installed_format_is_listed(site: Path, tmp_path: Path) -> None:
    assert "quotes" in run(site, tmp_path, "formats").split()


@pytest.mark.parametrize("form", ["plain", "gz", "zip"])
def test_add_reads_quotes_from_plain_and_compressed_files_and_archives(site: Path, tmp_path: Path, form: str) -> None:
    (tmp_path / "data").mkdir()
    if form == "plain":
        (tmp_path / "data" / "a.quotes").write_text(QUOTES)
    elif form == "gz":
        (tmp_path / "data" / "a.quotes.gz").write_bytes(gzip.compress(QUOTES.encode()))
    else:
        with zipfile.ZipFile(tmp_path / "data" / "a.zip", "w") as archive:
            archive.writestr("deep/a.quotes", QUOTES)
    run(site, tmp_path, "add", "data", "--name", "sayings", "--yes", "--license", "MIT")
    found = run(site, tmp_path, "sql", "SELECT text FROM sayings ORDER BY text", "--json")
    texts = [json.loads(line)["text"] for line in found.splitlines()]
    assert texts == sorted(line.partition("|")[2] for line in QUOTES.splitlines())


def test_the_second_adapter_of_the_page_reads_sound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from choline_data.adapters.api import Source, SourceFile

    (tmp_path / "tones.py").write_text(printed_files()["tones.py"])
    monkeypatch.syspath_prepend(str(tmp_path))
    import tones

    data = io.BytesIO()
    with wave.open(data, "wb") as tone:
        tone.setparams((1, 2, 8000, 0, "NONE", ""))
        tone.writeframes(b"\0\0" * 100)
    path = tmp_path / "a.tone.gz"
    path.write_bytes(gzip.compress(data.getvalue()))
    (claim,) = tones.detect(Source(str(path), (SourceFile(str(path), path.name),)))
    (shard,) = claim.adapter.shards(claim.files)
    (chunk,) = claim.adapter.read(shard)
    assert chunk.batch.to_pylist() == [{"rate": 8000, "frames": 100}]
