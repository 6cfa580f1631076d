"""Parquet: row groups, partitions, unusual types, and files with false metadata."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from choline_data.adapters import parquet
from choline_data.adapters.contract import AdapterContract
from choline_data.adapters.parquet import Parquet
from choline_data.errors import SourceDamagedError, SourceFormatError, SourceTooLargeError


def stored(path, table, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, **options)
    return path


class TestContract(AdapterContract):
    reads_gz = False

    @pytest.fixture
    def adapter(self):
        return Parquet()

    @pytest.fixture
    def files(self, tmp_path, source_file):
        table = pa.table({"n": range(900), "text": [f"row {n % 7}" for n in range(900)]})
        path = stored(tmp_path / "year=2024" / "a.parquet", table, row_group_size=100)
        return [source_file(path, "year=2024/a.parquet")]


def test_a_big_file_becomes_shards_of_row_groups_with_the_rows_of_the_file(tmp_path, source_file, monkeypatch):
    monkeypatch.setattr(parquet, "SHARD_BYTES", 2000)
    path = stored(tmp_path / "a.parquet", pa.table({"n": range(3000)}), row_group_size=250, compression="none")
    shards = Parquet().shards([source_file(path)])
    assert len(shards) > 2
    chunks = [c for s in shards for c in Parquet().read(s)]
    assert [n for c in chunks for n in c.batch["n"].to_pylist()] == list(range(3000))
    assert [n for c in chunks for n in c.rows.tolist()] == list(range(3000))


def test_partition_folders_become_columns(read, tmp_path):
    path = stored(tmp_path / "a.parquet", pa.table({"n": [1], "lang": ["own"]}))
    found = read(Parquet(), path, "lang=en/day=2024-01%2F02/x=__HIVE_DEFAULT_PARTITION__/a.parquet")
    assert found.rows == [{"n": 1, "lang": "own", "day": "2024-01/02"}]
    assert "x" in found.types


def test_a_categorical_column_reads_as_its_values(read, tmp_path):
    table = pa.table({"c": pa.array(["a", "b", "a", None]).dictionary_encode()})
    found = read(Parquet(), stored(tmp_path / "a.parquet", table))
    assert found.types == {"c": "string"}
    assert found.rows == [{"c": "a"}, {"c": "b"}, {"c": "a"}, {}]


def test_a_dictionary_that_becomes_endless_text_is_stopped(read, tmp_path):
    table = pa.table({"text": pa.DictionaryArray.from_arrays(pa.array([0] * 5000, pa.int32()), ["x" * 100_000])})
    path = stored(tmp_path / "a.parquet", table)
    found = read(Parquet(max_expansion_bytes=50 << 20), path)
    assert isinstance(found.error, SourceTooLargeError)
    assert "max_expansion_bytes" in str(found.error)
    assert max(c.batch.nbytes for c in found.chunks) <= 8 << 20


def test_a_column_name_that_comes_twice_is_refused(read, tmp_path):
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2])], names=["text", "text"])
    found = read(Parquet(), stored(tmp_path / "a.parquet", table))
    assert isinstance(found.error, SourceFormatError)
    assert "two columns named 'text'" in str(found.error)


def test_too_many_columns_name_the_limit(read, tmp_path):
    table = pa.table({f"c{n}": [n] for n in range(2001)})
    found = read(Parquet(), stored(tmp_path / "a.parquet", table))
    assert isinstance(found.error, SourceTooLargeError)
    assert "MAX_COLUMNS" in str(found.error)


def test_a_cut_file_says_so(read, tmp_path):
    path = stored(tmp_path / "a.parquet", pa.table({"n": range(100)}))
    path.write_bytes(path.read_bytes()[:-5])
    found = read(Parquet(), path)
    assert isinstance(found.error, SourceDamagedError)
    assert "a.parquet" in str(found.error)


def test_it_is_known_by_content_whatever_its_name(tmp_path, source, write):
    named = stored(tmp_path / "a.json", pa.table({"n": [1]}))
    other = write("b.json", "{}")
    (claim,) = parquet.detect(source(named, other))
    assert [f.name for f in claim.files] == ["a.json"]
