"""SQL over the catalog and every dataset. DuckDB can read only the home's datasets, and no other files.

The query comes from the operator's own command line, never from a request.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from choline_data import schema as one
from choline_data.errors import InvalidOptionError, one_line
from choline_data.places.home import Home
from choline_data.store import Catalog, Entry, open_revision


def _reader(home: Home, entry: Entry) -> pa.RecordBatchReader:
    """Returns all samples of a dataset, read on demand, with constants as columns."""
    revision = open_revision(home, entry.revision)
    names = [f.name for f in one.STORED if f.name in revision.schema.names or f.name in revision.constants]
    schema = pa.schema([pa.field("dataset", pa.string()), *(one.STORED.field(n) for n in names)])
    step = max(revision.block_rows, 4096)

    def batches() -> Any:
        for start in range(0, revision.rows, step):
            for batch in revision.read(start, min(start + step, revision.rows)):
                arrays = [pa.repeat(pa.scalar(entry.name), batch.num_rows)]
                for name in names:
                    field = one.STORED.field(name)
                    if name in batch.schema.names:
                        arrays.append(batch[name])
                    else:
                        arrays.append(pa.repeat(pa.scalar(revision.constants[name], field.type), batch.num_rows))
                yield pa.record_batch(arrays, schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def query_home(home: Home, query: str) -> pa.Table:
    """Returns the result of a query over the view `catalog` and one view per dataset.

    A dataset named `catalog` is `dataset:catalog`.
    """
    import duckdb

    entries = Catalog(home).entries()
    connection = duckdb.connect(
        ":memory:", config={"enable_external_access": False, "autoinstall_known_extensions": False}
    )
    try:
        listing = pa.table(
            {
                "name": [e.name for e in entries.values()],
                "kind": [e.kind for e in entries.values()],
                "rows": pa.array([e.rows for e in entries.values()], pa.int64()),
                "rejected": pa.array([e.rejected for e in entries.values()], pa.int64()),
                "bytes": pa.array([e.bytes for e in entries.values()], pa.int64()),
                "license": [e.license for e in entries.values()],
                "revision": [e.revision for e in entries.values()],
                "source": [e.source for e in entries.values()],
            }
        )
        connection.register("catalog", listing)
        for entry in entries.values():
            # Only datasets that the query names are opened.
            # A dataset with the name `catalog` gets a prefix that no dataset name can have.
            view = "dataset:catalog" if entry.name == "catalog" else entry.name
            named = len(re.findall(rf"(?<![\w.-]){re.escape(view)}(?![\w-])", query))
            if named:
                _register(connection, home, entry, view, often=named > 1)
        answer = connection.sql(query)
        table: pa.Table = pa.table({}) if answer is None else answer.to_arrow_table()
        return table
    except duckdb.Error as error:
        raise InvalidOptionError(
            f"The query failed: {one_line(_message(error), 300)}", remedy=_remedy(query, entries)
        ) from error
    finally:
        connection.close()


def _register(connection: Any, home: Home, entry: Entry, view: str, *, often: bool) -> None:
    """Makes the dataset available as a view. A reader serves only one scan, so a dataset that the query names twice is
    copied first.
    """
    reader = _reader(home, entry)
    if not often:
        connection.register(view, reader)
        return
    connection.register("dataset:read once", reader)
    quoted = view.replace('"', '""')
    connection.execute(f'CREATE TABLE "{quoted}" AS SELECT * FROM "dataset:read once"')
    connection.unregister("dataset:read once")


def _remedy(query: str, names: Iterable[str]) -> str:
    """Returns the remedy for a query that failed. If the query has a name with a dash and without quotes, it is to
    quote the name.
    """
    for name in names:
        if not name.isidentifier() and re.search(rf"(?<![\w.\"-]){re.escape(name)}(?![\w\"-])", query):
            return f'Quote the name: SELECT * FROM "{name}".'
    return 'Every dataset is a view of its name, and "catalog" lists them: SELECT * FROM catalog.'


def _message(error: Exception) -> str:
    """Returns DuckDB's message on one line, without the caret that points into the query."""
    return " ".join(str(error).split()).rstrip(" ^") + "."
