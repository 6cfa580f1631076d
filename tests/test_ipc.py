"""The messages that `ipc.Encoder` writes are those of Arrow's own writer, byte for byte."""

from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from choline_data import schema as one
from choline_data import wire
from choline_data.ipc import Encoder

KINDS = [
    pa.large_string(),
    pa.string(),
    pa.large_binary(),
    pa.binary(16),
    pa.bool_(),
    pa.int8(),
    pa.float64(),
    pa.timestamp("us", tz="UTC"),
    pa.list_(pa.large_string()),
    pa.large_list(pa.int32()),
    pa.list_(pa.float32(), 3),
    pa.struct([pa.field("role", pa.string()), pa.field("turns", pa.list_(pa.struct([pa.field("n", pa.int64())])))]),
]


def values(kind: pa.DataType) -> st.SearchStrategy[object]:
    if pa.types.is_struct(kind):
        some: st.SearchStrategy[object] = st.fixed_dictionaries({f.name: values(f.type) for f in kind})
    elif pa.types.is_fixed_size_list(kind):
        some = st.lists(values(kind.value_type), min_size=3, max_size=3)
    elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
        some = st.lists(values(kind.value_type), max_size=3)
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        some = st.text(max_size=20)
    elif pa.types.is_fixed_size_binary(kind):
        some = st.binary(min_size=16, max_size=16)
    elif pa.types.is_large_binary(kind):
        some = st.binary(max_size=20)
    elif pa.types.is_boolean(kind):
        some = st.booleans()
    else:
        some = st.integers(0, 100)
    return st.none() | some


@given(st.data())
def test_a_message_is_what_arrows_own_writer_makes(data: st.DataObject) -> None:
    kinds = data.draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=4))
    rows = data.draw(st.integers(1, 20))
    batch = pa.record_batch(
        [pa.array([data.draw(values(kind)) for _ in range(rows)], kind) for kind in kinds],
        names=[f"c{n}" for n in range(len(kinds))],
    )
    message = Encoder(batch.schema).encode(batch)
    assert message.to_bytes() == batch.serialize().to_pybytes()
    assert message.size == len(message.to_bytes())
    assert message.checksum() == wire.checksum(message.to_bytes())


def test_every_field_of_the_schema_can_be_encoded() -> None:
    schema = wire.schema_on_the_wire(one.SCHEMA)
    batch = pa.record_batch([pa.nulls(5, f.type) for f in schema], schema=schema)
    encoded = Encoder(schema).encode(batch).to_bytes()
    assert pa.ipc.read_record_batch(pa.py_buffer(encoded), schema).equals(batch)


@pytest.mark.parametrize("part", [slice(0, 0), slice(2, 4)])
def test_slices_and_empty_batches_are_encoded_too(part: slice) -> None:
    batch = pa.record_batch({"text": ["a", "bc", "", "def", None], "n": [1, 2, None, 4, 5]})
    piece = batch.slice(part.start, part.stop - part.start)
    encoded = Encoder(batch.schema).encode(piece).to_bytes()
    assert pa.ipc.read_record_batch(pa.py_buffer(encoded), batch.schema).equals(piece)
