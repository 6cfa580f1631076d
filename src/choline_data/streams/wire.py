"""The wire format of a batch: one encapsulated Arrow IPC record batch message, validated before it is used.

On the wire, `dataset` and `kind` are integer codes. The stream's header carries their names once. In the IPC format, a
dictionary column of a record batch consists of its codes, so our own clients and any Flight client read the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import xxhash

from choline_data.columns.arrow_values import numbers
from choline_data.errors import SourceDamagedError
from choline_data.schema import KINDS

MAX_BYTES = 4 << 20


def schema_on_the_wire(schema: pa.Schema) -> pa.Schema:
    """The schema with each dictionary field replaced by the integer type of its codes."""
    return pa.schema(
        [f.with_type(f.type.index_type) if pa.types.is_dictionary(f.type) else f for f in schema],
        metadata=schema.metadata,
    )


def dictionaries(datasets: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """The names that the codes of each dictionary column stand for."""
    return {"dataset": tuple(datasets), "kind": KINDS}


def with_dictionaries(batch: pa.RecordBatch, schema: pa.Schema, names: Mapping[str, Sequence[str]]) -> pa.RecordBatch:
    """Converts a batch of the wire schema to `schema`: its codes become dictionary columns with these names."""
    arrays = [
        pa.DictionaryArray.from_arrays(batch[f.name], pa.array(names[f.name], pa.string()))
        if pa.types.is_dictionary(f.type)
        else batch[f.name]
        for f in schema
    ]
    return pa.record_batch(arrays, schema=schema)


def checksum(encoded: Any) -> int:
    """xxh3-64 of the message. The reader compares it with the checksum that was sent."""
    return xxhash.xxh3_64_intdigest(encoded)


def decode(encoded: Any, schema: pa.Schema, *, expected: int | None = None, where: str = "stream") -> pa.RecordBatch:
    """Decodes and fully validates a message from the network. Raises SourceDamagedError if it is not a valid batch.

    `expected` is the message's checksum; None skips the comparison.
    """
    if expected is not None and checksum(encoded) != expected:
        raise SourceDamagedError(f"{where}: a message does not have its checksum.", remedy="It is read again.")
    try:
        message = pa.ipc.read_message(pa.py_buffer(encoded))
        if message.type != "record batch":
            raise SourceDamagedError(f"{where}: a message is a {message.type}, not a record batch.")
        batch = pa.ipc.read_record_batch(message, schema)
        batch.validate(full=True)
    except (pa.ArrowException, OSError, EOFError, ValueError, UnicodeDecodeError) as error:
        raise SourceDamagedError(f"{where}: a message can't be decoded.", remedy="It is read again.") from error
    for name, names in (("kind", len(KINDS)),):
        if name in batch.schema.names and batch.num_rows:
            codes = numbers(batch[name])
            if batch[name].null_count or codes.min() < 0 or codes.max() >= names:
                raise SourceDamagedError(f"{where}: a message has a {name} that does not exist.")
    return batch
