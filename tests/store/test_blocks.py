"""Store files: reads return what was written, and any other content is an error."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
import pytest

from choline_data import schema as one
from choline_data.errors import DamagedStoreError, HomeError
from choline_data.places.home import Home
from choline_data.store import BlockFile, BlockWriter
from choline_data.store.blocks import block_rows_for, data_name, index_name
from choline_data.store.sample_ids import sample_ids

SCHEMA = one.stored_schema(["text"])


def rows(first: int, count: int) -> pa.RecordBatch:
    text = pa.array([f"row {n} of the file" for n in range(first, first + count)], pa.large_string())
    origin = pa.array([{"file": "f", "row": n} for n in range(first, first + count)], one.ORIGIN)
    return pa.record_batch([sample_ids(pa.record_batch([text], names=["text"])), text, origin], schema=SCHEMA)


def write(home: Home, *batches: pa.RecordBatch, block_rows: int = 4, compression: str | None = None):
    writer = BlockWriter(home, SCHEMA, block_rows, compression=compression)
    for batch in batches:
        writer.write(batch)
    return writer.close()


@pytest.mark.parametrize("compression", [None, "zstd", "lz4"])
@pytest.mark.parametrize("cuts", [[11], [1] * 11, [3, 5, 3], [4, 4, 3]])
def test_blocks_have_their_rows_however_the_batches_were_cut(tmp_path, cuts, compression):
    home = Home(tmp_path)
    batches, at = [], 0
    for cut in cuts:
        batches.append(rows(at, cut))
        at += cut
    done = write(home, *batches, compression=compression)
    file = BlockFile(home, done.sha256, SCHEMA, done.bytes)
    assert [file.block(n).num_rows for n in range(len(file))] == [4, 4, 3]
    assert pa.Table.from_batches([file.block(n) for n in range(3)]).to_pylist() == rows(0, 11).to_pylist()


def test_the_same_rows_are_the_same_file_however_they_arrive(tmp_path):
    home = Home(tmp_path)
    assert write(home, rows(0, 9)).sha256 == write(home, rows(0, 2), rows(2, 7)).sha256
    assert len([n for n in home.names("data") if n.endswith(".arrow")]) == 1


def test_any_arrow_reader_opens_a_store_file(tmp_path):
    home = Home(tmp_path)
    done = write(home, rows(0, 9))
    with pa.memory_map(home.path(data_name(done.sha256))) as file:
        assert pa.ipc.open_file(file).read_all().to_pylist() == rows(0, 9).to_pylist()


def test_no_rows_make_no_file(tmp_path):
    home = Home(tmp_path)
    assert BlockWriter(home, SCHEMA, 4).close() is None
    assert home.names("data") == home.names("staging") == []


def test_a_flipped_bit_anywhere_in_a_block_is_refused_before_a_row_is_read(tmp_path):
    home = Home(tmp_path)
    done = write(home, rows(0, 9))
    path = home.path(data_name(done.sha256))
    good = Path(path).read_bytes()
    os.chmod(path, 0o644)
    damaged = {0: 0, 1: 0, 2: 0}
    for at in range(0, len(good), 7):
        with open(path, "wb") as file:
            file.write(good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :])
        opened = BlockFile(home, done.sha256, SCHEMA, done.bytes)
        for block in damaged:
            try:
                read = opened.block(block)
            except DamagedStoreError:
                damaged[block] += 1
            else:
                assert read.equals(rows(4 * block, min(4, 9 - 4 * block)))
    assert min(damaged.values()) > 10


def test_a_cut_file_and_a_damaged_index_are_refused_at_opening(tmp_path):
    home = Home(tmp_path)
    done = write(home, rows(0, 9))
    os.truncate(home.path(data_name(done.sha256)), done.bytes - 1)
    with pytest.raises(DamagedStoreError, match="bytes, not"):
        BlockFile(home, done.sha256, SCHEMA, done.bytes)
    index = home.path(index_name(done.sha256))
    raw = Path(index).read_bytes()
    os.chmod(index, 0o644)
    with open(index, "wb") as file:
        file.write(raw[:20] + bytes([raw[20] ^ 1]) + raw[21:])
    with pytest.raises(DamagedStoreError, match="block index"):
        BlockFile(home, done.sha256, SCHEMA, done.bytes)


def test_an_abandoned_file_leaves_nothing(tmp_path):
    home = Home(tmp_path)
    writer = BlockWriter(home, SCHEMA, 4)
    writer.write(rows(0, 9))
    writer.abandon()
    assert home.names("staging") == home.names("data") == []


def test_a_file_that_fails_as_it_is_closed_in_the_background_is_told_of_and_dropped(tmp_path):
    home = Home(tmp_path)
    (tmp_path / "data").write_text("where the folder of store files would be")
    writer = BlockWriter(home, SCHEMA, 4)
    writer.write(rows(0, 9))
    writer.end()  # what fails does so in the writer's thread, after this
    with pytest.raises(HomeError, match="data"):
        writer.close()
    writer.abandon()
    assert home.names("staging") == []
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["data"]


@pytest.mark.parametrize(("row_bytes", "expected"), [(1, 4096), (128, 4096), (2400, 128), (300_000, 1), (10**7, 1)])
def test_a_block_has_a_power_of_two_rows_within_its_bytes(row_bytes, expected):
    assert block_rows_for(row_bytes) == expected
