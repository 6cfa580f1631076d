"""Reads SQLite 3. Each table is a shard. Views are never run, and every name from the file is quoted in SQL.

Rows are in the order of their rowid, or of the primary key in a table without a rowid. A column whose values differ in type
is kept as JSON text; a blob in it is `{"$binary": base64}`.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from choline_data.adapters.base import (
    BATCH_ROWS,
    MAX_ROW_BYTES,
    FormatClaim,
    Shard,
    Source,
    SourceChunk,
    SourceFile,
    from_row,
)
from choline_data.adapters.reading import batches, io, records
from choline_data.adapters.reading.rows import as_json
from choline_data.adapters.tables.table_batches import local_file
from choline_data.errors import SourceDamagedError, SourceTooLargeError, one_line

_MAGIC = b"SQLite format 3\x00"
_FETCH_ROWS = 256
_TYPES = {int: pa.int64(), float: pa.float64(), str: pa.large_string(), bytes: pa.large_binary()}


@dataclass(frozen=True)
class Sqlite:
    """Reads the tables of SQLite databases."""

    max_row_bytes: int = MAX_ROW_BYTES

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each table, in order of name. SQLite's own tables and virtual tables are omitted."""
        shards = []
        for file in files:
            with self._opened(file.path, file.name) as base:
                shards += [Shard(file.path, file.name, member=name) for name in _tables(base)]
        return shards

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the table's rows from row `start` on."""
        return from_row(start, self._chunks(shard))

    def _chunks(self, shard: Shard) -> Iterator[SourceChunk]:
        with self._opened(shard.path, shard.name) as base:
            if shard.member not in _tables(base):
                raise SourceDamagedError(
                    f"{shard.name} has no table {one_line(shard.member, 60)!r}.",
                    remedy="Fetch the file again, and add it again.",
                )
            cursor = base.execute(f"SELECT * FROM {_quoted(shard.member)} ORDER BY {_order(base, shard.member)}")
            names = [column[0] for column in cursor.description]
            batches.check_columns(pa.schema([pa.field(n, pa.null()) for n in names]), shard.origin)
            row = 0
            while rows := cursor.fetchmany(min(_FETCH_ROWS, BATCH_ROWS)):
                columns = [_column(name, values) for name, values in zip(names, zip(*rows, strict=True), strict=True)]
                batch = pa.RecordBatch.from_arrays([c for _, c in columns], schema=pa.schema([f for f, _ in columns]))
                yield from batches.bounded(batch, np.arange(row, row + len(rows), dtype=np.int64))
                row += len(rows)

    @contextmanager
    def _opened(self, path: str, name: str) -> Iterator[sqlite3.Connection]:
        """Opens the database read-only. If it is remote, compressed or in an archive, opens a temporary local copy."""
        with local_file(path, name) as local:
            uri = f"file:{quote(os.path.abspath(local))}?mode=ro&immutable=1"
            try:
                with closing(sqlite3.connect(uri, uri=True)) as base:
                    base.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, self.max_row_bytes)
                    base.setlimit(sqlite3.SQLITE_LIMIT_ATTACHED, 0)
                    base.execute("PRAGMA trusted_schema = OFF")
                    yield base
            except sqlite3.DataError as error:
                raise SourceTooLargeError(
                    f"{name}: a row is over {self.max_row_bytes:,} bytes, the limit (max_row_bytes).",
                    remedy="Write it again with smaller values.",
                ) from error
            except (sqlite3.Error, UnicodeDecodeError) as error:
                if "too big" in str(error):
                    raise SourceTooLargeError(
                        f"{name}: a row is over {self.max_row_bytes:,} bytes, the limit (max_row_bytes).",
                        remedy="Write it again with smaller values.",
                    ) from error
                raise SourceDamagedError(
                    f"{name}: not readable as SQLite: {one_line(error, 160)}.", remedy="Fetch it again."
                ) from error


ADAPTER = Sqlite


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


# Tables that SpatiaLite keeps about the layers of a database.
_SPATIALITE = re.compile(
    r"(spatial_ref_sys|geometry_columns|spatialite_history|sql_statements_log|data_licenses|se_|vector_layers|views_geometry|"
    r"virts_geometry|idx_|raster_coverages|wms_|topologies|networks|ElementaryGeometries|SpatialIndex|KNN)"
)


def _tables(base: sqlite3.Connection) -> list[str]:
    """Returns the tables with data, in order of name: not those of SQLite, of its search indexes, and of geographic extensions."""
    rows = base.execute("SELECT name, type FROM pragma_table_list WHERE schema = 'main' ORDER BY name").fetchall()
    named = {name for name, _ in rows}
    tables = [name for name, kind in rows if kind == "table" and not name.startswith("sqlite_")]
    if "gpkg_contents" in named:
        listed = {name for (name,) in base.execute("SELECT table_name FROM gpkg_contents")}
        return [name for name in tables if name in listed]
    if {"geometry_columns", "spatial_ref_sys"} <= named:
        return [name for name in tables if not _SPATIALITE.match(name)]
    return tables


def _order(base: sqlite3.Connection, table: str) -> str:
    """Returns the ORDER BY expression: a name of the rowid that no column has, else the primary key."""
    columns = base.execute(f"PRAGMA table_xinfo({_quoted(table)})").fetchall()
    names = {str(c[1]).lower() for c in columns}
    key = [_quoted(c[1]) for c in sorted(columns, key=lambda c: c[5]) if c[5]]
    for name in ("rowid", "_rowid_", "oid"):
        if name not in names:
            try:
                base.execute(f"SELECT {name} FROM {_quoted(table)} LIMIT 0")
            except sqlite3.OperationalError:
                break  # the table was created WITHOUT ROWID
            return name
    return ", ".join(key) or "1"


def _column(name: str, values: Sequence[Any]) -> tuple[pa.Field, pa.Array]:
    kinds = {type(v) for v in values} - {type(None)}
    if not kinds:
        return pa.field(name, pa.null()), pa.nulls(len(values))
    if len(kinds) == 1:
        kind = _TYPES[kinds.pop()]
        return pa.field(name, kind), pa.array(values, kind)
    return records.json_field(name), records.json_column(as_json(v) for v in values)


def detect(source: Source) -> list[FormatClaim]:
    """Claims files of any name that begin with SQLite 3's magic bytes."""
    files = tuple(f for f in source.files if io.raw_head(f.path, 16) == _MAGIC)
    return [FormatClaim(Sqlite(), files, 1.0, "the content is SQLite 3")] if files else []
