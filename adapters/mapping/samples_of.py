"""Builds samples from the rows that a mapping made of a chunk."""

from __future__ import annotations

import pyarrow as pa

from choline_data import schema as one
from choline_data.adapters.base import Shard
from choline_data.adapters.mapping import Normalised
from choline_data.columns.arrow_values import array_of, constant
from choline_data.store.sample_ids import sample_ids


def samples_of(columns: tuple[str, ...], kind: str, shard: Shard, normalised: Normalised) -> pa.RecordBatch:
    """Returns the normalised rows as a batch of these stored columns, with ids and origins. A column without values is null."""
    batch, chunk = normalised.batch, normalised.chunk
    rows = batch.num_rows
    numbers = array_of(chunk.rows)
    files = chunk.files if chunk.files is not None else pa.repeat(constant(shard.origin, pa.string()), len(chunk.rows))
    if normalised.keep is not None:
        numbers, files = numbers.filter(normalised.keep), files.filter(normalised.keep)
    schema = one.stored_schema(columns)
    arrays: list[pa.Array] = []
    for column in schema:
        if column.name == "id":
            arrays.append(sample_ids(batch))
        elif column.name == "origin":
            arrays.append(pa.StructArray.from_arrays([files, numbers], fields=list(one.ORIGIN)))
        elif column.name in batch.schema.names:
            values = batch[column.name]
            arrays.append(values if values.type == column.type else values.cast(column.type))
        elif column.name == "kind":
            arrays.append(pa.repeat(constant(kind, pa.string()), rows))
        else:
            arrays.append(pa.nulls(rows, column.type))
    return pa.record_batch(arrays, schema=schema)
