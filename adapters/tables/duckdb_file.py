"""Reads DuckDB database files. Each table is a shard. Views and macros are never run."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from choline_data.adapters.base import FormatClaim, Shard, Source, SourceChunk, SourceFile
from choline_data.adapters.reading.names import in_order
from choline_data.adapters.tables.table_batches import batch_chunks, claim_tables, local_file
from choline_data.errors import SourceDamagedError, one_line

_SETTINGS = {
    "enable_external_access": "false",
    "autoload_known_extensions": "false",
    "autoinstall_known_extensions": "false",
    "threads": "1",
    "preserve_insertion_order": "true",
}
_BATCH_ROWS = 2048


@dataclass(frozen=True)
class DuckDbFile:
    """Reads the tables of DuckDB files, with the rows in the order of the table."""

    def shards(self, files: Sequence[SourceFile]) -> list[Shard]:
        """Returns one shard for each table, in order of name.

        Tables of other schemas than `main` have `schema.table` as their name.
        """
        shards: list[Shard] = []
        for file in in_order(files):
            with _opened(file.path, file.name) as base:
                rows = base.execute(
                    "SELECT schema_name, table_name FROM duckdb_tables() WHERE NOT internal ORDER BY ALL"
                ).fetchall()
            names = [table if schema == "main" else f"{schema}.{table}" for schema, table in rows]
            shards += [Shard(file.path, file.name, member=name, size=file.size) for name in names]
        return shards

    def read(self, shard: Shard, *, start: int = 0) -> Iterator[SourceChunk]:
        """Yields the table's rows from row `start` on."""
        return batch_chunks(_rows(shard), shard, start)


ADAPTER = DuckDbFile


def _rows(shard: Shard) -> Iterator[pa.RecordBatch]:
    with _opened(shard.path, shard.name) as base:
        schema, dot, table = shard.member.partition(".")
        named = f"{_quoted(schema)}.{_quoted(table)}" if dot and not _has(base, shard.member) else _quoted(shard.member)
        rows = base.sql(f"SELECT * FROM {named}")
        # DuckDB before 1.5 has only the older name.
        reader = rows.to_arrow_reader if hasattr(rows, "to_arrow_reader") else rows.fetch_arrow_reader
        yield from reader(_BATCH_ROWS)


def _has(base: duckdb.DuckDBPyConnection, table: str) -> bool:
    query = "SELECT 1 FROM duckdb_tables() WHERE schema_name = 'main' AND table_name = ?"
    return base.execute(query, [table]).fetchone() is not None


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


@contextmanager
def _opened(path: str, name: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """Opens the database read-only, without access to other files."""
    with local_file(path, name) as local:
        try:
            with duckdb.connect(local, read_only=True, config=_SETTINGS) as base:
                yield base
        except duckdb.Error as error:
            raise SourceDamagedError(
                f"{name}: not readable as DuckDB: {one_line(error, 160)}.",
                remedy="Fetch it again, or export its tables with the DuckDB that wrote it.",
            ) from error


def detect(source: Source) -> list[FormatClaim]:
    """Claims the DuckDB files."""
    return claim_tables(source, DuckDbFile(), "the content is a DuckDB database")
