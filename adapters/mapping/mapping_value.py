"""The mapping: a value that turns a chunk of source columns into rows of the schema."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from choline_data.adapters.base import Reject, SourceChunk


@dataclass(frozen=True)
class Normalised:
    """Rows in schema columns (a subset of `schema.STORED`, without `id` and `origin`) and their source rows.

    `batch` may lack columns that this mapping never fills; it never has others. `rows` are the source row numbers of
    its rows; rows that could not be normalised are in `rejects`.
    """

    batch: pa.RecordBatch
    chunk: SourceChunk
    keep: pa.Array | None  # boolean mask over the chunk's rows: which became samples; None where all did
    rejects: tuple[Reject, ...] = ()


@dataclass(frozen=True)
class Mapping:
    """`kind` of the samples, the `form` that makes them, and its fields: (role in the form, source column) pairs.

    Columns that no field names go to `extra` as JSON, in source order: nothing is thrown away.
    """

    kind: str
    form: str
    fields: tuple[tuple[str, str], ...] = ()
