"""The mapping: a value that turns a chunk of source columns into rows of the schema."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from choline_data.adapters.base import Reject, SourceChunk


@dataclass(frozen=True)
class Normalised:
    """Rows in schema columns (a subset of `schema.STORED`, without `id` and `origin`), and the chunk they come from.

    `batch` has no columns outside this subset, and may lack columns that the mapping never fills. Rows that could not be
    normalised are in `rejects`.
    """

    batch: pa.RecordBatch
    chunk: SourceChunk
    keep: pa.Array | None  # boolean mask over the chunk's rows: true for a row that became a sample; None if all did
    rejects: tuple[Reject, ...] = ()


@dataclass(frozen=True)
class Mapping:
    """The `kind` of the samples, the `form` that builds them, and the form's fields: (role in the form, source column) pairs.

    Columns that no field names go to `extra` as JSON, in source order. No column is lost.
    """

    kind: str
    form: str
    fields: tuple[tuple[str, str], ...] = ()
