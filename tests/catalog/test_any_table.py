"""Random tables in every tabular format: what `add` and `export` give back is the original, as an independent reader reads it.

CHOLINE_EXAMPLES=1000 python -m pytest tests/catalog/test_any_table.py --hypothesis-seed=7     # more of them
"""

from __future__ import annotations

import bz2
import csv
import datetime
import gzip
import io
import json
import lzma
import math
import os
import sqlite3
import tempfile
import zipfile
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from choline_data.catalog.add import ingest, prepare
from choline_data.catalog.export import export
from choline_data.catalog.planning import Wishes
from choline_data.places.home import Home
from choline_data.store import Catalog, open_revision

Row = dict[str, Any]
EXAMPLES = int(os.environ.get("CHOLINE_EXAMPLES", "50"))
WORDS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
NAMES = st.text(
    st.characters(categories=["Lu", "Ll", "Lo", "Nd"], exclude_characters="0123456789"), min_size=2, max_size=8
)
NAMES |= st.sampled_from(
    ["text", "label", "url", "split", "messages", "question", "image", "file_name", "a.b", "a b", 'q"', "Ärger", "date"]
)
TEXT = WORDS | st.sampled_from(
    ["", "NA", "null", "true", "007", "1e400", "a,b", 'say "x"', "tab\tbed", "two\nlines", "–", "=1+1", "#x"]
)
INT = st.integers(-(2**63), 2**63 - 1) | st.integers(-5, 5)
FLOAT = st.floats(allow_nan=False, allow_infinity=False)
PLAIN = [INT, FLOAT, st.booleans(), TEXT]
NESTED = [
    st.lists(st.integers(-9, 9), max_size=3),
    st.lists(WORDS, max_size=3),
    st.fixed_dictionaries({"one": st.integers(-9, 9), "two": st.none() | WORDS}),
    st.lists(st.fixed_dictionaries({"role": WORDS, "n": st.lists(st.integers(0, 9), max_size=2)}), max_size=2),
    st.integers(-9, 9) | WORDS | st.booleans() | st.lists(st.integers(0, 9) | WORDS, max_size=2),  # of no common type
]
# Types that only Parquet and Arrow have, with the values that `extra` documents for them.
TYPED: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.int8(), st.integers(-128, 127)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.float32(), st.floats(width=32, allow_nan=False, allow_infinity=False)),
    (pa.date32(), st.dates(datetime.date(1, 1, 1))),
    (pa.timestamp("us"), st.datetimes(datetime.datetime(1, 1, 1))),
    (pa.decimal128(20, 4), st.decimals(-(10**12), 10**12, places=4)),
    (pa.binary(), st.binary(max_size=9)),
    (pa.dictionary(pa.int32(), pa.string()), WORDS),
    (pa.large_list(pa.int16()), st.lists(st.integers(-9, 9), max_size=3)),
]


@dataclass(frozen=True)
class Table:
    """Rows, and the Arrow type of each column."""

    rows: list[Row]
    schema: pa.Schema


@st.composite
def tables(draw: st.DrawFn, *, nested: bool, typed: bool) -> Table:
    """A table with an id, and up to four columns of random types with nulls."""
    names = draw(st.lists(NAMES.filter(lambda n: n.lower() != "id"), max_size=4, unique_by=str.lower))
    kinds: list[tuple[pa.DataType | None, st.SearchStrategy[Any]]] = [(None, kind) for kind in PLAIN]
    kinds += [(None, kind) for kind in (NESTED[:-1] if typed else NESTED)] if nested else []
    kinds += TYPED if typed else []
    columns = [draw(st.sampled_from(kinds)) for _ in names]
    count = draw(st.integers(2, 12))
    rows = [
        {"id": n, **{name: draw(st.none() | kind) for name, (_, kind) in zip(names, columns, strict=True)}}
        for n in range(count)
    ]
    fields = [pa.field("id", pa.int64())]
    for name, (stated, _) in zip(names, columns, strict=True):
        fields.append(pa.field(name, stated or _type_of([row[name] for row in rows])))
    return Table(rows, pa.schema(fields))


def _type_of(values: list[Any]) -> pa.DataType:
    try:
        return pa.array(values).type
    except (pa.ArrowInvalid, pa.ArrowTypeError):
        return pa.null()  # only JSON can hold it


def _arrow(table: Table) -> pa.Table:
    return pa.Table.from_pylist(table.rows, table.schema)


def _jsonl(table: Table) -> bytes:
    return b"".join(json.dumps(row, ensure_ascii=row["id"] % 2 == 0).encode() + b"\n" for row in table.rows)


def _json(table: Table) -> bytes:
    return json.dumps(table.rows, indent=len(table.rows) % 2 or None).encode()


def _csv(delimiter: str, quoting: Any) -> Callable[[Table], bytes]:
    def write(table: Table) -> bytes:
        text = io.StringIO()
        writer = csv.DictWriter(text, table.schema.names, delimiter=delimiter, quoting=quoting)
        writer.writeheader()
        writer.writerows(table.rows)
        return text.getvalue().encode()

    return write


def _parquet(**options: Any) -> Callable[[Table], bytes]:
    def write(table: Table) -> bytes:
        sink = io.BytesIO()
        pq.write_table(_arrow(table), sink, **options)
        return sink.getvalue()

    return write


def _ipc(make: Any, compression: str | None) -> Callable[[Table], bytes]:
    def write(table: Table) -> bytes:
        sink, arrow = io.BytesIO(), _arrow(table)
        with make(sink, arrow.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as out:
            out.write_table(arrow, max_chunksize=3)
        return sink.getvalue()

    return write


def _sqlite(table: Table) -> bytes:
    base = sqlite3.connect(":memory:")
    quoted = ['"' + name.replace('"', '""') + '"' for name in table.schema.names]
    base.execute(f"create table x ({', '.join(quoted)})")
    marks = ", ".join("?" for _ in quoted)
    base.executemany(f"insert into x values ({marks})", [list(row.values()) for row in table.rows])
    base.commit()
    return base.serialize()


def _orc(table: Table) -> bytes:
    import pyarrow.orc

    sink = io.BytesIO()
    # ORC has no columns that hold only nulls.
    schema = pa.schema([f.with_type(pa.string()) if pa.types.is_null(f.type) else f for f in table.schema])
    pyarrow.orc.write_table(_arrow(table).cast(schema), sink, compression="zlib")
    return sink.getvalue()


def _duckdb(table: Table) -> bytes:
    import duckdb

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.duckdb"
        with duckdb.connect(str(path)) as base:
            base.register("source", _arrow(table))
            base.execute("create table x as select * from source")
        return path.read_bytes()


def _yaml(table: Table) -> bytes:
    import yaml

    text: str = yaml.safe_dump(table.rows, allow_unicode=True, sort_keys=False)
    return text.encode()


JSON, FLAT, ARROW = (True, False), (False, False), (True, True)
# extension: (the tables that it can hold: nested, typed; the writer)
FORMATS: dict[str, tuple[tuple[bool, bool], Callable[[Table], bytes]]] = {
    "jsonl": (JSON, _jsonl),
    "jsonl.gz": (JSON, lambda t: gzip.compress(_jsonl(t))),
    "jsonl.bz2": (JSON, lambda t: bz2.compress(_jsonl(t))),
    "ndjson.xz": (JSON, lambda t: lzma.compress(_jsonl(t))),
    "json": (JSON, _json),
    "csv": (FLAT, _csv(",", csv.QUOTE_MINIMAL)),
    "csv.gz": (FLAT, lambda t: gzip.compress(_csv(",", csv.QUOTE_NONNUMERIC)(t))),
    "tsv": (FLAT, _csv("\t", csv.QUOTE_MINIMAL)),
    "parquet": (ARROW, _parquet(row_group_size=3)),
    "zstd.parquet": (ARROW, _parquet(compression="zstd", data_page_version="2.0", use_dictionary=False)),
    "arrow": (ARROW, _ipc(pa.ipc.new_file, None)),
    "stream.arrow": (ARROW, _ipc(pa.ipc.new_stream, "zstd")),
    "feather": (ARROW, _ipc(pa.ipc.new_file, "lz4")),
    "db": (FLAT, _sqlite),
    "orc": (FLAT, _orc),
    "yaml": (JSON, _yaml),
    **({"duckdb": (FLAT, _duckdb)} if find_spec("duckdb") else {}),
}


@st.composite
def sources(draw: st.DrawFn) -> tuple[str, Table, str]:
    """An extension, a table that this format can hold, and a layout."""
    extension = draw(st.sampled_from(sorted(FORMATS)))
    nested, typed = FORMATS[extension][0]
    return (
        extension,
        draw(tables(nested=nested, typed=typed)),
        draw(st.sampled_from(["file", "folder", "splits", "zip"])),
    )


def write(folder: Path, extension: str, table: Table, layout: str) -> tuple[Path, dict[str, list[Row]]]:
    """Writes the table, and gives the place to add and the rows of each split."""
    writer = FORMATS[extension][1]
    half = max(len(table.rows) // 2, 1)
    parts = {"train": table.rows[:half], "test": table.rows[half:]} if layout == "splits" else {"": table.rows}
    for split, rows in parts.items():
        name = f"data/{split}-00000-of-00001.{extension}" if split else f"rows.{extension}"
        data = writer(Table(rows, table.schema))
        if layout == "zip" and not extension.endswith("db"):
            with zipfile.ZipFile(folder / "rows.zip", "w") as archive:
                archive.writestr(name, data)
            continue
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(data)
    return (folder / f"rows.{extension}" if layout == "file" else folder), parts


def expected(value: Any, kind: pa.DataType) -> Any:
    """The value as the documentation of `extra` writes it in JSON."""
    if value is None:
        return None
    if pa.types.is_decimal(kind):
        return str(value)
    if isinstance(value, bytes):
        return {"$binary": b64encode(value).decode()}
    if isinstance(value, datetime.datetime):
        return value.isoformat(timespec="microseconds")
    if isinstance(value, datetime.date):
        return value.isoformat()
    return value


def agree(original: Any, back: Any, extension: str) -> bool:
    """Whether the exported value is the original. A cell of a CSV has no type, and no difference of null and empty."""
    if isinstance(original, dict):
        return isinstance(back, dict) and all(agree(v, back.get(k), extension) for k, v in original.items())
    if isinstance(original, list):
        return (
            isinstance(back, list)
            and len(back) == len(original)
            and all(map(lambda a, b: agree(a, b, extension), original, back))
        )
    if extension.startswith(("csv", "tsv")):
        return _cells_agree("" if original is None else str(original), back)
    if extension == "db" and isinstance(original, bool):
        return bool(back == int(original))
    if isinstance(original, float) and isinstance(back, float):
        return original == back or math.isclose(original, back, rel_tol=1e-6, abs_tol=1e-44)
    return type(original) is type(back) and bool(original == back)


def _cells_agree(cell: str, back: Any) -> bool:
    if back is None:
        return cell in ("", "NA", "null")  # words for a missing value, in a column of numbers
    if isinstance(back, bool):
        return cell.lower() == str(back).lower()
    if isinstance(back, (int, float)):
        return float(cell) == back and (isinstance(back, float) or int(Decimal(cell)) == back)
    return bool(cell == back)


@settings(max_examples=EXAMPLES, suppress_health_check=list(HealthCheck))
@given(source=sources())
def test_what_is_added_and_exported_is_the_original(source: tuple[str, Table, str]) -> None:
    extension, table, layout = source
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "source"
        folder.mkdir()
        location, parts = write(folder, extension, table, layout)
        home = Home(Path(place) / "home")
        made = ingest(home, prepare(home, str(location), name="x", wishes=Wishes(as_kind="tabular", split_by="")))
        assert {s: n for _, s, n in open_revision(home, made.entry.revision).splits()} == {
            s: len(r) for s, r in parts.items()
        }
        export(home, Catalog(home).entries()["x"], "parquet", str(Path(place) / "out"))
        back = [
            json.loads(row["extra"])
            for file in sorted((Path(place) / "out").glob("*.parquet"))
            for row in pq.read_table(file).to_pylist()
        ]
    kinds = {field.name: field.type for field in table.schema}
    back.sort(key=lambda row: int(row["id"]))  # the splits are stored in the order of their files
    assert [row["id"] for row in back] == [row["id"] for row in table.rows]
    for original, again in zip(table.rows, back, strict=True):
        for name, value in original.items():
            stated = expected(value, kinds[name])
            assert agree(stated, again.get(name), extension), (name, value, again.get(name))
        assert set(again) <= set(original), set(again) - set(original)
