"""Reads a few rows of tables for the self-check: Parquet, Arrow, SQLite and delimited text."""

from __future__ import annotations

import csv
import io
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from choline_data.adapters.base import Shard
from choline_data.catalog.self_check.source_files import CELLS_BYTES, HEAD_BYTES, SourceFiles
from choline_data.catalog.self_check.source_row import ROWS, SourceRow, encoding_of
from choline_data.places.locations import local_path

_LINES = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)")


def parquet(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    with files.opened(shard.path) as raw, pq.ParquetFile(raw) as file:
        groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
        end = shard.end if shard.end >= 0 else len(groups)
        before = sum(groups[: shard.start])
        for group in sorted({shard.start, (shard.start + end) // 2, end - 1}):
            about = file.metadata.row_group(group) if 0 <= group < len(groups) else None
            if about is None or about.total_byte_size > HEAD_BYTES * max(about.num_rows, 1) // ROWS:
                continue
            first = sum(groups[:group])
            batch = next(file.iter_batches(ROWS // 2, row_groups=[group], use_threads=False), None)
            for at, values in enumerate(_values(batch) if batch is not None else ()):
                yield SourceRow(first + at - before, first + at, values)


def _values(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    """Returns the rows without times. Times can be written in many ways, and pyarrow imports pandas for them."""
    names = [field.name for field in batch.schema if not pa.types.is_temporal(field.type)]
    return list(batch.select(names).to_pylist())


def arrow(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    with files.opened(shard.path) as raw:
        magic = raw.read(6)
        raw.seek(0)
        if magic == b"ARROW1":
            with pa.ipc.open_file(pa.PythonFile(raw, "r")) as file:
                batches = [file.get_batch(0)] if file.num_record_batches else []
        else:
            with pa.ipc.open_stream(pa.PythonFile(raw, "r")) as stream:
                batches = list(islice(stream, 1))
    for batch in batches:
        for at, values in enumerate(_values(batch.slice(0, ROWS))):
            yield SourceRow(at, at, values)


def delimited(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    encoding = encoding_of(adapter, shard)
    dialect = adapter.dialect(shard.path, shard.name, encoding)
    if len(dialect.delimiter) != 1 or dialect.delimiter == " " or dialect.blank_lines or len(dialect.names) == 1:
        return
    data, whole = files.head(shard.path, CELLS_BYTES)
    decoded = data.decode(encoding, "strict" if whole else "ignore")
    if dialect.foot:
        decoded = "".join(_LINES.findall(decoded)[: dialect.foot[0][0]])
    text = io.StringIO(decoded, newline="")
    for _ in range(dialect.skip):
        text.readline()
    rows = csv.reader(text, delimiter=dialect.delimiter, skipinitialspace=dialect.blank_after)
    cells: list[str] = []
    at = -1
    for at, cells in enumerate(rows if whole else islice(rows, ROWS)):
        if len(cells) != len(dialect.names) or not any(cells):
            return  # the row was rejected, and rows after it may have other numbers
        if at < ROWS:
            yield SourceRow(at, at, dict(zip(dialect.names, cells, strict=True)))
    if not whole:
        last = files.last_line(shard.path).decode(encoding) if encoding.startswith(("utf-8", "latin", "cp125")) else '"'
        at, cells = -1, [] if '"' in last else last.split(dialect.delimiter)
        if dialect.blank_after:
            cells = [cell.lstrip(" ") for cell in cells]
    if len(cells) == len(dialect.names):
        yield SourceRow(at, at, dict(zip(dialect.names, cells, strict=True)))


@contextmanager
def _table(shard: Shard) -> Iterator[tuple[sqlite3.Connection, str]]:
    """Returns the database, and the quoted name of the shard's table."""
    uri = f"{Path(local_path(shard.path) or '').absolute().as_uri()}?mode=ro&immutable=1"
    with closing(sqlite3.connect(uri, uri=True)) as base:
        yield base, '"' + shard.member.replace('"', '""') + '"'


def sqlite(files: SourceFiles, adapter: Any, shard: Shard) -> Iterator[SourceRow]:
    with _table(shard) as (base, table):
        cursor = base.execute(f"SELECT * FROM {table} ORDER BY rowid LIMIT {ROWS}")
        names = [column[0] for column in cursor.description]
        for at, cells in enumerate(cursor):
            yield SourceRow(at, at, dict(zip(names, cells, strict=True)))


def parquet_rows(files: SourceFiles, shard: Shard) -> int:
    with files.opened(shard.path) as raw, pq.ParquetFile(raw) as file:
        end = shard.end if shard.end >= 0 else file.num_row_groups
        return sum(file.metadata.row_group(group).num_rows for group in range(shard.start, end))


def sqlite_rows(files: SourceFiles, shard: Shard) -> int:
    with _table(shard) as (base, table):
        return int(base.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
