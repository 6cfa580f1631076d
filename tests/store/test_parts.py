"""The columns of blocks, read from their headers, are those that Arrow reads block by block."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from choline_data.columns.gather import Piece, assemble, node_of
from choline_data.columns.parts import BlockParts, places_of
from choline_data.columns.row_ranges import ranges_of
from choline_data.errors import DamagedStoreError
from choline_data.places.home import Home
from choline_data.schema import LABEL, MEDIUM, ORIGIN, STORED, TURN, stored_schema
from choline_data.store import BlockWriter, Manifest, Revision, StoredFile, blocks

texts = st.none() | st.text(max_size=40)
COLUMNS: dict[str, Any] = {
    "text": texts,
    "turns": st.none() | st.lists(st.none() | st.fixed_dictionaries({"role": texts, "content": texts}), max_size=3),
    "media": st.none() | st.lists(st.fixed_dictionaries({"mime": texts, "data": st.none() | st.binary(max_size=30)}), max_size=2),
    "label": st.none() | st.lists(st.fixed_dictionaries({"name": texts, "score": st.none() | st.floats(0, 1)}), max_size=2),
    "time": st.none() | st.integers(0, 2**50),
    "license": st.just("MIT"),
}  # fmt: skip
ORIGINS = st.fixed_dictionaries({"file": st.just("a"), "row": st.integers(0, 2**40)})
SCHEMA = stored_schema(list(COLUMNS))


def stored(home: Home, files: list[pa.Table], compression: str | None = None) -> Revision:
    """A revision of these files, in blocks of 4 rows."""
    written = []
    for number, table in enumerate(files):
        writer = BlockWriter(home, table.schema, 4, compression=compression)
        for batch in table.to_batches():
            writer.write(batch)
        done = writer.close()
        assert done is not None
        written.append(StoredFile(done.sha256, done.rows, done.bytes, str(number)))
    manifest = Manifest(tuple(written), tuple(files[0].schema.names), 4, {})
    home.create(f"revisions/{manifest.revision}/manifest.arrow", manifest.encode())
    return Revision(home, manifest.revision)


def rows_of(count: int) -> pa.Table:
    """A file of texts."""
    values = {"id": [bytes([n]) * 16 for n in range(count)], "text": [f"a text of number {n}" for n in range(count)]}
    return pa.table({**values, "origin": [{"file": "a", "row": n} for n in range(count)]}, stored_schema(["text"]))


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], max_examples=40, deadline=None
)
@given(data=st.data())
def test_any_ranges_of_any_files_are_what_arrow_reads(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject):
    home = Home(tmp_path_factory.mktemp("home"))
    row = st.fixed_dictionaries({**COLUMNS, "id": st.binary(min_size=16, max_size=16), "origin": ORIGINS})
    files = [
        pa.Table.from_pylist(rows, SCHEMA)
        for rows in data.draw(st.lists(st.lists(row, min_size=1, max_size=11), min_size=1, max_size=3))
    ]
    revision = stored(home, files)
    ranges = []
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, revision.rows - 1))
        ranges.append((start, data.draw(st.integers(start + 1, revision.rows))))
    names = SCHEMA.names
    columns = revision.columns_of(ranges_of(ranges), names, [])
    whole = pa.concat_tables(files).combine_chunks()
    for name in names:
        assert isinstance(columns[name], BlockParts)
        expected = [value for start, stop in ranges for value in whole[name].slice(start, stop - start).to_pylist()]
        kind, every = SCHEMA.field(name).type, np.arange(len(expected))
        got = assemble(kind, [Piece(node_of(kind, columns[name]), every, every)], len(every)).to_arrow()
        got.validate(full=True)
        assert got.to_pylist() == expected


def test_every_type_of_the_schema_has_its_place():
    assert set(places_of(STORED) or ()) == set(STORED.names)
    assert places_of(pa.schema([("a", pa.dictionary(pa.int8(), pa.string()))])) is None
    assert {TURN, MEDIUM, LABEL} <= {SCHEMA.field(n).type.value_type for n in ("turns", "media", "label")}
    assert SCHEMA.field("origin").type == ORIGIN


def test_compressed_blocks_are_read_by_arrow(tmp_path: Path):
    revision = stored(Home(tmp_path), [rows_of(9)], compression="zstd")
    columns = revision.columns_of(ranges_of([(3, 9)]), ["text"], [])
    assert not isinstance(columns["text"], BlockParts)
    node = node_of(pa.large_string(), columns["text"])
    got = assemble(pa.large_string(), [Piece(node, np.arange(6), np.arange(6))], 6).to_arrow()
    assert got.to_pylist() == [f"a text of number {n}" for n in range(3, 9)]


def test_a_block_that_is_not_what_was_written_is_found_before_its_numbers_are_used(tmp_path: Path):
    home = Home(tmp_path)
    revision = stored(home, [rows_of(9)])
    path = home.path(blocks.data_name(revision.files()[0].sha256))
    content = bytearray(Path(path).read_bytes())
    at = content.find(b"a text of number 5")
    content[at] ^= 1
    Path(path).write_bytes(content)
    assert revision.columns_of(ranges_of([(0, 4)]), ["text"], [])
    with pytest.raises(DamagedStoreError, match="block 1 does not have its checksum"):
        revision.columns_of(ranges_of([(0, 8)]), ["text"], [])


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_single_rows_of_many_blocks_are_what_was_written(tmp_path: Path, compression: str | None):
    revision = stored(Home(tmp_path), [rows_of(30), rows_of(7), rows_of(1)], compression=compression)
    wanted = [f"a text of number {n}" for size in (30, 7, 1) for n in range(size)]
    rows = [0, 1, 3, 6, 7, 8, 13, 29, 30, 36, 37]
    node = node_of(pa.large_string(), revision.columns_of(ranges_of([(n, n + 1) for n in rows]), ["text"], [])["text"])
    every = np.arange(len(rows))
    assert assemble(pa.large_string(), [Piece(node, every, every)], len(rows)).to_arrow().to_pylist() == [
        wanted[row] for row in rows
    ]
