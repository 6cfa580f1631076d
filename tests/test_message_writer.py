"""Messages without a copy of their buffers have the bytes that Arrow's `serialize` returns."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from choline_data.columns.ipc import MessageWriter, message_of

ROWS = 30
VALUES: dict[str, list[Any]] = {
    "text": [None if row % 7 == 3 else "word " * row for row in range(ROWS)],
    "flag": [row % 3 == 0 for row in range(ROWS)],
    "turns": [None if row == 5 else [{"role": "user", "content": "x" * row}] * (row % 3) for row in range(ROWS)],
    "origin": [{"file": "a", "row": row} for row in range(ROWS)],
    "empty": [""] * ROWS,
    "none": [None] * ROWS,
}
BATCH = pa.RecordBatch.from_pydict(
    {**VALUES, "id": pa.array([bytes([row]) * 16 for row in range(ROWS)], pa.binary(16))}
)


@pytest.mark.parametrize("columns", [[name] for name in BATCH.schema.names] + [BATCH.schema.names, ["empty", "none"]])
def test_a_message_has_the_bytes_of_serialize(columns: list[str]) -> None:
    batch = BATCH.select(columns)
    writer = MessageWriter(batch.schema)
    for start, rows in ((0, ROWS), (3, 1), (0, 0), (11, 17), (0, ROWS)):
        part = batch.slice(start, rows)
        message, wanted = writer.message(part), message_of(part)
        assert message.to_bytes() == part.serialize().to_pybytes()
        assert (message.header, message.body_size, message.size) == (wanted.header, wanted.body_size, wanted.size)
        assert message.checksum() == wanted.checksum()


def test_large_buffers_are_not_copied() -> None:
    batch = pa.record_batch([pa.array(["word " * 100_000])], names=["text"])
    before = pa.total_allocated_bytes()
    message = MessageWriter(batch.schema).message(batch)
    assert message.size > 500_000
    assert pa.total_allocated_bytes() - before < 100_000


def test_a_batch_of_another_schema_is_refused_and_leaves_nothing_behind() -> None:
    batch = BATCH.select(["text"])
    writer = MessageWriter(batch.schema)
    with pytest.raises(pa.ArrowInvalid):
        writer.message(BATCH.select(["flag"]))
    assert writer.message(batch).to_bytes() == batch.serialize().to_pybytes()
