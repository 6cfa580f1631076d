"""A file that ends inside a record is damaged, however many rejects are allowed. A page in place of data is recognised."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.planning import Wishes
from choline_data.errors import SourceDamagedError
from choline_data.places.home import Home

ROWS = [{"text": f"Row number {n}, and some words more.", "n": n} for n in range(400)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
TABLE = ("n,text,last\n" + "".join(f'{n},"Row, number {n}",end\n' for n in range(400))).encode()


def _parquet() -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), out)
    return out.getvalue()


def _feather() -> bytes:
    out = io.BytesIO()
    pyarrow.feather.write_feather(pa.Table.from_pylist(ROWS), out)
    return out.getvalue()


def _stream() -> bytes:
    out = io.BytesIO()
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_stream(out, table.schema) as writer:
        writer.write_table(table, max_chunksize=50)
    return out.getvalue()


def _tar() -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("a", "b"):
            info = tarfile.TarInfo(f"{name}.jsonl")
            info.size = len(LINES)
            archive.addfile(info, io.BytesIO(LINES))
    return out.getvalue()


def _zip() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("a.jsonl", LINES)
    return out.getvalue()


FORMATS: dict[str, Callable[[], bytes]] = {
    "x.jsonl": lambda: LINES,
    "x.csv": lambda: TABLE,
    "x.json": lambda: json.dumps(ROWS).encode(),
    "x.jsonl.gz": lambda: gzip.compress(LINES, mtime=0),
    "x.csv.gz": lambda: gzip.compress(TABLE, mtime=0),
    "x.parquet": _parquet,
    "x.feather": _feather,
    "x.arrow": _stream,
    "x.tar": _tar,
    "x.zip": _zip,
}


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("share", [0.35, 0.6, 0.9])
def test_a_cut_file_is_damaged_whatever_the_allowance(tmp_path: Path, name: str, share: float) -> None:
    content = FORMATS[name]()
    cut = int(len(content) * share)
    if name in ("x.jsonl", "x.csv"):
        cut = content.rindex(b"\n", 0, cut) + 12  # inside of a row
    (tmp_path / name).write_bytes(content[:cut])
    home = Home(tmp_path / "home")
    with pytest.raises(SourceDamagedError, match=name.split(".")[0]):
        ingest(home, prepare(home, str(tmp_path / name), wishes=Wishes(max_rejects=1.0, ask=False)))


def test_a_last_row_with_too_few_fields_is_a_cut_only_without_a_line_end(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    for name, end, rows in (("cut.csv", b"400,text", None), ("ragged.csv", b"400,text\n", 400)):
        (tmp_path / name).write_bytes(TABLE + end)
        prepared = prepare(home, str(tmp_path / name), wishes=Wishes(max_rejects=0.5))
        if rows is None:
            with pytest.raises(SourceDamagedError, match="ends inside of a row"):
                ingest(home, prepared)
        else:
            assert ingest(home, prepared).rows == rows


def test_a_whole_last_line_without_a_line_end_is_no_damage(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    for name, content in (("x.jsonl", LINES[:-1]), ("y.csv", TABLE[:-1])):
        (tmp_path / name).write_bytes(content)
        assert ingest(home, prepare(home, str(tmp_path / name))).rows == 400


PAGE = b"<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head><body>There is no such file.</body></html>\n"


@pytest.mark.parametrize(
    "name", ["x.jsonl", "x.csv", "x.json", "x.parquet", "x.zip", "x.tar.gz", "x.arrow", "x.png", "x.wav"]
)
def test_a_web_page_in_place_of_data_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(PAGE)
    with pytest.raises(SourceDamagedError, match=rf"{name} is not \.\w+ data but a web page: 404 Not Found"):
        prepare(Home("/nowhere"), str(tmp_path / name))


@pytest.mark.parametrize(
    ("page", "says"),
    [
        (
            b'<?xml version="1.0"?>\n<Error><Code>NoSuchKey</Code><Message>No.</Message></Error>',
            "an object store: NoSuchKey",
        ),
        (b'{"error": "Repository not found"}', "a server: Repository not found"),
        (b"404: Not Found", "a server: 404: Not Found"),
        (b"Entry not found\n", "a server: Entry not found"),
    ],
)
def test_the_error_of_a_server_in_place_of_data_is_named(tmp_path: Path, page: bytes, says: str) -> None:
    (tmp_path / "x.json").write_bytes(page)
    with pytest.raises(SourceDamagedError, match=says):
        prepare(Home("/nowhere"), str(tmp_path / "x.json"))


@pytest.mark.parametrize("page", [b'{"message": "a text"}\n', b'{"error": 1, "x": 2}\n{"error": 2, "x": 3}\n'])
def test_data_that_speak_of_errors_are_data(tmp_path: Path, page: bytes) -> None:
    (tmp_path / "x.jsonl").write_bytes(page)
    prepare(Home("/nowhere"), str(tmp_path / "x.jsonl"), wishes=Wishes(as_kind="tabular"))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("part.jsonl", b'{"text": "one"}\n{"text": "two"}\n'),
        ("part.csv", b"text,n\none,1\ntwo,2\n"),
        ("part.json", b'[{"text": "one"}, {"text": "two"}]'),
    ],
)
def test_hive_folders_become_columns(tmp_path: Path, name: str, content: bytes) -> None:
    for year in ("2023", "2024"):
        (tmp_path / f"year={year}" / "lang=en").mkdir(parents=True)
        (tmp_path / f"year={year}" / "lang=en" / name).write_bytes(content)
    plan = prepare(Home("/nowhere"), str(tmp_path), wishes=Wishes(as_kind="tabular", ask=False)).plan
    rows = [
        row
        for part in plan.parts
        for shard in part.shards
        for chunk in part.adapter.read(shard)
        for row in chunk.batch.to_pylist()
    ]
    assert [(row["year"], row["lang"], row["text"]) for row in rows] == [
        ("2023", "en", "one"),
        ("2023", "en", "two"),
        ("2024", "en", "one"),
        ("2024", "en", "two"),
    ]


@pytest.mark.parametrize("name", ["manifest.json", "dataset_info.json", "state.json", "metadata.json"])
def test_a_descriptor_beside_rows_is_no_data(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES)
    (tmp_path / name).write_text(json.dumps({"version": 1, "files": [{"name": "a.jsonl"}, {"name": "b.jsonl"}]}))
    account = {f.name: f.role for f in prepare(Home("/nowhere"), str(tmp_path)).plan.account}
    assert account == {"a.jsonl": "used", name: "described"}
    (tmp_path / "a.jsonl").unlink()
    assert prepare(Home("/nowhere"), str(tmp_path), wishes=Wishes(as_kind="tabular")).plan.account[0].role == "used"


def test_mds_shards_of_brotli_and_zstd_are_read(shared_data: Path, tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    done = ingest(home, prepare(home, str(shared_data / "second" / "mds_speeches"), name="mds"))
    assert (done.rows, done.rejected) == (40, 0)
