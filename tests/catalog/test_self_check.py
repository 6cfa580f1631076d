"""The self-check: a wrong reader or a wrong mapping fails the add, and a right one never does."""

from __future__ import annotations

import csv
import gzip
import io
import json
import sqlite3
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from choline_data.adapters.arrow import ArrowFile
from choline_data.adapters.base import Shard, SourceChunk
from choline_data.adapters.csv_table import Delimited
from choline_data.adapters.document_formats.html_pages import HtmlPages
from choline_data.adapters.document_formats.notebooks import Notebooks
from choline_data.adapters.idx import Idx
from choline_data.adapters.image_folder import ImageFolder
from choline_data.adapters.json_document import JsonDocument
from choline_data.adapters.jsonl import JsonLines
from choline_data.adapters.mapping import Normalised
from choline_data.adapters.parallel_texts import ParallelTexts
from choline_data.adapters.parquet import Parquet
from choline_data.adapters.sqlite import Sqlite
from choline_data.adapters.text import Text
from choline_data.adapters.webdataset import WebDataset
from choline_data.catalog import ingest as ingestion
from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.planning import Wishes
from choline_data.catalog.self_check import source_files
from choline_data.catalog.self_check.against_source import check_stored
from choline_data.catalog.self_check.comparing import same
from choline_data.errors import SelfCheckError
from choline_data.places.home import Home
from choline_data.store import Catalog

ROWS = [
    {
        "title": f"Chapter {n}, “the {n}th”",
        "body": f"It was the {n}th night.\nNobody came; the sea was grey.",
        "n": n,
        "x": n / 7,
    }
    for n in range(40)
]
DATED = [
    {"text": row["body"] * 9, "date": f"2015-04-{1 + row['n'] % 30:02d}T20:03:18Z", "url": f"https://x.org/{row['n']}"}
    for row in ROWS
]
TURNS = [
    {
        "messages": [
            {"role": "user", "content": f"What is {n} + {n}, please?"},
            {"role": "assistant", "content": f"It is {2 * n}."},
        ]
    }
    for n in range(40)
]


def _lines(rows: list[dict[str, Any]]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in rows)


def _csv() -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(ROWS[0]))
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode()


def _parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink, row_group_size=16)
    return sink.getvalue()


def _arrow() -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_file(sink, table.schema) as out:
        out.write_table(table)
    return sink.getvalue()


def _png(number: int) -> bytes:
    sink = io.BytesIO()
    Image.new("L", (4, 4), number).save(sink, "PNG")
    return sink.getvalue()


def _wds() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for number in range(20):
            for suffix, data in (("png", _png(number)), ("txt", f"A picture of grey number {number}.".encode())):
                info = tarfile.TarInfo(f"{number:04d}.{suffix}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return sink.getvalue()


def _zip() -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows/all.jsonl", _lines(ROWS))
    return sink.getvalue()


def _idx() -> bytes:
    pixels = np.arange(30 * 4 * 4, dtype=np.uint8)
    return bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (30, 4, 4)) + pixels.tobytes()


def _database(folder: Path) -> None:
    with sqlite3.connect(folder / "x.db") as base:
        base.execute("create table rows (title text, body text, n int, x real)")
        base.executemany("insert into rows values (:title, :body, :n, :x)", ROWS)
    base.close()


def _documents(folder: Path) -> None:
    for number in range(10):
        (folder / f"{number}.txt").write_text(f"Document {number}.\n\nIt has two paragraphs, and ends here.\n" * 3)


def _pictures(folder: Path) -> None:
    for number in range(10):
        (folder / ("cat", "dog")[number % 2]).mkdir(exist_ok=True)
        (folder / ("cat", "dog")[number % 2] / f"{number}.png").write_bytes(_png(number))


def _notebook(folder: Path) -> None:
    cells = [{"cell_type": "code", "source": [f"x = {n}\n", f"print('row {n}')"], "outputs": []} for n in range(40)]
    (folder / "x.ipynb").write_text(json.dumps({"nbformat": 4, "metadata": {}, "cells": cells}))


def _pages(folder: Path) -> None:
    for number in range(10):
        (folder / f"{number}.html").write_text(
            f"<html><title>Page {number}</title><body><p>It is page {number}.<table><tr><td>a<td>b</table></body></html>"
        )


def _parallel(folder: Path) -> None:
    for language, sentence in (("de", "Das ist der Satz Nummer {}."), ("en", "This is the sentence number {}.")):
        (folder / f"x.{language}").write_text("".join(sentence.format(n) + "\n" for n in range(40)))


Make = Callable[[Path], object]
# name: (what makes the source, the adapter that reads it)
SOURCES: dict[str, tuple[Make, type]] = {
    "JSON Lines": (lambda f: (f / "x.jsonl").write_bytes(_lines(ROWS)), JsonLines),
    "JSON Lines in gzip": (lambda f: (f / "x.jsonl.gz").write_bytes(gzip.compress(_lines(ROWS))), JsonLines),
    "JSON Lines in a ZIP": (lambda f: (f / "x.zip").write_bytes(_zip()), JsonLines),
    "chats": (lambda f: (f / "x.jsonl").write_bytes(_lines(TURNS)), JsonLines),
    "texts with times": (lambda f: (f / "x.jsonl").write_bytes(_lines(DATED)), JsonLines),
    "JSON": (lambda f: (f / "x.json").write_text(json.dumps(ROWS)), JsonDocument),
    "JSON under a key": (lambda f: (f / "x.json").write_text(json.dumps({"canary": "x", "rows": ROWS})), JsonDocument),
    "CSV": (lambda f: (f / "x.csv").write_bytes(_csv()), Delimited),
    "Parquet": (lambda f: (f / "x.parquet").write_bytes(_parquet()), Parquet),
    "Arrow": (lambda f: (f / "x.arrow").write_bytes(_arrow()), ArrowFile),
    "SQLite": (_database, Sqlite),
    "documents": (_documents, Text),
    "pictures": (_pictures, ImageFolder),
    "WebDataset": (lambda f: (f / "x.tar").write_bytes(_wds()), WebDataset),
    "notebook": (_notebook, Notebooks),
    "pages": (_pages, HtmlPages),
    "parallel texts": (_parallel, ParallelTexts),
    "IDX": (lambda f: (f / "train-images-idx3-ubyte").write_bytes(_idx()), Idx),
}
KINDS = {"SQLite": "text"}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path, type]:
    """The name, folder and adapter of each source."""
    make, adapter = SOURCES[request.param]
    folder = tmp_path / "source"
    folder.mkdir()
    make(folder)
    return request.param, folder, adapter


def add(folder: Path, name: str = "", **options: Any) -> int:
    home = Home(folder.parent / "home")
    prepared = prepare(home, str(folder), name="x", wishes=Wishes(as_kind=KINDS.get(name, "")))
    return ingest(home, prepared, **options).rows


def test_a_right_reader_passes_and_rows_are_compared(
    source: tuple[str, Path, type], monkeypatch: pytest.MonkeyPatch
) -> None:
    compared = []
    monkeypatch.setattr(
        "choline_data.catalog.self_check.against_source.check_stored",
        lambda *all_: compared.append(check_stored(*all_)),
    )
    name, folder, _ = source
    assert add(folder, name) >= 10
    assert compared[0] >= 4


def _rolled(chunk: SourceChunk) -> SourceChunk:
    """Each row has the values of the next one."""
    rows = chunk.batch.num_rows
    return replace(chunk, batch=chunk.batch.take(pa.array((np.arange(rows) + 1) % rows)))


def _without_end(chunk: SourceChunk) -> SourceChunk:
    keep = max(chunk.batch.num_rows - 3, 1)
    files = chunk.files.slice(0, keep) if chunk.files is not None else None
    return replace(chunk, batch=chunk.batch.slice(0, keep), rows=chunk.rows[:keep], files=files)


def _with_cut_values(chunk: SourceChunk) -> SourceChunk:
    """The last two characters or bytes of each text and medium are missing."""

    def cut(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: cut(item) for key, item in value.items()}
        if isinstance(value, list):
            return [cut(item) for item in value]
        return value[:-2] if isinstance(value, (str, bytes)) and len(value) > 12 else value

    arrays = [pa.array([cut(v) for v in column.to_pylist()], column.type) for column in chunk.batch.columns]
    return replace(chunk, batch=pa.RecordBatch.from_arrays(arrays, schema=chunk.batch.schema))


def _planted(adapter: type, fault: Callable[[SourceChunk], SourceChunk], monkeypatch: pytest.MonkeyPatch) -> None:
    right = adapter.read

    def read(self: Any, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        for chunk in right(self, shard, start=start):
            yield fault(chunk) if chunk.batch.num_rows else chunk

    monkeypatch.setattr(adapter, "read", read)


@pytest.mark.parametrize("fault", [_rolled, _with_cut_values], ids=["rolled", "cut"])
def test_a_wrong_reader_fails_the_add(
    source: tuple[str, Path, type], fault: Callable[[SourceChunk], SourceChunk], monkeypatch: pytest.MonkeyPatch
) -> None:
    name, folder, adapter = source
    if name == "IDX" and fault is _with_cut_values:
        pytest.skip("a cut PNG is a reject")
    _planted(adapter, fault, monkeypatch)
    with pytest.raises(SelfCheckError, match=r"An independent reader read it otherwise\. Nothing was published"):
        add(folder, name)
    assert Catalog(Home(folder.parent / "home")).entries() == {}
    assert add(folder, name, check=False) >= 10


def _floats(chunk: SourceChunk) -> SourceChunk:
    """The integers of the column `n` are floats."""
    at = chunk.batch.schema.get_field_index("n")
    return replace(chunk, batch=chunk.batch.set_column(at, "n", chunk.batch.column(at).cast(pa.float64())))


def _nearly(chunk: SourceChunk) -> SourceChunk:
    """The floats of the column `x` have the precision of 32 bits."""
    at = chunk.batch.schema.get_field_index("x")
    rounded = chunk.batch.column(at).cast(pa.float32()).cast(pa.float64())
    return replace(chunk, batch=chunk.batch.set_column(at, "x", rounded))


@pytest.mark.parametrize("fault", [_floats, _nearly])
@pytest.mark.parametrize("name", ["JSON Lines", "JSON", "Parquet", "Arrow", "SQLite"])
def test_numbers_that_became_other_numbers_fail_the_add(
    tmp_path: Path, name: str, fault: Callable[[SourceChunk], SourceChunk], monkeypatch: pytest.MonkeyPatch
) -> None:
    make, adapter = SOURCES[name]
    make(tmp_path)
    _planted(adapter, fault, monkeypatch)
    with pytest.raises(SelfCheckError, match=r"its column '[nx]' is"):
        add(tmp_path, name)


@pytest.mark.parametrize(
    ("value", "stored", "equal"),
    [
        (1, 1, True),
        (1, 1.0, False),
        (1.0, 1, False),
        (True, 1, False),
        (2**60 + 1, 2**60, False),
        (0.1, 0.1, True),
        (0.1, 0.10000000149011612, False),
        (float(np.float32(0.1)), 0.1, True),
        (float(np.float16(0.1)), 0.1, True),
        ("7", 7, True),
        ("7", 8, False),
        ("7.0", 7, False),
        ("7", 7.0, True),  # a column of 7 and 7.5
        ([1, {"a": 2}], [1, {"a": 2.0}], False),
    ],
)
def test_a_number_is_the_same_only_in_its_kind(value: Any, stored: Any, equal: bool) -> None:
    assert same(value, stored) is equal


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz"])
@pytest.mark.parametrize("name", ["{:04d}.txt", "a folder with a long name/" * 5 + "{:04d}.txt", "Ä/Ω{:04d}.txt"])
def test_a_compressed_archive_is_decompressed_once(
    tmp_path: Path, suffix: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    with tarfile.open(folder / f"x.tar.{suffix}", f"w:{suffix}") as archive:
        for number in range(400):
            data = f"Document {number}.\n\nIt ends here, in the line {number}.\n".encode() * 9
            info = tarfile.TarInfo(name.format(number))
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    opened, compared = [], []
    right = source_files._plain
    monkeypatch.setattr(source_files, "_plain", lambda raw: opened.append(raw) or right(raw))
    monkeypatch.setattr(
        "choline_data.catalog.self_check.against_source.check_stored",
        lambda *all_: compared.append(check_stored(*all_)),
    )
    assert add(folder) == 400
    assert compared == [4]
    archives = [raw for raw in opened if getattr(raw, "name", "").endswith(suffix)]
    assert len(archives) == 1


@pytest.mark.parametrize("name", ["JSON Lines", "JSON", "CSV", "Parquet", "SQLite", "pictures", "documents"])
def test_rows_that_a_reader_loses_at_the_end_fail_the_add(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, adapter = SOURCES[name]
    make(tmp_path)
    _planted(adapter, _without_end, monkeypatch)
    with pytest.raises(SelfCheckError):
        add(tmp_path, name)


@pytest.mark.parametrize("name", ["JSON Lines", "chats", "Parquet", "documents", "WebDataset"])
def test_a_wrong_mapping_fails_the_add(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, _ = SOURCES[name]
    make(tmp_path)
    right = ingestion.forms.apply

    def wrong(*arguments: Any) -> Normalised:
        """The content of each row is that of the row before it."""
        made = right(*arguments)
        content = next(column for column in ("turns", "text", "media") if column in made.batch.schema.names)
        at = made.batch.schema.get_field_index(content)
        order = pa.array(np.roll(np.arange(made.batch.num_rows), 1))
        return replace(made, batch=made.batch.set_column(at, content, made.batch.column(at).take(order)))

    monkeypatch.setattr(ingestion, "forms", type("Forms", (), {"apply": staticmethod(wrong)}))
    with pytest.raises(SelfCheckError):
        add(tmp_path, name)


def test_a_mapping_that_takes_another_column_fails_the_add(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x.jsonl").write_bytes(_lines(ROWS))
    right = ingestion.forms.apply

    def wrong(mapping: Any, chunk: SourceChunk, shard: Shard) -> Normalised:
        other = tuple((role, "title" if role == "text" else column) for role, column in mapping.fields)
        return right(replace(mapping, fields=other), chunk, shard)

    monkeypatch.setattr(ingestion, "forms", type("Forms", (), {"apply": staticmethod(wrong)}))
    with pytest.raises(SelfCheckError, match="'title' is not in the sample"):
        add(tmp_path)


def test_a_limit_rejects_and_split_columns_raise_no_false_alarm(tmp_path: Path) -> None:
    rows = [{**row, "part": ("train", "test")[row["n"] % 2]} for row in ROWS]
    lines = _lines(rows[:5]) + b"not JSON\n" + _lines(rows[5:])
    (tmp_path / "x.jsonl").write_bytes(lines)
    home = Home(tmp_path / "home")
    for wishes in (Wishes(limit=7), Wishes(split_by="part"), Wishes(split_by="part", limit=7), Wishes()):
        wishes = replace(wishes, max_rejects=0.5)
        made = ingest(home, prepare(home, str(tmp_path / "x.jsonl"), name="x", wishes=wishes), replace_existing=True)
        assert made.rows == (wishes.limit or 40)


@pytest.mark.parametrize("form", [pa.ipc.new_stream, pa.ipc.new_file])
def test_an_arrow_file_without_a_batch_is_a_dataset_without_rows(tmp_path: Path, form: Any) -> None:
    path = tmp_path / "empty.arrow"
    with form(path, pa.schema([("text", pa.string())])):
        pass
    home = Home(tmp_path / "home")
    assert ingest(home, prepare(home, str(path), name="empty")).rows == 0


def test_no_check_is_an_option_of_the_command(tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_bytes(_lines(ROWS))
    plant = (
        "import sys; from choline_data.adapters.jsonl import JsonLines; right = JsonLines.read\n"
        "def read(self, shard, *, start=0):\n"
        "    for chunk in right(self, shard, start=start):\n"
        "        yield type(chunk)(chunk.batch.take(list(range(chunk.batch.num_rows))[::-1]), chunk.rows)\n"
        "JsonLines.read = read\n"
        "from choline_data.cli import main; main()"
    )
    command = [
        sys.executable,
        "-c",
        plant,
        "add",
        str(tmp_path / "x.jsonl"),
        "--home",
        str(tmp_path / "home"),
        "--yes",
        "--json",
    ]
    failed = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert failed.returncode == 1
    error = json.loads(failed.stderr.splitlines()[-1])["error"]
    assert error["reason"] == "SELF_CHECK"
    assert "--no-check" in error["remedy"]
    assert subprocess.run([*command, "--no-check"], capture_output=True, timeout=100).returncode == 0
