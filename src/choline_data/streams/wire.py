"""The format of a batch between server and client: one encapsulated Arrow IPC message. It is validated before it is used.

The columns `dataset` and `kind` are sent as integer codes. The names of the codes are sent once, in the header of the
stream. In the IPC format, a dictionary column of a record batch consists of its codes. So our own clients and any
Flight client read the same bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import xxhash

from choline_data.columns.arrow_values import numbers
from choline_data.errors import SourceDamagedError
from choline_data.schema import KINDS

MAX_BYTES = 4 << 20
# What a user can do about a damaged message. The reader repeats the request first, and raises the error only if it
# fails again.
REPEATED = "Check the network, use the same release on both sides, or read from another server."
NOT_UTF8 = "A text is not UTF-8"
NOT_UTF8_REMEDY = "`choline-data verify` says which dataset is damaged. Add that dataset again."


def schema_on_the_wire(schema: pa.Schema) -> pa.Schema:
    """Returns the schema with each dictionary field replaced by the integer type of its codes."""
    return pa.schema(
        [f.with_type(f.type.index_type) if pa.types.is_dictionary(f.type) else f for f in schema],
        metadata=schema.metadata,
    )


def dictionaries(datasets: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Returns the names that the codes of each dictionary column stand for."""
    return {"dataset": tuple(datasets), "kind": KINDS}


def with_dictionaries(batch: pa.RecordBatch, schema: pa.Schema, names: Mapping[str, Sequence[str]]) -> pa.RecordBatch:
    """Returns the batch with its columns of integer codes as dictionary columns, as `schema` has them.

    `names` has, for each dictionary column, the names of its codes.
    """
    arrays = [
        pa.DictionaryArray.from_arrays(batch[f.name], pa.array(names[f.name], pa.string()))
        if pa.types.is_dictionary(f.type)
        else batch[f.name]
        for f in schema
    ]
    return pa.record_batch(arrays, schema=schema)


def checksum(encoded: Any) -> int:
    """Returns the xxh3-64 of the message. The reader compares it with the checksum that the server sent."""
    return xxhash.xxh3_64_intdigest(encoded)


class Decoder:
    """Decodes the messages of one wire schema."""

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._as_bytes = pa.schema([field.with_type(_bytes_for_text(field.type)) for field in schema])

    def decode(self, encoded: Any, *, expected: int | None = None, where: str = "stream") -> pa.RecordBatch:
        """Decodes a message from the network and checks it. Raises SourceDamagedError if it is not a valid batch.

        Does not check whether texts are UTF-8: making Python strings of them does that anyway. Other code calls
        `check_texts`. `expected` is the message's checksum; None skips the comparison. `where` names the origin in
        errors.
        """
        if expected is not None and checksum(encoded) != expected:
            raise SourceDamagedError(f"{where}: a message does not have its checksum.", remedy=REPEATED)
        try:
            message = pa.ipc.read_message(pa.py_buffer(encoded))
            if message.type != "record batch":
                raise SourceDamagedError(
                    f"{where}: a message is a {message.type}, not a record batch.", remedy=REPEATED
                )
            pa.ipc.read_record_batch(message, self._as_bytes).validate(full=True)
            batch = pa.ipc.read_record_batch(message, self._schema)
        except (pa.ArrowException, OSError, EOFError, ValueError) as error:
            raise SourceDamagedError(f"{where}: a message can't be decoded.", remedy=REPEATED) from error
        if "kind" in batch.schema.names and batch.num_rows:
            codes = numbers(batch["kind"])
            if batch["kind"].null_count or codes.min() < 0 or codes.max() >= len(KINDS):
                raise SourceDamagedError(
                    f"{where}: a message has the code of a kind that does not exist.", remedy=REPEATED
                )
        return batch


def check_texts(columns: Iterable[pa.Array]) -> None:
    """Raises SourceDamagedError if a text in these columns is not UTF-8."""
    try:
        for column in columns:
            column.validate(full=True)
    except pa.ArrowInvalid as error:
        raise SourceDamagedError(f"{NOT_UTF8}: {error}.", remedy=NOT_UTF8_REMEDY) from error


def _bytes_for_text(kind: pa.DataType) -> pa.DataType:
    """Returns a type with the same layout, in which bytes replace text at any nesting depth."""
    if pa.types.is_string(kind):
        return pa.binary()
    if pa.types.is_large_string(kind):
        return pa.large_binary()
    if pa.types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_bytes_for_text(kind.value_type)))
    if pa.types.is_struct(kind):
        return pa.struct([field.with_type(_bytes_for_text(field.type)) for field in kind])
    return kind
