"""Messages of a store file: the bytes that Arrow writes of a copy of the rows, however they are cut into batches."""

from __future__ import annotations

import datetime
import resource

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from choline_data import schema as one
from choline_data.errors import HomeError
from choline_data.places.home import Home
from choline_data.store import BlockWriter
from choline_data.store.blocks import data_name

SCHEMA = one.stored_schema([f.name for f in one.STORED])


def by_arrow(table: pa.Table, block_rows: int, compression: str | None = None) -> bytes:
    """The store file that Arrow's own writer makes of blocks that have been copied to buffers of their own."""
    sink = pa.BufferOutputStream()
    empty = pa.record_batch([pa.array([], f.type) for f in table.schema], schema=table.schema)
    with pa.ipc.new_file(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression=compression)) as writer:
        for at in range(0, table.num_rows, block_rows):
            writer.write_batch(pa.concat_batches([*table.slice(at, block_rows).to_batches(), empty]))
    return sink.getvalue().to_pybytes()


def by_us(home: Home, batches: list[pa.RecordBatch], block_rows: int, compression: str | None = None) -> bytes:
    writer = BlockWriter(home, batches[0].schema, block_rows, compression=compression)
    for batch in batches:
        writer.write(batch)
    done = writer.close()
    return home.read(data_name(done.sha256))


def or_null(values):
    return st.none() | values


words = st.text(max_size=12)
samples = st.fixed_dictionaries(
    {
        "id": st.binary(min_size=16, max_size=16),
        "kind": or_null(words),
        "text": or_null(words),
        "turns": or_null(st.lists(or_null(st.fixed_dictionaries({"role": or_null(words), "content": or_null(words)})))),
        "media": or_null(
            st.lists(
                st.fixed_dictionaries(
                    {"mime": words, "data": or_null(st.binary(max_size=9)), "width": or_null(st.just(7))}
                ),
                max_size=3,
            )
        ),
        "label": or_null(
            st.lists(st.fixed_dictionaries({"name": words, "score": or_null(st.floats(0, 1))}), max_size=3)
        ),
        "extra": or_null(words),
        "time": or_null(st.just(datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC))),
        "origin": or_null(st.fixed_dictionaries({"file": or_null(words), "row": or_null(st.integers(0, 1 << 60))})),
    }
)


@settings(deadline=None, max_examples=60)
@given(
    rows=st.lists(samples, min_size=1, max_size=40),
    cuts=st.lists(st.integers(1, 12), min_size=1, max_size=40),
    block_rows=st.sampled_from([1, 2, 4, 16, 64]),
    before=st.integers(0, 9),
)
def test_any_samples_cut_anywhere_are_the_bytes_that_arrow_writes(tmp_path_factory, rows, cuts, block_rows, before):
    home = Home(tmp_path_factory.mktemp("home"))
    # Slices of one batch, so that rows lie at odd offsets and have neighbours that are not theirs.
    all_ = pa.RecordBatch.from_pylist([*rows[:before], *rows, *rows], schema=SCHEMA).slice(
        min(before, len(rows)), len(rows)
    )
    batches, at = [], 0
    for size in [*cuts, len(rows)]:
        if at < len(rows):
            batches.append(all_.slice(at, size))
            at += size
    assert by_us(home, batches, block_rows) == by_arrow(pa.Table.from_batches([all_]), block_rows)


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
@pytest.mark.parametrize("cuts", [[50], [1] * 50, [20, 1, 29]])
def test_blocks_of_many_batches_and_compressed_ones_are_those_that_arrow_writes(tmp_path, cuts, compression):
    whole = pa.RecordBatch.from_pylist(
        [
            {"id": bytes([n]) * 16, "text": "é" * n if n % 3 else None, "origin": {"file": "f", "row": n}}
            for n in range(50)
        ],
        schema=SCHEMA,
    )
    starts = [sum(cuts[:n]) for n in range(len(cuts))]
    batches = [whole.slice(start, size) for start, size in zip(starts, cuts, strict=True)]
    expected = by_arrow(pa.Table.from_batches([whole]), 32, compression)
    assert by_us(Home(tmp_path), batches, 32, compression) == expected


def test_booleans_and_views_are_written_too(tmp_path):
    batch = pa.record_batch(
        {"flag": [True, None, False, True, True], "of": pa.array(list("ababa")).cast(pa.string_view())}
    )
    assert by_us(Home(tmp_path), [batch.slice(1)], 2) == by_arrow(pa.Table.from_batches([batch.slice(1)]), 2)


def test_rows_of_another_schema_are_refused(tmp_path):
    writer = BlockWriter(Home(tmp_path), SCHEMA, 4)
    with pytest.raises(ValueError, match="another schema"):
        writer.write(pa.record_batch({"text": ["a"]}))
    writer.abandon()


def test_a_write_that_fails_is_told_and_leaves_nothing(tmp_path):
    home = Home(tmp_path)
    batch = pa.RecordBatch.from_pylist([{"id": b"0" * 16, "text": "a" * 100}] * 64, schema=SCHEMA)
    writer = BlockWriter(home, SCHEMA, 4)
    writer.write(batch.slice(0, 3))  # less than a block: nothing is written yet
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))  # no file may grow
    try:
        with pytest.raises(HomeError, match="File too large"):
            writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    writer.abandon()
    assert home.names("staging") == home.names("data") == []


def test_offsets_in_a_buffer_of_any_size_are_read(tmp_path):
    """A builder may leave room behind the last offset that is no whole number of them."""
    offsets = pa.py_buffer((0).to_bytes(8, "little") + (3).to_bytes(8, "little") + b"odd")
    text = pa.Array.from_buffers(pa.large_string(), 1, [None, offsets, pa.py_buffer(b"abc")])
    batch = pa.record_batch([text], names=["text"])
    assert by_us(Home(str(tmp_path)), [batch], 4) == by_arrow(pa.Table.from_batches([batch]), 4)
